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
//   byte shuffles        each number gets the two bytes that a window of 8 bits lies in, and a product with a power of
//                        two moves it to where the bytes of even and of odd numbers are taken; look-ups of 4 bits
//   others               a table of all states
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// The 16 bytes that each 16 numbers from 16 * first on lie in.
[[gnu::always_inline]] inline simd::Bytes sixteensOf(const TrellisDecoder& d, const std::uint8_t* piece,
                                                     const std::uint8_t* next, int first) {
  using namespace simd;
  const Bytes source = loadSixteens(piece, d.sixteen_begin + first);
  if (first + kByteLanes / 16 < 4) return source;
  std::uint16_t two;
  std::memcpy(&two, next, 2);
  const Bytes following = shuffle16((Bytes)splat<Halves>(two), load<Bytes>(d.next_order));
  return selectByTop(load<Bytes>(d.own_bytes + 16 * first), source, following);
}

/// The levels of indices, by the antisymmetry of levels: those of the upper half are the lower half's, turned.
template <int kIndexBits>
[[gnu::always_inline]] inline simd::Bytes levelsByShuffles(const std::uint8_t* levels, simd::Bytes index) {
  using namespace simd;
  const auto top = (Vec<std::int8_t, kByteLanes>)movedUp<8 - kIndexBits>(index);
  const auto upper = (Bytes)(top < 0);
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

/// The indices, in the low bits, of as many numbers of a piece as a register holds, the first of which is number
/// `lane`.
template <bool kManyHighBits>
[[gnu::always_inline]] inline simd::Bytes indicesByShuffles(const TrellisDecoder& d, const std::uint8_t* piece,
                                                            const std::uint8_t* next, int lane) {
  using namespace simd;
  const Bytes source = sixteensOf(d, piece, next, lane / 16);
  const auto window = [&](int w) __attribute__((always_inline)) {
    const auto pair = [&](int odd) __attribute__((always_inline)) {
      return (Halves)shuffle16(source, load<Bytes>(d.pairs[w][odd] + lane));
    };
    const auto power = [&](int odd) __attribute__((always_inline)) {
      return load<Halves>(d.powers[w][odd] + lane / 2);
    };
    return bytesOfProducts(pair(0), power(0), pair(1), power(1));
  };
  const auto turn = [&](int part, Bytes v) __attribute__((always_inline)) {
    return lookup16(d.nibble_mix[part], v & std::uint8_t{15});
  };
  const Bytes high = window(1);
  const Bytes index = window(0) ^ turn(0, high) ^ turn(1, (Bytes)((Words)high >> 4));
  if constexpr (kManyHighBits) return index ^ turn(2, window(2));
  return index;
}

/// The same numbers as bytes, each of which a table of all states has. 8 numbers of R bits begin after a whole number
/// of bits, and their states lie within 64.
[[gnu::always_inline]] inline simd::Bytes bytesByStates(const TrellisDecoder& d, const std::uint8_t* piece,
                                                        const std::uint8_t* next, int lane) {
  std::uint16_t two;
  std::memcpy(&two, next, 2);
  const std::uint8_t* of_state = bytesOfStates(d);
  const std::uint64_t mask = (std::uint64_t{1} << (d.index_bits + d.high_bits)) - 1;
  std::uint8_t bytes[simd::kByteLanes];
  for (int first = 0; first < simd::kByteLanes; first += 8) {
    const int bit = d.rate8 * (lane + first) / 8, own = 8 * (d.rate8 - bit / 8);
    std::uint64_t word;
    std::memcpy(&word, piece + bit / 8, 8);
    if (own < 64) word = (word & ((std::uint64_t{1} << own) - 1)) | std::uint64_t{two} << own;
    word >>= bit % 8;
    simd::unroll<8>([&](int i) __attribute__((always_inline)) {
      bytes[first + i] = of_state[word >> (d.rate8 * i / 8) & mask];
    });
  }
  return simd::load<simd::Bytes>(bytes);
}

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
    return levelsByShuffles<kIndexBits>(d.levels, indicesByShuffles<kManyHighBits>(d, piece, next, lane));
  } else {
    return bytesByStates(d, piece, next, lane);
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
  if constexpr (simd::kHasByteShuffle) {  // one table after the other, as registers hold either
    simd::unroll<8>([&](int i) __attribute__((always_inline)) {
      out[i] = indicesByShuffles<kManyHighBits>(d, pieces + i * bytes, next + i * bytes, lane);
    });
    simd::unroll<8>([&](int i)
                        __attribute__((always_inline)) { out[i] = levelsByShuffles<kIndexBits>(d.levels, out[i]); });
  } else {
    for (int i = 0; i < 8; ++i) out[i] = bytesByStates(d, pieces + i * bytes, next + i * bytes, lane);
  }
#endif
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
