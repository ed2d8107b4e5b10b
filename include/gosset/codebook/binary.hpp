// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>

#include <string>

namespace gosset::GOSSET_ABI {

/// The sign of a number, times the mean magnitude of its group.
///
///   bits a number   1
///   code            0 for x < 0, 1 for x >= 0 (and -0)
///   value           -scale or +scale
///   published scale mean|x|, which has the least squared error of all scales: sum (|x| - s)^2 is least at the mean.
///                   Where all numbers are -c or c it is c: they come back as they are
///
/// Source: Rastegari et al., "XNOR-Net", ECCV 2016, section 3.1.
struct Binary {
  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = 1;
  static constexpr int kLevels = 2;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kMeanMagnitude;

  static constexpr Code encode(float x) { return x >= 0 ? 1 : 0; }
  static constexpr float level(Code q) { return q != 0 ? 1.f : -1.f; }
  static std::string name() { return "Binary"; }
};

static_assert(ScalarCodebook<Binary>);

}  // namespace gosset::GOSSET_ABI
