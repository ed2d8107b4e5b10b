// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/io/gguf_types.hpp>
#include <gosset/io/gguf_writer.hpp>
#include <gosset/io/safetensors.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/rounding/hessian.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

// The types of GGUF files, compiled once.
namespace llama {

/// How the codes of a matrix are chosen.
enum class GgufRounding {
  kNearest,     ///< nearest, scales searched
  kImportance,  ///< the same, errors weighed by the mean squares of the inputs
  kGptq         ///< with feedback by all second moments of the inputs
};

/// Throws std::invalid_argument for another name.
inline GgufRounding findRounding(const std::string& name) {
  if (name == "nearest") return GgufRounding::kNearest;
  if (name == "importance") return GgufRounding::kImportance;
  if (name == "gptq") return GgufRounding::kGptq;
  throw std::invalid_argument("rounding \"" + name + "\" is none of nearest, importance, gptq");
}

/// GPTQ's options where they are not as usual here.
struct GgufFeedback {
  std::optional<double> damping = {};
  std::optional<int> sweeps = {};
  std::optional<bool> byDiagonal = {};  ///< columns by falling diagonal of H
};

/// The name of the format, of those in a list, whose bytes a type's are. Throws std::invalid_argument where there is
/// none.
template <class List>
std::string ggufFormatOf(const gosset::GgmlType& type) {
  for (const std::string& name : List::names()) {
    if (gosset::detail::ggmlTypeOfFormat(name) == &type) return name;
  }
  throw std::invalid_argument("type " + std::string(type.name) + " is none of " + List::text());
}

/// Packs a matrix (m x n, out x in) in the type of that name. hessian: of its inputs, n x n, or null where the rounding
/// is kNearest. Throws std::invalid_argument for a type that gosset does not write, and as gosset::quantize().
gosset::AnyMatrix packGguf(std::string_view type, const gosset::RowMatrixXf& weights, GgufRounding rounding,
                           const gosset::Hessian* hessian);
/// The same in the memory of the Hessian, where nobody else has it.
gosset::AnyMatrix packGguf(std::string_view type, const gosset::RowMatrixXf& weights, GgufRounding rounding,
                           std::optional<gosset::Hessian> hessian, const GgufFeedback& feedback);

/// The matrix whose rows these bytes are, which are copied, row i being row rowOf[i] of the bytes where rowOf is not
/// empty. Throws std::invalid_argument for a type that gosset cannot read, a wrong number of bytes, and scales that are
/// not finite.
gosset::AnyMatrix ggufMatrix(const gosset::GgmlType& type, gosset::Index rows, gosset::Index cols,
                             std::span<const std::byte> bytes, std::span<const gosset::Index> rowOf = {});

/// Reads a matrix in one of these types from a safetensors file, whose memory it shows. Throws gosset::FormatError
/// where it is not there, does not hold together, or has another format.
gosset::AnyMatrix readGgufTyped(const gosset::SafetensorsFile& file, const std::string& name);

}  // namespace llama
