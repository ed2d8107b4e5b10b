// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/level_table.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::GOSSET_ABI::detail::level_table_test {
namespace {

TEST(LevelTable, NextAboveAgreesWithTheStandardLibrary) {
  for (const float x : {0x1p-149f, 1.f, 0x1.fffffep0f, 3e38f, -1.f, -0x1p-149f, -0x1.000002p5f}) {
    EXPECT_EQ(nextAbove(x), std::nextafter(x, std::numeric_limits<float>::infinity())) << x;
  }
}

TEST(LevelTable, TiesGoToTheEvenCode) {
  static constexpr std::array<float, 4> kLevels = {-3, -1, 1, 5};
  static constexpr auto kThresholds = levelThresholds(kLevels);
  static_assert(kThresholds[0] == nextAbove(-2.f) && kThresholds[1] == 0.f && kThresholds[2] == nextAbove(3.f));
  EXPECT_EQ(nearestLevel(-2.f, kThresholds), 0);
  EXPECT_EQ(nearestLevel(0.f, kThresholds), 2);
  EXPECT_EQ(nearestLevel(-0.f, kThresholds), 2);
  EXPECT_EQ(nearestLevel(-0x1p-149f, kThresholds), 1);
  EXPECT_EQ(nearestLevel(3.f, kThresholds), 2);
}

TEST(LevelTable, ATieAtZeroThatTheLowerCodeWins) {
  static constexpr std::array<float, 2> kLevels = {-1, 1};
  static constexpr auto kThresholds = levelThresholds(kLevels);
  EXPECT_EQ(kThresholds[0], 0x1p-149f);
  EXPECT_EQ(nearestLevel(0.f, kThresholds), 0);
  EXPECT_EQ(nearestLevel(0x1p-149f, kThresholds), 1);
}

TEST(LevelTable, MiddlesThatNoFloatCanBe) {
  // 1 and its upper neighbour: the middle lies between two floats.
  static constexpr std::array<float, 2> kLevels = {1.f, 0x1.000002p0f};
  static constexpr auto kThresholds = levelThresholds(kLevels);
  EXPECT_EQ(nearestLevel(1.f, kThresholds), 0);
  EXPECT_EQ(nearestLevel(0x1.000002p0f, kThresholds), 1);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::level_table_test
