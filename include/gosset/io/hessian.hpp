// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/io/safetensors.hpp>
#include <gosset/rounding/hessian.hpp>

#include <cmath>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

// Hessians in safetensors files: the matrix as the F64 tensor `name.hessian` (n x n) and the number of tokens that it
// is the mean over as `name.tokens` (F64, one number). The round trip is exact to the bit.
namespace gosset::GOSSET_ABI {

/// Adds a Hessian to a file. Errors: std::invalid_argument where the name is taken or no tokens were accumulated; then
/// nothing is added.
inline void addHessian(SafetensorsWriter& writer, std::string_view name, const Hessian& hessian) {
  detail::require(hessian.tokens() > 0, "addHessian: the Hessian ", detail::printable(name), " has seen no tokens");
  for (const char* part : {".hessian", ".tokens"}) {
    const std::string tensor = detail::concat(name, part);
    detail::require(!writer.contains(tensor), "name: tensor ", detail::printable(tensor), " was added before");
  }
  SafetensorsWriter added;
  added.add(detail::concat(name, ".hessian"), hessian.matrix());
  added.add(detail::concat(name, ".tokens"), Eigen::Matrix<double, 1, 1>(hessian.tokens()));
  writer.add(std::move(added));
}

/// Reads what addHessian wrote. Errors: FormatError where a tensor is missing, of another type or shape, or holds
/// what is no Hessian.
inline Hessian readHessian(const SafetensorsFile& file, std::string_view name) {
  const auto matrix = file.matrix<double>(detail::concat(name, ".hessian"));
  const auto tokens = file.vector<double>(detail::concat(name, ".tokens"));
  if (tokens.size() != 1) {
    file.fail(detail::concat(name, ".tokens"), "expected one number, found ", tokens.size());
  }
  if (!(tokens[0] > 0 && std::isfinite(tokens[0]))) {
    file.fail(detail::concat(name, ".tokens"), "expected a positive number, found ", tokens[0]);
  }
  try {
    return Hessian::fromMatrix(matrix, tokens[0]);
  } catch (const std::invalid_argument& error) {
    file.fail(detail::concat(name, ".hessian"), error.what());
  }
}

}  // namespace gosset::GOSSET_ABI
