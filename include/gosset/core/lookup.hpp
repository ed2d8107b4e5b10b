// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

#include <cstdint>

// Look-ups in tables that registers hold, and products with matrices of bits.
namespace gosset::GOSSET_ABI::GOSSET_SET::simd {

/// Whether lookup256() exists: a table of 256 bytes in registers.
#if defined(GOSSET_AVX512VBMI)
inline constexpr bool kHasLookup256 = true;
#else
inline constexpr bool kHasLookup256 = false;
#endif

/// Byte lane i of 16: table[index lane i], indices 0 .. 15.
[[gnu::always_inline]] inline Vec<std::uint8_t, 16> lookup16Of16(const std::uint8_t* table,
                                                                 Vec<std::uint8_t, 16> index) {
#if defined(GOSSET_SSSE3)
  return (Vec<std::uint8_t, 16>)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)table), (__m128i)index);
#elif defined(__aarch64__)
  return (Vec<std::uint8_t, 16>)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)index);
#else
  Vec<std::uint8_t, 16> result;
  for (int i = 0; i < 16; ++i) result[i] = table[index[i]];
  return result;
#endif
}

/// Byte lane i: table[index lane i], indices 0 .. 15.
[[gnu::always_inline]] inline Bytes lookup16(const std::uint8_t* table, Bytes index) {
#if defined(GOSSET_AVX512BW)
  return (Bytes)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), (__m512i)index);
#elif defined(GOSSET_AVX2)
  return (Bytes)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)),
                                    (__m256i)index);
#elif defined(GOSSET_SSSE3)
  return (Bytes)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)table), (__m128i)index);
#elif defined(__aarch64__)
  return (Bytes)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)index);
#else
  Bytes result;
  for (int i = 0; i < kByteLanes; ++i) result[i] = table[index[i]];
  return result;
#endif
}

/// Lane i: table[index lane i], indices 0 .. 15.
[[gnu::always_inline]] inline Floats lookup16(const float* table, Words index) {
#if defined(GOSSET_AVX512BW)
  return (Floats)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)index, _mm512_loadu_ps(table));
#elif defined(GOSSET_AVX2)
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), (__m256i)index);
  return (Floats)_mm256_blendv_ps(low, high, (__m256)(index << 28));
#else
  Floats result;
  for (int i = 0; i < kWordLanes; ++i) result[i] = table[index[i]];
  return result;
#endif
}

/// Byte lane i: table[index lane i], indices 0 .. 127; table: 128 aligned bytes. Slow without kHasLookup256.
[[gnu::always_inline]] inline Bytes lookup128(const std::uint8_t* table, Bytes index) {
#if defined(GOSSET_AVX512VBMI)
  return (Bytes)_mm512_permutex2var_epi8(_mm512_load_si512((const void*)table), (__m512i)index,
                                         _mm512_load_si512((const void*)(table + 64)));
#else
  Bytes result;
  for (int i = 0; i < kByteLanes; ++i) result[i] = table[index[i]];
  return result;
#endif
}

#if defined(GOSSET_AVX512VBMI)
/// Byte lane i: table[index lane i]; table: 256 bytes.
[[gnu::always_inline]] inline Bytes lookup256(const std::uint8_t* table, Bytes index) {
  const auto part = [&](int i) { return _mm512_load_si512((const void*)(table + 64 * i)); };
  const auto at = (__m512i)index;
  const __m512i low = _mm512_permutex2var_epi8(part(0), at, part(1));
  const __m512i high = _mm512_permutex2var_epi8(part(2), at, part(3));
  return (Bytes)_mm512_mask_mov_epi8(low, _mm512_movepi8_mask(at), high);
}
/// Byte lane i: 0x80 where an odd number of the bits in kMask is set, else 0.
template <std::uint8_t kMask>
[[gnu::always_inline]] inline Bytes highParity(Bytes v) {
#if defined(GOSSET_GFNI)
  return (Bytes)_mm512_gf2p8affine_epi64_epi8((__m512i)v, _mm512_set1_epi64(kMask), 0);
#else
  auto parity = (Words)(v & kMask);
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return (Bytes)(parity << 7) & std::uint8_t{0x80};
#endif
}
#if defined(GOSSET_GFNI)
/// Each byte times a matrix of 8 x 8 bits: bit i of the result is the parity of the byte and of byte 7 - i of `matrix`.
[[gnu::always_inline]] inline Bytes multiplyBits(std::uint64_t matrix, Bytes v) {
  return (Bytes)_mm512_gf2p8affine_epi64_epi8((__m512i)v, _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
}
#endif
/// Byte lane i: table[index lane i mod 64]; table: 64 bytes.
[[gnu::always_inline]] inline Bytes lookup64(const std::uint8_t* table, Bytes index) {
  return (Bytes)_mm512_maskz_permutexvar_epi8(~0ull, (__m512i)index, _mm512_load_si512((const void*)table));
}
#endif

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::simd

#endif
