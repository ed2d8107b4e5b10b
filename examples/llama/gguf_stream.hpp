// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_model_write.hpp"
#include "layer_source.hpp"
#include "packed_folder.hpp"
#include "recipe.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

// GGUF files of models that are larger than memory: the recipe that gives each matrix its type in a mixture, and the
// file that is made of a packed folder, tensor by tensor.
namespace llama {

/// The format of a recipe whose matrices have that type.
inline std::string ggufFormatName(std::string_view type, GgufRounding rounding) {
  const std::string name(type);
  if (detail::isKept(type) || rounding == GgufRounding::kNearest) return name;
  return (rounding == GgufRounding::kGptq ? "gptq-" : "importance-") + name;
}

/// What writeGgufModel() does, as a recipe: a rule for each matrix, of experts one for all of a block. The embedding,
/// which has no inputs to go by, is rounded to nearest.
inline Recipe ggufRecipe(const LayerSource& source, const GgufOptions& options) {
  const GgufFamily& family = ggufFamilyOf(source.configText());
  Recipe recipe;
  for (const GgufTyped& matrix : ggufTyped(source.config(), !source.tied(), family, options)) {
    const bool experts = matrix.plan.shape.size() == 3;
    for (const LinearInfo& part : matrix.plan.parts) {
      std::string name = part.name;
      const auto rounding = name == embeddingName() ? GgufRounding::kNearest : options.rounding;
      if (experts) name.replace(name.find(".experts.0."), std::string_view(".experts.0.").size(), ".experts.*.");
      recipe.rules.push_back({name, ggufFormatName(matrix.type.type, rounding)});
      if (experts) break;
    }
  }
  return recipe;
}

/// The matrices of a file in their order, with the types that their formats are. Throws std::invalid_argument, which
/// names the matrix, where a format is none of GGUF's, parts of one tensor differ, or rows are no whole blocks.
inline std::vector<GgufTyped> ggufTyped(const LayerSource& source, const ChosenFormats& formats) {
  std::vector<GgufTyped> result;
  for (GgufPlan& plan : ggufMatrices(source.config(), ggufFamilyOf(source.configText()), !source.tied())) {
    const FormatEntry& format = *formats.at(plan.parts.front().name);
    const gosset::GgmlType* type = gosset::detail::ggmlTypeOfFormat(format.stored);
    if (type == nullptr) {
      throw std::invalid_argument("GGUF: no file can hold \"" + plan.parts.front().name + "\" in format \"" +
                                  format.name + "\"; name a type, such as gptq-Q4_K");
    }
    for (const LinearInfo& part : plan.parts) {
      const FormatEntry& other = *formats.at(part.name);
      if (other.stored == format.stored) continue;
      throw std::invalid_argument("GGUF: one type expected for all of " + plan.name + ", found \"" + format.name +
                                  "\", and \"" + other.name + "\" for \"" + part.name + "\"");
    }
    if (plan.shape.back() % type->block != 0) {
      throw std::invalid_argument("GGUF: rows of " + plan.name + ", " + std::to_string(plan.shape.back()) +
                                  " numbers, are no whole blocks of " + std::string(type->name) + ", " +
                                  std::to_string(type->block) + " each");
    }
    result.push_back({std::move(plan), {type->name, type->name}});
  }
  return result;
}

/// Throws what writeGgufParts() would, but for what the parts hold: before anything takes long.
inline void requireGguf(const LayerSource& source, const Tokenizer& tokenizer, const ChosenFormats& formats,
                        const GgufOptions& options) {
  gosset::GgufWriter writer;
  ggufTyped(source, formats);
  detail::setGgufMetadata(writer, source.config(), tokenizer, ggufFamilyOf(source.configText()), options);
}

namespace detail {

/// The bytes of a matrix, row i as row rowOf[i], or all in their order.
inline void putGgufRows(const gosset::AnyMatrix& matrix, const std::vector<Index>& rowOf,
                        const gosset::GgufWriter::Put& put) {
  if (rowOf.empty()) return gosset::GgufWriter::putMatrix(matrix, put);
  gosset::GgufWriter::putMatrix(matrix, [&](std::span<const std::byte> bytes) {
    const std::size_t row = bytes.size() / rowOf.size();
    std::vector<std::byte> ordered(bytes.size());
    for (std::size_t i = 0; i < rowOf.size(); ++i) {
      const auto from = bytes.subspan(i * row, row);
      std::copy(from.begin(), from.end(), ordered.begin() + rowOf[i] * static_cast<Index>(row));
    }
    put(ordered);
  });
}

}  // namespace detail

/// What a file became.
struct GgufStreamed {
  GgufSaid said;
  Index numbers = 0;  ///< in matrices
  std::uint64_t bytes = 0;
};

/// Writes a GGUF file of a packed folder whose matrices have these formats, one matrix in memory at a time. What stays
/// floats comes from the model itself, in 32 bits. Throws as requireGguf(), and gosset::FormatError where the system
/// cannot write.
inline GgufStreamed writeGgufParts(const std::filesystem::path& path, LayerSource& source, const PackedSource& packed,
                                   const Tokenizer& tokenizer, const ChosenFormats& formats,
                                   const GgufOptions& options) {
  const Config& config = source.config();
  const GgufFamily& family = ggufFamilyOf(source.configText());
  gosset::GgufWriter writer;
  GgufStreamed result;
  result.said = detail::setGgufMetadata(writer, config, tokenizer, family, options);
  for (const GgufTyped& matrix : ggufTyped(source, formats)) {
    const gosset::GgmlType& type = *gosset::detail::ggmlTypeNamed(matrix.type.type);
    for (const LinearInfo& part : matrix.plan.parts) {
      result.numbers += part.rows * part.cols;
      result.bytes += static_cast<std::uint64_t>(part.rows * (part.cols / type.block)) * type.block_bytes;
    }
    writer.addSource(matrix.plan.name, type, matrix.plan.shape,
                     [&, parts = matrix.plan.parts](const gosset::GgufWriter::Put& put) {
                       for (const LinearInfo& part : parts) {
                         detail::putGgufRows(packed.linear(part), ggufRows(part, family, config.headDim), put);
                       }
                       packed.forget();
                     });
  }
  const auto shape = emptyWeights<std::monostate>(config, !source.tied());
  forEachFloat(shape, [&](const FloatInfo& info, const auto&) {
    detail::addGgufFloat(writer, info, source.floats(info), config, family);
  });
  writer.write(path);
  return result;
}

}  // namespace llama
