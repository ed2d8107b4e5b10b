// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/symmetric.hpp>

#include "testing.hpp"

namespace gosset::symmetric_test {
namespace {

TEST(Symmetric, LevelsAreWholeNumbersAroundZero) {
  EXPECT_EQ(Symmetric<2>::kLevels, 3);
  EXPECT_EQ(Symmetric<4>::kLevels, 15);
  EXPECT_EQ(Symmetric<8>::kLevels, 255);
  EXPECT_EQ(Symmetric<8>::level(0), -127.f);
  EXPECT_EQ(Symmetric<8>::level(127), 0.f);
  EXPECT_EQ(Symmetric<8>::level(254), 127.f);
}

TEST(Symmetric, TiesGoToTheEvenLevel) {
  using C = Symmetric<4>;
  const auto rounded = [](float x) { return C::level(C::encode(x)); };
  EXPECT_EQ(rounded(0.5f), 0.f);
  EXPECT_EQ(rounded(1.5f), 2.f);
  EXPECT_EQ(rounded(2.5f), 2.f);
  EXPECT_EQ(rounded(-0.5f), 0.f);
  EXPECT_EQ(rounded(-1.5f), -2.f);
  EXPECT_EQ(rounded(6.6f), 7.f);
  EXPECT_EQ(rounded(-9.f), -7.f);
}

TEST(Symmetric, OppositeNumbersGetOppositeLevels) {
  using C = Symmetric<5>;
  for (int i = 0; i <= 200; ++i) {
    const float x = static_cast<float>(i) / 10;
    EXPECT_EQ(C::level(C::encode(-x)), -C::level(C::encode(x))) << x;
  }
}

TEST(Symmetric, Names) {
  EXPECT_EQ(Symmetric<2>::name(), "Symmetric<2>");
  EXPECT_EQ(Symmetric<8>::name(), "Symmetric<8>");
}

}  // namespace
}  // namespace gosset::symmetric_test
