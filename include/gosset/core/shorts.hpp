// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

#include <cstdint>
#include <utility>

// Lanes of 16 bits, for searches that add and compare small integers.
namespace gosset::GOSSET_ABI::GOSSET_SET::simd {

inline constexpr int kShortLanes = kByteLanes / 2;
using Shorts = Vec<std::int16_t, kShortLanes>;

/// Lane by lane the smaller. (Named, for GCC 12 makes a comparison and a selection of it.)
[[gnu::always_inline]] inline Shorts smaller(Shorts a, Shorts b) {
#if defined(GOSSET_AVX512BW)
  return (Shorts)_mm512_min_epi16((__m512i)a, (__m512i)b);
#elif defined(GOSSET_AVX2)
  return (Shorts)_mm256_min_epi16((__m256i)a, (__m256i)b);
#elif defined(GOSSET_SSE2)
  return (Shorts)_mm_min_epi16((__m128i)a, (__m128i)b);
#else
  return a < b ? a : b;
#endif
}

/// The sum, or where it is out of range the end of the range that it lies beyond.
[[gnu::always_inline]] inline Shorts addSaturated(Shorts a, Shorts b) {
#if defined(GOSSET_AVX512BW)
  return (Shorts)_mm512_adds_epi16((__m512i)a, (__m512i)b);
#elif defined(GOSSET_AVX2)
  return (Shorts)_mm256_adds_epi16((__m256i)a, (__m256i)b);
#elif defined(GOSSET_SSE2)
  return (Shorts)_mm_adds_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
  return (Shorts)vqaddq_s16((int16x8_t)a, (int16x8_t)b);
#else
  Shorts sum;
  for (int i = 0; i < kShortLanes; ++i) {
    const int s = a[i] + b[i];
    sum[i] = static_cast<std::int16_t>(s < -32768 ? -32768 : s > 32767 ? 32767 : s);
  }
  return sum;
#endif
}

/// Whether permute() is an instruction.
#if defined(GOSSET_AVX512BW)
inline constexpr bool kHasShortPermute = true;
#else
inline constexpr bool kHasShortPermute = false;
#endif

/// The vector whose lane i is v's lane index[i].
[[gnu::always_inline]] inline Shorts permute(Shorts v, Shorts index) {
#if defined(GOSSET_AVX512BW)
  return (Shorts)_mm512_maskz_permutexvar_epi16(~0u, (__m512i)index, (__m512i)v);
#else
  Shorts result;
  for (int i = 0; i < kShortLanes; ++i) result[i] = v[index[i]];
  return result;
#endif
}

/// Writes the low byte of each lane, kShortLanes bytes.
[[gnu::always_inline]] inline void storeLowBytes(std::uint8_t* p, Shorts v) {
#if defined(GOSSET_AVX512BW)
  _mm256_storeu_si256((__m256i*)p, _mm512_maskz_cvtepi16_epi8(~0u, (__m512i)v));
#elif defined(GOSSET_AVX2)
  const auto low = (__m256i)(v & std::int16_t{0xff});
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, low), 0x08);
  _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(packed));
#elif defined(GOSSET_SSE2)
  const auto low = (__m128i)(v & std::int16_t{0xff});
  _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(low, low));
#else
  store(p, __builtin_convertvector(v, Vec<std::uint8_t, kShortLanes>));
#endif
}

/// The vector whose lane i is v's lane (kFirst + i) >> kShift.
template <int kShift, int kFirst>
[[gnu::always_inline]] inline Shorts spread(Shorts v) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(v, v, ((kFirst + I) >> kShift)...);
  }
  (std::make_integer_sequence<int, kShortLanes>{});
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::simd

#endif
