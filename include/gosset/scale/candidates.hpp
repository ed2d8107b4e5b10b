// SPDX-License-Identifier: Apache-2.0
// A search for the map with the least squared error on a group: sixteen maps at once, a map a lane, each refitted to
// the codes that it leads to, then sixteen near the best of them. Quick and nearly right; in a namespace for each
// instruction set (core/instruction_set.hpp).
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// sum e, sum e^2 and sum e l of kParts * simd::kWordLanes maps, where u = x / scale + zero, l is the nearest level to
/// it and e = u - l without its last bits, so that all products are exact: fused with a sum or not, they give the same.
template <bool kHasZero, int kParts, class Nearest>
[[gnu::always_inline]] inline void addErrors(const Nearest& nearest, const float* x, Index count, const float* inverse,
                                             const float* zero, float* sums) {
  const auto one = simd::opaque(simd::splat<simd::Floats>(1.f));  // machines multiply while they add
  simd::Floats step[kParts], offset[kParts], e[kParts] = {}, ee[kParts], el[kParts] = {};
  simd::unroll<kParts>([&](int part) __attribute__((always_inline)) {
    step[part] = simd::load<simd::Floats>(inverse + part * simd::kWordLanes);
    offset[part] = simd::load<simd::Floats>(zero + part * simd::kWordLanes);
    ee[part] = simd::splat<simd::Floats>(0x1p-60f);  // below which a square loses bits
  });
  for (Index i = 0; i < count; ++i) {
    simd::unroll<kParts>([&](auto part) __attribute__((always_inline)) {
      simd::Floats u = step[part] * x[i];
      if constexpr (kHasZero) u = u + offset[part];
      const simd::Floats level = nearest(u);
      const auto off = (simd::Floats)((simd::Words)(u - level) & 0xfffff000u);
      if constexpr (kHasZero) e[part] += off * one;
      ee[part] += off * off;
      el[part] += off * level;
    });
  }
  simd::unroll<kParts>([&](int part) __attribute__((always_inline)) {
    const simd::Floats parts[] = {e[part], ee[part], el[part]};
    for (int k = 0; k < 3; ++k) {
      float* sum = sums + k * kCandidates + part * simd::kWordLanes;
      simd::store(sum, simd::load<simd::Floats>(sum) + parts[k]);
    }
  });
}

template <bool kHasZero, class Nearest>
[[gnu::always_inline]] inline void refitMaps(const Nearest& nearest, const GroupNumbers& x, Sixteen& maps) {
  constexpr int kLanes = simd::kWordLanes, kSideBySide = kCandidates / kLanes < 2 ? 1 : 2;
  constexpr Index kChunk = 512;  // how many squares float adds up well
  float sums[3 * kCandidates] = {};
  for (Index first = 0; first < x.count; first += kChunk) {
    const Index count = x.count - first < kChunk ? x.count - first : kChunk;
    for (int at = 0; at < kCandidates; at += kSideBySide * kLanes) {
      addErrors<kHasZero, kSideBySide>(nearest, x.numbers + first, count, maps.inverse + at, maps.zero + at, sums + at);
    }
  }
  const auto exact = [&](simd::Floats product) __attribute__((always_inline)) { return simd::unfused(product); };
  const auto splat = [&](float v) __attribute__((always_inline)) { return simd::splat<simd::Floats>(v); };
  const auto n = splat(static_cast<float>(x.count)), total = splat(x.sum), squares = splat(x.squares), none = splat(0),
             infinite = splat(std::numeric_limits<float>::infinity());
  for (int at = 0; at < kCandidates; at += kLanes) {
    const auto step = simd::load<simd::Floats>(maps.inverse + at), zero = simd::load<simd::Floats>(maps.zero + at);
    const auto sum = [&](int k) __attribute__((always_inline)) {
      return simd::load<simd::Floats>(sums + k * kCandidates + at);
    };
    const simd::Floats e = sum(0);
    simd::Floats ee = sum(1), el = sum(2), l = none, mean_e = none, mean_l = none;
    simd::Floats uu = exact(exact(step * step) * squares);  // sum u^2, and u = l + e
    if constexpr (kHasZero) {
      const simd::Floats of_numbers = exact(step * total);
      uu = uu + (exact(exact(of_numbers * zero) * 2.f) + exact(exact(zero * zero) * n));
      l = (of_numbers + exact(zero * n)) - e;
      mean_e = e / n;
      mean_l = l / n;
    }
    simd::Floats ll = (uu - ee) - exact(el * 2.f);
    ll = ll - exact(l * mean_l);
    ee = ee - exact(e * mean_e);
    el = el - exact(e * mean_l);
    // Levels that are nearly all alike, or 0, tell nothing of a scale.
    const auto tells = (simd::Words)(ll > exact(uu * 0x1p-10f));
    const simd::Floats slope = (simd::Floats)((simd::Words)(el / ll) & tells), factor = slope + 1.f;
    const simd::Floats error = (ee - exact(slope * (simd::Floats)((simd::Words)el & tells))) / exact(step * step);
    const auto is_map = (simd::Words)(factor > none) & (simd::Words)(error < infinite);
    const simd::Floats positive = simd::larger(error, none);
    const simd::Floats moved = (zero - mean_e) + exact(slope * mean_l);
    simd::store(maps.scale + at, factor / step);
    simd::store(maps.zero + at, moved / factor);
    simd::store(maps.error + at, (simd::Floats)simd::select(is_map, (simd::Words)positive, (simd::Words)infinite));
  }
}

template <class Nearest>
[[gnu::always_inline]] inline void refitBy(const Nearest& nearest, const GroupNumbers& x, bool have_zero,
                                           Sixteen& maps) {
  if (have_zero) {
    refitMaps<true>(nearest, x, maps);
  } else {
    refitMaps<false>(nearest, x, maps);
  }
}

inline void refitSixteenInSet(const GroupNumbers& x, const QuickLevels& levels, Sixteen& maps) {
  const float *table = levels.levels.data(), *middles = levels.middles.data();
  if (levels.are_whole) return refitBy(WholeLevel(levels.first, levels.last), x, levels.have_zero, maps);
  if (levels.count <= 4) return refitBy(CountedLevel<4>{table, middles}, x, levels.have_zero, maps);
  if (levels.count <= 8) return refitBy(CountedLevel<8>{table, middles}, x, levels.have_zero, maps);
  refitBy(CountedLevel<16>{table, middles}, x, levels.have_zero, maps);
}

/// Of sixteen, the one with the least error, as far as 20 bits of it tell, then the first.
[[gnu::always_inline]] inline int leastError(const Sixteen& maps) {
  std::uint32_t least = ~0u;
  for (std::uint32_t k = 0; k < kCandidates; ++k) {
    const std::uint32_t key = (std::bit_cast<std::uint32_t>(maps.error[k]) & ~15u) | k;
    least = key < least ? key : least;
  }
  return static_cast<int>(least & 15);
}

/// The numbers less their mean, in a unit and in 14 bits.
[[gnu::always_inline]] inline GroupNumbers centred(const float* x, Index count, float mean, float per_unit,
                                                   float* numbers) {
  EightSums sum, squares;
  for (Index i = 0; i < count; i += 16) {
    float few[16];
    const float* from = x + i;
    if (count - i < 16) {
      for (Index k = 0; k < 16; ++k) few[k] = k < count - i ? from[k] : mean;
      from = few;
    }
    float* to = numbers + i;
    simd::unroll<16 / simd::kWordLanes>([&](auto part) __attribute__((always_inline)) {
      constexpr int kAt = part * simd::kWordLanes;
      const simd::Floats v = (simd::load<simd::Floats>(from + kAt) - mean) * per_unit;
      simd::store(to + kAt, (simd::Floats)((simd::Words)v & ~0x3ffu));
    });
    for (int at = 0; at < 16; at += 8) {
      sum.add(to + at);
      squares.add(to + at, to + at);
    }
  }
  return {numbers, count, static_cast<float>(sum.sum()), static_cast<float>(squares.sum())};
}

struct FoundMap {
  float scale = 0, zero = 0, error = std::numeric_limits<float>::infinity();
};

/// Refits sixteen maps, of which mapsOf(first lane) gives {scales, zero points}, and keeps the best.
template <class MapsOf>
[[gnu::always_inline]] inline void tryMaps(const GroupNumbers& x, const QuickLevels& levels, const MapsOf& mapsOf,
                                           FoundMap& best) {
  Sixteen maps;
  for (int at = 0; at < kCandidates; at += simd::kWordLanes) {
    const auto [scale, zero] = mapsOf(at);
    const simd::Floats inverse = 1.f / scale;
    simd::store(maps.inverse + at, (simd::Floats)((simd::Words)inverse & ~0x3fffu));
    simd::store(maps.zero + at, zero);
  }
  refitSixteenInSet(x, levels, maps);
  const int k = leastError(maps);
  if (maps.error[k] < best.error) best = {maps.scale[k], maps.zero[k], maps.error[k]};
}

struct LaneMaps {
  simd::Floats scale, zero;
};

inline Affine searchLevelsInSet(const SearchedGroup& group, const QuickLevels& levels) {
  const float largest = std::max(group.max - group.mean, group.mean - group.min);
  const std::uint32_t exponent = std::clamp(std::bit_cast<std::uint32_t>(largest) >> 23, 7u, 247u);
  const auto unit = std::bit_cast<float>(exponent << 23), per_unit = std::bit_cast<float>((254 - exponent) << 23);
  const GroupNumbers x = centred(group.x, group.count, group.mean, per_unit, group.room);
  const float spread = std::sqrt(x.squares / static_cast<float>(x.count));
  const auto lanes = [&](const std::array<float, kCandidates>& of, int at) __attribute__((always_inline)) {
    return simd::load<simd::Floats>(of.data() + at);
  };
  const auto exact = [&](simd::Floats product) __attribute__((always_inline)) { return simd::unfused(product); };
  FoundMap best;
  if (levels.have_zero) {
    const float low = (group.min - group.mean) * per_unit, high = (group.max - group.mean) * per_unit;
    const float least = std::min(1.f, spread / (high - low));
    const auto shareOf = [&](simd::Floats s) __attribute__((always_inline)) { return exact(s * (1 - least)) + least; };
    tryMaps(
        x, levels,
        [&](int at) __attribute__((always_inline)) {
          const simd::Floats l = exact(low * shareOf(lanes(kLowShares, at))),
                             h = exact(high * shareOf(lanes(kHighShares, at)));
          const simd::Floats scale = (h - l) / levels.steps;
          return LaneMaps{scale, levels.first - l / scale};
        },
        best);
  } else {
    const float first = spread / 2, last = largest * per_unit;
    tryMaps(
        x, levels,
        [&](int at) __attribute__((always_inline)) {
          return LaneMaps{(exact(lanes(kReaches, at) * (last - first)) + first) / levels.steps, simd::Floats{}};
        },
        best);
  }
  constexpr Index kLong = 256;
  constexpr int kMostWide = 8;
  const Moves rounds[] = {levels.wide, levels.coarse, levels.fine};
  for (int round = x.count > kLong ? 0 : 1; round < 3; ++round) {
    const Moves moves = rounds[round];
    if (moves.scale == 0) continue;
    for (int left = round == 0 ? kMostWide : 1; left > 0; --left) {
      const FoundMap from = best;
      tryMaps(
          x, levels,
          [&](int at) __attribute__((always_inline)) {
            const auto& multiples = levels.have_zero ? kScaleMoves : kReachMoves;
            const simd::Floats factor = exact(lanes(multiples, at) * moves.scale) + 1.f;
            return LaneMaps{from.scale * factor, exact(lanes(kZeroMoves, at) * moves.zero) + from.zero};
          },
          best);
      if (!(best.error < from.error * 0.998f)) break;
    }
  }
  const float scale = best.scale * unit;
  return {scale, levels.have_zero ? (best.zero - group.mean / scale) + levels.middle : 0.f};
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_SCALE_CANDIDATES)
#define GOSSET_SCALE_CANDIDATES

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/level_sums.hpp>
#include <gosset/scale/rules.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace gosset::GOSSET_ABI::detail {

inline constexpr int kCandidates = 16;

/// x without its last bits.
template <int kBits>
constexpr float shortened(float x) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & ~((std::uint32_t{1} << kBits) - 1));
}

/// Whether levels are consecutive integers of 12 bits, so that the nearest is found by rounding.
template <ScalarCodebook C>
constexpr bool hasUnitSteps() {
  for (int q = 1; q < C::kLevels; ++q) {
    const auto at = [](int code) { return C::level(static_cast<typename C::Code>(code)); };
    if (at(q) - at(q - 1) != 1 || at(q) != static_cast<float>(static_cast<int>(at(q)))) return false;
    if (at(q) > 4096 || at(q) < -4096) return false;
  }
  return true;
}

/// Codebooks for which a lane can find the nearest level in a few operations.
template <class C>
concept QuickCodebook = ConstexprLevels<C> &&(C::kLevels <= 16 || (C::kLevels <= 1024 && hasUnitSteps<C>()));

/// The level that those of a quick search are less by.
template <ScalarCodebook C>
constexpr float middleLevel() {
  if constexpr (C::kHasZero) return static_cast<float>(C::kLevels / 2);
  return 0;
}

/// The unit in which a round of a search moves scales, relative to them, and zero points, in levels.
struct Moves {
  float scale, zero;
};

/// A codebook's levels less middleLevel(), of 12 bits.
struct QuickLevels {
  bool are_whole, have_zero;
  int count;
  float first, last;
  float middle;              ///< middleLevel()
  float steps;               ///< from the first to the last, or, without a zero point, the largest magnitude
  Moves wide, coarse, fine;  ///< rounds: the first for long groups alone; none where a scale moves by 0
  alignas(64) std::array<float, 16> levels, middles;  ///< where not are_whole; NaN where there are fewer
};

template <QuickCodebook C>
constexpr QuickLevels quickLevels() {
  const auto level = [](int q) { return shortened<12>(C::level(static_cast<typename C::Code>(q)) - middleLevel<C>()); };
  constexpr bool kHasZero = C::kHasZero;
  constexpr auto kSteps = static_cast<float>(C::kLevels - 1);
  QuickLevels quick{hasUnitSteps<C>(),
                    kHasZero,
                    C::kLevels,
                    level(0),
                    level(C::kLevels - 1),
                    middleLevel<C>(),
                    kHasZero ? level(C::kLevels - 1) - level(0) : largestLevel<C>(),
                    {kHasZero ? 0.035f : 0, 0.0175f * kSteps},
                    kHasZero ? Moves{0.3f / kSteps, 0.1f} : Moves{0.014f, 0},
                    kHasZero ? Moves{0.1f / kSteps, 0.025f} : Moves{kSteps > 15 ? 0.0018f : 0, 0},
                    {},
                    {}};
  quick.levels.fill(std::numeric_limits<float>::quiet_NaN());
  quick.middles = quick.levels;
  for (int q = 0; q < C::kLevels && C::kLevels <= 16; ++q) {
    quick.levels[static_cast<std::size_t>(q)] = level(q);
    if (q > 0) quick.middles[static_cast<std::size_t>(q - 1)] = (level(q - 1) + level(q)) / 2;
  }
  return quick;
}

/// Numbers of 14 bits, with their sum and that of their squares.
struct GroupNumbers {
  const float* numbers;
  Index count;
  float sum, squares;
};

/// Sixteen maps; zero points are less by middleLevel(), and without a zero point not looked at. In: inverse, 1 / scale
/// in 10 bits, and zero. Out: scale, zero and squared error of the least squares for the same codes.
struct Sixteen {
  alignas(64) float inverse[kCandidates], zero[kCandidates], scale[kCandidates], error[kCandidates];
};

/// Which numbers to search a map for; of their range and their mean, 0 where there is no zero point.
struct SearchedGroup {
  const float* x;
  Index count;
  float min, max, mean;
  float* room;  ///< for count numbers, rounded up to whole sixteens
};

template <class F>
constexpr std::array<float, kCandidates> sixteenOf(const F& f) {
  std::array<float, kCandidates> values{};
  for (int k = 0; k < kCandidates; ++k) values[static_cast<std::size_t>(k)] = static_cast<float>(f(k));
  return values;
}

// What sixteen maps differ by. With a zero point: the shares of a range that its ends keep, and multiples of Moves.
// Without one: the place of a reach between the least and the largest, and multiples.
inline constexpr auto kLowShares = sixteenOf([](int k) { return static_cast<float>(k / 4) / 3; });
inline constexpr auto kHighShares = sixteenOf([](int k) { return static_cast<float>(k % 4) / 3; });
inline constexpr auto kScaleMoves = sixteenOf([](int k) { return 2 * (k / 4) - 3; });
inline constexpr auto kZeroMoves = sixteenOf([](int k) { return 2 * (k % 4) - 3; });
inline constexpr auto kReaches = sixteenOf([](int k) { return static_cast<float>(k * k) / 225; });
inline constexpr auto kReachMoves = sixteenOf([](int k) { return k < 8 ? k - 8 : k - 7; });

}  // namespace gosset::GOSSET_ABI::detail

#define GOSSET_FRAGMENTS <gosset/scale/candidates.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// Numbers that are neither tiny nor huge: from 2^-30 to 2^30 the largest.
inline void refitSixteen(const GroupNumbers& x, const QuickLevels& levels, Sixteen& maps) {
  GOSSET_CALL_RUNNING(refitSixteenInSet(x, levels, maps))
}

/// The best map that a search finds, before it is stored. Of numbers whose range is finite and wider than 0.
inline Affine searchLevels(const SearchedGroup& group, const QuickLevels& levels) {
  GOSSET_CALL_RUNNING(searchLevelsInSet(group, levels))
}

}  // namespace gosset::GOSSET_ABI::detail

#endif
