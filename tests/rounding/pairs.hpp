// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

namespace gosset::testing {

/// Two numbers a code: the sixteen points of {-1.5, -.5, .5, 1.5}^2. The block loop with the simplest block.
struct Pairs {
  using Code = std::uint8_t;
  static constexpr int kDim = 2;
  static constexpr int kBits = 4;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 0.9957f;
  static Code one(float x) { return static_cast<Code>(std::clamp(std::floor(x) + 2, 0.f, 3.f)); }
  static Code encode(const float* x) { return static_cast<Code>(one(x[0]) | (one(x[1]) << 2)); }
  static void decode(Code q, float* y) {
    y[0] = static_cast<float>(q & 3) - 1.5f;
    y[1] = static_cast<float>(q >> 2) - 1.5f;
  }
  static std::string name() { return "Pairs"; }
};
static_assert(VectorCodebook<Pairs>);

}  // namespace gosset::testing
