// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/format/ggml/block.hpp>
#include <gosset/format/ggml/levels.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string_view>

// ggml's blocks of 32 numbers. Their nibbles stand in 16 bytes, the first 16 numbers in the low halves, the others in
// the high ones.
namespace gosset::GOSSET_ABI::ggml {

namespace detail {

/// Nibbles to bytes: 32 of them.
[[gnu::always_inline]] inline void nibbles(const std::uint8_t* from, Bytes& low, Bytes& high) {
  const Bytes both = bytes(from);
  low = both & 15;
  high = both >> 4;
}
inline void putNibbles(const std::uint8_t* codes, std::uint8_t* to) {
  for (int i = 0; i < 16; ++i) to[i] = static_cast<std::uint8_t>(codes[i] | (codes[16 + i] << 4));
}

/// The fifth bits of 32 numbers.
inline void putFifthBits(const std::uint8_t* codes, std::uint8_t* to) {
  std::uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (static_cast<std::uint32_t>(codes[i]) >> 4 & 1u) << i;
  std::memcpy(to, &bits, sizeof(bits));
}
[[gnu::always_inline]] inline Bytes fifthBits(const std::uint8_t* from) {  // of 16 numbers
  constexpr Bytes kBit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  constexpr std::uint64_t kEight = 0x0101010101010101u;
  const Bytes byte = (Bytes)simd::Vec<std::uint64_t, 2>{from[0] * kEight, from[1] * kEight};
  return (Bytes)((byte & kBit) != 0) & 16;
}

/// Levels by a table: 32 of them, from the nibbles of 16 bytes.
inline void lookUpNibbles(const std::uint8_t* from, const std::array<std::int8_t, 16>& table, std::int8_t* levels) {
  const auto* entries = reinterpret_cast<const std::uint8_t*>(table.data());
  Bytes low, high;
  nibbles(from, low, high);
  put(simd::lookup16Of16(entries, low), levels);
  put(simd::lookup16Of16(entries, high), levels + 16);
}

}  // namespace detail

/// 4 bits and a 16-bit scale: 4.5 bits a number, in 18 bytes: scale, nibbles. number = scale * (code - 8)
struct Q4_0 : OneScale<Q4_0> {
  using Levels = Whole<-8, 7>;
  static constexpr std::uint32_t kType = 2;
  static constexpr std::string_view kName = "Q4_0";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 18, kScaleAt = 0;
  static constexpr int kZero = 8, kMostLevel = 7;
  static constexpr bool kHasMin = false;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::Bytes low, high;
    detail::nibbles(block + 2, low, high);
    detail::put(low - 8, levels);
    detail::put(high - 8, levels + 16);
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    detail::putHalf(s.scale, to);
    detail::putNibbles(codes, to + 2);
  }
};

/// 4 bits, a 16-bit scale and a 16-bit minimum: 5 bits a number, in 20 bytes: scale, minimum, nibbles.
/// number = scale * code + minimum
struct Q4_1 : OneScale<Q4_1> {
  using Levels = Whole<0, 15>;
  static constexpr std::uint32_t kType = 3;
  static constexpr std::string_view kName = "Q4_1";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 20, kScaleAt = 0;
  static constexpr int kZero = 0, kMostLevel = 15;
  static constexpr bool kHasMin = true;
  static constexpr int kMostMin = 1;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::Bytes low, high;
    detail::nibbles(block + 4, low, high);
    detail::put(low, levels);
    detail::put(high, levels + 16);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    *scale = detail::half(block);
    *min = -detail::half(block + 2);
  }
  static bool isSound(const std::uint8_t* block) {
    return detail::isFiniteHalf(block) && detail::isFiniteHalf(block + 2);
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    detail::putHalf(s.scale, to);
    detail::putHalf(-s.minOf(0), to + 2);
    detail::putNibbles(codes, to + 4);
  }
};

/// 5 bits and a 16-bit scale: 5.5 bits a number, in 22 bytes: scale, the numbers' fifth bits, nibbles.
/// number = scale * (code - 16)
struct Q5_0 : OneScale<Q5_0> {
  using Levels = Whole<-16, 15>;
  static constexpr std::uint32_t kType = 6;
  static constexpr std::string_view kName = "Q5_0";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 22, kScaleAt = 0;
  static constexpr int kZero = 16, kMostLevel = 15;
  static constexpr bool kHasMin = false;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::Bytes low, high;
    detail::nibbles(block + 6, low, high);
    detail::put((low | detail::fifthBits(block + 2)) - 16, levels);
    detail::put((high | detail::fifthBits(block + 4)) - 16, levels + 16);
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    std::uint8_t low[32];
    for (int i = 0; i < 32; ++i) low[i] = codes[i] & 15;
    detail::putHalf(s.scale, to);
    detail::putFifthBits(codes, to + 2);
    detail::putNibbles(low, to + 6);
  }
};

/// 5 bits, a 16-bit scale and a 16-bit minimum: 6 bits a number, in 24 bytes: scale, minimum, fifth bits, nibbles.
/// number = scale * code + minimum
struct Q5_1 : OneScale<Q5_1> {
  using Levels = Whole<0, 31>;
  static constexpr std::uint32_t kType = 7;
  static constexpr std::string_view kName = "Q5_1";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 24, kScaleAt = 0;
  static constexpr int kZero = 0, kMostLevel = 31;
  static constexpr bool kHasMin = true;
  static constexpr int kMostMin = 1;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::Bytes low, high;
    detail::nibbles(block + 8, low, high);
    detail::put(low | detail::fifthBits(block + 4), levels);
    detail::put(high | detail::fifthBits(block + 6), levels + 16);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) { Q4_1::scales(block, scale, min); }
  static bool isSound(const std::uint8_t* block) { return Q4_1::isSound(block); }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    std::uint8_t low[32];
    for (int i = 0; i < 32; ++i) low[i] = codes[i] & 15;
    detail::putHalf(s.scale, to);
    detail::putHalf(-s.minOf(0), to + 2);
    detail::putFifthBits(codes, to + 4);
    detail::putNibbles(low, to + 8);
  }
};

/// 8 bits and a 16-bit scale: 8.5 bits a number, in 34 bytes: scale, codes as signed bytes. number = scale * code
struct Q8_0 : OneScale<Q8_0> {
  using Levels = Whole<-127, 127>;
  static constexpr std::uint32_t kType = 8;
  static constexpr std::string_view kName = "Q8_0";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 34, kScaleAt = 0;
  static constexpr int kZero = 128, kMostLevel = 127;
  static constexpr bool kHasMin = false;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) { std::memcpy(levels, block + 2, 32); }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    detail::putHalf(s.scale, to);
    for (int i = 0; i < 32; ++i) to[2 + i] = static_cast<std::uint8_t>(codes[i] + Levels::kLeast);
  }
};

/// 16 nonuniform levels and a 16-bit scale: 4.5 bits a number, in 18 bytes: scale, nibbles.
struct IQ4_NL : OneScale<IQ4_NL> {
  using Levels = Nonuniform;
  static constexpr std::uint32_t kType = 20;
  static constexpr std::string_view kName = "IQ4_NL";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 18, kScaleAt = 0;
  static constexpr int kZero = 127, kMostLevel = 113;
  static constexpr bool kHasMin = false;

  static constexpr std::array<std::int8_t, 16> kTable = [] {
    std::array<std::int8_t, 16> table{};
    for (std::size_t i = 0; i < 16; ++i) table[i] = static_cast<std::int8_t>(NonuniformTable::kLevels[i]);
    return table;
  }();

  static void unpackNibbles(const std::uint8_t* from, std::int8_t* levels) {
    detail::lookUpNibbles(from, kTable, levels);
  }
  static void unpack(const std::uint8_t* block, std::int8_t* levels) { unpackNibbles(block + 2, levels); }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) { Q4_0::pack(s, codes, to); }
};

/// E2M1, floats of 4 bits, and a power of two as scale: 4.25 bits a number, in 17 bytes: the scale's exponent e,
/// nibbles. number = 2^(e - 128) * twice the E2M1. Source: OCP Microscaling Formats 1.0, section 5.
struct MXFP4 {
  using Levels = E2M1;
  static constexpr std::uint32_t kType = 39;
  static constexpr std::string_view kName = "MXFP4";
  static constexpr Index kBlock = 32, kGroup = 32, kBlockBytes = 17;
  static constexpr int kZero = 12, kMostLevel = 12;
  static constexpr bool kHasMin = false;
  static constexpr int kLeastStep = 1, kMostStep = 1, kMostMin = 0;

  /// By code: sign and magnitude.
  static constexpr std::array<std::int8_t, 16> kTable = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::lookUpNibbles(block + 1, kTable, levels);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    const std::uint32_t e = block[0];  // where it is 0 or 1, the float is subnormal
    *scale = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    *min = 0;
  }
  static bool isSound(const std::uint8_t*) { return true; }
  /// The nearest power of two by ratio; of 0, and what is below it, the least.
  static float stored(float x) {
    if (!(x > 0)) return 0x1p-128f;
    int exponent;
    const float fraction = std::frexp(x, &exponent);  // 0.5 .. 1
    constexpr float kMiddle = 0.70710678f;
    const int power = fraction < kMiddle ? exponent - 1 : exponent;
    return std::ldexp(1.f, power < -128 ? -128 : power > 127 ? 127 : power);
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    constexpr std::uint8_t kCodes[15] = {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7};
    std::uint8_t bits[32];
    for (int i = 0; i < 32; ++i) bits[i] = kCodes[codes[i]];
    to[0] = static_cast<std::uint8_t>(std::ilogb(s.scale) + 128);
    detail::putNibbles(bits, to + 1);
  }
};

}  // namespace gosset::GOSSET_ABI::ggml
