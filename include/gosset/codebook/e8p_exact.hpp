// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/e8p_table.hpp>
#include <gosset/core/abi.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>

// The slow search for the nearest point of E8P, which is exact: what the fast one of e8p.hpp is held to, and falls back
// on.
namespace gosset::GOSSET_ABI::detail {

/// The input as the codebook takes it: NaN as 0, infinities as the largest floats.
inline std::array<double, 8> e8pInput(const float* x) {
  constexpr float kMax = std::numeric_limits<float>::max();
  std::array<double, 8> z;
  for (std::size_t i = 0; i < 8; ++i) z[i] = x[i] != x[i] ? 0. : static_cast<double>(std::clamp(x[i], -kMax, kMax));
  return z;
}

/// 8 <x, p> - 4 |p|^2, the larger the nearer. Each product is exact in double, so that a fused multiply-add gives the
/// same bits, and so is each sum where the x_i are multiples of 2^-40 below 2^8.
inline double e8pScore(const std::array<double, 8>& x, unsigned code) {
  double score = 0;
  int norm = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const int quarter = e8pQuarter(code, i);
    norm += quarter * quarter;
    score += x[i] * static_cast<double>(2 * quarter);
  }
  return score - static_cast<double>(norm) * 0.25;
}

// How the nearest point is found. For one shift let y = x - shift and a_i = |y_i|. Signs that follow y are best, and
// then
//
//   (|y|^2 - |y - v|^2) / 2  =  sum_i |v_i| a_i - |v|^2 / 2  =  (sum_i a_i) / 2 - 1 + gain,
//   gain  =  sum over the 3/2's of (a_i - 1)  +  (2 a_i - 3 for the 5/2),
//
// so for a given number of 3/2's they belong where the a_i are largest: sorting the a_i replaces the search over
// patterns. Only the 29 patterns of norm 12 need a look at places. Where the parity of the signs is wrong, one sign
// must turn, which costs 2 |v_i| a_i here: least at the smallest a_i. Between the two shifts |x|^2 is common, and |y|^2
// = |x|^2 - 2 shift sum_i x_i + const.

/// The sums over all subsets of 8 numbers, as low[mask & 15] + high[mask >> 4].
struct E8PSubsets {
  double low[16], high[16];

  explicit E8PSubsets(const double* x) {
    low[0] = high[0] = 0;
    for (unsigned m = 1; m < 16; ++m) {
      const unsigned i = static_cast<unsigned>(std::countr_zero(m)), rest = m & (m - 1);
      low[m] = low[rest] + x[i];
      high[m] = high[rest] + x[i + 4];
    }
  }
  double operator()(unsigned mask) const { return low[mask & 15] + high[mask >> 4]; }
};

/// The slow, exact search: the nearest point by the score, and of several with an equal score the smallest code. It
/// visits all patterns but those that a bound rules out. Its own rounding is covered by a tolerance; all codes within
/// it are scored.
class E8PExactSearch {
 public:
  /// at_least: the value (as above) of some code, or a little less; it only saves time.
  E8PExactSearch(const float* input, double at_least) : x_(e8pInput(input)), most_(at_least) {
    double size = 4;
    for (const double x : x_) size += x < 0 ? -x : x;
    tolerance_ = 0x1p-44 * size;
    searchShift(false);
    searchShift(true);
  }
  unsigned code() const { return best_code_; }

 private:
  void searchShift(bool plus) {
    const double shift = plus ? 0.25 : -0.25;
    double gains[8];
    base_ = -1;
    negative_ = 0;
    for (unsigned i = 0; i < 8; ++i) {
      const double y = x_[i] - shift;
      a_[i] = y < 0 ? -y : y;
      if (y < 0) negative_ |= 1u << i;
      gains[i] = a_[i] - 1;
      base_ += 0.5 * a_[i] + shift * x_[i];
    }
    const E8PSubsets gain(gains);
    const double low_most = *std::max_element(gain.low, gain.low + 16);
    for (unsigned high = 0; high < 16; ++high) {
      if (base_ + gain.high[high] + low_most < most_ - tolerance_) continue;
      for (unsigned low = 0; low < 16; ++low) {
        const unsigned threes = (high << 4) | low, pattern = kE8P.pattern_of_threes[threes];
        if (kE8P.threes[pattern] == threes) tryPattern(pattern, plus, base_ + gain(threes));
      }
    }
    for (unsigned i = 0; i < 8; ++i) {
      for (unsigned j = 0; j < 8; ++j) {
        tryPattern(192 + 8 * i + j, plus, base_ + 2 * a_[i] - 3 + (i != j ? gains[j] : 0.));
      }
    }
  }

  /// ideal: the value if the signs were free.
  void tryPattern(unsigned pattern, bool plus, double ideal) {
    if (ideal < most_ - tolerance_) return;
    double costs[8];
    unsigned cheapest = 0;
    for (unsigned i = 0; i < 8; ++i) {
      costs[i] = 0.5 * kE8P.quarters[pattern][i] * a_[i];
      if (costs[i] < costs[cheapest]) cheapest = i;
    }
    const bool odd = kE8P.odd_sign[pattern] != 0, turn = odd != (std::popcount(negative_) % 2 != 0);
    most_ = std::max(most_, turn ? ideal - costs[cheapest] : ideal);

    const double spare = ideal - (most_ - tolerance_);
    unsigned turnable = 0;
    for (unsigned i = 0; i < 8; ++i) turnable |= costs[i] <= spare ? 1u << i : 0u;
    const E8PSubsets cost(costs);
    for (unsigned turned = turnable;; turned = (turned - 1) & turnable) {
      if ((std::popcount(turned) % 2 != 0) == turn && cost(turned) <= spare)
        score(e8pCode(pattern, plus, negative_ ^ turned));
      if (turned == 0) break;
    }
  }

  void score(unsigned code) {
    const double score = e8pScore(x_, code);
    if (score > best_score_ || (score == best_score_ && code < best_code_)) {
      best_score_ = score;
      best_code_ = code;
    }
  }

  std::array<double, 8> x_;
  double a_[8] = {};       ///< |x_i - shift|
  double base_ = 0;        ///< the value of the first pattern, if its signs were free
  unsigned negative_ = 0;  ///< mask of x_i < shift
  double most_, tolerance_ = 0;
  double best_score_ = -std::numeric_limits<double>::infinity();
  unsigned best_code_ = 0;
};

}  // namespace gosset::GOSSET_ABI::detail
