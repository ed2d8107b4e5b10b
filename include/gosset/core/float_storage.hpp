// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

// How a float becomes a stored number of 16 or 32 bits.
namespace gosset::GOSSET_ABI {

template <StorageScalar T>
struct StorageTraits;

template <>
struct StorageTraits<Float16> {
  using Bits = std::uint16_t;
  static constexpr int kDigits = 11;  ///< significant bits, the implied one counted
  static constexpr float kMax = 65504.f;
  static std::string name() { return "Float16"; }
};

template <>
struct StorageTraits<BFloat16> {
  using Bits = std::uint16_t;
  static constexpr int kDigits = 8;
  static constexpr float kMax = 0x1.fep127f;
  static std::string name() { return "BFloat16"; }
};

template <>
struct StorageTraits<float> {
  using Bits = std::uint32_t;
  static constexpr int kDigits = 24;
  static constexpr float kMax = std::numeric_limits<float>::max();
  static std::string name() { return "float"; }
};

/// The nearest T to a finite x, ties to even; beyond the largest finite T, that.
template <StorageScalar T>
T storeNearest(float x) {
  constexpr float kMax = StorageTraits<T>::kMax;
  return static_cast<T>(x > kMax ? kMax : x < -kMax ? -kMax : x);
}

/// The least T that is not below a finite x >= 0 (the largest finite T where there is none): a scale stored so covers
/// all that the scale before rounding covered.
template <StorageScalar T>
T storeUp(float x) {
  const T nearest = storeNearest<T>(x);
  if (static_cast<float>(nearest) >= x || static_cast<float>(nearest) >= StorageTraits<T>::kMax) return nearest;
  using Bits = typename StorageTraits<T>::Bits;
  return std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(nearest) + 1));
}

}  // namespace gosset::GOSSET_ABI
