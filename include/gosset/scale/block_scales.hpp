// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/types.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

// Scales in two steps: a block of numbers keeps one or two floats, and each group within it a small integer for each,
// which the float is multiplied by. So scales of 6 bits serve 16 or 32 numbers each. ggml's block layouts are made so,
// those with a single group and the integer 1 among them.
namespace gosset::GOSSET_ABI {

/// The scales of a block: number i of group g has the value
///
///   scale * scales[g] * level - min * mins[g]
struct BlockScales {
  static constexpr std::size_t kMostGroups = 16;

  float scale = 0;  ///< as stored
  float min = 0;    ///< as stored; 0 where the layout keeps none
  std::array<std::int8_t, kMostGroups> scales{};
  std::array<std::int8_t, kMostGroups> mins{};

  float scaleOf(std::size_t group) const { return scale * static_cast<float>(scales[group]); }
  float minOf(std::size_t group) const { return min * static_cast<float>(mins[group]); }

  friend bool operator==(const BlockScales&, const BlockScales&) = default;
};

/// How blocks of numbers keep codes and scales:
///   Levels                   the codebook; levels are whole numbers from -127 to 127
///   kBlock kGroup            numbers of a block and of a group, which divides it
///   kLeastStep kMostStep     which integers a group's scale may be; 1 and 1 where a block has one scale
///   kMostMin                 the largest integer of a group's minimum, 0 being the least; 0 where there are no minima
///   stored(x)                the nearest float that is stored exactly, for scale and min
///   pack(scales, codes, to)  writes a block; codes: kBlock of Levels
template <class F>
concept BlockScaled = requires(const BlockScales& scales, const std::uint8_t* codes, std::uint8_t* to, float x) {
  requires ScalarCodebook<typename F::Levels>;
  requires F::kBlock % F::kGroup == 0 && F::kBlock / F::kGroup <= Index{BlockScales::kMostGroups};
  requires F::kLeastStep <= 1 && F::kMostStep >= 1;
  requires F::kMostMin >= 0;
  { F::stored(x) } -> std::same_as<float>;
  F::pack(scales, codes, to);
};

}  // namespace gosset::GOSSET_ABI
