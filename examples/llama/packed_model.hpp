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

/// How norms are kept.
enum class Norms { kFloat32, kFloat16 };

namespace detail {

inline Eigen::VectorXf kept(const std::string& name, const Eigen::VectorXf& norm, Norms norms) {
  if (norms == Norms::kFloat32) return castFinite<float>(name, norm);
  return castFinite<gosset::Float16>(name, norm).cast<float>();
}

inline void requireFinite(const std::string& name, const RowMatrixXf& weights) {
  if (const auto wrong = notFinite(weights)) {
    throw std::invalid_argument(name + ": finite weights expected, found " + *wrong);
  }
}

}  // namespace detail

/// Turns the embedding of `model` into packEmbedding(LinearInfo, weights) and each linear layer into pack(LinearInfo,
/// weights), both gosset::AnyMatrix. Throws std::invalid_argument, which names the tensor, where a weight is not
/// finite, or a norm's number not in 16 bits where these are to keep it, and before the first call.
template <class PackEmbedding, class Pack>
PackedModel packModel(const Model& model, Norms norms, PackEmbedding&& packEmbedding, Pack&& pack) {
  PackedModel packed;
  packed.config = model.config;
  packed.finalNorm = model.finalNorm;
  for (const Model::Layer& layer : model.layers) {
    packed.layers.emplace_back();
    packed.layers.back().attentionNorm = layer.attentionNorm;
    packed.layers.back().ffnNorm = layer.ffnNorm;
  }
  if (model.output) packed.output.emplace();
  detail::requireFinite(embeddingName(), model.embedding);
  forEachNorm(packed, [&](const std::string& name, Eigen::VectorXf& norm) { norm = detail::kept(name, norm, norms); });
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
  return packModel(model, Norms::kFloat32, pack, pack);
}

/// Bytes kept for the linear layers, everything counted.
inline Index linearBytes(const PackedModel& model) {
  Index bytes = 0;
  forEachLinear(model, [&](const LinearInfo&, const gosset::AnyMatrix& matrix) { bytes += matrix.bytes(); });
  return bytes;
}

}  // namespace llama
