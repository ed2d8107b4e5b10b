// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <bit>
#include <cstdint>

// E8P, the 2-bit codebook of QuIP# (Tseng et al., ICML 2024, section 4.2, "E8P12"): 2^16 points of E8 + 1/4 that fill a
// ball, built so that 8 numbers are decoded from a table of 256.
//
// A point is v + shift with shift = +1/4 or -1/4, and v in D8 + 1/2: eight halves of odd integers whose sum is even.
// The magnitudes |v_i| = 1/2, 3/2 or 5/2 are a *pattern*; there are 256 of them:
//
//   pattern      norm |v|^2    magnitudes                               how many
//     0            2           1/2 everywhere                              1
//     1 ..   8     4           3/2 at one place                            8
//     9 ..  36     6           3/2 at two places                          28
//    37 ..  92     8           3/2 at three places                        56
//    93 .. 162    10           3/2 at four places                         70
//   163 .. 191    12           3/2 at five places                         29 of the 56, the published ones
//   192 + 8 i + j 10 (i != j)  5/2 at i, 3/2 at j                         56
//   192 + 9 i      8           5/2 at i                                    8
//
// Within a row of this table patterns are in rising order of the mask of their 3/2's. Changing one sign changes the sum
// of v by an odd number, so the magnitudes fix the parity of the number of minus signs: it is that of the number of
// 3/2's. Seven signs are free, the eighth follows, and its bit is left for the shift.
//
//   bit   15 14 13 12 11 10  9  8 | 7        | 6  5  4  3  2  1  0
//         pattern                 | shift    | running signs
//                                 | 1: +1/4  |
//                                 | 0: -1/4  |
//
// Bit i of the running signs says whether an odd number of v_0 .. v_i are negative. So, with n_i = 1 where v_i < 0,
//
//   n_0 = bit 0,   n_i = bit i ^ bit (i - 1) for i = 1 .. 6,   n_7 = bit 6 ^ (1 where the pattern has an odd number of
//   3/2's),
//
// which is n = (c & 0x7f) ^ (c << 1) ^ odd on whole bytes, without counting bits. Four times a point is an odd integer
// from -11 to 11, which an int8 holds: +-2, +-6 or +-10, plus or minus 1.
//
// 16 bits / 8 numbers = 2 bits a number. Mean squared error on N(0,1) at the best scale: 0.0913.
namespace gosset::GOSSET_ABI::detail {

/// What the pattern byte of a code means.
struct E8PTables {
  std::uint8_t threes[256] = {};                  ///< bit i: |v_i| = 3/2
  std::uint8_t fives[256] = {};                   ///< bit i: |v_i| = 5/2
  std::uint8_t odd_sign[256] = {};                ///< 0x80 where the number of minus signs is odd, else 0
  std::uint8_t pattern_of_threes[256] = {};       ///< the pattern without 5/2 whose mask of 3/2's is the index
  alignas(64) std::int8_t quarters[256][8] = {};  ///< 4 |v_i|: 2, 6 or 10
  alignas(64) float magnitudes[256][8] = {};      ///< |v_i|
};

/// Whether the codebook holds the pattern with 3/2 at five places, where `ones` is the mask of the three other places.
/// It is the published choice (29 of 56), told by how many of the three are among the first four places.
constexpr bool e8pHasNorm12(unsigned ones) {
  constexpr unsigned kMissing = 0x32, kExtra[] = {0x13, 0x8c};
  const int low = std::popcount(ones & 0x0fu);
  return low == 3 || (low == 1 && ones != kMissing) || ones == kExtra[0] || ones == kExtra[1];
}

constexpr E8PTables makeE8PTables() {
  E8PTables t;
  unsigned pattern = 0;
  for (int count = 0; count <= 5; ++count) {
    for (unsigned mask = 0; mask < 256; ++mask) {
      if (std::popcount(mask) != count || (count == 5 && !e8pHasNorm12(~mask & 0xffu))) continue;
      t.threes[pattern] = static_cast<std::uint8_t>(mask);
      t.pattern_of_threes[mask] = static_cast<std::uint8_t>(pattern++);
    }
  }
  for (unsigned i = 0; i < 8; ++i) {
    for (unsigned j = 0; j < 8; ++j, ++pattern) {
      t.fives[pattern] = static_cast<std::uint8_t>(1u << i);
      if (i != j) t.threes[pattern] = static_cast<std::uint8_t>(1u << j);
    }
  }
  for (unsigned p = 0; p < 256; ++p) {
    t.odd_sign[p] = std::popcount(t.threes[p]) % 2 != 0 ? 0x80 : 0;
    for (unsigned i = 0; i < 8; ++i) {
      const int three = (t.threes[p] >> i) & 1, five = (t.fives[p] >> i) & 1;
      t.quarters[p][i] = static_cast<std::int8_t>(2 + 4 * three + 8 * five);
      t.magnitudes[p][i] = 0.5f + static_cast<float>(three + 2 * five);
    }
  }
  return t;
}

inline constexpr E8PTables kE8P = makeE8PTables();

/// Mask of the minus signs of a code's v.
constexpr unsigned e8pSigns(unsigned code) { return ((code & 0x7fu) ^ (code << 1) ^ kE8P.odd_sign[code >> 8]) & 0xffu; }

/// The code of (pattern, shift, mask of minus signs).
constexpr unsigned e8pCode(unsigned pattern, bool plus, unsigned signs) {
  unsigned running = signs ^ (signs << 1);
  running ^= running << 2;
  running ^= running << 4;
  return (pattern << 8) | (plus ? 0x80u : 0u) | (running & 0x7fu);
}

/// Four times coordinate i of a code's point.
constexpr int e8pQuarter(unsigned code, unsigned i) {
  const int magnitude = kE8P.quarters[code >> 8][i];
  return (((e8pSigns(code) >> i) & 1) != 0 ? -magnitude : magnitude) + ((code & 0x80u) != 0 ? 1 : -1);
}

}  // namespace gosset::GOSSET_ABI::detail
