// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <concepts>
#include <cstdint>

// Codes of b bits, back to back, lowest bit first: code i takes bits i*b .. i*b + b - 1 of the byte stream, bit j of
// the stream being bit j % 8 of byte j / 8. For b = 3:
//
//   byte      0               1               2
//   bit       0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7
//   code      0 0 0 1 1 1 2 2 2 3 3 3 4 4 4 5 5 5 6 6 6 7 7 7
//
// The unused bits of the last byte are zero.
namespace gosset::GOSSET_ABI {

/// Bytes that `count` codes of `bits` bits take.
constexpr Index packedBytes(Index count, int bits) { return ceilDiv(count * bits, 8); }

/// Writes packedBytes(count, kBits) bytes. Bits of a code above the lowest kBits are ignored.
template <int kBits, std::unsigned_integral Code>
void packBits(const Code* codes, Index count, std::uint8_t* bytes) {
  static_assert(kBits >= 1 && kBits <= 32);
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kBits) - 1;
  std::uint64_t pending = 0;
  int filled = 0;
  for (Index i = 0; i < count; ++i) {
    pending |= (codes[i] & kMask) << filled;
    for (filled += kBits; filled >= 8; filled -= 8, pending >>= 8) *bytes++ = static_cast<std::uint8_t>(pending);
  }
  if (filled > 0) *bytes = static_cast<std::uint8_t>(pending);
}

/// Reads what packBits wrote: never a byte past packedBytes(count, kBits).
template <int kBits, std::unsigned_integral Code>
void unpackBits(const std::uint8_t* bytes, Index count, Code* codes) {
  static_assert(kBits >= 1 && kBits <= 32);
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kBits) - 1;
  Index i = 0;
  if constexpr (kBits <= 8) {  // eight codes in kBits whole bytes: shifts that are known, which compilers vectorize
    for (; i + 8 <= count; i += 8, bytes += kBits) {
      std::uint64_t word = 0;
      for (int byte = 0; byte < kBits; ++byte) word |= static_cast<std::uint64_t>(bytes[byte]) << (8 * byte);
      for (int j = 0; j < 8; ++j) codes[i + j] = static_cast<Code>((word >> (kBits * j)) & kMask);
    }
  }
  std::uint64_t pending = 0;
  int filled = 0;
  for (; i < count; ++i) {
    for (; filled < kBits; filled += 8) pending |= static_cast<std::uint64_t>(*bytes++) << filled;
    codes[i] = static_cast<Code>(pending & kMask);
    pending >>= kBits;
    filled -= kBits;
  }
}

}  // namespace gosset::GOSSET_ABI
