// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/io/integer_scheme.hpp>
#include <gosset/io/integer_weights.hpp>
#include <gosset/io/json.hpp>
#include <gosset/matrix/any_matrix.hpp>

#include <filesystem>
#include <optional>
#include <string>

// Folders whose linear layers GPTQ, AWQ or compressed-tensors has packed.
namespace llama {

/// A config.json without what it says of packed layers, and that.
struct IntegerConfig {
  std::string text;
  std::optional<gosset::IntegerScheme> scheme;
};

/// Takes "quantization_config" out of the text of a folder's config.json, where it is of one of these methods, or reads
/// AutoGPTQ's quantize_config.json beside it. Throws gosset::FormatError where it says what gosset does not know.
IntegerConfig splitIntegerConfig(const std::filesystem::path& folder, const std::string& text);

/// Whether it is a folder that says so. Throws as splitIntegerConfig().
bool hasIntegerLayers(const std::filesystem::path& model);

/// The same numbers in that one of gosset's formats which holds them exactly in the fewest bytes: groups of 128, 32 or
/// 16 columns, or rows, in act-order where needed; float where none does.
gosset::AnyMatrix integerMatrix(const gosset::IntegerWeights& weights);

/// Numbers of a file in the type that it has them in: F16, BF16 or float.
gosset::AnyMatrix storedMatrix(gosset::Dtype dtype, const gosset::RowMatrixXf& numbers);

}  // namespace llama
