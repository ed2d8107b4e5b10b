// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/ggml/block.hpp>
#include <gosset/format/ggml/levels.hpp>

#include <cstdint>
#include <cstring>
#include <string_view>

// ggml's blocks of 256 numbers -1, 0, 1 with one 16-bit scale, which stands last.
namespace gosset::GOSSET_ABI::ggml {

/// Five numbers a byte: 1.6875 bits a number, in 54 bytes: 32 bytes of five, 16 bytes of five, 4 bytes of four, scale.
/// A byte is ceil(256 v / 243) of v, its numbers in base 3, the first the highest digit: 3^i times the byte, without
/// what overflows, and then 3 times that over 256 is number i.
struct TQ1_0 : OneScale<TQ1_0> {
  using Levels = Whole<-1, 1>;
  static constexpr std::uint32_t kType = 34;
  static constexpr std::string_view kName = "TQ1_0";
  static constexpr Index kBlock = 256, kGroup = 256, kBlockBytes = 54, kScaleAt = 52;
  static constexpr int kZero = 1, kMostLevel = 1;
  static constexpr bool kHasMin = false;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    for (int part = 0; part < 3; ++part) {  // 16 bytes each: two for the first 160 numbers, then one
      detail::Bytes bytes = detail::bytes(block + 16 * part);
      for (int i = 0; i < 5; ++i, bytes = 3 * bytes) {
        detail::put(level(bytes), levels + (part < 2 ? 32 * i + 16 * part : 160 + 16 * i));
      }
    }
    detail::Bytes last{};
    std::memcpy(&last, block + 48, 4);
    for (int i = 0; i < 4; ++i, last = 3 * last) {
      const detail::Bytes digits = level(last);
      std::memcpy(levels + 240 + 4 * i, &digits, 4);
    }
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    int values[52] = {};
    forDigits([&](int byte, std::uint8_t power, int number) { values[byte] += codes[number] * (81 / power); });
    for (int i = 0; i < 52; ++i) to[i] = static_cast<std::uint8_t>((values[i] * 256 + 242) / 243);
    detail::putHalf(s.scale, to + kScaleAt);
  }

 private:
  /// 3 x over 256, less 1: 3 x reaches 256 from 86 on and 512 from 171 on.
  static detail::Bytes level(detail::Bytes x) { return (detail::Bytes)(x < 86) - (detail::Bytes)(x >= 171); }

  /// visit(byte, 3^i, number) for digit i of each byte.
  template <class Visit>
  static void forDigits(const Visit& visit) {
    constexpr std::uint8_t kPowers[5] = {1, 3, 9, 27, 81};
    int number = 0;
    const auto stretch = [&](int first, int bytes, int digits) {
      for (int i = 0; i < digits; ++i) {
        for (int k = 0; k < bytes; ++k) visit(first + k, kPowers[i], number + k);
        number += bytes;
      }
    };
    stretch(0, 32, 5);
    stretch(32, 16, 5);
    stretch(48, 4, 4);
  }
};

/// 2 bits: 2.0625 bits a number, in 66 bytes: 64 bytes, whose 2-bit fields belong to numbers 32 apart, scale.
struct TQ2_0 : OneScale<TQ2_0> {
  using Levels = Whole<-1, 1>;
  static constexpr std::uint32_t kType = 35;
  static constexpr std::string_view kName = "TQ2_0";
  static constexpr Index kBlock = 256, kGroup = 256, kBlockBytes = 66, kScaleAt = 64;
  static constexpr int kZero = 1, kMostLevel = 2;
  static constexpr bool kHasMin = false;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    for (int half = 0; half < 2; ++half) {
      for (int field = 0; field < 4; ++field) {
        for (int part = 0; part < 2; ++part) {
          const detail::Bytes codes = detail::bytes(block + 32 * half + 16 * part) >> (2 * field) & 3;
          detail::put(codes - 1, levels + 128 * half + 32 * field + 16 * part);
        }
      }
    }
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    for (int i = 0; i < 64; ++i) {
      const std::uint8_t* first = codes + 128 * (i / 32) + i % 32;
      to[i] = static_cast<std::uint8_t>(first[0] | first[32] << 2 | first[64] << 4 | first[96] << 6);
    }
    detail::putHalf(s.scale, to + kScaleAt);
  }
};

}  // namespace gosset::GOSSET_ABI::ggml
