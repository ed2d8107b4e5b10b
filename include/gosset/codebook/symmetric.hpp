// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/round.hpp>

#include <algorithm>
#include <string>

namespace gosset::GOSSET_ABI {

/// Uniform levels -Q .. Q with Q = 2^(b-1) - 1, so that zero is a level and x and -x get opposite codes.
///
///   bits a number   b
///   code            level + Q, in 0 .. 2Q (the code 2^b - 1 is not used)
///   value           scale * (code - Q)
///   published scale max|x| / Q; then |x - value| <= scale / 2
///
/// Restricting the range to -Q keeps products of two 8-bit levels below 2^14, which integer kernels rely on.
/// Source: Jacob et al., "Quantization and Training of Neural Networks ...", CVPR 2018, section 3.
template <int b>
struct Symmetric {
  static_assert(b >= 2 && b <= 8, "Symmetric<b> takes 2 to 8 bits; for one bit see Binary");

  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = b;
  static constexpr int kMax = (1 << (b - 1)) - 1;
  static constexpr int kLevels = 2 * kMax + 1;
  static constexpr bool kWholeLevels = true;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;

  static constexpr Code encode(float x) {
    const float level = roundToEven(std::clamp(x, static_cast<float>(-kMax), static_cast<float>(kMax)));
    return static_cast<Code>(static_cast<int>(level) + kMax);
  }
  static constexpr float level(Code q) { return static_cast<float>(static_cast<int>(q) - kMax); }
  static std::string name() { return "Symmetric<" + std::to_string(b) + ">"; }
};

static_assert(ScalarCodebook<Symmetric<2>> && ScalarCodebook<Symmetric<8>>);

}  // namespace gosset::GOSSET_ABI
