// SPDX-License-Identifier: Apache-2.0
#include "integer_layers.hpp"

#include "check.hpp"

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/integer_formats.hpp>
#include <gosset/matrix.hpp>

#include <algorithm>
#include <array>
#include <string_view>

namespace llama {

namespace {

using namespace gosset;  // NOLINT: a list of its names

template <class... F>
using WithActOrder = FormatList<F..., ActOrder<F>...>;

template <int b, int N>
using Groups = Grouped<Asymmetric<b>, N>;

/// What published checkpoints ask for: 4 and 8 bits in groups of 32 to 128, or rows; 2 and 3 bits in groups.
using Formats = WithActOrder<Groups<4, 128>, Groups<4, 64>, Groups<4, 32>, PerChannel<Asymmetric<4>>,
                             Grouped<Symmetric<4>, 128>, Groups<8, 128>, Groups<8, 32>, PerChannel<Asymmetric<8>>,
                             Groups<3, 128>, Groups<3, 32>, Groups<2, 128>, Groups<2, 32>>;

constexpr std::array<std::string_view, 3> kMethods = {"gptq", "awq", "compressed-tensors"};

std::string readConfig(const std::filesystem::path& path) {
  constexpr std::uintmax_t kLongest = 1 << 20;
  return readBytes(path, kLongest);
}

}  // namespace

IntegerConfig splitIntegerConfig(const std::filesystem::path& folder, const std::string& text) {
  const std::string source = (folder / "config.json").string();
  constexpr const char* kKey = "quantization_config";
  nlohmann::json json = parseJson(text, source);
  if (json.is_object() && json.contains(kKey) && !json[kKey].is_null()) {
    const nlohmann::json said = json[kKey];
    const bool known = said.is_object() && said.contains("quant_method") &&
                       std::find(kMethods.begin(), kMethods.end(), said["quant_method"]) != kMethods.end();
    if (!known) return {text, {}};
    json.erase(kKey);
    return {json.dump(), parseIntegerScheme(said, source + ": \"" + kKey + '"')};
  }
  const std::filesystem::path beside = folder / "quantize_config.json";
  if (!std::filesystem::exists(beside)) return {text, {}};
  return {text, parseIntegerScheme(parseJson(readConfig(beside), beside.string()), beside.string())};
}

bool hasIntegerLayers(const std::filesystem::path& model) {
  const std::filesystem::path config = model / "config.json";
  return std::filesystem::exists(config) && splitIntegerConfig(model, readConfig(config)).scheme.has_value();
}

AnyMatrix integerMatrix(const IntegerWeights& weights) {
  if (auto packed = packIntegers<Formats>(weights)) return *std::move(packed);
  return AnyMatrix(quantize<float>(weights.dequantized()));
}

AnyMatrix storedMatrix(Dtype dtype, const RowMatrixXf& numbers) {
  if (dtype == Dtype::kF16) return AnyMatrix(quantize<Float16>(numbers));
  if (dtype == Dtype::kBF16) return AnyMatrix(quantize<BFloat16>(numbers));
  return AnyMatrix(quantize<float>(numbers));
}

}  // namespace llama
