// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace gosset::GOSSET_ABI::detail {

/// Levels as bytes: of a uniform codebook the code itself; else the nearest of 0 .. 254 in the unit that fits best.
template <ScalarCodebook C>
struct ByteLevels {
  static constexpr float levelOf(int q) { return C::level(static_cast<typename C::Code>(q)); }

  /// Whether level(q) = q - zero for an integer zero.
  static constexpr bool kUniform = [] {
    for (int q = 0; q < C::kLevels; ++q) {
      if (levelOf(q) - levelOf(0) != static_cast<float>(q)) return false;
    }
    return levelOf(0) <= 0 && levelOf(0) >= -255 && levelOf(0) == static_cast<float>(static_cast<int>(levelOf(0)));
  }();

  /// The codes may stand in any order.
  static constexpr float kLeast = [] {
    float least = 0;
    for (int q = 0; q < C::kLevels; ++q) least = std::min(least, levelOf(q));
    return least;
  }();
  static constexpr float kMost = [] {
    float most = 0;
    for (int q = 0; q < C::kLevels; ++q) most = std::max(most, levelOf(q));
    return most;
  }();

  static constexpr int rounded(float x) { return static_cast<int>(x < 0 ? x - 0.5f : x + 0.5f); }

  /// How many units the largest level is: of 1 .. 4 the first that makes all levels integers, else of 48 .. 127 the one
  /// with the least squared error. (Relative to the levels' root mean square: NF4 0.33%, LloydMax<4> 0.33%, <3> 0.09%,
  /// <2> 0.02%; the others are exact.)
  static constexpr float kUnits = [] {
    if (kUniform) return 1.f;
    const float largest = std::max(-kLeast, kMost);
    if (largest == 0) return 1.f;
    const auto error = [&](int units) {
      float sum = 0;
      for (int q = 0; q < C::kLevels; ++q) {
        const float level = levelOf(q) / largest * static_cast<float>(units);
        const float off = (level - static_cast<float>(rounded(level))) / static_cast<float>(units);
        sum += off * off;
      }
      return sum;
    };
    int best = 0;
    for (int units = 1; units <= 4 && best == 0; ++units) best = error(units) == 0 ? units : 0;
    if (best == 0) {
      best = 127;
      for (int units = 48; units < 127; ++units) best = error(units) < error(best) ? units : best;
    }
    return static_cast<float>(best) / largest;
  }();
  static constexpr int kZero = -rounded(kLeast * kUnits);

  static constexpr std::array<std::uint8_t, 16> kTable = [] {
    std::array<std::uint8_t, 16> table{};
    for (int q = 0; q < std::min(16, C::kLevels); ++q) {
      table[static_cast<std::size_t>(q)] =
          static_cast<std::uint8_t>(kUniform ? q : rounded(levelOf(q) * kUnits) + kZero);
    }
    return table;
  }();
  /// The table for simd::polynomialOfBits(): the exclusive sums over all subsets of an index's bits.
  static constexpr std::array<std::uint8_t, 16> kPolynomial = [] {
    std::array<std::uint8_t, 16> sums = kTable;
    for (std::size_t bit = 1; bit < 16; bit *= 2) {
      for (std::size_t i = 0; i < 16; ++i) {
        if ((i & bit) != 0) sums[i] = static_cast<std::uint8_t>(sums[i] ^ sums[i - bit]);
      }
    }
    return sums;
  }();
  /// Whether unit * (byte - zero) is the level.
  static constexpr bool kExact = kUniform || [] {
    for (int q = 0; q < std::min(16, C::kLevels); ++q) {
      if (static_cast<float>(kTable[static_cast<std::size_t>(q)] - kZero) / kUnits != levelOf(q)) return false;
    }
    return true;
  }();
  static constexpr int kLargest = kUniform ? C::kLevels - 1 : rounded(kMost * kUnits) + kZero;

  /// Whether bytes stand for the levels closely enough for products with rounded activations: within 0.5% of their root
  /// mean square. Levels that spread over many powers of two do not.
  static constexpr bool kCloseEnough = [] {
    float squares = 0, errors = 0;
    for (int q = 0; q < C::kLevels; ++q) {
      const float level = levelOf(q) * kUnits, off = level - static_cast<float>(rounded(level));
      squares += level * level;
      errors += off * off;
    }
    return errors <= 0.005f * 0.005f * squares;
  }();
};

/// Codebooks whose levels are bytes times a unit, or nearly.
template <class C>
concept LevelsInBytes = ConstexprLevels<C> && C::kBits <= 8 &&
                        (ByteLevels<C>::kUniform || (C::kLevels <= 16 && ByteLevels<C>::kCloseEnough));

}  // namespace gosset::GOSSET_ABI::detail
