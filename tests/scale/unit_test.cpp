// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/unit.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::unit_test {
namespace {

TEST(Unit, BringsMagnitudesBelow4096) {
  EXPECT_EQ(detail::storageUnit(0), 1);
  EXPECT_EQ(detail::storageUnit(2048), 1);
  EXPECT_EQ(detail::storageUnit(4095.9f), 1);
  EXPECT_EQ(detail::storageUnit(4096), 2);
  EXPECT_EQ(detail::storageUnit(1), 0x1p-11f);
  EXPECT_EQ(detail::storageUnit(0x1p-149f), 0x1p-149f);
  EXPECT_EQ(detail::storageUnit(std::numeric_limits<float>::max()), 0x1p116f);
}

}  // namespace
}  // namespace gosset::unit_test
