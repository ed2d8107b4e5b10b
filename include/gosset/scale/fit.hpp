// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/scale/affine.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <span>
#include <variant>
#include <vector>

// Fitting the scale and zero point of a group of finite numbers. Every fit returns numbers as they come back from
// storage in T, because codes are chosen with the stored scale.
namespace gosset {

/// The codebook's own rule: absmax, min-max, mean magnitude or root mean square.
struct PublishedRule {};

/// The codebook's own rule after clipping the group at a percentile of its magnitudes (for min-max rules: at this
/// percentile and the opposite one of its values). Percentiles between two numbers are interpolated linearly.
struct Percentile {
  double percent = 99.9;  ///< in (50, 100]
};

/// A search for the least sum of squared errors: many clipping ranges, then the best of them and its neighbours refined
/// by least squares over the codes until nothing changes.
struct LeastSquares {};

using ScaleFit = std::variant<PublishedRule, Percentile, LeastSquares>;

/// Errors: std::invalid_argument where a percentile is not in (50, 100].
inline void validate(const ScaleFit& fit) {
  if (const auto* percentile = std::get_if<Percentile>(&fit)) {
    detail::require(percentile->percent > 50 && percentile->percent <= 100,
                    "Percentile: expected a percentile in (50, 100], got ", percentile->percent);
  }
}

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

/// A group whose numbers all equal c != 0: the scale that gives c back, exactly wherever T can.
template <ScalarCodebook C, StorageScalar T>
Affine constantAffine(float c) {
  if constexpr (C::kHasZero) {  // scale * (1 - 0) or scale * (0 - 1)
    return {static_cast<float>(storeNearest<T>(std::abs(c))), c > 0 ? 0.f : 1.f};
  } else {
    Affine best;
    double least = std::numeric_limits<double>::infinity();
    for (int q = 0; q < C::kLevels; ++q) {
      const float level = C::level(static_cast<typename C::Code>(q));
      if (level == 0 || (level > 0) != (c > 0)) continue;
      const Affine a{static_cast<float>(storeNearest<T>(c / level)), 0};
      const double error = std::abs(static_cast<double>(decoded<C>(c, a)) - static_cast<double>(c));
      if (error < least) {
        least = error;
        best = a;
      }
    }
    return best;
  }
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

/// Scale and zero point such that [min, max] is covered in spite of the rounding of both.
template <ScalarCodebook C, StorageScalar T>
Affine minMaxAffine(Extremes range) {
  constexpr auto kLast = static_cast<float>(C::kLevels - 1);
  Affine a = affineOfRange<C, T>(range.min, range.max);
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

template <Codebook C>
double squaredError(std::span<const float> x, Affine a) {
  const auto n = static_cast<Index>(x.size());
  constexpr Index kBlock = 64 * C::kDim;
  typename C::Code codes[64];
  float values[kBlock];
  double sum = 0;
  for (Index first = 0; first < n; first += kBlock) {
    const Index count = std::min(kBlock, n - first);
    const float* part = x.data() + first;
    encodeRun<C>(part, count / C::kDim, a, codes);
    decodeRun<C>(codes, count / C::kDim, a, values);
    sum += sumOfSquares(count, [&](Index i) {
      return static_cast<float>(static_cast<double>(part[i]) - static_cast<double>(values[i]));
    });
  }
  return sum;
}

/// The least-squares scale (and zero point) for the codes that `a` gives: x ~ scale * level, or a line fitted to
/// (level, x).
template <Codebook C, StorageScalar T>
Affine refitted(std::span<const float> x, Affine a) {
  const auto n = static_cast<Index>(x.size());
  std::vector<typename C::Code> codes(x.size() / C::kDim);
  std::vector<float> levels(x.size());
  encodeRun<C>(x.data(), n / C::kDim, a, codes.data());
  decodeRun<C>(codes.data(), n / C::kDim, Affine{1, 0}, levels.data());
  const auto level = [&](Index i) { return levels[static_cast<std::size_t>(i)]; };
  const auto value = [&](Index i) { return x[static_cast<std::size_t>(i)]; };
  const bool has_zero = [] {
    if constexpr (ScalarCodebook<C>) return C::kHasZero;
    return false;
  }();
  // Centred first, so that no product meets a difference, which compilers might fuse.
  const auto level_mean = has_zero ? static_cast<float>(sumOf(n, level) / static_cast<double>(n)) : 0.f;
  const auto value_mean = has_zero ? static_cast<float>(sumOf(n, value) / static_cast<double>(n)) : 0.f;
  const double level_squares = sumOfSquares(n, [&](Index i) { return level(i) - level_mean; });
  const double products = sumOfProducts(n, [&](Index i) {
    return std::array<float, 2>{level(i) - level_mean, value(i) - value_mean};
  });
  const double scale = products / level_squares;
  const double zero = has_zero ? static_cast<double>(level_mean) - static_cast<double>(value_mean) / scale : 0;
  if (!(scale > 0) || !std::isfinite(scale) || !std::isfinite(zero)) return a;
  return {static_cast<float>(storeNearest<T>(static_cast<float>(scale))),
          static_cast<float>(storeNearest<T>(static_cast<float>(zero)))};
}

/// Calls visit for maps close to `a`: scales a few percent off (the middle of the range staying where it is), then zero
/// points less than a level off.
template <Codebook C, StorageScalar T, class Visit>
void forNeighbours(Affine a, const Visit& visit) {
  constexpr int kSteps = 5;
  const auto stored = [](float value) { return static_cast<float>(storeNearest<T>(value)); };
  for (int i = -kSteps; i <= kSteps; ++i) {
    const float factor = 1 + static_cast<float>(i) / 100;  // divided, not multiplied: that could be fused with the sum
    Affine near{stored(a.scale * factor), a.zero};
    if constexpr (C::kRule == ScaleRule::kMinMax) {
      constexpr float kMiddle = static_cast<float>(C::kLevels - 1) / 2;
      near.zero = stored(kMiddle + (a.zero - kMiddle) / factor);
    }
    visit(near);
  }
  if constexpr (C::kRule == ScaleRule::kMinMax) {
    for (int i = -kSteps; i <= kSteps; ++i) visit(Affine{a.scale, stored(a.zero + static_cast<float>(i) / 10)});
  }
}

/// Keeps the better of two fits.
struct BestFit {
  Affine affine;
  double error = std::numeric_limits<double>::infinity();

  bool offer(const Affine& candidate, double candidate_error) {
    if (!(candidate_error < error)) return false;
    affine = candidate;
    error = candidate_error;
    return true;
  }
};

}  // namespace detail

/// The affine map of one group, `x` finite and not empty (its size a multiple of kDim), under the codebook's own rule.
/// Constant groups come back exactly where a scalar codebook is used and T holds the constant.
template <Codebook C, StorageScalar T>
Affine fitAffine(PublishedRule, std::span<const float> x) {
  const detail::Extremes range = detail::extremes(x);
  if (range.absMax() == 0) return {};
  if constexpr (ScalarCodebook<C>) {
    if (range.min == range.max) return detail::constantAffine<C, T>(range.min);
  }
  if constexpr (C::kRule == ScaleRule::kMinMax) {
    return detail::minMaxAffine<C, T>(range);
  } else if constexpr (C::kRule == ScaleRule::kAbsMax) {
    return {static_cast<float>(storeUp<T>(range.absMax() / detail::largestLevel<C>())), 0};
  } else if constexpr (C::kRule == ScaleRule::kMeanMagnitude) {
    return {static_cast<float>(storeNearest<T>(detail::meanMagnitude(x))), 0};
  } else {
    return {static_cast<float>(storeNearest<T>(detail::rootMeanSquare(x) * C::kGaussianScale)), 0};
  }
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

template <Codebook C, StorageScalar T>
Affine fitAffine(LeastSquares, std::span<const float> x) {
  const detail::Extremes range = detail::extremes(x);
  detail::BestFit best;
  const auto offer = [&](const Affine& a) { return best.offer(a, detail::squaredError<C>(x, a)); };
  offer(fitAffine<C, T>(PublishedRule{}, x));
  if (best.error == 0) return best.affine;

  constexpr float kShrink = 0.917004f;         // 2^(-1/8)
  constexpr float kCoarseShrink = 0.7071068f;  // 2^(-1/2)
  constexpr int kMostSteps = 200;  // to 2^-25: and denormal numbers, which stop shrinking, end the loops too
  const float root_mean_square = detail::rootMeanSquare(x);
  if constexpr (C::kRule == ScaleRule::kMinMax) {
    const auto n = static_cast<Index>(x.size());
    const auto mean =
        static_cast<float>(sumOf(n, [&](Index i) { return x[static_cast<std::size_t>(i)]; }) / static_cast<double>(n));
    const auto deviation = static_cast<float>(std::sqrt(
        sumOfSquares(n, [&](Index i) { return x[static_cast<std::size_t>(i)] - mean; }) / static_cast<double>(n)));
    const auto shrunk = [&](float end, float ratio) {  // the product is exact in double, fused or not
      return static_cast<float>(static_cast<double>(mean) +
                                static_cast<double>(ratio) * static_cast<double>(end - mean));
    };
    float low = 1;
    float high = 1;
    const auto offerRange = [&](float low_ratio, float high_ratio) {
      if (!offer(detail::affineOfRange<C, T>(shrunk(range.min, low_ratio), shrunk(range.max, high_ratio)))) return;
      low = low_ratio;
      high = high_ratio;
    };
    const auto forRatios = [&](float shrink, const auto& visit) {
      float ratio = 1;
      for (int i = 0; i < kMostSteps && ratio * (range.max - range.min) > deviation; ++i, ratio *= shrink) visit(ratio);
    };
    forRatios(kCoarseShrink, [&](float low_ratio) {
      forRatios(kCoarseShrink, [&](float high_ratio) { offerRange(low_ratio, high_ratio); });
    });
    for (int pass = 0; pass < 2; ++pass) {  // then each end by itself
      forRatios(kShrink, [&](float ratio) { offerRange(ratio, high); });
      forRatios(kShrink, [&](float ratio) { offerRange(low, ratio); });
    }
  } else {
    const float largest = [] {
      if constexpr (ScalarCodebook<C>) {
        return detail::largestLevel<C>();
      } else {
        return 1 / C::kGaussianScale;  // of the order of the points' root mean square
      }
    }();
    float reach = range.absMax();
    for (int i = 0; i < kMostSteps && reach > root_mean_square / 2; ++i, reach *= kShrink) {
      offer({static_cast<float>(storeNearest<T>(reach / largest)), 0});
    }
  }
  const auto refit = [&] {
    for (int pass = 0; pass < 16; ++pass) {
      if (!offer(detail::refitted<C, T>(x, best.affine))) break;
    }
  };
  refit();
  detail::forNeighbours<C, T>(best.affine, offer);  // out of the local minimum that this leads to
  refit();
  return best.affine;
}

template <Codebook C, StorageScalar T>
Affine fitAffine(const ScaleFit& fit, std::span<const float> x) {
  return std::visit([&](auto method) { return fitAffine<C, T>(method, x); }, fit);
}

}  // namespace gosset
