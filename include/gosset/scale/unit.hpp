// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <algorithm>
#include <cmath>

namespace gosset::GOSSET_ABI::detail {

/// A power of two that brings numbers of at most this magnitude to below 2^12, so that their scales and low-rank or
/// sparse companions lie well inside what 16-bit floats hold, at any magnitude of the matrix. 1 for an all-zero matrix.
inline float storageUnit(float abs_max) {
  constexpr int kTarget = 11;
  constexpr int kLeastExponent = -149;  // of the least positive float
  if (abs_max == 0) return 1;
  return std::ldexp(1.f, std::max(std::ilogb(abs_max) - kTarget, kLeastExponent));
}

}  // namespace gosset::GOSSET_ABI::detail
