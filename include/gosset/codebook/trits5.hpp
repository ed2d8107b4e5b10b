// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/ternary.hpp>

#include <cstdint>
#include <string>

namespace gosset::GOSSET_ABI {

/// Ternary with five numbers a byte: the same values as Ternary in 1.6 bits in place of 2, as 3^5 = 243 fits in 256.
/// Where n is not a multiple of 5, a row is padded; where the numbers in a group are not, N must be.
///
///   bits a number   8 / 5 = 1.6, that is 0.015 above log2(3)
///   code            sum over i of (level_i + 1) 3^i, in 0 .. 242 (243 to 255 are not used, and decode as 242)
///   value           scale * level
///   published scale as Ternary's, and every other rule too gives the scale that it gives Ternary
///
/// Source: as Ternary; five trits a byte as in llama.cpp's TQ1_0, in another order.
struct Trits5 {
  using Code = std::uint8_t;
  using Element = Ternary;
  static constexpr int kDim = 5;
  static constexpr int kBits = 8;
  static constexpr int kCodes = 243;
  static constexpr ScaleRule kRule = ScaleRule::kMeanMagnitude;
  static constexpr float kGaussianScale = 1.2240f;  ///< the level of the three-level Lloyd-Max quantizer of N(0,1)

  static constexpr Code encode(const float* x) {
    int code = 0;
    for (int i = kDim; i-- > 0;) code = 3 * code + Ternary::encode(x[i]);
    return static_cast<Code>(code);
  }
  static constexpr void decode(Code q, float* y) {
    int rest = q < kCodes ? q : kCodes - 1;
    for (int i = 0; i < kDim; ++i, rest /= 3) y[i] = static_cast<float>(rest % 3 - 1);
  }
  static std::string name() { return "Trits5"; }
};

static_assert(VectorCodebook<Trits5> && detail::CodesEachNumber<Trits5>);

}  // namespace gosset::GOSSET_ABI
