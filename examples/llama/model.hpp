// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config.hpp"

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

// What a model is made of: the weights that a config asks for, with their names in Hugging Face's files of Llamas and
// Qwens. Matrices are out x in. Rows of wq and wk, biases and norms of their heads included, are held in the order of
// the paper, where rotary embedding turns the neighbours 2i and 2i + 1 of a head; readers of checkpoints in another
// order reorder them.
namespace llama {

using gosset::RowMatrixXf;
using Token = std::int32_t;

/// What a block has beside its linear layers: floats in every model. What its config does not ask for is empty.
struct LayerFloats {
  Eigen::VectorXf attentionNorm;      ///< dim
  Eigen::VectorXf ffnNorm;            ///< dim
  Eigen::VectorXf attentionPostNorm;  ///< dim
  Eigen::VectorXf ffnPostNorm;        ///< dim
  Eigen::VectorXf qNorm, kNorm;       ///< headDim
  Eigen::VectorXf bq, bk, bv, bo;     ///< biases, as long as their matrices have rows
  Eigen::VectorXf b1, b3, b2;
  RowMatrixXf router;      ///< experts x dim
  RowMatrixXf sharedGate;  ///< 1 x dim
};

/// The weights, with matrices held as `Matrix`: plain ones while a model is read, trained or packed, quantized ones
/// while it runs.
template <class Matrix>
struct Weights {
  /// act(w1 x) * (w3 x), times w2.
  struct FeedForward {
    Matrix w1, w3;  ///< hidden x dim: the gate, and what it is multiplied with
    Matrix w2;      ///< dim x hidden
  };
  struct Layer : LayerFloats {
    Matrix wq;      ///< heads * headDim x dim
    Matrix wk, wv;  ///< kvHeads * headDim x dim
    Matrix wo;      ///< dim x heads * headDim
    Matrix w1, w3;  ///< as in FeedForward, where the block has no experts
    Matrix w2;
    std::vector<FeedForward> experts;  ///< Config::experts.count of them, or none
    FeedForward shared;                ///< where Config::experts.sharedHidden is not 0
  };
  Config config;
  std::string configText;  ///< the config.json it was read from; empty for a plain Llama, whose sizes are all
  Matrix embedding;        ///< vocab x dim
  std::vector<Layer> layers;
  Eigen::VectorXf finalNorm;     ///< dim
  std::optional<Matrix> output;  ///< vocab x dim; where there is none, the embedding serves
};

using Model = Weights<RowMatrixXf>;

/// What is known of a linear layer, or the embedding, without its weights.
struct LinearInfo {
  std::string name;  ///< as Hugging Face names it: model.layers.0.self_attn.q_proj.weight
  Index rows = 0;    ///< outputs
  Index cols = 0;    ///< inputs
  Index turned = 0;  ///< where it makes queries or keys: numbers of each head that rotary embedding turns
};

/// The same of what stays floats.
struct FloatInfo {
  enum class Kind { kNorm, kBias, kRouter };

  std::string name;
  std::vector<Index> shape;
  Kind kind = Kind::kNorm;
  Index turned = 0;
};

inline const char* embeddingName() { return "model.embed_tokens.weight"; }
inline const char* outputName() { return "lm_head.weight"; }
inline LinearInfo embeddingInfo(const Config& config) { return {embeddingName(), config.vocab, config.dim}; }

/// The first part of the names of block `layer`.
inline std::string blockName(std::size_t layer) { return "model.layers." + std::to_string(layer) + "."; }

/// The first part of the names of expert `expert` of block `layer`.
inline std::string expertName(std::size_t layer, std::size_t expert) {
  return blockName(layer) + "mlp.experts." + std::to_string(expert) + ".";
}

/// The matrix whose product with a block's input chooses the experts.
inline std::string routerName(std::size_t layer) { return blockName(layer) + "mlp.gate.weight"; }

namespace detail {

/// Calls visit(LinearInfo, linear) for the three matrices of a feed-forward network.
template <class FeedForward, class Visit>
void forEachOf(FeedForward& network, const std::string& name, Index hidden, Index dim, Visit&& visit) {
  visit(LinearInfo{name + "gate_proj.weight", hidden, dim}, network.w1);
  visit(LinearInfo{name + "up_proj.weight", hidden, dim}, network.w3);
  visit(LinearInfo{name + "down_proj.weight", dim, hidden}, network.w2);
}

}  // namespace detail

/// Weights of that config, each matrix as `Matrix()` is.
template <class Matrix>
Weights<Matrix> emptyWeights(const Config& config, bool ownOutput) {
  Weights<Matrix> weights;
  weights.config = config;
  weights.layers.resize(static_cast<std::size_t>(config.layers));
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    if (config.block(i).experts) weights.layers[i].experts.resize(static_cast<std::size_t>(config.experts.count));
  }
  if (ownOutput) weights.output.emplace();
  return weights;
}

/// Calls visit(LinearInfo, linear) for each linear layer, from input to output.
template <class SomeWeights, class Visit>
void forEachLinear(SomeWeights& weights, Visit&& visit) {
  const Config& c = weights.config;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    auto& layer = weights.layers[i];
    const std::string attention = blockName(i) + "self_attn.";
    const std::string mlp = blockName(i) + "mlp.";
    visit(LinearInfo{attention + "q_proj.weight", c.queryDim(), c.dim, c.turned(i)}, layer.wq);
    visit(LinearInfo{attention + "k_proj.weight", c.kvDim(), c.dim, c.turned(i)}, layer.wk);
    visit(LinearInfo{attention + "v_proj.weight", c.kvDim(), c.dim}, layer.wv);
    visit(LinearInfo{attention + "o_proj.weight", c.dim, c.queryDim()}, layer.wo);
    if (!c.block(i).experts) {
      detail::forEachOf(layer, mlp, c.hidden, c.dim, visit);
      continue;
    }
    for (std::size_t e = 0; e < layer.experts.size(); ++e) {
      detail::forEachOf(layer.experts[e], expertName(i, e), c.experts.hidden, c.dim, visit);
    }
    if (c.experts.sharedHidden > 0) {
      detail::forEachOf(layer.shared, mlp + "shared_expert.", c.experts.sharedHidden, c.dim, visit);
    }
  }
  if (weights.output) visit(LinearInfo{outputName(), c.vocab, c.dim}, *weights.output);
}

/// The names of a model's linear layers, in the order of forEachLinear().
inline std::vector<std::string> linearNames(const Config& config, bool ownOutput) {
  const auto shape = emptyWeights<std::monostate>(config, ownOutput);
  std::vector<std::string> names;
  forEachLinear(shape, [&](const LinearInfo& info, std::monostate) { names.push_back(info.name); });
  return names;
}

/// Calls visit(FloatInfo, numbers) for each norm, bias and router that the config asks for, from input to output;
/// numbers are an Eigen::VectorXf, or, of routers, a RowMatrixXf.
template <class SomeWeights, class Visit>
void forEachFloat(SomeWeights& weights, Visit&& visit) {
  using Kind = FloatInfo::Kind;
  const Config& c = weights.config;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    auto& layer = weights.layers[i];
    const std::string block = blockName(i), attention = block + "self_attn.", mlp = block + "mlp.";
    const auto norm = [&](const std::string& name, auto& numbers, Index size, Index turned = 0) {
      visit(FloatInfo{name + ".weight", {size}, Kind::kNorm, turned}, numbers);
    };
    const auto bias = [&](const std::string& name, auto& numbers, Index size, Index turned = 0) {
      visit(FloatInfo{name + ".bias", {size}, Kind::kBias, turned}, numbers);
    };
    norm(block + "input_layernorm", layer.attentionNorm, c.dim);
    if (c.postNorms) {
      norm(block + "post_attention_layernorm", layer.attentionPostNorm, c.dim);
      norm(block + "pre_feedforward_layernorm", layer.ffnNorm, c.dim);
      norm(block + "post_feedforward_layernorm", layer.ffnPostNorm, c.dim);
    } else {
      norm(block + "post_attention_layernorm", layer.ffnNorm, c.dim);
    }
    if (c.headNorms) {
      norm(attention + "q_norm", layer.qNorm, c.headDim, c.turned(i));
      norm(attention + "k_norm", layer.kNorm, c.headDim, c.turned(i));
    }
    if (c.qkvBias) {
      bias(attention + "q_proj", layer.bq, c.queryDim(), c.turned(i));
      bias(attention + "k_proj", layer.bk, c.kvDim(), c.turned(i));
      bias(attention + "v_proj", layer.bv, c.kvDim());
    }
    if (c.outputBias) bias(attention + "o_proj", layer.bo, c.dim);
    if (c.block(i).experts) {
      visit(FloatInfo{routerName(i), {c.experts.count, c.dim}, Kind::kRouter}, layer.router);
      if (c.experts.sharedHidden > 0) {
        visit(FloatInfo{mlp + "shared_expert_gate.weight", {1, c.dim}, Kind::kRouter}, layer.sharedGate);
      }
    } else if (c.ffnBias) {
      bias(mlp + "gate_proj", layer.b1, c.hidden);
      bias(mlp + "up_proj", layer.b3, c.hidden);
      bias(mlp + "down_proj", layer.b2, c.dim);
    }
  }
  visit(FloatInfo{"model.norm.weight", {c.dim}}, weights.finalNorm);
}

/// The first number that is not finite, "nan at (3, 5) of 24 x 24", or nothing where all are.
template <class Derived>
std::optional<std::string> notFinite(const Eigen::DenseBase<Derived>& numbers) {
  const auto& m = numbers.derived();
  if (m.allFinite()) return std::nullopt;
  for (Index row = 0; row < m.rows(); ++row) {
    for (Index col = 0; col < m.cols(); ++col) {
      const float value = static_cast<float>(m(row, col));
      if (std::isfinite(value)) continue;
      std::ostringstream text;
      text << value << " at (" << row << ", " << col << ") of " << m.rows() << " x " << m.cols();
      return text.str();
    }
  }
  return std::nullopt;
}

/// Throws std::invalid_argument, which names the tensor, unless its numbers are finite as `Scalar`.
template <class Scalar, class Derived>
auto castFinite(const std::string& name, const Eigen::MatrixBase<Derived>& numbers) {
  auto cast = numbers.template cast<Scalar>().eval();
  if (const auto wrong = notFinite(cast)) {
    throw std::invalid_argument(name + ": numbers that are finite in " + std::to_string(8 * sizeof(Scalar)) +
                                " bits expected, found " + *wrong);
  }
  return cast;
}

/// How many numbers the linear layers hold.
template <class SomeWeights>
Index linearSize(const SomeWeights& weights) {
  Index size = 0;
  forEachLinear(weights, [&](const LinearInfo& info, const auto&) { size += info.rows * info.cols; });
  return size;
}

/// How many numbers stay floats: those of norms, biases and routers.
template <class SomeWeights>
Index floatSize(const SomeWeights& weights) {
  Index size = 0;
  forEachFloat(weights, [&](const FloatInfo&, const auto& numbers) { size += numbers.size(); });
  return size;
}

}  // namespace llama
