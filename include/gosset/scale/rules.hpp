// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/scale/affine.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <span>
#include <vector>

// The rules that codebooks were published with, for the scale and zero point of a group of finite numbers.
namespace gosset::GOSSET_ABI {

/// The codebook's own rule: absmax, min-max, mean magnitude or root mean square.
///
/// One exception, for numbers that were quantized before: where those of a group that are not 0 have one magnitude c,
/// they come back exactly wherever the scale's type holds c and the codebook, one of single numbers or Trits5, has
/// levels for them. Constants and {-c, c} have them in every such codebook but Asymmetric<1>, which keeps min-max;
/// ternary weights {-c, 0, c} in Ternary, Trits5, Symmetric, NormalFloat4 and Asymmetric from 2 bits on, not in those
/// without a 0. Of groups with more magnitudes, absmax and min-max give those back that reach the end levels and whose
/// step the scale's type holds. Nothing is promised for others, such as {-3, .., 3} c in Symmetric<4>, which ends at 7,
/// or two magnitudes in LloydMax: a search for the lattice that numbers lie on is no part of these rules (LeastSquares
/// often finds it).
struct PublishedRule {};

/// The codebook's own rule after clipping the group at a percentile of its magnitudes (for min-max rules: at this
/// percentile and the opposite one of its values). Percentiles between two numbers are interpolated linearly.
struct Percentile {
  double percent = 99.9;  ///< in (50, 100]
};

namespace detail {

struct Extremes {
  float min;
  float max;
  constexpr float absMax() const { return std::max(max, -min); }
};

/// Sixteen numbers at a time on every machine, so that each keeps the same of two zeros.
inline Extremes extremes(std::span<const float> x) {
  using Floats = simd::Vec<float>;
  constexpr std::size_t kLanes = simd::kLanes<float>, kWidth = 16;
  Floats low[kWidth / kLanes], high[kWidth / kLanes];
  std::fill(std::begin(low), std::end(low), simd::splat<Floats>(x[0]));
  std::fill(std::begin(high), std::end(high), low[0]);
  std::size_t i = 0;
  for (; i + kWidth <= x.size(); i += kWidth) {
    simd::unroll<kWidth / kLanes>([&](auto part) {
      const auto v = simd::load<Floats>(x.data() + i + part * kLanes);
      low[part] = v < low[part] ? v : low[part];
      high[part] = v > high[part] ? v : high[part];
    });
  }
  float least[kWidth], most[kWidth];
  std::memcpy(least, low, sizeof least);
  std::memcpy(most, high, sizeof most);
  for (; i < x.size(); ++i) {
    least[0] = std::min(least[0], x[i]);
    most[0] = std::max(most[0], x[i]);
  }
  for (std::size_t half = kWidth / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) {
      least[lane] = std::min(least[lane], least[lane + half]);
      most[lane] = std::max(most[lane], most[lane + half]);
    }
  }
  return {least[0], most[0]};
}

inline float meanMagnitude(std::span<const float> x) {
  const auto n = static_cast<Index>(x.size());
  return static_cast<float>(sumOf(n, [&](Index i) { return std::abs(x[static_cast<std::size_t>(i)]); }) /
                            static_cast<double>(n));
}

inline float rootMeanSquare(std::span<const float> x) {
  const auto n = static_cast<Index>(x.size());
  return static_cast<float>(
      std::sqrt(sumOfSquares(n, [&](Index i) { return x[static_cast<std::size_t>(i)]; }) / static_cast<double>(n)));
}

/// The largest magnitude among the levels of a scalar codebook.
template <ScalarCodebook C>
constexpr float largestLevel() {
  const float first = C::level(0);
  const float last = C::level(static_cast<typename C::Code>(C::kLevels - 1));
  return std::max(first < 0 ? -first : first, last < 0 ? -last : last);
}

/// What x becomes: encoded, and decoded again.
template <ScalarCodebook C>
float decoded(float x, Affine a) {
  float y;
  decode<C>(encode<C>(&x, a), a, &y);
  return y;
}

template <ScalarCodebook C>
constexpr bool hasLevel(float level) {
  for (int q = 0; q < C::kLevels; ++q) {
    if (C::level(static_cast<typename C::Code>(q)) == level) return true;
  }
  return false;
}

/// Whether 0 is a value under any scale.
template <ScalarCodebook C>
bool givesZero() {
  if constexpr (ConstexprLevels<C>) {
    constexpr bool kGives = C::kHasZero || hasLevel<C>(0);
    return kGives;
  } else {
    return C::kHasZero || hasLevel<C>(0);
  }
}

/// Whether each of x has magnitude c or, for a codebook that gives 0 back under any scale, is 0.
template <ScalarCodebook C>
bool haveOneMagnitude(std::span<const float> x, float c) {
  const bool zero_too = givesZero<C>();
  constexpr std::size_t kBlock = 8;  // few, as the first mostly tells; without a branch inside, for vector code
  for (std::size_t first = 0; first < x.size(); first += kBlock) {
    unsigned others = 0;
    for (const float value : x.subspan(first, std::min(kBlock, x.size() - first))) {
      const bool zero = zero_too && value == 0;
      others += std::abs(value) == c || zero ? 0u : 1u;
    }
    if (others > 0) return false;
  }
  return true;
}

/// A group of numbers of magnitude c > 0, of these signs, and perhaps of zeros: the map that gives them back, exactly
/// wherever T can; of scale 0 where the codebook lacks the levels.
template <ScalarCodebook C, StorageScalar T>
Affine affineOfMagnitude(float c, bool negative, bool positive) {
  Affine best;
  if constexpr (C::kHasZero) {  // -c, 0 and c are scale * (level - zero) for levels that follow each other
    if (negative && positive && C::kLevels < 3) return best;
    best = {static_cast<float>(storeNearest<T>(c)), negative ? 1.f : 0.f};
  } else {
    double least = std::numeric_limits<double>::infinity();
    for (int q = 0; q < C::kLevels && least > 0; ++q) {
      const float level = C::level(static_cast<typename C::Code>(q));
      if (level == 0 || !(level > 0 ? positive : negative)) continue;
      if (negative && positive && !hasLevel<C>(-level)) continue;
      const float x = level > 0 ? c : -c;
      const Affine a{static_cast<float>(storeNearest<T>(x / level)), 0};
      const double error = std::abs(static_cast<double>(decoded<C>(x, a)) - static_cast<double>(x));
      if (!(error < least)) continue;
      least = error;
      best = a;
    }
  }
  return best;
}

/// The range [low, high] laid on the levels of a codebook with a zero point, before anything is rounded to cover it.
template <ScalarCodebook C, StorageScalar T>
Affine affineOfRange(float low, float high) {
  // A range much narrower than its distance from zero would need a zero point beyond T's integers.
  constexpr float kNarrowest = 1.f / static_cast<float>(std::int64_t{1} << (StorageTraits<T>::kDigits + 3));
  constexpr float kLeast = std::numeric_limits<float>::denorm_min();  // what the quotient may round to 0 from
  const float step =
      std::max({(high - low) / static_cast<float>(C::kLevels - 1), std::max(high, -low) * kNarrowest, kLeast});
  Affine a;
  a.scale = static_cast<float>(storeUp<T>(step));
  a.zero = static_cast<float>(storeNearest<T>(-low / a.scale));
  return a;
}

/// Scale and zero point such that [min, max] is covered in spite of the rounding of both. Numbers well below half the
/// least scale that T holds become 0, which is nearer than half a scale.
template <ScalarCodebook C, StorageScalar T>
Affine minMaxAffine(Extremes range) {
  constexpr auto kLast = static_cast<float>(C::kLevels - 1);
  Affine a = affineOfRange<C, T>(range.min, range.max);
  if (range.absMax() < 0.45f * a.scale) return {a.scale, C::kLevels / 2};
  const auto valueAt = [&](float level) {  // in double, where the product is exact and fusing it changes nothing
    return static_cast<double>(a.scale) * static_cast<double>(level - a.zero);
  };
  // The first zero point keeps an end that is 0 exactly there. Where its rounding uncovers an end, the range moves to
  // the middle of the levels, and then the step grows.
  const auto middle = static_cast<float>((static_cast<double>(range.min) + static_cast<double>(range.max)) / 2);
  for (int tries = 0; tries < 8; ++tries) {
    const double missing =
        std::max(valueAt(0) - static_cast<double>(range.min), static_cast<double>(range.max) - valueAt(kLast));
    if (missing <= 0) break;
    if (tries > 0) a.scale = static_cast<float>(storeUp<T>(a.scale + 2 * static_cast<float>(missing) / kLast));
    a.zero = static_cast<float>(storeNearest<T>(kLast / 2 - middle / a.scale));
  }
  return a;
}

/// PublishedRule for numbers of this range.
template <Codebook C, StorageScalar T>
Affine affineByRule(std::span<const float> x, Extremes range) {
  if constexpr (CodesEachNumber<C>) {
    return affineByRule<typename C::Element, T>(x, range);
  } else {
    const float largest = range.absMax();
    if (largest == 0) return {};
    if constexpr (ScalarCodebook<C>) {
      if (haveOneMagnitude<C>(x, largest)) {
        const Affine a = affineOfMagnitude<C, T>(largest, range.min<0, range.max> 0);
        if (a.scale > 0) return a;
      }
    }
    if constexpr (C::kRule == ScaleRule::kMinMax) {
      return minMaxAffine<C, T>(range);
    } else if constexpr (C::kRule == ScaleRule::kAbsMax) {
      return {static_cast<float>(storeUp<T>(largest / largestLevel<C>())), 0};
    } else if constexpr (C::kRule == ScaleRule::kMeanMagnitude) {
      return {static_cast<float>(storeNearest<T>(meanMagnitude(x))), 0};
    } else {
      return {static_cast<float>(storeNearest<T>(rootMeanSquare(x) * C::kGaussianScale)), 0};
    }
  }
}

}  // namespace detail

/// The scale and zero point of one group under the codebook's own rule, as they come back from storage in T, because
/// codes are chosen with the stored scale. x: finite and not empty, without padding.
template <Codebook C, StorageScalar T>
Affine fitAffine(PublishedRule, std::span<const float> x) {
  return detail::affineByRule<C, T>(x, detail::extremes(x));
}

template <Codebook C, StorageScalar T>
Affine fitAffine(Percentile percentile, std::span<const float> x) {
  constexpr bool kBothEnds = C::kRule == ScaleRule::kMinMax;
  std::vector<float> sorted(x.begin(), x.end());
  if (!kBothEnds) {
    for (float& value : sorted) value = std::abs(value);
  }
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double fraction) {
    const double position = fraction * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    const double weight = position - static_cast<double>(below);
    // Fused by name, so that no compiler decides it.
    return static_cast<float>(std::fma(weight, static_cast<double>(sorted[above]) - static_cast<double>(sorted[below]),
                                       static_cast<double>(sorted[below])));
  };
  const float high = at(percentile.percent / 100);
  const float low = kBothEnds ? at(1 - percentile.percent / 100) : -high;
  if (low == 0 && high == 0)
    return fitAffine<C, T>(PublishedRule{}, x);  // so few numbers differ from 0 that none is left
  std::vector<float> clipped(x.size());
  std::transform(x.begin(), x.end(), clipped.begin(), [&](float value) { return std::clamp(value, low, high); });
  return fitAffine<C, T>(PublishedRule{}, clipped);
}

}  // namespace gosset::GOSSET_ABI
