// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/round.hpp>

#include "testing.hpp"

namespace gosset::round_test {
namespace {

static_assert(roundToEven(2.5f) == 2.f && roundToEven(3.5f) == 4.f && roundToEven(-0.5f) == 0.f);

TEST(Round, EveryQuarterAgreesWithTheProcessorsRounding) {
  for (int i = -4 * 70000; i <= 4 * 70000; ++i) {
    const float x = static_cast<float>(i) / 4;
    ASSERT_EQ(roundToEven(x), std::nearbyint(x)) << x;
  }
}

TEST(Round, NeighboursOfTiesAndTheEndsOfTheRange) {
  for (const float tie : {0.5f, 1.5f, 127.5f, 4095.5f, 100000.5f, 4194303.f, 4194304.f}) {
    for (const float x : {std::nextafter(tie, 0.f), tie, std::nextafter(tie, 4194304.f)}) {
      EXPECT_EQ(roundToEven(x), std::nearbyint(x)) << x;
      EXPECT_EQ(roundToEven(-x), std::nearbyint(-x)) << -x;
    }
  }
  EXPECT_EQ(roundToEven(0x1p-149f), 0.f);
  EXPECT_EQ(roundToEven(-0.f), 0.f);
}

}  // namespace
}  // namespace gosset::round_test
