// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

class AttendWorkspace;

struct AttendOptions {
  std::optional<float> scale = {};                           ///< of the scores; 1 / sqrt(head_dim) unless given
  Index sliding_window = std::numeric_limits<Index>::max();  ///< newest tokens that a query sees, itself included
  AttendWorkspace* workspace = nullptr;                      ///< memory to work in, of this call alone while it runs
};

/// Errors: std::invalid_argument where the scale is not finite or the sliding window is not positive.
inline void validate(const AttendOptions& options) {
  detail::require(!options.scale || std::isfinite(*options.scale), "AttendOptions: expected a finite scale, got ",
                  options.scale.value_or(0.f));
  detail::require(options.sliding_window >= 1, "AttendOptions: sliding_window must be at least 1 token, got ",
                  options.sliding_window);
}

/// What attention does to a score, scale included, before the softmax: score(s, head, query, key), where query and key
/// are positions of tokens in the cache, gives the new score; -infinity hides the key, NaN and +infinity are errors of
/// attend(). Called from several threads; an exception of it comes out of attend(). What it expects of the heads and of
/// its own numbers it may check before, by a member checkHeads(heads), which attend() calls with the number of query
/// heads and which throws std::invalid_argument.
template <class S>
concept ScoreFunction = requires(const S& score, float s, Index n) {
  { score(s, n, n, n) } -> std::convertible_to<float>;
};

/// Scores as they are.
struct PlainScores {
  float operator()(float s, Index, Index, Index) const { return s; }
};

/// cap * tanh(s / cap), as Gemma 2 has it. The last bits are those of the C library's tanh.
struct SoftCap {
  float cap = 50;

  /// Errors: std::invalid_argument where the cap is not positive and finite.
  void checkHeads(Index) const {
    detail::require(cap > 0 && std::isfinite(cap), "SoftCap: expected a positive finite cap, got ", cap);
  }

  float operator()(float s, Index, Index, Index) const { return cap * std::tanh(s / cap); }
};

/// s - slope * distance, with the slopes 2^(-8 (head + 1) / heads) that are published for a power of two of heads.
/// Source: Press, Smith and Lewis, "ALiBi", ICLR 2022, section 3.
struct Alibi {
  /// Errors: std::invalid_argument where heads is not positive.
  explicit Alibi(Index heads) {
    detail::require(heads >= 1, "Alibi: expected at least one head, got ", heads);
    for (Index head = 0; head < heads; ++head) {
      slopes_.push_back(std::exp2(-8.f * static_cast<float>(head + 1) / static_cast<float>(heads)));
    }
  }
  /// Slopes of your own, one a query head. Errors: std::invalid_argument where there is none or one is not finite.
  explicit Alibi(std::vector<float> slopes) : slopes_(std::move(slopes)) {
    detail::require(!slopes_.empty(), "Alibi: expected a slope for each query head, got none");
    for (std::size_t head = 0; head < slopes_.size(); ++head) {
      detail::require(std::isfinite(slopes_[head]), "Alibi: expected finite slopes, got ", slopes_[head], " for head ",
                      head);
    }
  }

  /// Errors: std::invalid_argument where there are more slopes or fewer than query heads.
  void checkHeads(Index heads) const {
    detail::require(static_cast<Index>(slopes_.size()) == heads, "Alibi: expected a slope for each of the ", heads,
                    " query heads, got ", slopes_.size());
  }

  /// NaN for a head that has no slope.
  float operator()(float s, Index head, Index query, Index key) const {
    const auto at = static_cast<std::size_t>(head);
    if (at >= slopes_.size()) return std::numeric_limits<float>::quiet_NaN();
    return s - simd::unfused(slopes_[at] * static_cast<float>(query - key));
  }

 private:
  std::vector<float> slopes_;
};

static_assert(ScoreFunction<PlainScores> && ScoreFunction<SoftCap> && ScoreFunction<Alibi>);

}  // namespace gosset::GOSSET_ABI
