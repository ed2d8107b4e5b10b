// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"

#include <gosset/core/types.hpp>

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

// What a Llama model is made of (Touvron et al. 2023, "LLaMA", section 2.2; grouped-query attention as in "Llama 2").
// Matrices are out x in. Rows of wq and wk are held in the order of the paper, where rotary embedding turns the
// neighbours 2i and 2i + 1 of a head; readers of checkpoints in another order reorder the rows.
namespace llama {

using gosset::Index;
using gosset::RowMatrixXf;
using Token = std::int32_t;

struct Config {
  Index dim = 0;      ///< width of the residual stream
  Index hidden = 0;   ///< width of the feed-forward network
  Index layers = 0;   ///< transformer blocks
  Index heads = 0;    ///< query heads
  Index kvHeads = 0;  ///< key and value heads; heads / kvHeads query heads share one
  Index headDim = 0;  ///< width of a head, dim / heads in most models
  Index vocab = 0;    ///< tokens known
  Index context = 0;  ///< the longest sequence it was trained for
  float ropeTheta = 10000.f;
  float normEps = 1e-5f;

  Index queryDim() const { return heads * headDim; }
  Index kvDim() const { return kvHeads * headDim; }
  bool operator==(const Config&) const = default;
};

/// Throws gosset::FormatError, its text beginning with `source`, unless the sizes fit together and are small enough
/// that products of three of them fit in 64 bits.
inline void checkConfig(const Config& config, const std::string& source) {
  const auto positive = [&](Index value, const char* name, Index limit) {
    check(value >= 1 && value <= limit, source, ": ", name, " must lie in 1 .. ", limit, ", found ", value);
  };
  constexpr Index kWidest = Index{1} << 20;
  positive(config.dim, "dim", kWidest);
  positive(config.hidden, "hidden", kWidest);
  positive(config.layers, "layers", 10000);
  positive(config.heads, "heads", 10000);
  positive(config.kvHeads, "kv heads", 10000);
  positive(config.headDim, "head dim", 10000);
  positive(config.vocab, "vocab", kWidest * 4);
  positive(config.context, "context", kWidest * 16);
  check(config.heads % config.kvHeads == 0, source, ": heads (", config.heads, ") must be a multiple of kv heads (",
        config.kvHeads, ")");
  check(config.headDim % 2 == 0, source, ": head dim must be even, found ", config.headDim);
  check(config.ropeTheta > 0.f && config.ropeTheta < 1e30f, source, ": rope theta must be positive, found ",
        config.ropeTheta);
  check(config.normEps >= 0.f && config.normEps < 1.f, source, ": norm epsilon must lie in [0, 1), found ",
        config.normEps);
}

/// The weights, with matrices held as `Matrix`: plain ones while a model is read, trained or packed, quantized ones
/// while it runs.
template <class Matrix>
struct Weights {
  struct Layer {
    Eigen::VectorXf attentionNorm;  ///< dim
    Matrix wq;                      ///< heads * headDim x dim
    Matrix wk, wv;                  ///< kvHeads * headDim x dim
    Matrix wo;                      ///< dim x heads * headDim
    Eigen::VectorXf ffnNorm;        ///< dim
    Matrix w1, w3;                  ///< hidden x dim: the gate, and what it is multiplied with
    Matrix w2;                      ///< dim x hidden
  };
  Config config;
  Matrix embedding;  ///< vocab x dim
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
};

inline const char* embeddingName() { return "model.embed_tokens.weight"; }
inline const char* outputName() { return "lm_head.weight"; }
inline LinearInfo embeddingInfo(const Config& config) { return {embeddingName(), config.vocab, config.dim}; }

/// The first part of the names of block `layer`.
inline std::string blockName(std::size_t layer) { return "model.layers." + std::to_string(layer) + "."; }

/// Calls visit(LinearInfo, linear) for each linear layer, from input to output.
template <class SomeWeights, class Visit>
void forEachLinear(SomeWeights& weights, Visit&& visit) {
  const Config& c = weights.config;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    auto& layer = weights.layers[i];
    const std::string attention = blockName(i) + "self_attn.";
    const std::string mlp = blockName(i) + "mlp.";
    visit(LinearInfo{attention + "q_proj.weight", c.queryDim(), c.dim}, layer.wq);
    visit(LinearInfo{attention + "k_proj.weight", c.kvDim(), c.dim}, layer.wk);
    visit(LinearInfo{attention + "v_proj.weight", c.kvDim(), c.dim}, layer.wv);
    visit(LinearInfo{attention + "o_proj.weight", c.dim, c.queryDim()}, layer.wo);
    visit(LinearInfo{mlp + "gate_proj.weight", c.hidden, c.dim}, layer.w1);
    visit(LinearInfo{mlp + "up_proj.weight", c.hidden, c.dim}, layer.w3);
    visit(LinearInfo{mlp + "down_proj.weight", c.dim, c.hidden}, layer.w2);
  }
  if (weights.output) visit(LinearInfo{outputName(), c.vocab, c.dim}, *weights.output);
}

/// The names of a model's linear layers, in the order of forEachLinear().
inline std::vector<std::string> linearNames(const Config& config, bool ownOutput) {
  Weights<std::monostate> shape;
  shape.config = config;
  shape.layers.resize(static_cast<std::size_t>(config.layers));
  if (ownOutput) shape.output.emplace();
  std::vector<std::string> names;
  forEachLinear(shape, [&](const LinearInfo& info, std::monostate) { names.push_back(info.name); });
  return names;
}

/// Calls visit(name, vector) for each norm, from input to output; every one has dim numbers.
template <class SomeWeights, class Visit>
void forEachNorm(SomeWeights& weights, Visit&& visit) {
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    visit(blockName(i) + "input_layernorm.weight", weights.layers[i].attentionNorm);
    visit(blockName(i) + "post_attention_layernorm.weight", weights.layers[i].ffnNorm);
  }
  visit(std::string("model.norm.weight"), weights.finalNorm);
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

/// How many numbers the norms hold.
template <class SomeWeights>
Index normSize(const SomeWeights& weights) {
  Index size = 0;
  forEachNorm(weights, [&](const std::string&, const Eigen::VectorXf& norm) { size += norm.size(); });
  return size;
}

}  // namespace llama
