// SPDX-License-Identifier: Apache-2.0
// PublishedRule for sixteen groups at a time, in a namespace for each instruction set (core/instruction_set.hpp), and
// calls of those that run.
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// A group a lane.
struct GroupRanges {
  simd::Floats low, high;
  simd::Floats least;  ///< the least magnitude that is not 0
};

struct Smaller {
  [[gnu::always_inline]] simd::Floats operator()(simd::Floats a, simd::Floats b) const { return simd::smaller(a, b); }
};
struct Larger {
  [[gnu::always_inline]] simd::Floats operator()(simd::Floats a, simd::Floats b) const { return simd::larger(a, b); }
};

/// v[0]'s lane i becomes all lanes of v[i], put together by f; as many vectors as lanes.
template <int kHalf = 1, class F>
[[gnu::always_inline]] inline void gatherRows(simd::Floats* v, const F& f) {
  constexpr int kLanes = simd::kWordLanes;
  if constexpr (kHalf < kLanes) {
    simd::unroll<kLanes / (2 * kHalf)>([&](auto i) __attribute__((always_inline)) {
      constexpr int kAt = 2 * kHalf * i;
      const simd::Floats a = v[kAt], b = v[kAt + kHalf];
      [&]<int... L>(std::integer_sequence<int, L...>) __attribute__((always_inline)) {
        v[kAt] = f(__builtin_shufflevector(a, b, ((L & kHalf) == 0 ? L : kLanes + L - kHalf)...),
                   __builtin_shufflevector(a, b, ((L & kHalf) == 0 ? L + kHalf : kLanes + L)...));
      }
      (std::make_integer_sequence<int, kLanes>{});
    });
    gatherRows<2 * kHalf>(v, f);
  }
}

/// Of `width` numbers of each row, at least 16.
[[gnu::always_inline]] inline GroupRanges rangesOfRows(const float* x, Index stride, Index width) {
  constexpr int kLanes = simd::kWordLanes;
  const auto infinity = simd::splat<simd::Floats>(std::numeric_limits<float>::infinity());
  simd::Floats low[kLanes], high[kLanes], least[kLanes];
  for (int row = 0; row < kLanes; ++row) {
    const float* numbers = x + row * stride;
    simd::Floats least_of_row = infinity, low_of_row = infinity, high_of_row = -infinity;
    const auto take = [&](const float* p) __attribute__((always_inline)) {
      const auto v = simd::load<simd::Floats>(p);
      low_of_row = simd::smaller(v, low_of_row);
      high_of_row = simd::larger(v, high_of_row);
      const auto magnitude = (simd::Words)v & 0x7fffffffu;
      const auto zero = (simd::Words)(magnitude == 0u) & 0x7f800000u;  // becomes infinity
      least_of_row = simd::smaller((simd::Floats)(magnitude | zero), least_of_row);
    };
    Index i = 0;
    for (; i + kLanes <= width; i += kLanes) take(numbers + i);
    if (i < width) take(numbers + width - kLanes);
    low[row] = low_of_row;
    high[row] = high_of_row;
    least[row] = least_of_row;
  }
  gatherRows(low, Smaller{});
  gatherRows(high, Larger{});
  gatherRows(least, Smaller{});
  return {low[0], high[0], least[0]};
}

/// The nearest numbers of the storage type, ties to even, of magnitudes that are normal numbers of it.
[[gnu::always_inline]] inline simd::Floats stored(simd::Floats x, int drop) {
  if (drop == 0) return x;
  const auto bits = (simd::Words)x;
  const std::uint32_t below_half = (1u << (drop - 1)) - 1, kept = ~((1u << drop) - 1);
  return (simd::Floats)((bits + below_half + (bits >> drop & 1u)) & kept);
}
[[gnu::always_inline]] inline simd::Floats storedUp(simd::Floats x, int drop) {
  const simd::Floats nearest = stored(x, drop);
  const auto below = (simd::Words)(nearest < x) & (1u << drop);
  return (simd::Floats)((simd::Words)nearest + below);
}

/// Lane by lane f of doubles.
template <class F, class... V>
[[gnu::always_inline]] inline simd::Floats inDouble(const F& f, V... v) {
  float numbers[sizeof...(V)][simd::kWordLanes];
  int k = 0;
  (simd::store(numbers[k++], v), ...);
  float results[simd::kWordLanes];
  for (int i = 0; i < simd::kWordLanes; ++i) results[i] = static_cast<float>(f(numbers, i));
  return simd::load<simd::Floats>(results);
}
struct LaneFits {
  simd::Floats scale, zero;
  unsigned left = 0;  ///< bit i: lane i is left to fitAffine(); those beyond the lanes may be anything
};

[[gnu::always_inline]] inline LaneFits fitMagnitudes(const GroupRanges& range, const LevelRule& rule) {
  const simd::Floats largest = simd::larger(range.high, -range.low);
  const simd::Floats step = largest / simd::splat<simd::Floats>(rule.last);
  const auto tiny = simd::splat<simd::Floats>(kLeastQuickStep), huge = simd::splat<simd::Floats>(kMostQuickStep);
  LaneFits fits{storedUp(step, rule.drop), simd::Floats{}};
  fits.left =
      simd::whereGreater(tiny, step) | simd::whereGreater(step, huge) | ~simd::whereGreater(largest, range.least);
  return fits;
}

/// As minMaxAffine() has it.
[[gnu::always_inline]] inline LaneFits fitMinMax(const GroupRanges& range, const LevelRule& rule) {
  const auto splat = [&](float x) __attribute__((always_inline)) { return simd::splat<simd::Floats>(x); };
  const simd::Floats low = range.low, high = range.high, last = splat(rule.last), none = simd::Floats{};
  const simd::Floats largest = simd::larger(high, -low);
  const simd::Floats step = simd::larger((high - low) / last, largest * rule.narrowest);
  simd::Floats scale = storedUp(step, rule.drop);
  simd::Floats zero = -low / scale;
  const auto magnitude = [&](simd::Floats x) __attribute__((always_inline)) {
    return (simd::Floats)((simd::Words)x & 0x7fffffffu);
  };
  unsigned left = ~simd::whereGreater(largest, range.least) | simd::whereGreater(splat(kLeastQuickStep), step) |
                  simd::whereGreater(step, splat(kMostQuickStep)) |
                  simd::whereGreater(splat(kLeastQuickStep), magnitude(zero)) |
                  simd::whereGreater(scale * 0.45f, largest);
  zero = stored(zero, rule.drop);
  const simd::Floats middle = inDouble(
      [](const auto& x, int i)
          __attribute__((always_inline)) { return (static_cast<double>(x[0][i]) + static_cast<double>(x[1][i])) / 2; },
      low, high);
  for (int tries = 0; tries < 8; ++tries) {
    const simd::Floats missing = inDouble(  // where products are exact, fused with the difference or not
        [](const auto& x, int i) __attribute__((always_inline)) {
          const auto width = static_cast<double>(x[0][i]);
          const double below = width * static_cast<double>(x[1][i]) - static_cast<double>(x[2][i]);
          const double above = static_cast<double>(x[4][i]) - width * static_cast<double>(x[3][i]);
          return below > above ? below : above;
        },
        scale, none - zero, low, last - zero, high);
    const unsigned open = simd::whereGreater(missing, none) & ~left;
    if (open == 0) break;
    const auto more = (simd::Words)(missing > none);
    if (tries > 0) {
      const simd::Floats wider = storedUp(scale + 2.f * missing / last, rule.drop);
      scale = (simd::Floats)simd::select(more, (simd::Words)wider, (simd::Words)scale);
    }
    const simd::Floats moved = last / 2.f - middle / scale;
    left |= simd::whereGreater(splat(kLeastQuickStep), magnitude(moved)) & open;
    zero = (simd::Floats)simd::select(more, (simd::Words)stored(moved, rule.drop), (simd::Words)zero);
  }
  return {scale, zero, left};
}

inline unsigned fitSixteenInSet(const float* x, Index stride, Index width, const LevelRule& rule, float* scale,
                                float* zero) {
  unsigned left = 0;
  for (int row = 0; row < 16; row += simd::kWordLanes) {
    const GroupRanges range = rangesOfRows(x + row * stride, stride, width);
    const LaneFits fits = rule.is_min_max ? fitMinMax(range, rule) : fitMagnitudes(range, rule);
    simd::store(scale + row, fits.scale);
    simd::store(zero + row, fits.zero);
    left |= (fits.left & ((1u << simd::kWordLanes) - 1)) << row;
  }
  return left;
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_SCALE_SIXTEEN_FITS)
#define GOSSET_SCALE_SIXTEEN_FITS

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/scale/rules.hpp>

#include <cstdint>
#include <limits>
#include <utility>

namespace gosset::GOSSET_ABI::detail {

/// The published rule of a codebook whose scales are stored in a type.
struct LevelRule {
  bool is_min_max;
  float last;       ///< min-max: how many steps there are; else the largest level
  float narrowest;  ///< as in affineOfRange()
  int drop;         ///< bits of a float that storage lacks
};

/// Steps between these, and zero points from the first on, are normal numbers in all types.
inline constexpr float kLeastQuickStep = 0x1p-14f, kMostQuickStep = 0x1p14f;

/// Where LevelRule says all.
template <class C>
concept FitsByRange = ScalarCodebook<C> && ConstexprLevels<C> &&
                      (C::kRule == ScaleRule::kMinMax || (C::kRule == ScaleRule::kAbsMax && !C::kHasZero)) &&
                      (C::kHasZero || hasLevel<C>(0));

template <FitsByRange C, StorageScalar T>
constexpr LevelRule levelRule() {
  constexpr int kDigits = StorageTraits<T>::kDigits;
  if constexpr (C::kRule == ScaleRule::kMinMax) {
    return {true, static_cast<float>(C::kLevels - 1), 1.f / static_cast<float>(std::int64_t{1} << (kDigits + 3)),
            24 - kDigits};
  } else {
    return {false, largestLevel<C>(), 0, 24 - kDigits};
  }
}

}  // namespace gosset::GOSSET_ABI::detail

#define GOSSET_FRAGMENTS <gosset/scale/sixteen_fits.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// Scales and zero points of sixteen groups, one below the other: of `width` >= 16 finite numbers each, of row i from
/// x + i * stride on. Bit i of the result: group i is left to fitAffine(), which is slower and knows all cases.
inline unsigned fitSixteen(const float* x, Index stride, Index width, const LevelRule& rule, float* scale,
                           float* zero) {
  GOSSET_CALL_RUNNING(fitSixteenInSet(x, stride, width, rule, scale, zero))
}

}  // namespace gosset::GOSSET_ABI::detail

#endif
