// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <cstdint>

namespace gosset::GOSSET_ABI::detail {

/// What is frozen of a trellis code; trellis_table.hpp says what it means.
struct TrellisConstants {
  int rate8;                     ///< eighths of a bit a number
  int index_bits;                ///< 6 to 8
  float distortion;              ///< mean squared error of standard normal numbers, in rings of 512
  std::int8_t half_levels[128];  ///< of the lower half of the indices, in units of 1/32
  std::uint8_t mix[10];          ///< what each high bit of a state turns in the index
};

inline constexpr int kLeastTrellisRate8 = 8, kMostTrellisRate8 = 48, kTrellisRates = 41;

}  // namespace gosset::GOSSET_ABI::detail
