// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/normal_float4.hpp>

#include <gosset/theory/gaussian_quantizers.hpp>

#include "testing.hpp"

namespace gosset::normal_float4_test {
namespace {

/// The quantile function of N(0,1), by bisection.
double quantile(double probability) {
  double low = -10, high = 10;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (detail::gaussianMass(-std::numeric_limits<double>::infinity(), middle) < probability ? low : high) = middle;
  }
  return low;
}

TEST(NormalFloat4, LevelsAreTheQuantilesTheyWereMadeFrom) {
  // QLoRA: 8 evenly spaced probabilities from 1/2 up to `top` give the positive half, 9 the negative one with its
  // shared zero, in units of the largest; top is the mean of 1 - 1/30 and 1 - 1/32.
  const double top = 1 - (1.0 / 30 + 1.0 / 32) / 2;
  for (int i = 0; i <= 8; ++i) {
    const double probability = 0.5 + (top - 0.5) * i / 8;
    EXPECT_NEAR(NormalFloat4::kTable[static_cast<std::size_t>(7 + i)], quantile(probability) / quantile(top), 2e-5)
        << i;
  }
  for (int i = 0; i <= 7; ++i) {
    const double probability = 0.5 + (top - 0.5) * i / 7;
    EXPECT_NEAR(NormalFloat4::kTable[static_cast<std::size_t>(7 - i)], -quantile(probability) / quantile(top), 2e-5)
        << i;
  }
}

TEST(NormalFloat4, EndsAndZeroAreExact) {
  EXPECT_EQ(NormalFloat4::level(0), -1.f);
  EXPECT_EQ(NormalFloat4::level(7), 0.f);
  EXPECT_EQ(NormalFloat4::level(15), 1.f);
  EXPECT_EQ(NormalFloat4::encode(0.f), 7);
  EXPECT_EQ(NormalFloat4::encode(-0.f), 7);
  EXPECT_EQ(NormalFloat4::name(), "NormalFloat4");
}

}  // namespace
}  // namespace gosset::normal_float4_test
