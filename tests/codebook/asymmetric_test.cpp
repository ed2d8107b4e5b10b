// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/asymmetric.hpp>

#include "testing.hpp"

namespace gosset::asymmetric_test {
namespace {

TEST(Asymmetric, TheCodeIsTheLevel) {
  EXPECT_EQ(Asymmetric<1>::kLevels, 2);
  EXPECT_EQ(Asymmetric<8>::kLevels, 256);
  for (int q = 0; q < 256; ++q) EXPECT_EQ(Asymmetric<8>::level(static_cast<std::uint8_t>(q)), static_cast<float>(q));
  EXPECT_TRUE(Asymmetric<8>::kHasZero);
}

TEST(Asymmetric, TiesGoToTheEvenCode) {
  EXPECT_EQ(Asymmetric<2>::encode(0.5f), 0);
  EXPECT_EQ(Asymmetric<2>::encode(1.5f), 2);
  EXPECT_EQ(Asymmetric<2>::encode(2.5f), 2);
  EXPECT_EQ(Asymmetric<1>::encode(0.5f), 0);
  EXPECT_EQ(Asymmetric<8>::encode(254.5f), 254);
}

TEST(Asymmetric, Names) {
  EXPECT_EQ(Asymmetric<1>::name(), "Asymmetric<1>");
  EXPECT_EQ(Asymmetric<4>::name(), "Asymmetric<4>");
}

}  // namespace
}  // namespace gosset::asymmetric_test
