// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

// The few inner operations of products from packed codes that vector extensions do not express: the dot product of
// bytes, half to float. Each is written once for every instruction set that has an instruction for it, and once in
// plain C++ for the others; all else in kernel/ is generic over the width. (Of some of AVX-512's those with a mask are
// taken, of ones: GCC 12 warns of the others, whose result begins as an undefined register.)
namespace gosset::GOSSET_ABI::GOSSET_SET::simd {

/// Bytes of the widest register that has integer operations.
#if defined(GOSSET_AVX512BW)
inline constexpr int kByteLanes = 64;
#elif defined(GOSSET_AVX2)
inline constexpr int kByteLanes = 32;
#else
inline constexpr int kByteLanes = 16;
#endif
inline constexpr int kWordLanes = kByteLanes / 4;

using Bytes = Vec<std::uint8_t, kByteLanes>;
using Words = Vec<std::uint32_t, kWordLanes>;
using Ints = Vec<std::int32_t, kWordLanes>;
using Floats = Vec<float, kWordLanes>;

/// Asks for the cache line at p, wherever that may point: for L1, or for L2 where many lines are on their way at once,
/// which would push each other out of L1. To GCC a function that does nothing else has no effect, and it drops calls of
/// such functions, hence the asm.
[[gnu::always_inline]] inline void prefetch(const void* p) {
  asm volatile("");
  __builtin_prefetch(p, 0, 3);
}
[[gnu::always_inline]] inline void prefetchToL2(const void* p) {
  asm volatile("");
  __builtin_prefetch(p, 0, 2);
}

/// What is set in the mask from a, the rest from b.
template <class V>
[[gnu::always_inline]] inline V select(V mask, V a, V b) {
#if defined(GOSSET_AVX512F)
  if constexpr (sizeof(V) == 64) return (V)_mm512_ternarylogic_epi32((__m512i)mask, (__m512i)a, (__m512i)b, 0xca);
#endif
  return (a & mask) | (b & ~mask);
}

/// Lane by lane the smaller; bytes without sign. (Named, for GCC 12 makes a comparison and a selection of it.)
[[gnu::always_inline]] inline Bytes smaller(Bytes a, Bytes b) {
#if defined(GOSSET_AVX512BW)
  return (Bytes)_mm512_min_epu8((__m512i)a, (__m512i)b);
#elif defined(GOSSET_AVX2)
  return (Bytes)_mm256_min_epu8((__m256i)a, (__m256i)b);
#elif defined(GOSSET_SSE2)
  return (Bytes)_mm_min_epu8((__m128i)a, (__m128i)b);
#else
  return a < b ? a : b;
#endif
}

/// Lane by lane the smaller and the larger of two that are not NaN; either of two zeros.
[[gnu::always_inline]] inline Floats smaller(Floats a, Floats b) {
#if defined(GOSSET_AVX512BW)
  return (Floats)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(GOSSET_AVX2)
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(GOSSET_SSE2)
  return (Floats)_mm_min_ps((__m128)a, (__m128)b);
#else
  return a < b ? a : b;
#endif
}
[[gnu::always_inline]] inline Floats larger(Floats a, Floats b) {
#if defined(GOSSET_AVX512BW)
  return (Floats)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(GOSSET_AVX2)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(GOSSET_SSE2)
  return (Floats)_mm_max_ps((__m128)a, (__m128)b);
#else
  return a > b ? a : b;
#endif
}

/// The nearest whole numbers, ties to even; of magnitudes below 2^22.
[[gnu::always_inline]] inline Floats nearestWhole(Floats x) {
#if defined(GOSSET_AVX512BW)
  return (Floats)_mm512_maskz_roundscale_ps(0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(GOSSET_AVX2)
  return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  constexpr float kShift = 12582912.f;  // as in roundToEven
  return (x + kShift) - kShift;
#endif
}

/// Half as many numbers as Floats has lanes, widened.
using Doubles = Vec<double, kWordLanes / 2>;
[[gnu::always_inline]] inline Doubles loadDoubles(const float* p) {
#if defined(GOSSET_AVX512BW)
  return (Doubles)_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p));
#elif defined(GOSSET_AVX2)
  return (Doubles)_mm256_cvtps_pd(_mm_loadu_ps(p));
#elif defined(GOSSET_SSE2)
  return (Doubles)_mm_cvtps_pd(_mm_castpd_ps(_mm_loadl_pd(_mm_setzero_pd(), (const double*)p)));
#else
  return __builtin_convertvector(load<Vec<float, kWordLanes / 2> >(p), Doubles);
#endif
}

/// Bit i: whether lane i of a is greater than that of b.
[[gnu::always_inline]] inline unsigned whereGreater(Floats a, Floats b) {
#if defined(GOSSET_AVX512BW)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
#elif defined(GOSSET_AVX2)
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ)));
#elif defined(GOSSET_SSE2)
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpgt_ps((__m128)a, (__m128)b)));
#else
  unsigned bits = 0;
  for (int i = 0; i < kWordLanes; ++i) bits |= a[i] > b[i] ? 1u << i : 0u;
  return bits;
#endif
}

[[gnu::always_inline]] inline Floats toFloats(Ints v) { return __builtin_convertvector(v, Floats); }

/// a * b + c, rounded twice, on machines too that could do with once.
[[gnu::always_inline]] inline Floats multiplyAdd(Floats a, Floats b, Floats c) { return unfused(a * b) + c; }

/// a * b + c, rounded once where kHasFma, whatever the compiler thinks, else twice: for loops that two instructions in
/// place of one would slow down.
[[gnu::always_inline]] inline Floats fusedMultiplyAdd(Floats a, Floats b, Floats c) {
#if defined(GOSSET_FMA) && defined(GOSSET_AVX512BW)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(GOSSET_FMA) && defined(GOSSET_AVX2)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(GOSSET_FMA)
  return (Floats)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return multiplyAdd(a, b, c);
#endif
}
[[gnu::always_inline]] inline float fusedMultiplyAdd(float a, float b, float c) {
  if constexpr (kHasFma) return __builtin_fmaf(a, b, c);
  return unfused(a * b) + c;
}

namespace detail {

#if defined(GOSSET_SSE2)
/// Lane i: the sum of the products of 16-bit lanes 2i and 2i + 1.
[[gnu::always_inline]] inline Ints multiplyPairs16(Bytes a, Bytes b) {
#if defined(GOSSET_AVX512BW)
  return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(GOSSET_AVX2)
  return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
  return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#endif
}
#endif

#if defined(GOSSET_SSSE3)
/// 16-bit lane i: unsigned a times signed b, summed over byte lanes 2i and 2i + 1; saturates where a can exceed 127.
[[gnu::always_inline]] inline Bytes multiplyPairs8(Bytes a, Bytes b) {
#if defined(GOSSET_AVX512BW)
  return (Bytes)_mm512_maddubs_epi16((__m512i)a, (__m512i)b);
#elif defined(GOSSET_AVX2)
  return (Bytes)_mm256_maddubs_epi16((__m256i)a, (__m256i)b);
#else
  return (Bytes)_mm_maddubs_epi16((__m128i)a, (__m128i)b);
#endif
}
#endif

}  // namespace detail

/// Whether a machine has one instruction for dot().
#if (defined(GOSSET_AVX512VNNI)) || (defined(GOSSET_AVXVNNI)) || defined(GOSSET_DOTPROD) || defined(GOSSET_I8MM)
inline constexpr bool kHasDot = true;
#else
inline constexpr bool kHasDot = false;
#endif

/// Whether dot() of bytes beyond 127 is as fast as of others.
#if defined(GOSSET_DOTPROD) && !defined(GOSSET_I8MM)
inline constexpr bool kDotsWholeBytes = false;
#else
inline constexpr bool kDotsWholeBytes = kHasDot;
#endif

/// Lane i of the result: acc + sum over the lane's four bytes of unsigned w times signed x. kSmall promises that no
/// byte of w exceeds 127, which spares some machines half the work.
template <bool kSmall>
[[gnu::always_inline]] inline Ints dot(Ints acc, Bytes w, Ints x) {
#if defined(GOSSET_AVX512VNNI)
  return (Ints)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#elif defined(GOSSET_AVXVNNI)
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#elif defined(GOSSET_SSE2)
#if defined(GOSSET_SSSE3)
  if constexpr (kSmall) {
    using Shorts = Vec<std::int16_t, kByteLanes / 2>;
    return acc + detail::multiplyPairs16(detail::multiplyPairs8(w, (Bytes)x), (Bytes)splat<Shorts>(std::int16_t{1}));
  }
#endif
  using Shorts = Vec<std::int16_t, kByteLanes / 2>;
  using Halves = Vec<std::uint16_t, kByteLanes / 2>;
  const auto even = (Bytes)((Halves)w & std::uint16_t{0xff}), odd = (Bytes)((Halves)w >> 8);
  const auto even_x = (Bytes)((Shorts)((Halves)x << 8) >> 8), odd_x = (Bytes)((Shorts)x >> 8);
  return acc + detail::multiplyPairs16(even, even_x) + detail::multiplyPairs16(odd, odd_x);
#elif defined(GOSSET_I8MM)
  return (Ints)vusdotq_s32((int32x4_t)acc, (uint8x16_t)w, (int8x16_t)x);
#elif defined(GOSSET_DOTPROD)
  if constexpr (kSmall) return (Ints)vdotq_s32((int32x4_t)acc, (int8x16_t)w, (int8x16_t)x);
  // w = (w - 128) + 128, the first of which is a signed byte.
  const int32x4_t sum = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(1), (int8x16_t)x);
  return (Ints)vdotq_s32(vaddq_s32((int32x4_t)acc, vshlq_n_s32(sum, 7)), (int8x16_t)(w ^ std::uint8_t{0x80}),
                         (int8x16_t)x);
#else
  unroll<4>([&](auto k) {
    const auto byte = (Ints)(((Words)w >> (8 * k)) & 0xffu);
    acc += byte * ((Ints)((Words)x << (24 - 8 * k)) >> 24);
  });
  return acc;
#endif
}

/// Whether dotCentered() is faster than dot() of bytes beyond 127.
#if (defined(GOSSET_SSSE3) && !defined(GOSSET_AVX512BW) && !defined(GOSSET_AVXVNNI)) || \
    (defined(GOSSET_DOTPROD) && !defined(GOSSET_I8MM))
inline constexpr bool kDotsCentered = true;
#else
inline constexpr bool kDotsCentered = false;
#endif

/// Lane i of the result: acc + sum over the lane's four bytes of w - 128, w without sign, times signed x, -127 .. 127.
[[gnu::always_inline]] inline Ints dotCentered(Ints acc, Bytes w, Ints x) {
  [[maybe_unused]] const Bytes centered = w ^ std::uint8_t{0x80};
#if defined(GOSSET_DOTPROD)
  return (Ints)vdotq_s32((int32x4_t)acc, (int8x16_t)centered, (int8x16_t)x);
#elif defined(GOSSET_AVX512BW) || defined(GOSSET_AVXVNNI) || !defined(GOSSET_SSSE3)
  return dot<false>(acc, w, x) - (dot<true>(Ints{}, splat<Bytes>(std::uint8_t{1}), x) << 7);
#else  // |w - 128| times x with its sign: two of them do not exceed 2 * 128 * 127, which fits into 16 bits
#if defined(GOSSET_AVX2)
  const auto magnitude = (Bytes)_mm256_abs_epi8((__m256i)centered);
  const auto turned = (Bytes)_mm256_sign_epi8((__m256i)x, (__m256i)centered);
#else
  const auto magnitude = (Bytes)_mm_abs_epi8((__m128i)centered);
  const auto turned = (Bytes)_mm_sign_epi8((__m128i)x, (__m128i)centered);
#endif
  return dot<true>(acc, magnitude, (Ints)turned);
#endif
}

/// dot() where x holds the same four bytes in every lane.
template <bool kSmall>
[[gnu::always_inline]] inline Ints dot(Ints acc, Bytes w, std::int32_t four) {
  return dot<kSmall>(acc, w, splat<Ints>(four));
}

/// f over all lanes, pairs of lanes first: f adds, or takes the larger of two vectors.
template <class V, class F, int kBit = 1>
[[gnu::always_inline]] inline auto overLanes(V v, const F& f, std::integral_constant<int, kBit> = {}) {
  using Number = std::remove_cvref_t<decltype(v[0])>;
  constexpr int kLanes = sizeof(V) / sizeof(Number);
  if constexpr (kBit == kLanes) {
    return v[0];
  } else {
    return overLanes(f(v, exchange<kBit, Number, kLanes>(v)), f, std::integral_constant<int, 2 * kBit>{});
  }
}

/// f over kCount registers, a power of two: of the second half and the first, and so on until one is left.
template <int kCount, class V, class F>
[[gnu::always_inline]] inline V inHalves(const V* v, const F& f) {
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    V halves[kCount / 2];
    unroll<kCount / 2>([&](auto i) __attribute__((always_inline)) { halves[i] = f(v[i], v[i + kCount / 2]); });
    return inHalves<kCount / 2>(halves, f);
  }
}

/// f over the lanes of each of a few registers, 1, 2 or 4, the second half of the lanes and the first, and so on. Pairs
/// of registers go on in one as soon as half of their lanes are done.
template <int kCount, int kBit, class V, class F>
[[gnu::always_inline]] inline V eachInHalves(const V* v, const F& f) {
  constexpr int kLanes = kWordLanes;
  if constexpr (kBit == 0) {
    return v[0];
  } else if constexpr (kCount == 1) {
    using Number = std::remove_cvref_t<decltype(v[0][0])>;
    const V half = f(v[0], exchange<kBit, Number, kLanes>(v[0]));
    return eachInHalves<1, kBit / 2>(&half, f);
  } else {
    V merged[kCount / 2];
    unroll<kCount / 2>([&](auto i) __attribute__((always_inline)) {
      const V a = v[2 * i], b = v[2 * i + 1];
      merged[i] = [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
        return f(__builtin_shufflevector(a, b, ((I & kBit) != 0 ? kLanes + I - kBit : I)...),
                 __builtin_shufflevector(a, b, ((I & kBit) != 0 ? kLanes + I : I + kBit)...));
      }
      (std::make_integer_sequence<int, kLanes>{});
    });
    return eachInHalves<kCount / 2, kBit / 2>(merged, f);
  }
}
template <std::size_t kCount, class V, class F>
[[gnu::always_inline]] inline auto eachOverLanes(const V (&v)[kCount], const F& f) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  using Number = std::remove_cvref_t<decltype(v[0][0])>;
  Number lanes[kWordLanes];
  store(lanes, eachInHalves<static_cast<int>(kCount), kWordLanes / 2>(v, f));
  std::array<Number, kCount> results;
  unroll<static_cast<int>(kCount)>([&](auto k) __attribute__((always_inline)) {
    results[k] = lanes[(k & 1) * (kWordLanes / 2) + (k >> 1) * (kWordLanes / 4)];
  });
  return results;
}

/// The sum over all lanes of kCount registers, both powers of two, in an order that does not depend on how many numbers
/// a register holds: the second half is added to the first, and so on until one is left.
template <int kCount>
[[gnu::always_inline]] inline float sumInHalves(const Floats* v) {
  Floats sum = inHalves<kCount>(
      v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
  unroll<std::countr_zero(static_cast<unsigned>(kWordLanes))>([&](auto i) __attribute__((always_inline)) {
    sum += exchange<(kWordLanes >> (i + 1)), float, kWordLanes>(sum);
  });
  return sum[0];
}

/// Each 16 bytes as a matrix of 4 x 4, transposed.
[[gnu::always_inline]] inline Bytes transpose4(Bytes v) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(v, v, (I / 16 * 16 + I % 4 * 4 + I / 4 % 4)...);
  }
  (std::make_integer_sequence<int, kByteLanes>{});
}

/// As many registers as 16 bytes go into one, as a square matrix of 16 bytes each, transposed: at each step those at
/// even places, over all registers, come to stand before those at odd places.
template <int kStep = 1>
[[gnu::always_inline]] inline void transposeSixteens(Bytes* v) {
  constexpr int kCount = kByteLanes / 16;
  if constexpr (kStep < kCount) {
    using Halves = Vec<std::uint64_t, kByteLanes / 8>;
    Bytes sorted[kCount];
    unroll<kCount>([&](auto i) __attribute__((always_inline)) {
      constexpr int kFrom = 2 * i % kCount, kOdd = 2 * i / kCount;
      sorted[i] = [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
        return (Bytes)__builtin_shufflevector((Halves)v[kFrom], (Halves)v[kFrom + 1],
                                              (I / 2 * 4 + 2 * kOdd + I % 2)...);
      }
      (std::make_integer_sequence<int, kByteLanes / 8>{});
    });
    unroll<kCount>([&](auto i) __attribute__((always_inline)) { v[i] = sorted[i]; });
    transposeSixteens<2 * kStep>(v);
  }
}

/// kWordLanes numbers from p on, as floats.
[[gnu::always_inline]] inline Floats widen(const float* p) { return load<Floats>(p); }
[[gnu::always_inline]] inline Floats widen(const std::int8_t* p) {
#if defined(GOSSET_AVX512F)  // named, for GCC 12 converts vectors of different sizes number by number
  return (Floats)_mm512_maskz_cvtepi32_ps(0xffff,
                                          _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p)));
#elif defined(GOSSET_AVX2)
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
  return __builtin_convertvector(load<Vec<std::int8_t, kWordLanes> >(p), Floats);
#endif
}
/// Likewise, as words.
[[gnu::always_inline]] inline Words widenWords(const void* p) {
#if defined(GOSSET_AVX512F)
  return (Words)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256((const __m256i*)p));
#elif defined(GOSSET_AVX2)
  return (Words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
#else
  return __builtin_convertvector(load<Vec<std::uint16_t, kWordLanes> >((const std::uint16_t*)p), Words);
#endif
}
[[gnu::always_inline]] inline Floats widen(const BFloat16* p) { return (Floats)(widenWords(p) << 16); }
[[gnu::always_inline]] inline Floats widen(const Float16* p) {
#if defined(GOSSET_AVX512BW)
  return (Floats)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p));
#elif defined(GOSSET_AVX2) && defined(GOSSET_F16C)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#elif defined(__aarch64__)
  return (Floats)vcvt_f32_f16(vld1_f16((const __fp16*)p));
#else
  // Exponent and fraction moved into place are the number times 2^-112, subnormal numbers included.
  const Words bits = widenWords(p);
  const Words magnitude = (bits & 0x7fffu) << 13, special = (Words)(magnitude >= 0x0f800000u) & 0x7f800000u;
  const auto value = (Words)((Floats)magnitude * 0x1p112f);
  return (Floats)(value | special | ((bits & 0x8000u) << 16));
#endif
}

/// x as a float, by the machine's instruction where it has one.
[[gnu::always_inline]] inline float widened(Float16 x) {
#if defined(GOSSET_F16C)
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(std::bit_cast<std::uint16_t>(x))));
#else
  return static_cast<float>(x);
#endif
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::simd

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

inline Abilities abilities() { return {simd::kHasFma, simd::kHasDot}; }

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
