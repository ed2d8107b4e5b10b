// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/trellis_table.hpp>
#include <gosset/core/dot.hpp>
#include <gosset/core/shuffle.hpp>
#include <gosset/core/types.hpp>

#include <cstdint>
#include <cstring>
#include <vector>

// How a piece of a chain, 64 numbers in 8 R bytes, becomes bytes in registers: 128 + 32 times the value, number n in
// byte n of 64. A state is cut into windows, its low index bits and its high bits, which each machine finds in its own
// way.
//
//   AVX-512 VBMI   each 8 numbers get the 8 bytes that their states lie in, and an instruction takes 8 windows of 8
//   bits
//                  from each of these; high bits turn the index by a product with a matrix of bits (GFNI; else by
//                  look-ups of 6 bits), levels come from 64 to 256 bytes
//   byte shuffles  each number gets the two bytes that a window of 8 bits lies in, and a multiplication by a power of
//   two
//                  moves it into the upper one; look-ups of 4 bits
//   others         a state at a time, from a table of all values
namespace gosset::GOSSET_ABI::detail {

/// High bits that the first look-ups see.
#if defined(__AVX512VBMI__) && defined(__AVX512BW__) && !defined(__GFNI__)
inline constexpr int kFewHighBits = 6;
#else
inline constexpr int kFewHighBits = 8;
#endif

/// Tables for one rate.
struct TrellisDecoder {
  static constexpr int kOffset = 128;  ///< of bytes
  static constexpr int kWindows = 3, kHalves = 2;

  alignas(64) std::uint8_t levels[256] = {};
  // By 8 numbers: the bytes of a piece, from 64 on those of what goes on; where windows begin in them; the look-ups.
  alignas(64) std::uint8_t eights[4][64] = {};  ///< for a piece behind none to three others
  alignas(64) std::uint8_t window_bits[kWindows][64] = {};
  alignas(64) std::uint8_t mix[2][64] = {};  ///< by 6 high bits
  std::uint64_t mix_bits[2] = {};            ///< by 8 high bits, as matrices of bits: simd::multiplyBits()
  // By 16 numbers, of which each half fills 16 bytes with pairs: bytes from sixteen_begin on, and the power of two.
  alignas(64) std::uint8_t pairs[kWindows][kHalves][64] = {};
  alignas(64) std::uint16_t powers[kWindows][kHalves][32] = {};
  alignas(64) std::uint8_t own_bytes[64] = {};  ///< ones where a byte of each 16 numbers' is the piece's own
  alignas(64) std::uint8_t nibble_mix[3][16] = {};
  std::uint8_t sixteen_begin[4] = {};
  bool swap_next = false;            ///< the next piece's first byte stands at an odd place among the last 16 numbers'
  std::vector<std::uint8_t> values;  ///< of all states
  int rate8, index_bits, high_bits;

  explicit TrellisDecoder(const TrellisTable& table)
      : rate8(table.rate8()), index_bits(table.indexBits()), high_bits(table.stateBits() - table.indexBits()) {
    for (int i = 0; i < 256; ++i) levels[i] = byteOf(table.levelOfIndex(i % table.indices()));
    setEights(table);
    setSixteens(table);
    if constexpr (!simd::kHasByteShuffle) {
      for (int state = 0; state < table.states(); ++state) values.push_back(byteOf(table.level(state)));
    }
  }

  static std::uint8_t byteOf(int level) { return static_cast<std::uint8_t>(kOffset + level); }

 private:
  /// What bits [first, first + count) of the high bits, as far as they exist, turn in the index.
  std::uint8_t mixed(const TrellisTable& table, int bits, int first) const {
    const int high = (bits << first) & ((1 << high_bits) - 1);
    return static_cast<std::uint8_t>(first < high_bits ? table.mixed(high) : 0);
  }

  void setEights(const TrellisTable& table) {
    for (int j = 0; j < 8; ++j) {
      const int begin = rate8 * j / 8;  // byte
      for (int i = 0; i < 8; ++i) {
        const int byte = begin + i;
        for (int q = 0; q < 4; ++q) {
          const int at = byte < rate8 ? rate8 * q + byte : 64 + rate8 * q + (byte - rate8) % 2;
          eights[q][8 * j + i] = static_cast<std::uint8_t>(at % 128);
        }
        const int first = static_cast<int>(table.firstBit(8 * j + i)) - 8 * begin;
        const int starts[] = {first, first + index_bits, first + index_bits + kFewHighBits};
        for (int w = 0; w < kWindows; ++w) window_bits[w][8 * j + i] = static_cast<std::uint8_t>(starts[w]);
      }
    }
    for (int bits = 0; bits < 64; ++bits) {
      mix[0][bits] = mixed(table, bits, 0);
      mix[1][bits] = mixed(table, bits, 6);
    }
    for (int high = 0; high < high_bits; ++high) {
      const unsigned turned = mixed(table, 1, high);
      for (int i = 0; i < 8; ++i) mix_bits[high / 8] |= std::uint64_t{turned >> i & 1} << (8 * (7 - i) + high % 8);
    }
  }

  void setSixteens(const TrellisTable& table) {
    for (int m = 0; m < 4; ++m) {
      sixteen_begin[m] = static_cast<std::uint8_t>(rate8 * m / 4);
      for (int i = 0; i < 16; ++i) {
        const int first = static_cast<int>(table.firstBit(16 * m + i)) - 8 * sixteen_begin[m];
        const int starts[] = {first, first + index_bits, first + index_bits + 8};
        for (int w = 0; w < kWindows; ++w) {
          const int at = 16 * m + 2 * (i % 8), byte = starts[w] / 8;
          pairs[w][i / 8][at] = static_cast<std::uint8_t>(byte % 16);
          pairs[w][i / 8][at + 1] = static_cast<std::uint8_t>((byte + 1) % 16);
          powers[w][i / 8][at / 2] = static_cast<std::uint16_t>(1 << (8 - starts[w] % 8));
        }
      }
    }
    const int own = rate8 - sixteen_begin[3];
    for (int i = 0; i < 64; ++i) own_bytes[i] = i < 48 + own ? 0xff : 0;
    swap_next = own % 2 != 0;
    for (int bits = 0; bits < 16; ++bits) {
      for (int part = 0; part < 3; ++part) nibble_mix[part][bits] = mixed(table, bits, 4 * part);
    }
  }
};

/// The decoders of the frozen codes with 2^L states, by rate, from kLeastTrellisRate8 on.
template <int L>
const TrellisDecoder* trellisDecoders() {
  static const auto decoders = [] {
    std::vector<TrellisDecoder> all;
    all.reserve(kMostTrellisRate8 - kLeastTrellisRate8 + 1);
    for (int rate = kLeastTrellisRate8; rate <= kMostTrellisRate8; ++rate) all.emplace_back(trellisTable<L>(rate));
    return all;
  }();
  return decoders.data();
}

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

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)

/// The numbers of a piece in one register of bytes, from registers that hold the piece behind kBefore others, and as
/// many of what goes on.
template <int kIndexBits, bool kManyHighBits, int kBefore>
[[gnu::always_inline]] inline simd::Bytes decodeEights(const TrellisDecoder& d, __m512i pieces, __m512i next) {
  using namespace simd;
  const __m512i source = _mm512_permutex2var_epi8(pieces, _mm512_load_si512(d.eights[kBefore]), next);
  const auto window = [&](int w) __attribute__((always_inline)) {
    return (Bytes)_mm512_multishift_epi64_epi8(_mm512_load_si512(d.window_bits[w]), source);
  };
#if defined(__GFNI__)
  Bytes index = window(0) ^ multiplyBits(d.mix_bits[0], window(1));
  if constexpr (kManyHighBits) index ^= multiplyBits(d.mix_bits[1], window(2));
#else
  Bytes index = window(0) ^ lookup64(d.mix[0], window(1));
  if constexpr (kManyHighBits) index ^= lookup64(d.mix[1], window(2));
#endif
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
#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
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
    const auto nibble = [](Bytes v) __attribute__((always_inline)) { return v & std::uint8_t{15}; };
    Bytes index = window(0) ^ lookup16(d.nibble_mix[0], nibble(high)) ^ lookup16(d.nibble_mix[1], nibble(high >> 4));
    if constexpr (kManyHighBits) index ^= lookup16(d.nibble_mix[2], nibble(window(2)));
    return levelsByShuffles<kIndexBits>(d.levels, index);
  } else {
    std::uint8_t bytes[64 + 8] = {};
    std::memcpy(bytes, piece, static_cast<std::size_t>(d.rate8));
    std::memcpy(bytes + d.rate8, next, 2);
    Bytes result{};
    const unsigned mask = static_cast<unsigned>(d.values.size()) - 1;
    for (int i = 0; i < kByteLanes; ++i) {
      const int bit = d.rate8 * (lane + i) / 8;
      std::uint32_t word;
      std::memcpy(&word, bytes + bit / 8, 4);
      result[i] = d.values[(word >> (bit % 8)) & mask];
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
#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
  simd::unroll<8 / kPieces>([&](auto part) __attribute__((always_inline)) {
    const Index at = part * kPieces * bytes;
    const __m512i several = _mm512_loadu_si512(pieces + at), following = _mm512_loadu_si512(next + at);
    simd::unroll<kPieces>([&](auto q) __attribute__((always_inline)) {
      out[part * kPieces + q] = decodeEights<kIndexBits, kManyHighBits, q>(d, several, following);
    });
  });
#else
  simd::unroll<8>([&](auto i) __attribute__((always_inline)) {
    out[i] = decodePiece<kIndexBits, kManyHighBits>(d, pieces + i * bytes, next + i * bytes, lane);
  });
#endif
}

}  // namespace gosset::GOSSET_ABI::detail
