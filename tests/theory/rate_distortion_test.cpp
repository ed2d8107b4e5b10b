// SPDX-License-Identifier: Apache-2.0
#include <gosset/theory/rate_distortion.hpp>

#include "testing.hpp"

namespace gosset::rate_distortion_test {
namespace {

TEST(RateDistortion, EachBitQuartersTheError) {
  EXPECT_EQ(gaussianDistortion(0), 1);
  EXPECT_EQ(gaussianDistortion(1), 0.25);
  EXPECT_EQ(gaussianDistortion(2), 0.0625);
  EXPECT_EQ(gaussianDistortion(3), 0.015625);
  EXPECT_EQ(gaussianDistortion(4), 0.00390625);
  EXPECT_EQ(gaussianDistortion(1, 9), 2.25);
}

TEST(RateDistortion, RateIsTheInverse) {
  for (const double bits : {0.0, 0.3, 1.0, 2.5, 8.0}) {
    EXPECT_NEAR(gaussianRate(gaussianDistortion(bits, 3), 3), bits, 1e-12);
  }
  EXPECT_EQ(gaussianRate(2, 1), 0) << "an error above the variance costs nothing";
  EXPECT_EQ(gaussianRate(1, 0), 0);
}

TEST(RateDistortion, BadArgumentsAreRefused) {
  testing::expectThrows([] { gaussianDistortion(-1); }, "gaussianDistortion: expected bits >= 0, got -1");
  testing::expectThrows([] { gaussianDistortion(std::nan("")); }, "expected bits >= 0, got nan");
  testing::expectThrows([] { gaussianDistortion(1, -2); }, "gaussianDistortion: expected a variance >= 0, got -2");
  testing::expectThrows([] { gaussianRate(0); }, "gaussianRate: expected a distortion > 0, got 0");
  testing::expectThrows([] { gaussianRate(1, -1); }, "gaussianRate: expected a variance >= 0, got -1");
}

}  // namespace
}  // namespace gosset::rate_distortion_test
