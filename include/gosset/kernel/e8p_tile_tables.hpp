// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/e8p_rvq.hpp>
#include <gosset/kernel/tile_order.hpp>

#include <cstdint>

// The tables of e8p_tile.hpp.
namespace gosset::GOSSET_ABI::detail {

// How 64 codes of E8P are decoded at once. Two look-ups by the pattern give the magnitudes 2 + 4 u, u = 0, 1, 2, in
// fields of 2 bits: one those of the even columns 0, 2, 4, 6, the other those of the odd columns. The minus signs n
// come from the running signs (e8p.hpp), bit i for column i, and the shift as a byte of ones or zeros. Taking every
// second bit of both gives fields of [n, shift] that match the fields of u:
//
//   bit            7 6    5 4    3 2    1 0
//   even           u6     u4     u2     u0
//   signs          s n6   s n4   s n2   s n0        s the high bit of a field
//
// and a shift by one field and a selection put the two fields of a column side by side, two columns a byte. Then each
// nibble looks its byte up among the 12 values +-2 +-1, +-6 +-1, +-10 +-1 there are.
struct E8PTileTables {
  alignas(64) std::uint8_t even[256] = {};       ///< fields of u, columns 0, 2, 4, 6
  alignas(64) std::uint8_t odd[256] = {};        ///< columns 1, 3, 5, 7
  alignas(64) std::uint8_t low_u[64] = {};       ///< the value of a nibble with u in the low bits; the same 4 times
  alignas(64) std::uint8_t high_u[64] = {};      ///< with u in the high bits
  alignas(64) std::uint8_t values[256][8] = {};  ///< 16 + 4 |v_i|, all columns of a pattern; the last has its sign

  /// What turns 16 + x into 16 - x by XOR, for x = 2, 6 and 10.
  static constexpr std::uint8_t kTurn = 18 ^ 14;
};

constexpr E8PTileTables makeE8PTileTables() {
  static_assert((22 ^ 10) == E8PTileTables::kTurn && (26 ^ 6) == E8PTileTables::kTurn);
  E8PTileTables t;
  for (unsigned p = 0; p < 256; ++p) {
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned u = static_cast<unsigned>(kE8P.quarters[p][i] - 2) / 4;
      std::uint8_t& fields = i % 2 == 0 ? t.even[p] : t.odd[p];
      fields = static_cast<std::uint8_t>(fields | (u << (i / 2 * 2)));
      t.values[p][i] = static_cast<std::uint8_t>(16 + kE8P.quarters[p][i]);
    }
    if (kE8P.odd_sign[p] != 0) t.values[p][7] ^= E8PTileTables::kTurn;
  }
  const auto value = [](unsigned u, unsigned sign) {
    const int magnitude = 2 + 4 * static_cast<int>(u);
    return static_cast<std::uint8_t>(16 + ((sign & 1) != 0 ? -magnitude : magnitude) + ((sign & 2) != 0 ? 1 : -1));
  };
  for (unsigned i = 0; i < 64; ++i) {
    t.low_u[i] = value(i & 3, (i >> 2) & 3);
    t.high_u[i] = value((i >> 2) & 3, i & 3);
  }
  return t;
}

inline constexpr E8PTileTables kE8PTile = makeE8PTileTables();

struct E81BTileTables {
  alignas(64) std::uint8_t pairs[4][256] = {};   ///< columns q and q + 4 in the low and high nibble
  alignas(64) std::uint8_t values[256][8] = {};  ///< all columns of a code
};

constexpr E81BTileTables makeE81BTileTables() {
  E81BTileTables t;
  for (unsigned code = 0; code < 256; ++code) {
    for (unsigned i = 0; i < 8; ++i) t.values[code][i] = static_cast<std::uint8_t>(4 + kE81B.halves[code][i]);
    for (unsigned q = 0; q < 4; ++q) {
      t.pairs[q][code] = static_cast<std::uint8_t>(t.values[code][q] | (t.values[code][q + 4] << 4));
    }
  }
  return t;
}

inline constexpr E81BTileTables kE81BTile = makeE81BTileTables();

inline constexpr TileTerm kE8PTerm{16, 0.25f, true};
inline constexpr TileTerm kE81BTerm{4, 0.5f, true};

}  // namespace gosset::GOSSET_ABI::detail
