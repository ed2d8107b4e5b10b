// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace gosset::GOSSET_ABI::detail {

/// The next float above a finite x != 0.
constexpr float nextAbove(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>(x > 0 ? bits + 1 : bits - 1);
}

/// For levels in rising order: element i is the least float that belongs to level i + 1 and not to level i. At equal
/// distance the even code wins.
template <std::size_t kLevels>
constexpr std::array<float, kLevels - 1> levelThresholds(const std::array<float, kLevels>& levels) {
  std::array<float, kLevels - 1> result{};
  for (std::size_t i = 0; i + 1 < kLevels; ++i) {
    const double twice_middle = static_cast<double>(levels[i]) + static_cast<double>(levels[i + 1]);
    const bool upper_wins_ties = i % 2 == 1;
    const auto belongsAbove = [&](float x) {
      return 2 * static_cast<double>(x) > twice_middle ||
             (upper_wins_ties && 2 * static_cast<double>(x) == twice_middle);
    };
    auto threshold = static_cast<float>(twice_middle / 2);
    if (!belongsAbove(threshold)) threshold = threshold == 0 ? 0x1p-149f : nextAbove(threshold);
    result[i] = threshold;
  }
  return result;
}

/// The code of the level nearest to x: how many thresholds x reaches. Counting them all, rather than searching, lets
/// compilers vectorize over many x.
template <std::size_t kThresholds>
constexpr std::uint8_t nearestLevel(float x, const std::array<float, kThresholds>& thresholds) {
  unsigned code = 0;
  for (const float threshold : thresholds) code += x >= threshold ? 1u : 0u;
  return static_cast<std::uint8_t>(code);
}

}  // namespace gosset::GOSSET_ABI::detail
