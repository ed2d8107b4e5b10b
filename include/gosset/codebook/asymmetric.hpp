// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/round.hpp>

#include <algorithm>
#include <string>

namespace gosset::GOSSET_ABI {

/// Uniform levels 0 .. 2^b - 1 with a scale and a zero point: the range may lie anywhere.
///
///   bits a number   b
///   code            the level
///   value           scale * (code - zero), zero a real number
///   published scale (max - min) / (2^b - 1) and zero = -min / scale; then |x - value| <= scale / 2, up to the rounding
///                   of the stored zero point
///
/// Why this form of the affine map: (1) x = scale * q + min needs a product and then a sum, which compilers may or may
/// not fuse, so its last bit would depend on the machine; (2) scale * (q - zero) is a difference and then a product,
/// which nothing can fuse, and costs the same in a dot product: sum x_j scale (q_j - zero) = scale (sum x_j q_j - zero
/// sum x_j).
/// Source: Jacob et al., CVPR 2018, section 2.1, with the real-valued zero point of KIVI (Liu et al., ICML 2024,
/// section 3).
template <int b>
struct Asymmetric {
  static_assert(b >= 1 && b <= 8, "Asymmetric<b> takes 1 to 8 bits");

  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = b;
  static constexpr int kLevels = 1 << b;
  static constexpr bool kWholeLevels = true;
  static constexpr bool kHasZero = true;
  static constexpr ScaleRule kRule = ScaleRule::kMinMax;

  static constexpr Code encode(float x) {
    return static_cast<Code>(static_cast<int>(roundToEven(std::clamp(x, 0.f, static_cast<float>(kLevels - 1)))));
  }
  static constexpr float level(Code q) { return static_cast<float>(q); }
  static std::string name() { return "Asymmetric<" + std::to_string(b) + ">"; }
};

static_assert(ScalarCodebook<Asymmetric<1>> && ScalarCodebook<Asymmetric<8>>);

}  // namespace gosset::GOSSET_ABI
