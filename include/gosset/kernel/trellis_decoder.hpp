// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <cstdint>
#include <cstring>
#include <vector>

// How a piece of a chain, 64 numbers in 8 R bytes, becomes bytes in registers: 128 + 32 times the value, number n in
// byte n of 64. A state is cut into windows, its low index bits and its high bits, which each machine finds in its own
// way.
//
//   AVX-512 VBMI, GFNI   each 8 numbers get the 8 bytes that their states lie in, and an instruction takes 8 windows of
//                        8 bits from each of these; high bits turn the index by a product with a matrix of bits, levels
//                        come from 64 to 256 bytes
//   byte shuffles        each number gets the two bytes that a window of 8 bits lies in, and a multiplication by a
//   power
//                        of two moves it into the upper one; look-ups of 4 bits
//   others               a state at a time
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// The 16 bytes that each 16 numbers from 16 * first on lie in.
[[gnu::always_inline]] inline simd::Bytes sixteensOf(const TrellisDecoder& d, const std::uint8_t* piece,
                                                     const std::uint8_t* next, int first) {
  using namespace simd;
  const Bytes source = loadSixteens(piece, d.sixteen_begin + first);
  if (first + kByteLanes / 16 < 4) return source;
  std::uint16_t two;
  std::memcpy(&two, next, 2);
  const auto following = (Bytes)splat<Halves>(d.swap_next ? static_cast<std::uint16_t>(two << 8 | two >> 8) : two);
  return select(load<Bytes>(d.own_bytes + 16 * first), source, following);
}

/// The levels of indices, by the antisymmetry of levels: those of the upper half are the lower half's, turned.
template <int kIndexBits>
[[gnu::always_inline]] inline simd::Bytes levelsByShuffles(const std::uint8_t* levels, simd::Bytes index) {
  using namespace simd;
  const auto upper = (Bytes)((Vec<std::int8_t, kByteLanes>)(index << (8 - kIndexBits)) < 0);
  const Bytes level = lookupByShuffles<(1 << (kIndexBits - 1))>(levels, index ^ upper);
  return (level ^ upper) - upper;
}

#if defined(GOSSET_GFNI)

/// The numbers of a piece in one register of bytes, from registers that hold the piece behind kBefore others, and as
/// many of what goes on.
template <int kIndexBits, bool kManyHighBits, int kBefore>
[[gnu::always_inline]] inline simd::Bytes decodeEights(const TrellisDecoder& d, __m512i pieces, __m512i next) {
  using namespace simd;
  const __m512i source = _mm512_permutex2var_epi8(pieces, _mm512_load_si512(d.eights[kBefore]), next);
  const auto window = [&](int w) __attribute__((always_inline)) {
    return (Bytes)_mm512_maskz_multishift_epi64_epi8(~0ull, _mm512_load_si512(d.window_bits[w]), source);
  };
  Bytes index = window(0) ^ multiplyBits(d.mix_bits[0], window(1));
  if constexpr (kManyHighBits) index ^= multiplyBits(d.mix_bits[1], window(2));
  if constexpr (kIndexBits == 6) return lookup64(d.levels, index);
  if constexpr (kIndexBits == 7) return lookup128(d.levels, index);
  return lookup256(d.levels, index);
}

#endif

/// Numbers of a piece as bytes, as many as a register holds, the first of which is number `lane`. 64 bytes from the
/// piece's first on can be read.
template <int kIndexBits, bool kManyHighBits>
[[gnu::always_inline]] inline simd::Bytes decodePiece(const TrellisDecoder& d, const std::uint8_t* piece,
                                                      const std::uint8_t* next, [[maybe_unused]] int lane) {
  using namespace simd;
#if defined(GOSSET_GFNI)
  std::uint16_t two;
  std::memcpy(&two, next, 2);
  return decodeEights<kIndexBits, kManyHighBits, 0>(d, _mm512_loadu_si512(piece),
                                                    _mm512_set1_epi16(static_cast<short>(two)));
#else
  if constexpr (kHasByteShuffle) {
    const Bytes source = sixteensOf(d, piece, next, lane / 16);
    const auto window = [&](int w) __attribute__((always_inline)) {
      const auto half = [&](int h) __attribute__((always_inline)) {
        const auto pair = (Halves)shuffle16(source, load<Bytes>(d.pairs[w][h] + lane));
        return (pair * load<Halves>(d.powers[w][h] + lane / 2)) >> 8;
      };
      return packBytes(half(0), half(1));
    };
    const Bytes high = window(1);
    const auto nibble = [&](Bytes v) __attribute__((always_inline)) { return v & std::uint8_t{15}; };
    Bytes index = window(0) ^ lookup16(d.nibble_mix[0], nibble(high)) ^ lookup16(d.nibble_mix[1], nibble(high >> 4));
    if constexpr (kManyHighBits) index ^= lookup16(d.nibble_mix[2], nibble(window(2)));
    return levelsByShuffles<kIndexBits>(d.levels, index);
  } else {
    std::uint8_t bytes[64 + 8] = {};
    std::memcpy(bytes, piece, static_cast<std::size_t>(d.rate8));
    std::memcpy(bytes + d.rate8, next, 2);
    Bytes result{};
    const auto mask = static_cast<unsigned>(d.turns.size()) - 1;
    for (int i = 0; i < kByteLanes; ++i) {
      const int bit = d.rate8 * (lane + i) / 8;
      std::uint32_t word;
      std::memcpy(&word, bytes + bit / 8, 4);
      const std::uint32_t state = word >> (bit % 8);
      const std::uint8_t turn = d.turns[(state >> kIndexBits) & mask];
      result[i] = d.levels[(state ^ turn) & ((1u << kIndexBits) - 1)];
    }
    return result;
  }
#endif
}

/// Pieces that a register of 64 bytes holds, 4, 2 or 1; of mixed rates those that it holds whatever the rate is.
constexpr int piecesTogether(int most_rate8) { return most_rate8 <= 16 ? 4 : most_rate8 <= 32 ? 2 : 1; }

/// The eight pieces of a tile, which stand one after the other. 64 bytes behind the last, and behind what goes on of
/// it, can be read.
template <int kIndexBits, bool kManyHighBits, int kPieces>
[[gnu::always_inline]] inline void decodePieces(const TrellisDecoder& d, const std::uint8_t* pieces,
                                                const std::uint8_t* next, [[maybe_unused]] int lane, simd::Bytes* out) {
  const Index bytes = d.rate8;
#if defined(GOSSET_GFNI)
  simd::unroll<8 / kPieces>([&](int part) __attribute__((always_inline)) {
    const Index at = part * kPieces * bytes;
    const __m512i several = _mm512_loadu_si512(pieces + at), following = _mm512_loadu_si512(next + at);
    simd::unroll<kPieces>([&](auto q) __attribute__((always_inline)) {
      out[part * kPieces + q] = decodeEights<kIndexBits, kManyHighBits, q>(d, several, following);
    });
  });
#else
  simd::unroll<8>([&](int i) __attribute__((always_inline)) {
    out[i] = decodePiece<kIndexBits, kManyHighBits>(d, pieces + i * bytes, next + i * bytes, lane);
  });
#endif
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
