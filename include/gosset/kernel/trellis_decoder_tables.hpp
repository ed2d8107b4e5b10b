// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/trellis_table.hpp>
#include <gosset/core/types.hpp>

#include <cstdint>
#include <vector>

// The tables of trellis_decoder.hpp.
namespace gosset::GOSSET_ABI::detail {

/// Tables for one rate.
struct TrellisDecoder {
  static constexpr int kOffset = 128;  ///< of bytes
  static constexpr int kWindows = 3;

  alignas(64) std::uint8_t levels[256] = {};
  // By 8 numbers: the bytes of a piece, from 64 on those of what goes on; where windows begin in them; the look-ups.
  alignas(64) std::uint8_t eights[4][64] = {};  ///< for a piece behind none to three others
  alignas(64) std::uint8_t window_bits[kWindows][64] = {};
  std::uint64_t mix_bits[2] = {};  ///< by 8 high bits, as matrices of bits: simd::multiplyBits()
  // By 16 numbers, of which the even and the odd ones fill 16 bytes with pairs each: bytes from sixteen_begin on, and
  // the power of two that moves a window into the third byte of an even number's product, and the second of an odd
  // one's.
  alignas(64) std::uint8_t pairs[kWindows][2][64] = {};
  alignas(64) std::uint16_t powers[kWindows][2][32] = {};
  alignas(64) std::uint8_t own_bytes[64] = {};   ///< ones where a byte of each 16 numbers' is the piece's own
  alignas(64) std::uint8_t next_order[64] = {};  ///< of the next piece's two bytes there, over and over
  alignas(64) std::uint8_t nibble_mix[3][16] = {};
  std::uint8_t sixteen_begin[4] = {};
  int rate8, index_bits, high_bits;

  explicit TrellisDecoder(const TrellisTable& table)
      : rate8(table.rate8()), index_bits(table.indexBits()), high_bits(table.stateBits() - table.indexBits()) {
    for (int i = 0; i < 256; ++i) levels[i] = byteOf(table.levelOfIndex(i % table.indices()));
    setEights(table);
    setSixteens(table);
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
        const int starts[] = {first, first + index_bits, first + index_bits + 8};
        for (int w = 0; w < kWindows; ++w) window_bits[w][8 * j + i] = static_cast<std::uint8_t>(starts[w]);
      }
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
          const int at = 16 * m + i / 2 * 2, odd = i % 2, byte = starts[w] / 8, bit = starts[w] % 8;
          pairs[w][odd][at] = static_cast<std::uint8_t>(byte % 16);
          pairs[w][odd][at + 1] = static_cast<std::uint8_t>((byte + 1) % 16);
          if (odd == 0 && bit == 0) pairs[w][odd][at + 1] = pairs[w][odd][at];  // as the high byte
          const int power = odd != 0 ? 8 - bit : bit == 0 ? 8 : 16 - bit;
          powers[w][odd][at / 2] = static_cast<std::uint16_t>(1 << power);
        }
      }
    }
    const int own = rate8 - sixteen_begin[3];
    for (int i = 0; i < 64; ++i) {
      own_bytes[i] = i < 48 + own ? 0xff : 0;
      next_order[i] = static_cast<std::uint8_t>((i + own) % 2);
    }
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

/// The bytes of all states of a code, for machines that look them up one by one.
template <int L>
const std::uint8_t* bytesOfStates(int rate8) {
  static const auto bytes = [] {
    std::vector<std::uint8_t> all;
    all.reserve(static_cast<std::size_t>(kMostTrellisRate8 - kLeastTrellisRate8 + 1) << L);
    for (int rate = kLeastTrellisRate8; rate <= kMostTrellisRate8; ++rate) {
      const TrellisTable& table = trellisTable<L>(rate);
      for (int state = 0; state < table.states(); ++state) all.push_back(TrellisDecoder::byteOf(table.level(state)));
    }
    return all;
  }();
  return bytes.data() + (static_cast<std::size_t>(rate8 - kLeastTrellisRate8) << L);
}
inline const std::uint8_t* bytesOfStates(const TrellisDecoder& d) {
  const int state_bits = d.index_bits + d.high_bits;
  if (state_bits == 12) return bytesOfStates<12>(d.rate8);
  return state_bits == 14 ? bytesOfStates<14>(d.rate8) : bytesOfStates<16>(d.rate8);
}

}  // namespace gosset::GOSSET_ABI::detail
