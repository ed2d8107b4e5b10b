// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/block_scales.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

// What ggml's block layouts have in common. Each is a struct of static members:
//
//   kType kName              the number and the name in files
//   kBlock kBlockBytes       numbers and bytes of a block; rows are whole blocks, one after the other
//   kGroup                   numbers that share a scale
//   kZero kMostLevel         levels are whole numbers from -kZero to kMostLevel, whatever a file holds
//   kHasMin                  whether groups have minima
//   unpack(block, levels)    the level of each number, kBlock of them
//   scales(block, scale, min)  for each group: number = scale * level - min
//   isSound(block)           whether its floats are finite
//
// and, where gosset writes it, what BlockScaled asks for. Numbers are computed as ggml does: products rounded before
// anything is added. Source of all layouts: github.com/ggml-org/ggml, src/ggml-common.h and src/ggml-quants.c.
namespace gosset::GOSSET_ABI::ggml {

/// One of ggml's block layouts.
template <class F>
concept BlockLayout = requires(const std::uint8_t* block, std::int8_t* levels, float* scale, float* min) {
  { F::kType } -> std::convertible_to<std::uint32_t>;
  { F::kName } -> std::convertible_to<std::string_view>;
  requires F::kBlock % F::kGroup == 0 && F::kGroup % 16 == 0 && F::kBlockBytes >= 1;
  requires F::kZero >= 0 && F::kMostLevel <= 127 && F::kZero <= 128;
  requires std::same_as<const bool, decltype(F::kHasMin)>;
  F::unpack(block, levels);
  F::scales(block, scale, min);
  { F::isSound(block) } -> std::same_as<bool>;
};

namespace detail {

inline float half(const std::uint8_t* at) {
  Float16 x;
  std::memcpy(&x, at, sizeof(x));
  return simd::widened(x);
}
inline void putHalf(float x, std::uint8_t* at) {
  const auto stored = static_cast<Float16>(x);
  std::memcpy(at, &stored, sizeof(stored));
}
inline bool isFiniteHalf(const std::uint8_t* at) { return (at[1] & 0x7c) != 0x7c; }

/// Sixteen bytes, the unit in which layouts keep codes.
using Bytes = simd::Vec<std::uint8_t, 16>;
[[gnu::always_inline]] inline Bytes bytes(const std::uint8_t* at) { return simd::load<Bytes>(at); }
[[gnu::always_inline]] inline void put(Bytes levels, std::int8_t* to) { simd::store(to, levels); }

/// Sixteen signed bytes as floats: visit(numbers, first) for a register of them, from `first` on.
template <class Visit>
[[gnu::always_inline]] inline void forFloats(const std::int8_t* from, const Visit& visit) {
  simd::unroll<16 / simd::kWordLanes>([&](auto part) __attribute__((always_inline)) {
    constexpr int kFirst = part * simd::kWordLanes;
    visit(simd::widen(from + kFirst), kFirst);
  });
}

}  // namespace detail

/// The numbers of a block.
template <BlockLayout F>
void decodeBlock(const std::uint8_t* block, float* y) {
  constexpr int kLanes = simd::kWordLanes;
  constexpr std::size_t kGroups = static_cast<std::size_t>(F::kBlock / F::kGroup);
  using simd::Floats;
  std::int8_t levels[F::kBlock];
  float scale[kGroups], min[kGroups];
  F::unpack(block, levels);
  F::scales(block, scale, min);
  for (std::size_t group = 0; group < kGroups; ++group) {
    const auto s = simd::splat<Floats>(scale[group]), m = simd::splat<Floats>(min[group]);
    const std::size_t first = group * static_cast<std::size_t>(F::kGroup);
    simd::unroll<static_cast<int>(F::kGroup) / kLanes>([&](int part) __attribute__((always_inline)) {
      const std::size_t at = first + static_cast<std::size_t>(part * kLanes);
      const Floats product = simd::unfused(s * simd::widen(levels + at));
      simd::store(y + at, F::kHasMin ? product - m : product);
    });
  }
}

/// Layouts with one 16-bit scale at the beginning of a block, and one group.
template <class Self>
struct OneScale {
  static constexpr int kLeastStep = 1, kMostStep = 1, kMostMin = 0;
  static void scales(const std::uint8_t* block, float* scale, float* min) {
    *scale = detail::half(block + Self::kScaleAt);
    *min = 0;
  }
  static bool isSound(const std::uint8_t* block) { return detail::isFiniteHalf(block + Self::kScaleAt); }
  static float stored(float x) { return static_cast<float>(storeNearest<Float16>(x)); }
};

}  // namespace gosset::GOSSET_ABI::ggml
