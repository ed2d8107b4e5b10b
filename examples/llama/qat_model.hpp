// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backprop.hpp"
#include "formats.hpp"
#include "qat.hpp"

#include <memory>
#include <vector>

namespace llama {

/// The float parameters of a model under training, and what a format makes of its linear layers. Embedding and norms
/// are trained as floats. What goes wrong in a linear layer is a std::invalid_argument that begins with its name.
class QatModel {
 public:
  /// Starts with `parameters`; where scales are learned, they start as the format's own for these.
  QatModel(Parameters<float> parameters, const QatFormat& format, bool learnScales)
      : parameters_(std::move(parameters)),
        rounded_(parameters_.config()),
        names_(linearNames(parameters_.config(), false)) {
    forEachNamed(parameters_,
                 [&](const auto& w) { layers_.push_back(learnScales ? format.learned(w) : format.fitted(w)); });
  }

  Parameters<float>& parameters() { return parameters_; }

  /// The parameters, each linear layer being what the format leaves of it: for forward and backward passes.
  const Parameters<float>& rounded() {
    rounded_.values() = parameters_.values();
    std::size_t i = 0;
    forEachNamed(rounded_, [&](auto& w) { w = layers_[i++]->forward(w); });
    return rounded_;
  }

  /// Turns the loss's derivative by rounded() into that by parameters(), by the straight-through estimator.
  void backward(Parameters<float>& gradient) {
    std::vector<QatLayer::Weights> weights;
    parameters_.forEachLinear([&](const auto& w) { weights.emplace_back(w); });
    std::size_t i = 0;
    forEachNamed(gradient, [&](auto& g) {
      g = layers_[i]->backward(weights[i], g);
      ++i;
    });
  }

  /// Moves learned scales, if there are any.
  void stepScales(float rate) {
    for (const auto& layer : layers_) layer->step(rate);
  }

  /// The model in its format, its embedding and norms in 16-bit floats.
  PackedModel packed() const {
    auto layer = layers_.begin();
    return packModel(
        toModel(parameters_), Floats::kFloat16,
        [](const LinearInfo& info, const RowMatrixXf& weights) {
          return packEmbedding(info, weights, findEmbeddingFormat("fp16"), 0);
        },
        [&](const LinearInfo& info, const RowMatrixXf& weights) {
          return naming(info.name, [&] { return (*layer++)->packed(weights); });
        });
  }

  /// Bits a weight of the linear layers once their codes and scales are entropy-coded.
  double archivedBits() {
    double bits = 0, count = 0;
    std::size_t i = 0;
    forEachNamed(parameters_, [&](const auto& w) {
      bits += layers_[i++]->archivedBits(w) * static_cast<double>(w.size());
      count += static_cast<double>(w.size());
    });
    return bits / count;
  }

 private:
  /// As parameters.forEachLinear(visit), what visit() throws as std::invalid_argument beginning with the layer's name.
  template <class Visit>
  void forEachNamed(Parameters<float>& parameters, Visit&& visit) const {
    auto name = names_.begin();
    parameters.forEachLinear([&](auto& w) { naming(*name++, [&] { visit(w); }); });
  }

  Parameters<float> parameters_, rounded_;
  std::vector<std::string> names_;  // of the linear layers
  std::vector<std::unique_ptr<QatLayer>> layers_;
};

}  // namespace llama
