// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <cstdint>

// Counter-based random numbers: the i-th number of a seed is a pure function of (seed, i), so every thread count,
// compiler and instruction set sees the same stream, and nothing has to be stored but the seed.
namespace gosset::GOSSET_ABI {

/// 64 random bits, number `index` of stream `seed`: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, fig. 17) read at
/// any position, as its state after i steps is seed + i * gamma. The seed is mixed first, so that neighbouring seeds
/// give unrelated streams.
constexpr std::uint64_t randomBits(std::uint64_t seed, std::uint64_t index) {
  constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15u;
  constexpr auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  };
  return mix(mix(seed + kGamma) + (index + 1) * kGamma);
}

/// Uniform on the multiples of 2^-24 in [0, 1): exact in float.
constexpr float randomUniform(std::uint64_t seed, std::uint64_t index) {
  return static_cast<float>(randomBits(seed, index) >> 40) * 0x1p-24f;
}

/// A random sign, +1 or -1.
constexpr float randomSign(std::uint64_t seed, std::uint64_t index) {
  return (randomBits(seed, index) >> 63) != 0 ? -1.f : 1.f;
}

}  // namespace gosset::GOSSET_ABI
