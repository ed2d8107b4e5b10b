// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <gosset/matrix/any_matrix.hpp>

namespace llama {

/// A model ready to run: each matrix in whatever format it has, so that one model may mix formats. Copies share the
/// matrices.
using PackedModel = Weights<gosset::AnyMatrix>;

/// Floats as they are, the baseline: format float. Throws std::invalid_argument where a number is not finite.
gosset::AnyMatrix floatMatrix(const RowMatrixXf& weights);

/// How what stays floats is kept: norms, biases, routers.
enum class Floats { kFloat32, kFloat16 };

namespace detail {

template <class Numbers>
Numbers kept(const std::string& name, const Numbers& numbers, Floats floats) {
  if (floats == Floats::kFloat32) return castFinite<float>(name, numbers);
  return castFinite<gosset::Float16>(name, numbers).template cast<float>();
}

inline void requireFinite(const std::string& name, const RowMatrixXf& weights) {
  if (const auto wrong = notFinite(weights)) {
    throw std::invalid_argument(name + ": finite weights expected, found " + *wrong);
  }
}

}  // namespace detail

/// Turns the embedding of `model` into packEmbedding(LinearInfo, weights) and each linear layer into pack(LinearInfo,
/// weights), both gosset::AnyMatrix. Throws std::invalid_argument, which names the tensor, where a weight is not
/// finite, or a norm's, bias's or router's number not in 16 bits where these are to keep it, and before the first call.
template <class PackEmbedding, class Pack>
PackedModel packModel(const Model& model, Floats floats, PackEmbedding&& packEmbedding, Pack&& pack) {
  auto packed = emptyWeights<gosset::AnyMatrix>(model.config, model.output.has_value());
  packed.configText = model.configText;
  packed.finalNorm = model.finalNorm;
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    static_cast<LayerFloats&>(packed.layers[i]) = model.layers[i];
  }
  detail::requireFinite(embeddingName(), model.embedding);
  forEachFloat(packed,
               [&](const FloatInfo& info, auto& numbers) { numbers = detail::kept(info.name, numbers, floats); });
  forEachLinear(model,
                [](const LinearInfo& info, const RowMatrixXf& weights) { detail::requireFinite(info.name, weights); });
  packed.embedding = packEmbedding(embeddingInfo(model.config), model.embedding);
  std::vector<gosset::AnyMatrix*> places;
  forEachLinear(packed, [&](const LinearInfo&, gosset::AnyMatrix& place) { places.push_back(&place); });
  auto place = places.begin();
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) { **place++ = pack(info, weights); });
  return packed;
}

/// The model as it is, in float32.
inline PackedModel floatModel(const Model& model) {
  const auto pack = [](const LinearInfo&, const RowMatrixXf& weights) { return floatMatrix(weights); };
  return packModel(model, Floats::kFloat32, pack, pack);
}

/// Bytes kept for the linear layers, everything counted.
inline Index linearBytes(const PackedModel& model) {
  Index bytes = 0;
  forEachLinear(model, [&](const LinearInfo&, const gosset::AnyMatrix& matrix) { bytes += matrix.bytes(); });
  return bytes;
}

}  // namespace llama
