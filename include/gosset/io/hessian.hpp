// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/io/safetensors.hpp>
#include <gosset/rounding/hessian.hpp>

#include <string>
#include <string_view>

// Hessians in safetensors files: the matrix as the F64 tensor `name.hessian` (n x n) and the number of tokens that it
// is the mean over as `name.tokens` (F64, one number). The round trip is exact to the bit.
namespace gosset {

/// Adds a Hessian to a file. Errors: std::invalid_argument where the name is taken or no tokens were accumulated.
inline void addHessian(SafetensorsWriter& writer, std::string_view name, const Hessian& hessian) {
  detail::require(hessian.tokens() > 0, "addHessian: the Hessian has seen no tokens");
  writer.add(detail::concat(name, ".hessian"), hessian.matrix());
  writer.add(detail::concat(name, ".tokens"), Eigen::Matrix<double, 1, 1>(hessian.tokens()));
}

/// Reads what addHessian wrote. Errors: FormatError where a tensor is missing, of another type or shape, or holds
/// what is no Hessian.
inline Hessian readHessian(const SafetensorsFile& file, std::string_view name) {
  const auto matrix = file.matrix<double>(detail::concat(name, ".hessian"));
  const auto tokens = file.vector<double>(detail::concat(name, ".tokens"));
  if (tokens.size() != 1) {
    throw FormatError(detail::concat("gosset: ", file.path().string(), ": tensor ", name,
                                     ".tokens: expected one number, found ", tokens.size()));
  }
  try {
    return Hessian::fromMatrix(matrix, tokens[0]);
  } catch (const std::invalid_argument& error) {
    throw FormatError(detail::concat("gosset: ", file.path().string(), ": tensor ", name, ".hessian: ", error.what()));
  }
}

}  // namespace gosset
