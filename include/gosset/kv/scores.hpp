// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/activations.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

class AttendWorkspace;

/// A look at numbers of yours, one a query head, which must stay where they are as long as it is used.
class PerHead {
 public:
  PerHead() = default;
  PerHead(std::span<const float> numbers) : numbers_(numbers) {}
  PerHead(const std::vector<float>& numbers) : numbers_(numbers) {}
  /// A vector of floats that stand next to each other.
  template <class Derived>
  requires(Derived::IsVectorAtCompileTime != 0 && Derived::InnerStrideAtCompileTime == 1 &&
           std::is_same_v<typename Derived::Scalar, float>) PerHead(const Eigen::DenseBase<Derived>& numbers)
      : numbers_(numbers.derived().data(), static_cast<std::size_t>(numbers.size())) {}

  bool empty() const { return numbers_.empty(); }
  Index size() const { return static_cast<Index>(numbers_.size()); }
  float operator[](Index head) const { return numbers_[static_cast<std::size_t>(head)]; }

 private:
  std::span<const float> numbers_;
};

struct AttendOptions {
  std::optional<float> scale = {};                           ///< of the scores; 1 / sqrt(head_dim) unless given
  Index sliding_window = std::numeric_limits<Index>::max();  ///< newest tokens that a query sees, itself included
  AttendWorkspace* workspace = nullptr;                      ///< memory to work in, of this call alone while it runs
  /// A learned logit a head, which takes part in the sum of the softmax and has no value: what it weighs is lost to the
  /// tokens. Neither scaled nor given to the score function; -infinity weighs nothing. None unless given.
  PerHead sinks = {};
  /// kRounded: queries and weights meet packed codes as integers, in units of the largest of those that share a group
  /// of the codes and 256 rows, where the codes have such products (kernel/transposed.hpp) and the machine a dot
  /// product of bytes: integers of 16 bits, which move the output by some ten thousandths; over codes of up to 2 bits a
  /// number and points of E8 integers of 8. These move it by .4 to 1.5% in rotated caches, .7 to 7% in others of 2
  /// bits, where packing did by 3 to 90%; the two have nothing to do with each other, so that the error of both changes
  /// by 2.3% at most (kv_quality's data). Up to twice as fast.
  Activations activations = Activations::kFloat;
};

/// Errors: std::invalid_argument where the scale is not finite, the sliding window is not positive or activations are
/// rounded per token.
inline void validate(const AttendOptions& options) {
  detail::require(!options.scale || std::isfinite(*options.scale), "AttendOptions: expected a finite scale, got ",
                  options.scale.value_or(0.f));
  detail::require(options.sliding_window >= 1, "AttendOptions: sliding_window must be at least 1 token, got ",
                  options.sliding_window);
  detail::require(options.activations != Activations::kRoundedPerToken,
                  "AttendOptions: activations must be kFloat or kRounded, got kRoundedPerToken");
}

/// Of so many query heads. Errors: also where sinks are neither none nor one a head, or NaN or +infinity.
inline void validate(const AttendOptions& options, Index heads) {
  validate(options);
  detail::require(options.sinks.empty() || options.sinks.size() == heads, "AttendOptions: expected sinks for the ",
                  heads, " query heads, got ", options.sinks.size());
  for (Index head = 0; head < options.sinks.size(); ++head) {
    detail::require(options.sinks[head] <= std::numeric_limits<float>::max(),
                    "AttendOptions: expected sinks that are finite or -infinity, got ", options.sinks[head],
                    " for head ", head);
  }
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
