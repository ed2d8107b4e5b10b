// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/ggml/block.hpp>
#include <gosset/format/ggml/levels.hpp>
#include <gosset/format/ggml/simple.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

// ggml's blocks of 256 numbers in groups of 16 or 32, whose scales (and minima) are small integers times the block's.
namespace gosset::GOSSET_ABI::ggml {

namespace detail {

/// What layouts with a scale and a minimum, 16 bits each, next to each other have in common.
template <class Self>
struct ScaleAndMin {
  static bool isSound(const std::uint8_t* block) {
    return isFiniteHalf(block + Self::kScaleAt) && isFiniteHalf(block + Self::kScaleAt + 2);
  }
  static float stored(float x) { return static_cast<float>(storeNearest<Float16>(x)); }
  static void putScales(const BlockScales& s, std::uint8_t* to) {
    putHalf(s.scale, to + Self::kScaleAt);
    putHalf(s.min, to + Self::kScaleAt + 2);
  }
};

/// Fields of 2 bits: each half of a block in 32 bytes, whose fields belong to numbers 32 apart. visit(codes, first) for
/// 16 numbers from `first` on.
template <class Visit>
[[gnu::always_inline]] inline void forPairs(const std::uint8_t* from, const Visit& visit) {
  simd::unroll<16>([&](auto i) __attribute__((always_inline)) {
    constexpr int kHalf = i / 8, kField = i / 2 % 4, kPart = i % 2;
    visit(bytes(from + 32 * kHalf + 16 * kPart) >> (2 * kField) & 3, 16 * i);
  });
}
inline void putPairs(const std::uint8_t* codes, std::uint8_t* to) {
  for (int i = 0; i < 64; ++i) {
    const std::uint8_t* first = codes + 128 * (i / 32) + i % 32;
    to[i] =
        static_cast<std::uint8_t>((first[0] & 3) | (first[32] & 3) << 2 | (first[64] & 3) << 4 | (first[96] & 3) << 6);
  }
}

/// Nibbles: 64 numbers in 32 bytes, the first 32 in the low halves. visit(codes, first) for 16 numbers.
template <class Visit>
[[gnu::always_inline]] inline void forNibbles(const std::uint8_t* from, const Visit& visit) {
  simd::unroll<8>([&](auto i) __attribute__((always_inline)) {
    constexpr int kQuarter = i / 2, kPart = i % 2;
    Bytes low, high;
    nibbles(from + 32 * kQuarter + 16 * kPart, low, high);
    visit(low, 64 * kQuarter + 16 * kPart);
    visit(high, 64 * kQuarter + 32 + 16 * kPart);
  });
}
inline void putNibblesOf64(const std::uint8_t* codes, std::uint8_t* to) {
  for (int i = 0; i < 128; ++i) {
    const std::uint8_t* first = codes + 64 * (i / 32) + i % 32;
    to[i] = static_cast<std::uint8_t>((first[0] & 15) | first[32] << 4);
  }
}

/// Eight scales and eight minima of 6 bits in 12 bytes: byte j < 4 has scale j below the upper two bits of scale j + 4;
/// byte 4 + j the same of the minima; byte 8 + j the lower four bits of scale and minimum j + 4.
inline void sixBits(const std::uint8_t* from, int group, int& scale, int& min) {
  if (group < 4) {
    scale = from[group] & 63;
    min = from[group + 4] & 63;
  } else {
    scale = (from[group + 4] & 15) | (from[group - 4] >> 6) << 4;
    min = (from[group + 4] >> 4) | (from[group] >> 6) << 4;
  }
}
inline void putSixBits(const BlockScales& s, std::uint8_t* to) {
  for (std::size_t j = 0; j < 4; ++j) {
    const int scale = s.scales[j + 4], min = s.mins[j + 4];
    to[j] = static_cast<std::uint8_t>(s.scales[j] | (scale >> 4) << 6);
    to[j + 4] = static_cast<std::uint8_t>(s.mins[j] | (min >> 4) << 6);
    to[j + 8] = static_cast<std::uint8_t>((scale & 15) | (min & 15) << 4);
  }
}

/// Sixteen scales, `steps` times the block's, and no minima.
inline void scalesOfSteps(float block_scale, const std::int8_t* steps, float* scale, float* min) {
  const auto unit = simd::splat<simd::Floats>(block_scale);
  forFloats(
      steps, [&](simd::Floats step, int first)
                 __attribute__((always_inline)) { simd::store(scale + first, unit * step); });
  std::fill_n(min, 16, 0.f);
}

/// The scales and minima of Q4_K and Q5_K: 16-bit ones, then those of the groups.
inline void scalesOfEight(const std::uint8_t* block, float* scale, float* min) {
  const float d = half(block), m = half(block + 2);
  for (int group = 0; group < 8; ++group) {
    int step, min_step;
    sixBits(block + 4, group, step, min_step);
    scale[group] = d * static_cast<float>(step);
    min[group] = m * static_cast<float>(min_step);
  }
}

}  // namespace detail

/// 2 bits, groups of 16 with scales and minima of 4 bits: 2.625 bits a number, in 84 bytes: a byte a group, the scale
/// in its low half; codes; the block's scale and minimum.
struct Q2_K : detail::ScaleAndMin<Q2_K> {
  using Levels = Whole<0, 3>;
  static constexpr std::uint32_t kType = 10;
  static constexpr std::string_view kName = "Q2_K";
  static constexpr Index kBlock = 256, kGroup = 16, kBlockBytes = 84, kScaleAt = 80;
  static constexpr int kZero = 0, kMostLevel = 3;
  static constexpr bool kHasMin = true;
  static constexpr int kLeastStep = 0, kMostStep = 15, kMostMin = 15;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::forPairs(block + 16, [&](detail::Bytes codes, int first) { detail::put(codes, levels + first); });
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    const float d = detail::half(block + kScaleAt), m = detail::half(block + kScaleAt + 2);
    for (int group = 0; group < 16; ++group) {
      scale[group] = d * static_cast<float>(block[group] & 15);
      min[group] = m * static_cast<float>(block[group] >> 4);
    }
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    for (std::size_t group = 0; group < 16; ++group) {
      to[group] = static_cast<std::uint8_t>(s.scales[group] | s.mins[group] << 4);
    }
    detail::putPairs(codes, to + 16);
    putScales(s, to);
  }
};

/// 3 bits, groups of 16 with signed scales of 6 bits: 3.4375 bits a number, in 110 bytes: the codes' upper bits, bit h
/// of byte i that of number 32 h + i; their lower two bits; 12 bytes of scales plus 32; the block's scale. Byte i < 8
/// of the scales has the lower four bits of scales i and i + 8, byte 8 + i the upper two of scales i, i + 4, i + 8 and
/// i + 12.
struct Q3_K : OneScale<Q3_K> {
  using Levels = Whole<-4, 3>;
  static constexpr std::uint32_t kType = 11;
  static constexpr std::string_view kName = "Q3_K";
  static constexpr Index kBlock = 256, kGroup = 16, kBlockBytes = 110, kScaleAt = 108;
  static constexpr int kZero = 4, kMostLevel = 3;
  static constexpr bool kHasMin = false;
  static constexpr int kLeastStep = -32, kMostStep = 31;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::forPairs(
        block + 32, [&](detail::Bytes codes, int first) __attribute__((always_inline)) {
          const detail::Bytes upper = detail::bytes(block + first % 32) >> (first / 32) & 1;
          detail::put((codes | upper << 2) - 4, levels + first);
        });
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    constexpr auto kPart = [](int part) {  // lanes 4 part to 4 part + 3
      return simd::generate<std::uint8_t, 16>(
          [&](int i) { return static_cast<std::uint8_t>(i / 4 == part ? 255 : 0); });
    };
    const detail::Bytes end = detail::bytes(block + 94);  // the last 16, of which 12 are steps, from 2 on
    const detail::Bytes low = __builtin_shufflevector(end, end, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
    const detail::Bytes high =
        __builtin_shufflevector(end, end, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13);
    const detail::Bytes lower = (low & 15 & (kPart(0) | kPart(1))) | ((low >> 4) & (kPart(2) | kPart(3)));
    const detail::Bytes upper =
        (high & kPart(0)) | (high >> 2 & kPart(1)) | (high >> 4 & kPart(2)) | (high >> 6 & kPart(3));
    std::int8_t steps[16];
    detail::put((lower | (upper & 3) << 4) - 32, steps);
    detail::scalesOfSteps(detail::half(block + kScaleAt), steps, scale, min);
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    std::memset(to, 0, kBlockBytes);
    for (int i = 0; i < 256; ++i) to[i % 32] = static_cast<std::uint8_t>(to[i % 32] | (codes[i] >> 2) << (i / 32));
    detail::putPairs(codes, to + 32);
    std::uint8_t* steps = to + 96;
    for (int group = 0; group < 16; ++group) {
      const int step = s.scales[static_cast<std::size_t>(group)] + 32;
      std::uint8_t &low = steps[group % 8], &high = steps[8 + group % 4];
      low = static_cast<std::uint8_t>(low | (step & 15) << (group < 8 ? 0 : 4));
      high = static_cast<std::uint8_t>(high | (step >> 4) << (2 * (group / 4)));
    }
    detail::putHalf(s.scale, to + kScaleAt);
  }
};

/// 4 bits, groups of 32 with scales and minima of 6 bits: 4.5 bits a number, in 144 bytes: the block's scale and
/// minimum, 12 bytes of the groups', codes.
struct Q4_K : detail::ScaleAndMin<Q4_K> {
  using Levels = Whole<0, 15>;
  static constexpr std::uint32_t kType = 12;
  static constexpr std::string_view kName = "Q4_K";
  static constexpr Index kBlock = 256, kGroup = 32, kBlockBytes = 144, kScaleAt = 0;
  static constexpr int kZero = 0, kMostLevel = 15;
  static constexpr bool kHasMin = true;
  static constexpr int kLeastStep = 0, kMostStep = 63, kMostMin = 63;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::forNibbles(block + 16, [&](detail::Bytes codes, int first) { detail::put(codes, levels + first); });
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) { detail::scalesOfEight(block, scale, min); }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    putScales(s, to);
    detail::putSixBits(s, to + 4);
    detail::putNibblesOf64(codes, to + 16);
  }
};

/// 5 bits, groups of 32 with scales and minima of 6 bits: 5.5 bits a number, in 176 bytes: the block's scale and
/// minimum, 12 bytes of the groups', the codes' upper bits, bit h of byte i that of number 32 h + i, and their lower
/// four.
struct Q5_K : detail::ScaleAndMin<Q5_K> {
  using Levels = Whole<0, 31>;
  static constexpr std::uint32_t kType = 13;
  static constexpr std::string_view kName = "Q5_K";
  static constexpr Index kBlock = 256, kGroup = 32, kBlockBytes = 176, kScaleAt = 0;
  static constexpr int kZero = 0, kMostLevel = 31;
  static constexpr bool kHasMin = true;
  static constexpr int kLeastStep = 0, kMostStep = 63, kMostMin = 63;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::forNibbles(
        block + 48, [&](detail::Bytes codes, int first) __attribute__((always_inline)) {
          const detail::Bytes upper = detail::bytes(block + 16 + first % 32) >> (first / 32) & 1;
          detail::put(codes | upper << 4, levels + first);
        });
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) { detail::scalesOfEight(block, scale, min); }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    putScales(s, to);
    detail::putSixBits(s, to + 4);
    std::memset(to + 16, 0, 32);
    for (int i = 0; i < 256; ++i) {
      to[16 + i % 32] = static_cast<std::uint8_t>(to[16 + i % 32] | (codes[i] >> 4) << (i / 32));
    }
    detail::putNibblesOf64(codes, to + 48);
  }
};

/// 6 bits, groups of 16 with signed scales of 8 bits: 6.5625 bits a number, in 210 bytes: the codes' lower four bits,
/// half a block in 64 bytes, whose low halves are its first 64 numbers; their upper two, fields of 2 bits that belong
/// to numbers 32 apart; 16 scales; the block's.
struct Q6_K : OneScale<Q6_K> {
  using Levels = Whole<-32, 31>;
  static constexpr std::uint32_t kType = 14;
  static constexpr std::string_view kName = "Q6_K";
  static constexpr Index kBlock = 256, kGroup = 16, kBlockBytes = 210, kScaleAt = 208;
  static constexpr int kZero = 32, kMostLevel = 31;
  static constexpr bool kHasMin = false;
  static constexpr int kLeastStep = -128, kMostStep = 127;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    detail::forPairs(
        block + 128, [&](detail::Bytes upper, int first) __attribute__((always_inline)) {
          const int half = first / 128, quarter = first / 64 % 2, at = first % 64;
          const detail::Bytes lower = detail::bytes(block + 64 * half + at) >> (4 * quarter) & 15;
          detail::put((lower | upper << 4) - 32, levels + first);
        });
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    std::int8_t steps[16];
    std::memcpy(steps, block + 192, sizeof(steps));
    detail::scalesOfSteps(detail::half(block + kScaleAt), steps, scale, min);
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    for (int i = 0; i < 128; ++i) {
      const std::uint8_t* first = codes + 128 * (i / 64) + i % 64;
      to[i] = static_cast<std::uint8_t>((first[0] & 15) | first[64] << 4);
    }
    std::uint8_t upper[256];
    for (int i = 0; i < 256; ++i) upper[i] = codes[i] >> 4;
    detail::putPairs(upper, to + 128);
    std::memcpy(to + 192, s.scales.data(), 16);
    detail::putHalf(s.scale, to + kScaleAt);
  }
};

/// 16 nonuniform levels, groups of 32 with signed scales of 6 bits: 4.25 bits a number, in 136 bytes: the block's
/// scale; the upper two bits of the groups' scales plus 32, group 0 in the lowest; their lower four, two a byte; codes,
/// as IQ4_NL has them.
struct IQ4_XS : OneScale<IQ4_XS> {
  using Levels = Nonuniform;
  static constexpr std::uint32_t kType = 23;
  static constexpr std::string_view kName = "IQ4_XS";
  static constexpr Index kBlock = 256, kGroup = 32, kBlockBytes = 136, kScaleAt = 0;
  static constexpr int kZero = 127, kMostLevel = 113;
  static constexpr bool kHasMin = false;
  static constexpr int kLeastStep = -32, kMostStep = 31;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    for (int group = 0; group < 8; ++group) IQ4_NL::unpackNibbles(block + 8 + 16 * group, levels + 32 * group);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    const float d = detail::half(block);
    for (int group = 0; group < 8; ++group) {
      const int low = block[4 + group / 2] >> (4 * (group % 2)) & 15,
                high = block[2 + group / 4] >> (2 * (group % 4)) & 3;
      scale[group] = d * static_cast<float>((low | high << 4) - 32);
      min[group] = 0;
    }
  }
  static void pack(const BlockScales& s, const std::uint8_t* codes, std::uint8_t* to) {
    std::memset(to, 0, 8);
    detail::putHalf(s.scale, to);
    for (int group = 0; group < 8; ++group) {
      const int step = s.scales[static_cast<std::size_t>(group)] + 32;
      std::uint8_t &high = to[2 + group / 4], &low = to[4 + group / 2];
      high = static_cast<std::uint8_t>(high | (step >> 4) << (2 * (group % 4)));
      low = static_cast<std::uint8_t>(low | (step & 15) << (4 * (group % 2)));
      detail::putNibbles(codes + 32 * group, to + 8 + 16 * group);
    }
  }
};

}  // namespace gosset::GOSSET_ABI::ggml
