// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_family.hpp"

#include <gosset/io/gguf_writer.hpp>

#include <cmath>
#include <optional>
#include <set>

// A model's facts as a GGUF file's metadata. Not all facts have a key there: where the readers of these files take for
// granted what a model does otherwise, it is refused; where they do not know windows, the context ends with the window.
namespace llama {

namespace detail {

/// Sets keys that begin with the architecture's name.
class GgufKeys {
 public:
  GgufKeys(gosset::GgufWriter& writer, const GgufFamily& family) : writer_(writer), family_(family) {}

  void count(const char* key, Index value) { writer_.set(name(key), static_cast<std::uint32_t>(value)); }
  void number(const char* key, double value) { writer_.set(name(key), static_cast<float>(value)); }
  void text(const char* key, const char* value) { writer_.set(name(key), value); }

 private:
  std::string name(const char* key) const { return std::string(family_.architecture) + "." + key; }

  gosset::GgufWriter& writer_;
  const GgufFamily& family_;
};

template <class... Parts>
[[noreturn]] void ggufCannotSay(const GgufFamily& family, const Parts&... parts) {
  std::ostringstream text;
  text << "GGUF: files of architecture \"" << family.architecture << "\" cannot say that ";
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

/// By what number all frequencies of a rotary embedding are divided, if it is one.
inline std::optional<double> linearFactor(const Rope& rope, const std::vector<double>& plain) {
  const double factor = plain[0] / rope.frequencies[0];
  for (std::size_t i = 0; i < plain.size(); ++i) {
    if (std::abs(plain[i] / rope.frequencies[i] / factor - 1) > 1e-9) return std::nullopt;
  }
  return factor;
}

/// The rotary embedding of most blocks; returns what divides the frequencies, or nothing.
inline Eigen::VectorXf setRope(GgufKeys& keys, const Config& c, const GgufFamily& family) {
  const Rope rope = c.ropes.empty() ? Rope{ropeFrequencies(c.headDim, static_cast<double>(c.ropeTheta))} : c.ropes[0];
  const std::vector<double> plain = ropeFrequencies(rope.dim(), static_cast<double>(c.ropeTheta));
  keys.number("rope.freq_base", static_cast<double>(c.ropeTheta));
  keys.count("rope.dimension_count", rope.dim());
  const auto factor = linearFactor(rope, plain);
  if (factor && *factor != 1) {
    keys.text("rope.scaling.type", "linear");
    keys.number("rope.scaling.factor", *factor);
  }
  if (!factor && !family.ropeFactors) {
    ggufCannotSay(family, "rotary embedding is scaled otherwise than by one factor (yarn, llama3)");
  }
  if (rope.magnitude != 1) {
    if (!family.ropeFactors) ggufCannotSay(family, "rotary embedding multiplies by ", rope.magnitude);
    keys.number("rope.scaling.attn_factor", rope.magnitude);
  }
  if (factor) return {};
  Eigen::VectorXf factors(static_cast<Index>(plain.size()));
  for (std::size_t i = 0; i < plain.size(); ++i) {
    factors[static_cast<Index>(i)] = static_cast<float>(plain[i] / rope.frequencies[i]);
  }
  return factors;
}

/// The period after which a block without window comes, if that is all there is to the windows; where none comes, the
/// usual one if no block is left that it says otherwise of.
inline std::optional<Index> windowPeriod(const Config& c, Index window, Index usual) {
  for (Index period = 1; period <= c.layers + 1; ++period) {
    bool fits = true;
    for (Index i = 0; i < c.layers; ++i) {
      fits = fits && (c.block(static_cast<std::size_t>(i)).window == window) == ((i + 1) % period != 0);
    }
    if (fits) return period > c.layers ? std::max(period, usual) : period;
  }
  return std::nullopt;
}

/// The narrowest window there is.
inline Index narrowestWindow(const Config& c) {
  Index window = Block::kNoWindow;
  for (const Block& block : c.blocks) window = std::min(window, block.window);
  return window;
}

/// Windows, and what only some blocks have. Returns the context that readers can use.
inline Index setBlocks(GgufKeys& keys, const Config& c, const GgufFamily& family) {
  const Index window = narrowestWindow(c);
  if (family.windows == Windows::kNone) return std::min(c.context, window);
  if (window == Block::kNoWindow) ggufCannotSay(family, "no block has a window");
  const Index usual = family.windows == Windows::kEven ? 2 : 6;
  const auto period = windowPeriod(c, window, usual);
  const bool any = family.windows == Windows::kPattern;
  if (!period || (!any && *period != usual)) ggufCannotSay(family, "other blocks than they expect have a window");
  keys.count("attention.sliding_window", window);
  if (*period != usual) keys.count("attention.sliding_window_pattern", *period);
  for (Index i = 0; any && i < c.layers; ++i) {
    const Block block = c.block(static_cast<std::size_t>(i));
    if ((block.rope == 1) != (block.window == window)) ggufCannotSay(family, "blocks turn by other rules than windows");
  }
  if (any) {
    const std::vector<double>& local = c.ropes.at(1).frequencies;
    const double base = std::pow(local[1], -static_cast<double>(c.headDim) / 2);
    const auto factor = linearFactor(c.ropes[1], ropeFrequencies(c.headDim, base));
    if (!factor || std::abs(*factor - 1) > 1e-9) ggufCannotSay(family, "blocks with a window turn by scaled angles");
    if (std::abs(base - 10000) > 1e-6) keys.number("rope.freq_base_swa", base);
  }
  return c.context;
}

inline void setExperts(GgufKeys& keys, const Config& c, const GgufFamily& family) {
  const Experts& e = c.experts;
  if (e.count == 0) return;
  for (Index i = 0; i < c.layers; ++i) {
    if (!c.block(static_cast<std::size_t>(i)).experts) ggufCannotSay(family, "block ", i, " has no experts");
  }
  const bool divides = family.architecture != "qwen2moe";
  if (e.normalized != divides) {
    ggufCannotSay(family, "the weights of experts are ", e.normalized ? "" : "not ", "divided by their sum");
  }
  keys.count("expert_count", e.count);
  keys.count("expert_used_count", e.perToken);
  if (family.modelType != "mixtral") keys.count("expert_feed_forward_length", e.hidden);
  if (e.sharedHidden > 0) keys.count("expert_shared_feed_forward_length", e.sharedHidden);
}

/// What has no key at all.
inline void requireSayable(const Config& c, const GgufFamily& family) {
  const bool any = family.biases == GgufFamily::Biases::kAll;
  if (c.qkvBias && family.biases == GgufFamily::Biases::kNone) ggufCannotSay(family, "queries have biases");
  if (c.outputBias && !any) ggufCannotSay(family, "attention's output has biases");
  if (c.ffnBias && !any) ggufCannotSay(family, "the feed-forward network has biases");
  if (!family.modelType.starts_with("gemma") && c.attentionScale > 0) ggufCannotSay(family, "scores have a scale");
  // Of the largest models alone the readers know that it is another one.
  const bool largest =
      (family.modelType == "gemma2" && c.layers == 46) || (family.modelType == "gemma3_text" && c.layers == 62);
  const double usual = 1 / std::sqrt(static_cast<double>(largest ? c.dim / c.heads : c.headDim));
  if (std::abs(static_cast<double>(c.scoreScale()) / usual - 1) > 1e-6) {
    ggufCannotSay(family, "scores are multiplied by ", c.scoreScale(), " rather than by ", usual);
  }
  for (std::size_t i = 0; i < c.blocks.size(); ++i) {
    const bool turns = family.modelType != "smollm3" || (i + 1) % 4 != 0;
    if ((c.blocks[i].rope != Block::kNoRope) != turns) {
      ggufCannotSay(family, "block ", i, turns ? " has no" : " has a", " rotary embedding");
    }
  }
  if (c.blocks.empty() && family.modelType == "smollm3" && c.layers >= 4) {
    ggufCannotSay(family, "block 3 has a rotary embedding");
  }
}

}  // namespace detail

/// What a file says of a model besides its tokenizer and its mixture of types.
struct GgufSaid {
  Index context = 0;            ///< what readers may use of it: less than the model's where windows cannot be said
  Eigen::VectorXf ropeFactors;  ///< the tensor rope_freqs.weight, or nothing
};

/// Sets the keys of the model's architecture. Throws std::invalid_argument where the model does what the readers of
/// such files take for granted to be otherwise.
inline GgufSaid setGgufConfig(gosset::GgufWriter& writer, const Config& c, const GgufFamily& family) {
  detail::requireSayable(c, family);
  detail::GgufKeys keys(writer, family);
  writer.set("general.architecture", family.architecture);
  writer.set("general.type", "model");
  GgufSaid said;
  said.context = detail::setBlocks(keys, c, family);
  keys.count("context_length", said.context);
  keys.count("embedding_length", c.dim);
  keys.count("block_count", c.layers);
  keys.count("feed_forward_length", c.hidden);
  keys.count("attention.head_count", c.heads);
  keys.count("attention.head_count_kv", c.kvHeads);
  keys.count("attention.key_length", c.headDim);
  keys.count("attention.value_length", c.headDim);
  keys.number("attention.layer_norm_rms_epsilon", static_cast<double>(c.normEps));
  keys.count("vocab_size", c.vocab);
  if (c.scoreCap > 0) keys.number("attn_logit_softcapping", static_cast<double>(c.scoreCap));
  if (c.logitCap > 0) keys.number("final_logit_softcapping", static_cast<double>(c.logitCap));
  detail::setExperts(keys, c, family);
  said.ropeFactors = detail::setRope(keys, c, family);
  return said;
}

}  // namespace llama
