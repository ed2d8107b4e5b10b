// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/ternary.hpp>

#include "testing.hpp"

namespace gosset::ternary_test {
namespace {

TEST(Ternary, HalfIsTheThreshold) {
  const auto rounded = [](float x) { return Ternary::level(Ternary::encode(x)); };
  EXPECT_EQ(rounded(0.5f), 0.f);
  EXPECT_EQ(rounded(-0.5f), 0.f);
  EXPECT_EQ(rounded(0x1.000002p-1f), 1.f);
  EXPECT_EQ(rounded(-0x1.000002p-1f), -1.f);
  EXPECT_EQ(rounded(7.f), 1.f);
  EXPECT_EQ(rounded(-0.f), 0.f);
  EXPECT_EQ(Ternary::encode(-1.f), 0);
  EXPECT_EQ(Ternary::encode(0.f), 1);
  EXPECT_EQ(Ternary::encode(1.f), 2);
  EXPECT_EQ(Ternary::name(), "Ternary");
}

TEST(Ternary, TheStepIsTheMeanMagnitude) { EXPECT_EQ(Ternary::kRule, ScaleRule::kMeanMagnitude); }

}  // namespace
}  // namespace gosset::ternary_test
