// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/ggml/block.hpp>
#include <gosset/format/ggml/grids.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

// ggml's blocks of 256 numbers whose codes are points of 8 (IQ2) or 4 numbers (IQ3) and 8 signs. gosset reads them, as
// files hold them, and does not round into them. The block's 16-bit scale comes first.
namespace gosset::GOSSET_ABI::ggml {

namespace detail {

/// Points as bytes of a word: 8 or 4 numbers each.
template <class Word, std::size_t kPoints>
std::array<Word, kPoints> pointsOf(const std::array<std::uint16_t, kPoints>& grid,
                                   const std::array<std::uint8_t, 8>& values) {
  constexpr int kCount = sizeof(Word), kBits = kCount == 8 ? 2 : 3;
  std::array<Word, kPoints> points{};
  for (std::size_t i = 0; i < kPoints; ++i) {
    for (int k = 0; k < kCount; ++k) {
      const auto digit = static_cast<std::size_t>(grid[i] >> (kBits * k) & ((1 << kBits) - 1));
      points[i] |= static_cast<Word>(values[digit]) << (8 * k);
    }
  }
  return points;
}

inline constexpr std::array<std::uint8_t, 8> kIq2Values = {8, 25, 43}, kIq3XxsValues = {4, 12, 20, 28, 36, 44, 52, 62},
                                             kIq3SValues = {1, 3, 5, 7, 9, 11, 13, 15};

inline const std::array<std::uint64_t, 256>& iq2XxsPoints() {
  static const auto kPoints = pointsOf<std::uint64_t>(kIq2XxsGrid, kIq2Values);
  return kPoints;
}
inline const std::array<std::uint64_t, 512>& iq2XsPoints() {
  static const auto kPoints = pointsOf<std::uint64_t>(kIq2XsGrid, kIq2Values);
  return kPoints;
}
inline const std::array<std::uint64_t, 1024>& iq2SPoints() {
  static const auto kPoints = pointsOf<std::uint64_t>(kIq2SGrid, kIq2Values);
  return kPoints;
}
inline const std::array<std::uint32_t, 256>& iq3XxsPoints() {
  static const auto kPoints = pointsOf<std::uint32_t>(kIq3XxsGrid, kIq3XxsValues);
  return kPoints;
}
inline const std::array<std::uint32_t, 512>& iq3SPoints() {
  static const auto kPoints = pointsOf<std::uint32_t>(kIq3SGrid, kIq3SValues);
  return kPoints;
}

/// For each byte of signs the mask of the bytes that are negative.
inline const std::array<std::uint64_t, 256>& signMasks() {
  static const auto kMasks = [] {
    std::array<std::uint64_t, 256> masks{};
    for (std::size_t signs = 0; signs < 256; ++signs) {
      for (std::size_t k = 0; k < 8; ++k) masks[signs] |= (signs >> k & 1) * (std::uint64_t{0xff} << (8 * k));
    }
    return masks;
  }();
  return kMasks;
}

/// The same for seven signs and the eighth, which makes their number even.
inline const std::array<std::uint64_t, 128>& evenSignMasks() {
  static const auto kMasks = [] {
    std::array<std::uint64_t, 128> masks{};
    for (std::uint32_t seven = 0; seven < 128; ++seven) {
      masks[seven] = signMasks()[seven | static_cast<std::uint32_t>(std::popcount(seven) & 1) << 7];
    }
    return masks;
  }();
  return kMasks;
}

/// The magnitudes of a block, word after word, and the masks of its signs.
template <class Word>
struct SignedPoints {
  Word magnitudes[256 / sizeof(Word)];
  std::uint64_t masks[32];

  void put(std::int8_t* levels) const {
    const auto* all = reinterpret_cast<const std::uint8_t*>(magnitudes);
    const auto* negative = reinterpret_cast<const std::uint8_t*>(masks);
    simd::unroll<16>([&](int i) __attribute__((always_inline)) {
      const Bytes mask = bytes(negative + 16 * i);
      detail::put((bytes(all + 16 * i) ^ mask) - mask, levels + 16 * i);
    });
  }
};

inline std::uint32_t word(const std::uint8_t* at) {
  std::uint32_t value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

/// What the layouts have in common.
template <int kMost>
struct Points {
  static constexpr Index kBlock = 256;
  static constexpr int kZero = kMost, kMostLevel = kMost;
  static constexpr bool kHasMin = false;
  static bool isSound(const std::uint8_t* block) { return isFiniteHalf(block); }
};

/// Sixteen scales of 4 bits, as odd multiples of an eighth of the block's; they are the block's last 8 bytes.
inline void eighths(const std::uint8_t* block, Index bytes_of_block, float* scale, float* min) {
  constexpr Bytes kOdd = {0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255};
  const Bytes end = bytes(block + bytes_of_block - 16);
  const Bytes twice = __builtin_shufflevector(end, end, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
  std::int8_t steps[16];
  put((twice & 15 & ~kOdd) | ((twice >> 4) & kOdd), steps);
  const auto unit = simd::splat<simd::Floats>(half(block));
  forFloats(
      steps, [&](simd::Floats step, int first)
                 __attribute__((always_inline)) { simd::store(scale + first, unit * (0.5f + step) * 0.25f); });
  std::fill_n(min, 16, 0.f);
}

/// The same in the upper bits of a word for each group of 32, and as odd multiples of half of `unit`.
inline void scalesOfWords(float unit, const std::uint8_t* words, int stride, float* scale, float* min) {
  for (int group = 0; group < 8; ++group) {
    scale[group] = unit * (0.5f + static_cast<float>(word(words + stride * group) >> 28));
    min[group] = 0;
  }
}

}  // namespace detail

/// 256 points of 8 numbers, signs of an even number, groups of 32 with scales of 4 bits: 2.0625 bits a number, in 66
/// bytes: scale, then for each group four bytes of points, and in a word four times 7 signs and the scale.
struct IQ2_XXS : detail::Points<43> {
  static constexpr std::uint32_t kType = 16;
  static constexpr std::string_view kName = "IQ2_XXS";
  static constexpr Index kGroup = 32, kBlockBytes = 66;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    const auto& points = detail::iq2XxsPoints();
    const auto& masks = detail::evenSignMasks();
    detail::SignedPoints<std::uint64_t> result;
    simd::unroll<32>([&](int i) __attribute__((always_inline)) {
      const std::uint8_t* group = block + 2 + 8 * (i / 4);
      result.magnitudes[i] = points[group[i % 4]];
      result.masks[i] = masks[detail::word(group + 4) >> (7 * (i % 4)) & 127];
    });
    result.put(levels);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    detail::scalesOfWords(detail::half(block) * 0.25f, block + 6, 8, scale, min);
  }
};

/// 512 points of 8 numbers, signs of an even number, groups of 16 with scales of 4 bits: 2.3125 bits a number, in 74
/// bytes: scale, 32 times 9 bits of a point below 7 signs, scales.
struct IQ2_XS : detail::Points<43> {
  static constexpr std::uint32_t kType = 17;
  static constexpr std::string_view kName = "IQ2_XS";
  static constexpr Index kGroup = 16, kBlockBytes = 74;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    const auto& points = detail::iq2XsPoints();
    const auto& masks = detail::evenSignMasks();
    detail::SignedPoints<std::uint64_t> result;
    simd::unroll<32>([&](int i) __attribute__((always_inline)) {
      const std::uint32_t code = block[2 + 2 * i] | static_cast<std::uint32_t>(block[3 + 2 * i]) << 8;
      result.magnitudes[i] = points[code & 511];
      result.masks[i] = masks[code >> 9];
    });
    result.put(levels);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    detail::eighths(block, kBlockBytes, scale, min);
  }
};

/// 1024 points of 8 numbers, 8 signs, groups of 16 with scales of 4 bits: 2.5625 bits a number, in 82 bytes: scale, the
/// points' lower 8 bits, signs, the points' upper 2 bits, four a byte, scales.
struct IQ2_S : detail::Points<43> {
  static constexpr std::uint32_t kType = 22;
  static constexpr std::string_view kName = "IQ2_S";
  static constexpr Index kGroup = 16, kBlockBytes = 82;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    const auto& points = detail::iq2SPoints();
    const auto& masks = detail::signMasks();
    detail::SignedPoints<std::uint64_t> result;
    simd::unroll<32>([&](int i) __attribute__((always_inline)) {
      const int upper = block[66 + i / 4] >> (2 * (i % 4)) & 3;
      result.magnitudes[i] = points[static_cast<std::size_t>(block[2 + i] | upper << 8)];
      result.masks[i] = masks[block[34 + i]];
    });
    result.put(levels);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    detail::eighths(block, kBlockBytes, scale, min);
  }
};

/// 256 points of 4 numbers, signs of an even number, groups of 32 with scales of 4 bits: 3.0625 bits a number, in 98
/// bytes: scale, 64 points, then for each group in a word four times 7 signs and the scale.
struct IQ3_XXS : detail::Points<62> {
  static constexpr std::uint32_t kType = 18;
  static constexpr std::string_view kName = "IQ3_XXS";
  static constexpr Index kGroup = 32, kBlockBytes = 98;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    const auto& points = detail::iq3XxsPoints();
    const auto& masks = detail::evenSignMasks();
    detail::SignedPoints<std::uint32_t> result;
    simd::unroll<64>([&](int i) __attribute__((always_inline)) { result.magnitudes[i] = points[block[2 + i]]; });
    simd::unroll<32>([&](int i) __attribute__((always_inline)) {
      result.masks[i] = masks[detail::word(block + 66 + 4 * (i / 4)) >> (7 * (i % 4)) & 127];
    });
    result.put(levels);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    detail::scalesOfWords(detail::half(block) * 0.5f, block + 66, 4, scale, min);
  }
};

/// 512 points of 4 numbers, 8 signs, groups of 32 with scales of 4 bits, odd multiples of the block's: 3.4375 bits a
/// number, in 110 bytes: scale, the points' lower 8 bits, their ninth bits, signs, scales.
struct IQ3_S : detail::Points<15> {
  static constexpr std::uint32_t kType = 21;
  static constexpr std::string_view kName = "IQ3_S";
  static constexpr Index kGroup = 32, kBlockBytes = 110;

  static void unpack(const std::uint8_t* block, std::int8_t* levels) {
    const auto& points = detail::iq3SPoints();
    const auto& masks = detail::signMasks();
    detail::SignedPoints<std::uint32_t> result;
    simd::unroll<64>([&](int i) __attribute__((always_inline)) {
      const int upper = block[66 + i / 8] >> (i % 8) & 1;
      result.magnitudes[i] = points[static_cast<std::size_t>(block[2 + i] | upper << 8)];
    });
    simd::unroll<32>([&](int i) __attribute__((always_inline)) { result.masks[i] = masks[block[74 + i]]; });
    result.put(levels);
  }
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    for (int group = 0; group < 8; ++group) {
      const int step = block[106 + group / 2] >> (4 * (group % 2)) & 15;
      scale[group] = detail::half(block) * static_cast<float>(1 + 2 * step);
      min[group] = 0;
    }
  }
};

}  // namespace gosset::GOSSET_ABI::ggml
