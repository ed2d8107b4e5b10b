// SPDX-License-Identifier: Apache-2.0
// The softmax of attention; its loops are compiled for each instruction set (core/instruction_set.hpp).
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// exp(x) for x <= 0, lane by lane, within 3 units in the last place; 0 below -87, where results would be subnormal.
/// x = n ln 2 + r with |r| <= ln 2 / 2, and e^r by its Taylor polynomial, whose remainder is below 2^-27. Nothing is
/// fused: the same bits on every machine.
[[gnu::always_inline]] inline simd::Floats expOfNegative(simd::Floats x) {
  using namespace simd;
  constexpr float kToInteger = 0x1.8p23f;
  constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // the first has few bits: n times it is exact
  const Floats least = splat<Floats>(-87.f);
  const Floats clamped = x < least ? least : x;  // NaN stays
  const Floats shifted = unfused(clamped * 0x1.715476p0f) + kToInteger;
  const Floats n = shifted - kToInteger;
  const Floats r = (clamped - n * kLn2High) - unfused(n * kLn2Low);
  Floats p = unfused(r * (1 / 5040.f)) + 1 / 720.f;
  for (const float coefficient : {1 / 120.f, 1 / 24.f, 1 / 6.f, 0.5f, 1.f, 1.f}) p = unfused(p * r) + coefficient;
  const auto power = (Floats)(((Ints)shifted - std::bit_cast<std::int32_t>(kToInteger) + 127) << 23);
  return x < least ? Floats{} : p * power;
}

inline float expInSet(float x) { return expOfNegative(simd::splat<simd::Floats>(x))[0]; }

inline float largestOfInSet(const float* scores, Index count) {
  constexpr int kChains = 4;  // to hide the latency of comparisons
  constexpr Index kStep = kChains * simd::kWordLanes;
  float largest = -std::numeric_limits<float>::infinity();
  Index i = 0;
  if (count >= kStep) {
    simd::Floats most[kChains];
    for (auto& chain : most) chain = simd::splat<simd::Floats>(largest);
    for (; i + kStep <= count; i += kStep) {
      simd::unroll<kChains>([&](int k) __attribute__((always_inline)) {
        const auto next = simd::load<simd::Floats>(scores + i + k * simd::kWordLanes);
        most[k] = next > most[k] ? next : most[k];
      });
    }
    const auto larger = [](auto a, auto b) { return a > b ? a : b; };
    largest = simd::overLanes(simd::inHalves<kChains>(most, larger), larger);
  }
  for (; i < count; ++i) largest = std::max(largest, scores[i]);
  return largest;
}

/// score <- exp(score - largest); their sum, in 16 lanes.
inline float exponentialsInSet(float* scores, Index count, float largest) {
  constexpr Index kSixteen = 16;
  simd::Floats sums[kSixteen / simd::kWordLanes] = {};
  const auto add = [&](float* sixteen) {
    simd::unroll<kSixteen / simd::kWordLanes>([&](int i) __attribute__((always_inline)) {
      const simd::Floats weights = expOfNegative(simd::load<simd::Floats>(sixteen + i * simd::kWordLanes) - largest);
      simd::store(sixteen + i * simd::kWordLanes, weights);
      sums[i] += weights;
    });
  };
  Index i = 0;
  for (; i + kSixteen <= count; i += kSixteen) add(scores + i);
  if (i < count) {
    float part[kSixteen];
    std::fill(std::copy(scores + i, scores + count, part), part + kSixteen, -std::numeric_limits<float>::infinity());
    add(part);
    std::copy_n(part, count - i, scores + i);
  }
  return simd::sumInHalves<kSixteen / simd::kWordLanes>(sums);
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_KV_ONLINE_SOFTMAX)
#define GOSSET_KV_ONLINE_SOFTMAX

#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#define GOSSET_FRAGMENTS <gosset/kv/online_softmax.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// The largest of some scores; which of them are NaN does not matter.
inline float largestOf(const float* scores, Index count) { GOSSET_CALL_RUNNING(largestOfInSet(scores, count)) }

/// score <- exp(score - largest); their sum, in 16 lanes.
inline float exponentials(float* scores, Index count, float largest) {
  GOSSET_CALL_RUNNING(exponentialsInSet(scores, count, largest))
}

/// exp(x) for x <= 0.
inline float expOfOne(float x) { GOSSET_CALL_RUNNING(expInSet(x)) }

/// Softmax over scores that come a block at a time, and the weighted sum of values with it, for t queries: what was
/// summed so far is scaled down whenever a larger score appears, so nothing overflows and no score is seen twice.
/// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), section 3.
class OnlineSoftmax {
 public:
  OnlineSoftmax() = default;
  OnlineSoftmax(Index values, Index queries) { reset(values, queries); }

  /// Starts over; takes no memory where the sizes are those from before.
  void reset(Index values, Index queries) {
    largest_.setConstant(queries, kNone);
    sum_.setZero(queries);
    output_.setZero(values, queries);
  }

  /// A score of a query that has no value; before all others.
  void setSink(Index query, float score) {
    largest_[query] = score;
    sum_[query] = 1;
  }

  /// Turns a query's scores for `count` tokens into their weights, exp(score - largest so far).
  void weigh(Index query, float* scores, Index count) {
    const float largest = std::max(largest_[query], largestOf(scores, count));
    if (largest == kNone) {  // every one hidden, or NaN
      if (std::any_of(scores, scores + count, [](float s) { return std::isnan(s); })) sum_[query] = kNotANumber;
      std::fill_n(scores, count, 0.f);
      return;
    }
    if (largest > largest_[query]) {
      const float shrink = expOfOne(largest_[query] - largest);
      sum_[query] = simd::unfused(sum_[query] * shrink);
      output_.col(query) *= shrink;
      largest_[query] = largest;
    }
    sum_[query] += exponentials(scores, count, largest);
  }

  /// Adds what another has summed up over tokens behind these: as exact as if they had come here.
  /// Source: Dao et al., "Flash-Decoding for long-context inference" (2023).
  void merge(const OnlineSoftmax& later) {
    for (Index query = 0; query < queries(); ++query) {
      const float largest = std::max(largest_[query], later.largest_[query]);
      const auto shrunk = [&](float before) { return before == kNone ? 0.f : expOfOne(before - largest); };
      const float here = shrunk(largest_[query]), there = shrunk(later.largest_[query]);
      sum_[query] = simd::unfused(sum_[query] * here) + simd::unfused(later.sum_[query] * there);
      for (Index i = 0; i < output_.rows(); ++i) {
        output_(i, query) = simd::unfused(output_(i, query) * here) + simd::unfused(later.output_(i, query) * there);
      }
      largest_[query] = largest;
    }
  }

  Index queries() const { return sum_.size(); }

  /// values x queries: where the sums of weight * value go.
  Eigen::MatrixXf& output() { return output_; }

  /// False where one of a query's scores was NaN or +infinity.
  bool exists(Index query) const { return std::isfinite(sum_[query]); }

  /// The weighted mean of a query; zero if it saw no token.
  auto result(Index query) const { return output_.col(query) * (sum_[query] > 0 ? 1 / sum_[query] : 0.f); }

 private:
  static constexpr float kNone = -std::numeric_limits<float>::infinity();
  static constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();

  Eigen::VectorXf largest_, sum_;
  Eigen::MatrixXf output_;
};

}  // namespace gosset::GOSSET_ABI::detail

#endif
