// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/activations.hpp>

#include "testing.hpp"

#include <limits>
#include <vector>

namespace gosset::detail {
namespace {

TEST(RoundedActivations, KnownNumbers) {
  std::vector<float> x(40, 0.f);
  x[0] = 127;
  x[1] = -63.5f;  // a tie goes to the even -64
  x[2] = 0.5f;    // to 0
  x[3] = 1.5f;    // to 2
  x[35] = -254;
  x[39] = 1;  // half a step: to 0
  const RoundedActivations a(x.data(), 40, 1, 40, false);
  EXPECT_EQ(a.tiles(), 2);
  EXPECT_EQ(a.scale(0, 0), 1);
  EXPECT_EQ(a.scale(0, 1), 2);
  EXPECT_EQ(a.numbers(0, 0)[0], 127);
  EXPECT_EQ(a.numbers(0, 0)[1], -64);
  EXPECT_EQ(a.numbers(0, 0)[2], 0);
  EXPECT_EQ(a.numbers(0, 0)[3], 2);
  EXPECT_EQ(a.sum(0, 0), 127 - 64 + 2);
  EXPECT_EQ(a.numbers(0, 1)[3], -127);
  EXPECT_EQ(a.numbers(0, 1)[7], 0);
  EXPECT_EQ(a.sum(0, 1), -127);
}

TEST(RoundedActivations, WithinHalfAStepAtEveryMagnitude) {
  for (const float size : {1.f, 1e30f, 1e-30f, 0x1p-126f, 0x1p-140f}) {
    for (const Index n : testing::kOddSizes) {
      const RowMatrixXf x = testing::gaussian(3, n) * size;
      const RoundedActivations a(x.data(), n, 3, n, false), moved(x.data(), n, 3, n, true);
      for (Index token = 0; token < 3; ++token) {
        for (Index j = 0; j < n; ++j) {
          const Index tile = j / 32;
          const auto scale = static_cast<double>(a.scale(token, tile));
          const double off = static_cast<double>(x(token, j)) - scale * a.numbers(token, tile)[j % 32];
          // Half a step, the rounding of the products, and where scales are subnormal that of the scale.
          ASSERT_LE(std::abs(off), 0.5 * scale * (1 + 1e-4) + 127 * 0x1p-150) << size << ' ' << n << ' ' << j;
          ASSERT_EQ(moved.numbers(token, tile)[j % 8 * 4 + j % 32 / 8], a.numbers(token, tile)[j % 32]);
        }
        for (Index tile = 0; tile < a.tiles(); ++tile) {
          int sum = 0;
          for (int i = 0; i < 32; ++i) sum += a.numbers(token, tile)[i];
          ASSERT_EQ(a.sum(token, tile), sum);
        }
      }
    }
  }
}

TEST(RoundedActivations, ATokenMayHaveOneScale) {
  Eigen::MatrixXf x = testing::gaussian(77, 3);
  x.col(1).setZero();
  x(40, 2) = -254;
  const RoundedActivations a(x.data(), 77, 3, 77, false, ScaleReach::kToken);
  for (Index token = 0; token < 3; ++token) {
    const float scale = x.col(token).cwiseAbs().maxCoeff() / 127;
    for (Index tile = 0; tile < 3; ++tile) EXPECT_EQ(a.scale(token, tile), scale);
    for (Index j = 0; j < 77; ++j) {
      const auto q = static_cast<float>(a.numbers(token, j / 32)[j % 32]);
      EXPECT_LE(std::abs(q * scale - x(j, token)), 0.5001f * scale);
    }
  }
  EXPECT_EQ(a.numbers(2, 1)[8], -127);
  EXPECT_EQ(a.sum(1, 0), 0);
  const Eigen::MatrixXf floats = roundedPerToken(x);
  EXPECT_EQ(floats(40, 2), -254);
  EXPECT_EQ(floats(41, 2), 2 * static_cast<float>(a.numbers(2, 1)[9]));
  EXPECT_EQ(floats(76, 0), a.scale(0, 2) * static_cast<float>(a.numbers(0, 2)[12]));
}

TEST(RoundedActivations, NotANumberStaysOne) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(64, 1.f);
    x[37] = -bad;
    const RoundedActivations a(x.data(), 64, 1, 64, false);
    EXPECT_EQ(a.scale(0, 0), 1.f / 127);
    EXPECT_NE(a.scale(0, 1), a.scale(0, 1));
  }
}

}  // namespace
}  // namespace gosset::detail
