// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/binary.hpp>

#include "testing.hpp"

namespace gosset::binary_test {
namespace {

TEST(Binary, TheSignDecidesAndZeroIsPositive) {
  EXPECT_EQ(Binary::encode(3.f), 1);
  EXPECT_EQ(Binary::encode(-3.f), 0);
  EXPECT_EQ(Binary::encode(0x1p-149f), 1);
  EXPECT_EQ(Binary::encode(-0x1p-149f), 0);
  EXPECT_EQ(Binary::encode(0.f), 1);
  EXPECT_EQ(Binary::encode(-0.f), 1);
  EXPECT_EQ(Binary::level(0), -1.f);
  EXPECT_EQ(Binary::level(1), 1.f);
  EXPECT_EQ(Binary::name(), "Binary");
}

}  // namespace
}  // namespace gosset::binary_test
