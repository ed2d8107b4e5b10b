// SPDX-License-Identifier: Apache-2.0
// A codebook of your own: powers of two, which multiply by shifting. A struct of static members is all that it takes;
// every granularity, fit and rounding of gosset, GPTQ and Incoherent included, then works with it.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cmath>
#include <cstdio>
#include <iostream>

/// 0 and +-1, +-1/2, +-1/4 .. +-1/64, in units of the group's largest magnitude: 15 levels, 4 bits.
struct PowersOfTwo {
  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = 4;
  static constexpr int kLevels = 15;
  static constexpr bool kHasZero = false;
  static constexpr gosset::ScaleRule kRule = gosset::ScaleRule::kAbsMax;

  // Codes in the order of their levels: -1, -1/2 .. -1/64, 0, 1/64 .. 1/2, 1.
  static float level(Code q) {
    if (q < 7) return -std::ldexp(1.f, -static_cast<int>(q));
    if (q > 7) return std::ldexp(1.f, static_cast<int>(q) - 14);
    return 0.f;
  }
  static Code encode(float x) {
    Code nearest = 0;
    for (Code q = 1; q < kLevels; ++q) {
      if (std::abs(x - level(q)) < std::abs(x - level(nearest))) nearest = q;
    }
    return nearest;
  }
  static std::string name() { return "PowersOfTwo"; }
};
static_assert(gosset::ScalarCodebook<PowersOfTwo>);

int main() {
  using gosset::Grouped, gosset::Incoherent;
  const Eigen::MatrixXf W = example::gaussian(128, 172, 1);
  gosset::Hessian H(172);
  H.accumulate(example::activations(1000, 172, 2));

  using Format = Grouped<PowersOfTwo, 43>;
  const auto nearest = gosset::quantize<Format>(W);
  const auto gptq = gosset::quantize<Format>(W, gosset::Gptq{H}, {.fit = gosset::LeastSquares{}});
  const auto rotated = gosset::quantize<Incoherent<Format>>(W, gosset::Gptq{H});
  const auto lost = [&](const auto& q) { return 100 * gosset::proxyLoss(W, q.dequantized(), H); };
  std::cout << nearest << '\n';
  std::printf("output energy lost: nearest %.0f%%, GPTQ %.0f%%, rotated %.1f%%\n", lost(nearest), lost(gptq),
              lost(rotated));
}

/* Prints:
Grouped<PowersOfTwo, 43>, 128 x 172, 4.46657 bits a weight, 12292 bytes
output energy lost: nearest 4%, GPTQ 1%, rotated 0.2%
*/
