// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

namespace gosset::GOSSET_ABI {

/// The nearest integer, ties to even, for |x| <= 2^22. Adding 1.5 * 2^23 leaves no fraction bits, and the addition
/// itself rounds to even: the same bits on every instruction set, and vectorizable where no rounding instruction
/// exists.
constexpr float roundToEven(float x) {
  constexpr float kShift = 12582912.f;
  return (x + kShift) - kShift;
}

}  // namespace gosset::GOSSET_ABI
