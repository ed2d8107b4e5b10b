// SPDX-License-Identifier: Apache-2.0
// What a map's codes make of a group, as sums, in a namespace for each instruction set (core/instruction_set.hpp), and
// calls of those that run.
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Eight lanes of double, in which terms are added in the order of sumOfProducts().
struct EightSums {
  static constexpr int kLanes = simd::kWordLanes / 2, kParts = 8 / kLanes;

  /// Adds a[i] * b[i], which is exact, of eight.
  [[gnu::always_inline]] void add(const float* a, const float* b) {
    simd::unroll<kParts>([&](int part) __attribute__((always_inline)) {
      lanes[part] += simd::loadDoubles(a + part * kLanes) * simd::loadDoubles(b + part * kLanes);
    });
  }
  [[gnu::always_inline]] void add(const float* a) {
    simd::unroll<kParts>([&](int part)
                             __attribute__((always_inline)) { lanes[part] += simd::loadDoubles(a + part * kLanes); });
  }
  [[gnu::always_inline]] double sum() const {
    double all[8];
    std::memcpy(all, lanes, sizeof all);
    return ((all[0] + all[4]) + (all[2] + all[6])) + ((all[1] + all[5]) + (all[3] + all[7]));
  }

  simd::Doubles lanes[kParts] = {};
};

inline double sumOfDifferencesInSet(const float* x, Index count, float minus) {
  EightSums sum;
  Index i = 0;
  for (; i + 16 <= count; i += 16) {
    float differences[16];
    simd::unroll<16 / simd::kWordLanes>([&](auto part) __attribute__((always_inline)) {
      constexpr int kAt = part * simd::kWordLanes;
      simd::store(differences + kAt, simd::load<simd::Floats>(x + i + kAt) - minus);
    });
    sum.add(differences);
    sum.add(differences + 8);
  }
  for (; i < count; i += 8) {
    float differences[8] = {};
    for (Index k = 0; k < 8 && i + k < count; ++k) differences[k] = x[i + k] - minus;
    sum.add(differences);
  }
  return sum.sum();
}

/// The nearest of levels first, first + 1, .. last.
struct WholeLevel {
  WholeLevel(float least, float most)
      : first(simd::splat<simd::Floats>(least)), last(simd::splat<simd::Floats>(most)) {}
  [[gnu::always_inline]] simd::Floats operator()(simd::Floats x) const {
    return simd::nearestWhole(simd::smaller(simd::larger(x, first), last));
  }
  simd::Floats first, last;
};

/// Of at most kLevels levels the one that as many thresholds as a number reaches lead to, by halves.
template <int kLevels>
struct CountedLevel {
  template <int kHalf>
  [[gnu::always_inline]] void halve(simd::Floats x, simd::Words& code) const {
    if constexpr (kHalf > 0) {
      const simd::Floats threshold = simd::lookup16(thresholds, code + (kHalf - 1));
      code += (simd::Words)(x >= threshold) & static_cast<std::uint32_t>(kHalf);
      halve<kHalf / 2>(x, code);
    }
  }
  [[gnu::always_inline]] simd::Floats operator()(simd::Floats x) const {
    simd::Words code{};
    halve<kLevels / 2>(x, code);
    return simd::lookup16(levels, code);
  }
  const float *levels, *thresholds;  ///< of 16
};

template <bool kHasZero, class LevelOf>
[[gnu::always_inline]] inline LevelSums sumsBy(const LevelOf& levelOf, const LevelsOfSums& levels, const float* x,
                                               Index count, const Affine& a, float mean) {
  constexpr int kAtOnce = 16;
  const auto splat = [&](float v) __attribute__((always_inline)) { return simd::splat<simd::Floats>(v); };
  const simd::Floats divisor = splat(gosset::detail::divisor(a)), scale = splat(a.scale), zero = splat(a.zero),
                     mid = splat(levels.middle), middle_number = splat(mean);
  EightSums error, squares, products, sum;
  for (Index i = 0; i < count; i += kAtOnce) {
    float few[kAtOnce], off[kAtOnce], level[kAtOnce], number[kAtOnce];
    const float* from = x + i;
    if (count - i < kAtOnce) {
      for (Index k = 0; k < kAtOnce; ++k) few[k] = k < count - i ? from[k] : 0.f;
      from = few;
    }
    simd::unroll<kAtOnce / simd::kWordLanes>([&](auto part) __attribute__((always_inline)) {
      constexpr int kAt = part * simd::kWordLanes;
      const auto v = simd::load<simd::Floats>(from + kAt);
      simd::Floats quotient = v / divisor;
      if constexpr (kHasZero) quotient = quotient + zero;
      const simd::Floats l = levelOf(quotient);
      simd::store(off + kAt, v - simd::unfused(scale * (kHasZero ? l - zero : l)));
      simd::store(level + kAt, kHasZero ? l - mid : l);
      simd::store(number + kAt, kHasZero ? v - middle_number : v);
    });
    if (count - i < kAtOnce) {  // no terms of what is not there
      std::fill(off + (count - i), off + kAtOnce, 0.f);
      std::fill(level + (count - i), level + kAtOnce, 0.f);
    }
    for (int at = 0; at < kAtOnce; at += 8) {
      error.add(off + at, off + at);
      squares.add(level + at, level + at);
      products.add(level + at, number + at);
      if constexpr (kHasZero) sum.add(level + at);
    }
  }
  return {error.sum(), kHasZero ? sum.sum() : 0, squares.sum(), products.sum()};
}

inline LevelSums levelSumsInSet(const LevelsOfSums& levels, const float* x, Index count, const Affine& a, float mean) {
  if (levels.thresholds != nullptr) {
    return sumsBy<false>(CountedLevel<16>{levels.levels, levels.thresholds}, levels, x, count, a, mean);
  }
  const WholeLevel whole(levels.first, levels.last);
  if (levels.have_zero) return sumsBy<true>(whole, levels, x, count, a, mean);
  return sumsBy<false>(whole, levels, x, count, a, mean);
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_SCALE_LEVEL_SUMS)
#define GOSSET_SCALE_LEVEL_SUMS

#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/scale/affine.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace gosset::GOSSET_ABI::detail {

/// Of numbers x and the levels l of their codes: sum (x - value)^2, sum l', sum l'^2 and sum l' x', where l' is l less
/// a middle level and x' is x less a mean, or l and x themselves where there is no zero point, and sum l' is 0 then.
struct LevelSums {
  double error, levels, squares, products;
};

/// Levels first, first + 1, .. last; or, without a zero point, 16 thresholds in rising order and the levels between,
/// those that are not there being NaN and anything.
struct LevelsOfSums {
  bool have_zero;
  float first, last, middle;
  const float *thresholds, *levels;
};

}  // namespace gosset::GOSSET_ABI::detail

#define GOSSET_FRAGMENTS <gosset/scale/level_sums.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// sum x - minus, in double, in the order of sumOf().
inline double sumOfDifferences(const float* x, Index count, float minus) {
  GOSSET_CALL_RUNNING(sumOfDifferencesInSet(x, count, minus))
}
inline LevelSums levelSums(const LevelsOfSums& levels, const float* x, Index count, const Affine& a, float mean) {
  GOSSET_CALL_RUNNING(levelSumsInSet(levels, x, count, a, mean))
}

}  // namespace gosset::GOSSET_ABI::detail

#endif
