// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"

#include <gosset/core/types.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

// What the engine has to know of a model beside its weights: facts, not families. A plain Llama (Touvron et al. 2023,
// "LLaMA", section 2.2; grouped-query attention as in "Llama 2") needs the sizes alone; what other families add is
// named here once each, and off unless asked for.
namespace llama {

using gosset::Index;

/// A rotary embedding (Su et al. 2021, "RoFormer", section 3.2.2): the numbers 2i and 2i + 1 of a head turn by
/// frequencies[i] radians a token. What stands behind the last pair does not turn.
struct Rope {
  std::vector<double> frequencies;
  double magnitude = 1;  ///< what turned numbers are multiplied with: the attention factor of YaRN

  Index dim() const { return 2 * static_cast<Index>(frequencies.size()); }
  bool operator==(const Rope&) const = default;
};

/// What one block has of its own.
struct Block {
  static constexpr Index kNoWindow = std::numeric_limits<Index>::max();
  static constexpr Index kNoRope = -1;

  Index window = kNoWindow;  ///< newest tokens that a query sees, itself included
  Index rope = 0;            ///< which of Config::ropes turns queries and keys, or kNoRope
  bool experts = false;      ///< whether its feed-forward network is one of Config::experts

  bool operator==(const Block&) const = default;
};

/// Feed-forward networks of which each token takes a few: those with the greatest softmax of the router's logits, which
/// weigh their outputs (Shazeer et al. 2017, "Outrageously large neural networks"; Jiang et al. 2024, "Mixtral").
struct Experts {
  Index count = 0;         ///< 0: there are none
  Index perToken = 0;      ///< how many a token takes
  Index hidden = 0;        ///< width of each
  Index sharedHidden = 0;  ///< width of one that every token takes, times the sigmoid of its own gate; 0: there is none
  bool normalized = false;  ///< whether the weights of those taken are divided by their sum

  bool operator==(const Experts&) const = default;
};

enum class Activation {
  kSilu,     ///< x sigmoid(x) (Shazeer 2020, "GLU variants improve transformer")
  kGeluTanh  ///< x (1 + tanh(sqrt(2 / pi) (x + .044715 x^3))) / 2 (Hendrycks and Gimpel 2016, "GELU")
};

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

  // Beyond a plain Llama.
  std::vector<Rope> ropes{};    ///< none: one, whose pair i of headDim / 2 turns by ropeTheta^(-2i / headDim)
  std::vector<Block> blocks{};  ///< one a block, or none: all are Block()
  Experts experts{};
  Activation activation = Activation::kSilu;
  bool headNorms = false;   ///< norms of each head of queries and keys, before they turn
  bool postNorms = false;   ///< norms also behind attention and feed-forward network, before the residual sum
  bool qkvBias = false;     ///< biases of queries, keys and values
  bool outputBias = false;  ///< of attention's output
  bool ffnBias = false;     ///< of the feed-forward network's three matrices
  float embeddingScale = 1.f;
  float attentionScale = 0.f;  ///< of scores; 0 stands for 1 / sqrt(headDim)
  float scoreCap = 0.f;        ///< scores become cap tanh(score / cap), 0: stay as they are (Gemma 2, section 2)
  float logitCap = 0.f;        ///< the same of logits

  Index queryDim() const { return heads * headDim; }
  Index kvDim() const { return kvHeads * headDim; }
  Block block(std::size_t layer) const { return blocks.empty() ? Block() : blocks[layer]; }
  float scoreScale() const {
    return attentionScale > 0.f ? attentionScale : 1.f / std::sqrt(static_cast<float>(headDim));
  }
  /// Numbers of each head that turn in block `layer`.
  Index turned(std::size_t layer) const {
    const Index rope = block(layer).rope;
    if (rope == Block::kNoRope) return 0;
    return ropes.empty() ? headDim : ropes[static_cast<std::size_t>(rope)].dim();
  }
  bool operator==(const Config&) const = default;
};

/// base^(-2i / dim) for each pair i of `dim` numbers.
inline std::vector<double> ropeFrequencies(Index dim, double base) {
  std::vector<double> frequencies(static_cast<std::size_t>(dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
  }
  return frequencies;
}

/// The sizes alone: the plain Llama of that shape.
inline Config plainLlama(const Config& c) {
  return {.dim = c.dim,
          .hidden = c.hidden,
          .layers = c.layers,
          .heads = c.heads,
          .kvHeads = c.kvHeads,
          .headDim = c.headDim,
          .vocab = c.vocab,
          .context = c.context,
          .ropeTheta = c.ropeTheta,
          .normEps = c.normEps};
}

/// Throws std::invalid_argument, which begins with `what`, unless the model is a plain Llama.
inline void requirePlainLlama(const Config& config, const std::string& what) {
  if (config == plainLlama(config)) return;
  throw std::invalid_argument(what +
                              ": a plain Llama expected (no biases, norms of heads, windows, caps, experts or "
                              "scaled rotary embedding), found a model that has more");
}

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
  const auto notNegative = [&](float value, const char* name) {
    check(value >= 0.f && value < 1e30f, source, ": ", name, " must be positive, found ", value);
  };
  notNegative(config.attentionScale, "the scale of attention");
  notNegative(config.scoreCap, "the cap of scores");
  notNegative(config.logitCap, "the cap of logits");
  for (const Block& block : config.blocks) positive(block.window, "sliding window", Block::kNoWindow);
  const Experts& experts = config.experts;
  if (experts.count == 0) return;
  positive(experts.count, "experts", 10000);
  positive(experts.perToken, "experts a token", experts.count);
  positive(experts.hidden, "hidden of experts", kWidest);
  check(experts.sharedHidden >= 0 && experts.sharedHidden <= kWidest, source,
        ": hidden of the shared expert must lie in ", "0 .. ", kWidest, ", found ", experts.sharedHidden);
}

}  // namespace llama
