// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <cstdint>

// The tables of trits5_tile.hpp.
namespace gosset::GOSSET_ABI::detail {

/// 3^d.
constexpr std::uint8_t powerOf3(int d) { return static_cast<std::uint8_t>(d == 0 ? 1 : 3 * powerOf3(d - 1)); }

/// The four lower digits of 0 .. 80, and of what is left of codes above 242, which count as 242.
struct alignas(64) TritTables {
  std::uint8_t digits[4][128];
};
inline constexpr TritTables kTritTables = [] {
  TritTables tables{};
  for (int d = 0; d < 4; ++d) {
    for (int r = 0; r < 128; ++r) {
      tables.digits[d][r] = static_cast<std::uint8_t>((r < 81 ? r : 80) / powerOf3(d) % 3);
    }
  }
  return tables;
}();

}  // namespace gosset::GOSSET_ABI::detail
