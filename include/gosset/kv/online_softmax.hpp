// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace gosset::GOSSET_ABI::detail {

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
    if (score == kNone) return;
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
      const float shrink = expOfNegative(simd::splat<simd::Floats>(largest_[query] - largest))[0];
      sum_[query] = simd::unfused(sum_[query] * shrink);
      output_.col(query) *= shrink;
      largest_[query] = largest;
    }
    sum_[query] += exponentials(scores, count, largest);
  }

  /// values x queries: where the sums of weight * value go.
  Eigen::MatrixXf& output() { return output_; }

  /// False where one of a query's scores was NaN or +infinity.
  bool exists(Index query) const { return std::isfinite(sum_[query]); }

  /// The weighted mean of a query; zero if it saw no token.
  auto result(Index query) const { return output_.col(query) * (sum_[query] > 0 ? 1 / sum_[query] : 0.f); }

 private:
  static constexpr float kNone = -std::numeric_limits<float>::infinity();
  static constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();
  static constexpr Index kLanes = simd::kWordLanes;

  static float largestOf(const float* scores, Index count) {
    float largest = kNone;
    Index i = 0;
    if (count >= kLanes) {
      auto most = simd::load<simd::Floats>(scores);
      for (i = kLanes; i + kLanes <= count; i += kLanes) {
        const auto next = simd::load<simd::Floats>(scores + i);
        most = next > most ? next : most;
      }
      for (int lane = 0; lane < kLanes; ++lane) largest = std::max(largest, most[lane]);
    }
    for (; i < count; ++i) largest = std::max(largest, scores[i]);
    return largest;
  }

  /// score <- exp(score - largest); their sum, in 16 lanes.
  static float exponentials(float* scores, Index count, float largest) {
    constexpr Index kSixteen = 16;
    simd::Floats sums[kSixteen / kLanes] = {};
    const auto add = [&](float* sixteen) {
      simd::unroll<kSixteen / kLanes>([&](auto i) __attribute__((always_inline)) {
        const simd::Floats weights = expOfNegative(simd::load<simd::Floats>(sixteen + i * kLanes) - largest);
        simd::store(sixteen + i * kLanes, weights);
        sums[i] += weights;
      });
    };
    Index i = 0;
    for (; i + kSixteen <= count; i += kSixteen) add(scores + i);
    if (i < count) {
      float part[kSixteen];
      std::fill(std::copy(scores + i, scores + count, part), part + kSixteen, kNone);
      add(part);
      std::copy_n(part, count - i, scores + i);
    }
    return simd::sumInHalves<kSixteen / kLanes>(sums);
  }

  Eigen::VectorXf largest_, sum_;
  Eigen::MatrixXf output_;
};

}  // namespace gosset::GOSSET_ABI::detail
