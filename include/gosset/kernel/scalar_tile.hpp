// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/dot.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/tile_code.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

// Tiles of scalar codebooks: of uniform ones the code is the byte; of others up to 16 levels are looked up in a
// register.
namespace gosset::GOSSET_ABI {

namespace detail {

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

}  // namespace detail

template <detail::LevelsInBytes C>
struct TileCode<C> {
  using L = detail::ByteLevels<C>;
  using Order = InOrder;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[] = {{L::kZero, 1 / L::kUnits, L::kLargest < 128}};
  static constexpr bool kExact = L::kExact;

  template <int, int>
  [[gnu::always_inline]] static void bytes(const std::uint8_t* tile, Tile& out) {
    tileCodes<C>(tile, out);
    if constexpr (!L::kUniform) {
      simd::unroll<8>([&](auto i)
                          __attribute__((always_inline)) { out[i] = simd::lookup16(L::kTable.data(), out[i]); });
    }
  }

  template <class Visit>
  [[gnu::always_inline]] static void levels(const std::uint8_t* tile, const Visit& visit) {
    Tile codes;
    tileCodes<C>(tile, codes);
    simd::unroll<8>([&](auto i) __attribute__((always_inline)) {
      simd::unroll<4>([&](auto k) __attribute__((always_inline)) {
        visit(4 * i + k, levelOfByte((simd::Words)codes[i] >> (8 * k), k == 3));
      });
    });
  }

  template <int, class Visit>
  [[gnu::always_inline]] static void columns(const std::uint8_t* tile, Index i, const Visit& visit) {
    using simd::Words;
    using Tiles = detail::TileLayout<C>;
    if constexpr (kLookUp && Tiles::kPlanes == 1 && simd::kByteLanes == 64) {
      constexpr int kFields = 8 / C::kBits;
      const auto fields = simd::load<Words>(tile + detail::kBundleBytes * (i / kFields));
      const auto down = static_cast<std::uint32_t>(i % kFields * C::kBits);
      simd::unroll<4>([&](auto k) __attribute__((always_inline)) {  // what stands above the code picks a copy of it
        visit(k, simd::lookup16(kWrapped.data(), fields >> (down + 8 * k)));
      });
    } else {
      Words codes{};
      simd::unroll<Tiles::kPlanes>([&](auto p) __attribute__((always_inline)) {
        constexpr detail::Plane kPlane = Tiles::kPlane[p];
        constexpr int kFields = 8 / kPlane.bits;
        constexpr std::uint32_t kMask = ((1u << kPlane.bits) - 1) * 0x01010101u;
        const auto fields = simd::load<Words>(tile + detail::kBundleBytes * (kPlane.shift + i / kFields));
        const auto down = static_cast<std::uint32_t>(i % kFields * kPlane.bits);
        codes |= ((fields >> down) & kMask) << kPlane.shift;
      });
      simd::unroll<4>([&](auto k) __attribute__((always_inline)) { visit(k, levelOfByte(codes >> (8 * k), k == 3)); });
    }
  }

 private:
  /// The level of the lowest byte of each lane; clean: the bytes above it are zero.
  [[gnu::always_inline]] static simd::Floats levelOfByte(simd::Words shifted, bool clean) {
    if constexpr (kLookUp) {
      return simd::lookup16(kLevels.data(), simd::kByteLanes == 64 ? shifted : shifted & 0xffu);
    } else {
      // With these bits above it the byte is 2^23 + byte, a float: faster than a conversion, and as exact.
      constexpr float kShift = 0x1p23f;
      const simd::Words byte = clean ? shifted : shifted & 0xffu;
      return (simd::Floats)(byte | std::bit_cast<std::uint32_t>(kShift)) - (kShift + static_cast<float>(L::kZero));
    }
  }

  /// A look-up by the low 4 bits of a lane spares AVX-512 the mask and the conversion.
  static constexpr bool kLookUp = !L::kUniform || (C::kLevels <= 16 && simd::kByteLanes == 64);
  static constexpr std::array<float, 16> kLevels = [] {
    std::array<float, 16> levels{};
    for (int q = 0; q < std::min(16, C::kLevels); ++q) levels[static_cast<std::size_t>(q)] = L::levelOf(q);
    return levels;
  }();
  /// For indices whose bits above the code's are set too.
  static constexpr std::array<float, 16> kWrapped = [] {
    std::array<float, 16> levels{};
    for (std::size_t i = 0; i < 16; ++i) levels[i] = kLevels[i % (std::size_t{1} << std::min(C::kBits, 4))];
    return levels;
  }();
};

}  // namespace gosset::GOSSET_ABI
