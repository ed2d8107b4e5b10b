// SPDX-License-Identifier: Apache-2.0
// The codes of many numbers of one group at a time, in a namespace for each instruction set (core/instruction_set.hpp),
// and calls of those that run.
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

inline constexpr Index kCodesAtOnce = 16;
inline constexpr int kCodeParts = kCodesAtOnce / simd::kWordLanes;

/// Sixteen numbers of 0 .. 255 as bytes.
[[gnu::always_inline]] inline void storeAsBytes(const simd::Ints* v, std::uint8_t* bytes) {
#if defined(GOSSET_AVX512BW)
  _mm_storeu_si128((__m128i*)bytes, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v[0]));
#elif defined(GOSSET_AVX2)
  const __m256i mixed = _mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]);
  const __m256i shorts = _mm256_permute4x64_epi64(mixed, 0xd8);
  _mm_storeu_si128((__m128i*)bytes,
                   _mm_packus_epi16(_mm256_castsi256_si128(shorts), _mm256_extracti128_si256(shorts, 1)));
#elif defined(GOSSET_SSE2)
  const __m128i low = _mm_packs_epi32((__m128i)v[0], (__m128i)v[1]);
  const __m128i high = _mm_packs_epi32((__m128i)v[2], (__m128i)v[3]);
  _mm_storeu_si128((__m128i*)bytes, _mm_packus_epi16(low, high));
#else
  for (Index i = 0; i < kCodesAtOnce; ++i) {
    bytes[i] = static_cast<std::uint8_t>(v[i / simd::kWordLanes][i % simd::kWordLanes]);
  }
#endif
}

/// Codes of levels that are whole numbers: x / divisor + zero, clamped to the levels and rounded to the nearest, ties
/// to even. A product by the inverse is quicker than the quotient and nearly the same: where that may tell another
/// level, which is seen from how near to the middle of two levels it lies, the quotient is taken.
struct WholeLevelCoder {
  WholeLevelCoder(const Affine& a, float first_level, float last_level)
      : divisor(simd::splat<simd::Floats>(gosset::detail::divisor(a))),
        zero(simd::splat<simd::Floats>(a.zero)),
        first(simd::splat<simd::Floats>(first_level)),
        last(simd::splat<simd::Floats>(last_level)) {
    const float distance = sureDistance(a, first_level, last_level);
    sure = simd::splat<simd::Floats>(distance);
    inverse = simd::splat<simd::Floats>(distance >= 0 ? 1 / gosset::detail::divisor(a) : 0);
  }

  /// How far from a whole number the product may be for it to be the quotient's. A number within the levels has a
  /// quotient of at most |last| + |first| + |zero|; inverse, product and sum, quotient and sum round five times.
  static float sureDistance(const Affine& a, float first_level, float last_level) {
    constexpr float kFarthest = 0x1p60f;
    const float divisor = gosset::detail::divisor(a);
    if (!(divisor > 1 / kFarthest && divisor < kFarthest)) return -1;
    const float largest = 2 * (std::abs(a.zero) + std::abs(first_level) + std::abs(last_level) + 1);
    return 0.5f - largest * 0x1p-21f;
  }

  [[gnu::always_inline]] simd::Floats clamped(simd::Floats level) const {
    return simd::smaller(simd::larger(level, first), last);
  }

  [[gnu::always_inline]] void encode(const float* x, std::uint8_t* codes) const {
    constexpr float kShift = 12582912.f;  // as in roundToEven
    simd::Floats level[kCodeParts], rounded[kCodeParts];
    unsigned unsure = 0;
    simd::unroll<kCodeParts>([&](int part) __attribute__((always_inline)) {
      level[part] = clamped(simd::load<simd::Floats>(x + part * simd::kWordLanes) * inverse + zero);
      rounded[part] = (level[part] + kShift) - kShift;
      const auto off = (simd::Words)(level[part] - rounded[part]) & 0x7fffffffu;
      unsure |= simd::whereGreater((simd::Floats)off, sure);
    });
    if (unsure != 0) {
      simd::unroll<kCodeParts>([&](int part) __attribute__((always_inline)) {
        level[part] = clamped(simd::load<simd::Floats>(x + part * simd::kWordLanes) / divisor + zero);
        rounded[part] = (level[part] + kShift) - kShift;
      });
    }
    simd::Ints code[kCodeParts];
    simd::unroll<kCodeParts>([&](int part) __attribute__((always_inline)) {
      // The last bits of (code + kShift) are the code.
      code[part] = (simd::Ints)((rounded[part] - first) + kShift) - std::bit_cast<std::int32_t>(kShift);
    });
    storeAsBytes(code, codes);
  }

  simd::Floats divisor, inverse, zero, first, last, sure;
};

/// A number's code by halving the thresholds that are left, of 16.
struct ThresholdCoder {
  ThresholdCoder(const Affine& a, const float* sixteen)
      : divisor(simd::splat<simd::Floats>(gosset::detail::divisor(a))), thresholds(sixteen) {}

  template <int kHalf>
  [[gnu::always_inline]] void halve(simd::Floats level, simd::Words& code) const {
    if constexpr (kHalf > 0) {
      const simd::Floats threshold = simd::lookup16(thresholds, code + (kHalf - 1));
      code += (simd::Words)(level >= threshold) & static_cast<std::uint32_t>(kHalf);
      halve<kHalf / 2>(level, code);
    }
  }

  [[gnu::always_inline]] void encode(const float* x, std::uint8_t* codes) const {
    simd::Ints code[kCodeParts];
    simd::unroll<kCodeParts>([&](int part) __attribute__((always_inline)) {
      simd::Words found{};
      halve<8>(simd::load<simd::Floats>(x + part * simd::kWordLanes) / divisor, found);
      code[part] = (simd::Ints)found;
    });
    storeAsBytes(code, codes);
  }

  simd::Floats divisor;
  const float* thresholds;
};

/// Codes of whole groups of a row, `width` numbers each, the last of which may be shorter. Of a group whose width is no
/// multiple of 16 the last 16 numbers are encoded at once, of which some were before.
template <class CoderOf>
[[gnu::always_inline]] inline void encodeGroupsBy(const CoderOf& coderOf, const float* x, Index count, Index width,
                                                  const Affine* affine, std::uint8_t* codes) {
  for (Index first = 0; first < count; first += width, ++affine) {
    const auto coder = coderOf(*affine);
    const Index end = count - first < width ? count : first + width;
    for (Index i = first; i < end; i += kCodesAtOnce) {
      const Index at = i + kCodesAtOnce <= end ? i : end - kCodesAtOnce;
      coder.encode(x + at, codes + at);
    }
  }
}

inline void encodeWholeLevelsInSet(float first, float last, const float* x, Index count, Index width,
                                   const Affine* affine, std::uint8_t* codes) {
  encodeGroupsBy(
      [&](const Affine& a) __attribute__((always_inline)) { return WholeLevelCoder(a, first, last); }, x, count, width,
      affine, codes);
}

inline void encodeByThresholdsInSet(const float* thresholds, const float* x, Index count, Index width,
                                    const Affine* affine, std::uint8_t* codes) {
  encodeGroupsBy(
      [&](const Affine& a) __attribute__((always_inline)) { return ThresholdCoder(a, thresholds); }, x, count, width,
      affine, codes);
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_SCALE_LEVEL_CODES)
#define GOSSET_SCALE_LEVEL_CODES

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/scale/affine.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>

#define GOSSET_FRAGMENTS <gosset/scale/level_codes.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

// What encodeRun() does for each group of a row, all of 16 numbers or more.

/// Levels first, first + 1, .. last.
inline void encodeWholeLevels(float first, float last, const float* x, Index count, Index width, const Affine* affine,
                              std::uint8_t* codes) {
  GOSSET_CALL_RUNNING(encodeWholeLevelsInSet(first, last, x, count, width, affine, codes))
}
/// thresholds: 16 in rising order, those that are not there being NaN.
inline void encodeByThresholds(const float* thresholds, const float* x, Index count, Index width, const Affine* affine,
                               std::uint8_t* codes) {
  GOSSET_CALL_RUNNING(encodeByThresholdsInSet(thresholds, x, count, width, affine, codes))
}

template <CountsThresholds C>
constexpr std::array<float, 16> sixteenThresholds() {
  std::array<float, 16> result;
  result.fill(std::numeric_limits<float>::quiet_NaN());  // which no number reaches
  std::copy_n(std::begin(C::kThresholds), C::kLevels - 1, result.begin());
  return result;
}

template <CountsThresholds C>
constexpr std::array<float, 16> sixteenLevels() {
  std::array<float, 16> result{};
  for (int q = 0; q < C::kLevels; ++q) result[static_cast<std::size_t>(q)] = C::level(static_cast<typename C::Code>(q));
  return result;
}

/// The codes of a row of `count` numbers in groups of `width`, the last of which may be shorter; a map for each group.
/// By vectors where the codebook says how it encodes.
template <Codebook C>
void encodeGroups(const float* x, Index count, Index width, const Affine* affine, typename C::Code* codes) {
  constexpr Index kLeast = 16;
  Index done = 0;
  if constexpr (RoundsToWholeLevels<C> || CountsThresholds<C>) {
    if (width >= kLeast) done = count % width >= kLeast ? count : count - count % width;
    if constexpr (RoundsToWholeLevels<C>) {
      constexpr float kFirst = C::level(0), kLast = C::level(static_cast<typename C::Code>(C::kLevels - 1));
      static_assert(kLast - kFirst == static_cast<float>(C::kLevels - 1),
                    "kWholeLevels: levels that follow each other are expected");
      encodeWholeLevels(kFirst, kLast, x, done, width, affine, codes);
    } else {
      static constexpr std::array<float, 16> kThresholds = sixteenThresholds<C>();
      encodeByThresholds(kThresholds.data(), x, done, width, affine, codes);
    }
  }
  for (; done < count; done += width) {
    encodeRun<C>(x + done, std::min(width, count - done) / C::kDim, affine[done / width], codes + done / C::kDim);
  }
}

}  // namespace gosset::GOSSET_ABI::detail

#endif
