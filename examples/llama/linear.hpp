// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <gosset/io/safetensors.hpp>

#include <memory>

namespace llama {

/// A linear layer of a running model, in whatever format it is kept, so that one model may mix formats.
class Linear {
 public:
  virtual ~Linear() = default;

  virtual Index rows() const = 0;
  virtual Index cols() const = 0;
  /// y = W x for each column of x; x: inputs x tokens, the result: outputs x tokens.
  virtual Eigen::MatrixXf apply(const Eigen::Ref<const Eigen::MatrixXf>& x) const = 0;
  /// W, outputs x inputs.
  virtual RowMatrixXf dequantized() const = 0;
  /// Everything kept, in bytes.
  virtual Index bytes() const = 0;
  /// Adds it to a file under `name`.
  virtual void save(gosset::SafetensorsWriter& file, const std::string& name) const = 0;
};

/// Plain float32: Eigen's own product, the baseline.
class FloatLinear : public Linear {
 public:
  explicit FloatLinear(RowMatrixXf weights) : weights_(std::move(weights)) {}

  Index rows() const override { return weights_.rows(); }
  Index cols() const override { return weights_.cols(); }
  Eigen::MatrixXf apply(const Eigen::Ref<const Eigen::MatrixXf>& x) const override { return weights_ * x; }
  RowMatrixXf dequantized() const override { return weights_; }
  Index bytes() const override { return weights_.size() * static_cast<Index>(sizeof(float)); }
  void save(gosset::SafetensorsWriter& file, const std::string& name) const override { file.add(name, weights_); }

 private:
  RowMatrixXf weights_;
};

/// A model ready to run.
using PackedModel = Weights<std::unique_ptr<Linear>>;

/// How the embedding and the norms are kept beside the linear layers.
enum class Rest { kFloat32, kFloat16 };

namespace detail {

template <class Matrix>
Matrix kept(const std::string& name, const Matrix& values, Rest rest) {
  if (rest == Rest::kFloat32) return castFinite<float>(name, values);
  return castFinite<gosset::Float16>(name, values).template cast<float>();
}

}  // namespace detail

/// Turns each linear layer of `model` into pack(LinearInfo, weights), a std::unique_ptr<Linear>. Throws
/// std::invalid_argument, which names the tensor, where a weight is not finite, or not in 16 bits what is to be kept in
/// them, and before the first call of pack().
template <class Pack>
PackedModel packModel(const Model& model, Rest rest, Pack&& pack) {
  PackedModel packed;
  packed.config = model.config;
  packed.embedding = detail::kept(embeddingName(), model.embedding, rest);
  packed.finalNorm = model.finalNorm;
  for (const Model::Layer& layer : model.layers) {
    packed.layers.emplace_back();
    packed.layers.back().attentionNorm = layer.attentionNorm;
    packed.layers.back().ffnNorm = layer.ffnNorm;
  }
  forEachNorm(packed, [&](const std::string& name, Eigen::VectorXf& norm) { norm = detail::kept(name, norm, rest); });
  forEachLinear(model, [](const LinearInfo& info, const RowMatrixXf& weights) {
    if (const auto wrong = notFinite(weights)) {
      throw std::invalid_argument(info.name + ": finite weights expected, found " + *wrong);
    }
  });
  if (model.output) packed.output.emplace();
  std::vector<std::unique_ptr<Linear>*> places;
  forEachLinear(packed, [&](const LinearInfo&, std::unique_ptr<Linear>& place) { places.push_back(&place); });
  auto place = places.begin();
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) { **place++ = pack(info, weights); });
  return packed;
}

/// The model as it is, in float32.
inline PackedModel floatModel(const Model& model) {
  return packModel(model, Rest::kFloat32, [](const LinearInfo&, const RowMatrixXf& weights) {
    return std::make_unique<FloatLinear>(weights);
  });
}

}  // namespace llama
