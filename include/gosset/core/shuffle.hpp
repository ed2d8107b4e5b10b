// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

#include <cstdint>

// Bytes that change places within 16, by indices that are known at run time only, and look-ups made of that.
namespace gosset::GOSSET_ABI::GOSSET_SET::simd {

/// Whether shuffle16() is an instruction.
#if defined(GOSSET_SSSE3) || defined(__aarch64__)
inline constexpr bool kHasByteShuffle = true;
#else
inline constexpr bool kHasByteShuffle = false;
#endif

using Halves = Vec<std::uint16_t, kByteLanes / 2>;

/// In each 16 bytes: byte i is v's byte number index[i], 0 .. 15.
[[gnu::always_inline]] inline Bytes shuffle16(Bytes v, Bytes index) {
#if defined(GOSSET_AVX512BW)
  return (Bytes)_mm512_shuffle_epi8((__m512i)v, (__m512i)index);
#elif defined(GOSSET_AVX2)
  return (Bytes)_mm256_shuffle_epi8((__m256i)v, (__m256i)index);
#elif defined(GOSSET_SSSE3)
  return (Bytes)_mm_shuffle_epi8((__m128i)v, (__m128i)index);
#elif defined(__aarch64__)
  return (Bytes)vqtbl1q_u8((uint8x16_t)v, (uint8x16_t)index);
#else
  Bytes result;
  for (int i = 0; i < kByteLanes; ++i) result[i] = v[i / 16 * 16 + index[i]];
  return result;
#endif
}

/// 16 bytes from p + begin[0], the next from p + begin[1], and so on.
[[gnu::always_inline]] inline Bytes loadSixteens(const std::uint8_t* p, const std::uint8_t* begin) {
#if defined(GOSSET_AVX512BW)
  const auto part = [&](int i) { return _mm_loadu_si128((const __m128i*)(p + begin[i])); };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part(2)), part(3), 1);
  return (Bytes)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#elif defined(GOSSET_AVX2)
  const __m128i low = _mm_loadu_si128((const __m128i*)(p + begin[0]));
  return (Bytes)_mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_loadu_si128((const __m128i*)(p + begin[1])),
                                        1);
#else
  return load<Bytes>(p + begin[0]);
#endif
}

/// In each 16 bits: the low byte of a p / 2^16 below the high byte of b q mod 2^16.
[[gnu::always_inline]] inline Bytes bytesOfProducts(Halves a, Halves p, Halves b, Halves q) {
#if defined(GOSSET_AVX512BW)
  return select((Bytes)splat<Halves>(std::uint16_t{0xff}), (Bytes)_mm512_mulhi_epu16((__m512i)a, (__m512i)p),
                (Bytes)(b * q));
#elif defined(GOSSET_AVX2)
  return (Bytes)_mm256_blendv_epi8((__m256i)(b * q), _mm256_mulhi_epu16((__m256i)a, (__m256i)p),
                                   _mm256_set1_epi16(0xff));
#elif defined(GOSSET_SSE2)
  return select((Bytes)splat<Halves>(std::uint16_t{0xff}), (Bytes)_mm_mulhi_epu16((__m128i)a, (__m128i)p),
                (Bytes)(b * q));
#elif defined(__aarch64__)
  const uint16x8_t low =
      vmovn_high_u32(vmovn_u32(vshrq_n_u32(vmull_u16(vget_low_u16((uint16x8_t)a), vget_low_u16((uint16x8_t)p)), 16)),
                     vshrq_n_u32(vmull_high_u16((uint16x8_t)a, (uint16x8_t)p), 16));
  return (Bytes)vbslq_u16(vdupq_n_u16(0xff), low, (uint16x8_t)(b * q));
#else
  Halves result;
  for (int i = 0; i < kByteLanes / 2; ++i) {
    const auto product = static_cast<std::uint32_t>(a[i]) * p[i] >> 16;
    result[i] = static_cast<std::uint16_t>((product & 0xffu) | (static_cast<std::uint32_t>(b[i]) * q[i] & 0xff00u));
  }
  return (Bytes)result;
#endif
}

/// Byte by byte a where the highest bit of `top` is set, else b.
[[gnu::always_inline]] inline Bytes selectByTop(Bytes top, Bytes a, Bytes b) {
#if defined(GOSSET_AVX512BW)
  return (Bytes)_mm512_mask_mov_epi8((__m512i)b, _mm512_movepi8_mask((__m512i)top), (__m512i)a);
#elif defined(GOSSET_AVX2)
  return (Bytes)_mm256_blendv_epi8((__m256i)b, (__m256i)a, (__m256i)top);
#else
  return select((Bytes)((Vec<std::int8_t, kByteLanes>)top < 0), a, b);
#endif
}

/// Byte by byte 2^kBits times v, below whose bits others' may come in. Machines add more at a time than they shift.
template <int kBits>
[[gnu::always_inline]] inline Bytes movedUp(Bytes v) {
  if constexpr (kBits == 1) return v + v;
  return (Bytes)((Words)v << kBits);
}

/// lookupByShuffles() where the highest bits of `top` tell the halves of the table.
template <int kCount>
[[gnu::always_inline]] inline Bytes lookupByHalves(const std::uint8_t* table, Bytes index, [[maybe_unused]] Bytes top) {
#if defined(__aarch64__)
  if constexpr (kCount == 64) return (Bytes)vqtbl4q_u8(vld1q_u8_x4(table), (uint8x16_t)(index & std::uint8_t{63}));
#endif
  if constexpr (kCount == 16) {
    return lookup16(table, index & std::uint8_t{15});
  } else {
    constexpr int kHalf = kCount / 2;
    return selectByTop(top, lookupByHalves<kHalf>(table + kHalf, index, movedUp<1>(top)),
                       lookupByHalves<kHalf>(table, index, movedUp<1>(top)));
  }
}

/// Byte lane i: table[index lane i mod kCount], kCount 16, 32, 64 or 128 bytes.
template <int kCount>
[[gnu::always_inline]] inline Bytes lookupByShuffles(const std::uint8_t* table, Bytes index) {
  constexpr int kToTop = kCount == 32 ? 3 : kCount == 64 ? 2 : 1;
  return lookupByHalves<kCount>(table, index, movedUp<kToTop>(index));
}

/// Byte lane i: the exclusive sum of all coefficients c whose set bits are set in index lane i, too, 0 .. 2^kBits - 1:
/// any look-up, as a polynomial of the bits, where there is no instruction for it.
template <int kBits>
[[gnu::always_inline]] inline Bytes polynomialOfBits(const std::uint8_t* coefficients, Bytes index) {
  if constexpr (kBits == 0) {
    return splat<Bytes>(*coefficients);
  } else {
    constexpr std::uint8_t kTop = 1 << (kBits - 1);
    const auto is_set = (Bytes)((index & kTop) == kTop);
    return polynomialOfBits<kBits - 1>(coefficients, index) ^
           (is_set & polynomialOfBits<kBits - 1>(coefficients + kTop, index));
  }
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::simd

#endif
