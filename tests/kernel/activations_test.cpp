// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/activations.hpp>

#include "testing.hpp"

#include <limits>
#include <vector>

namespace gosset::GOSSET_ABI::detail::activations_test {
namespace {

/// What has become of the numbers, extra parts included: n x t.
Eigen::MatrixXd roundedNumbers(const RoundedActivations& a, Index n) {
  Eigen::MatrixXd x(n, a.tokens());
  for (Index token = 0; token < a.tokens(); ++token) {
    for (Index j = 0; j < n; ++j) {
      x(j, token) = static_cast<double>(a.scale(token, j / 32)) * a.numbers(token, j / 32)[j % 32];
    }
  }
  for (const auto& extra : a.extras()) {
    int sum = 0;
    for (Index i = 0; i < 32; ++i) {
      sum += extra.numbers[i];
      if (extra.numbers[i] == 0) continue;
      EXPECT_EQ(x(extra.slice * 32 + i, extra.token), 0) << "a number stands in one part only";
      x(extra.slice * 32 + i, extra.token) += static_cast<double>(extra.scale) * extra.numbers[i];
    }
    EXPECT_EQ(extra.sum, sum);
  }
  return x;
}

TEST(RoundedActivations, KnownNumbers) {
  std::vector<float> x(40, 0.f);
  x[0] = 127;
  x[1] = -63.5f;  // a tie goes to the even -64
  x[2] = 29.5f;   // to 30
  x[3] = 30.5f;   // to 30
  x[35] = -254;
  x[39] = 61;  // half a step: to 30
  const RoundedActivations a(x.data(), 40, 1, 40, InOrder{});
  EXPECT_EQ(a.slices(), 2);
  EXPECT_EQ(a.scale(0, 0), 1);
  EXPECT_EQ(a.scale(0, 1), 2);
  EXPECT_EQ(a.numbers(0, 0)[0], 127);
  EXPECT_EQ(a.numbers(0, 0)[1], -64);
  EXPECT_EQ(a.numbers(0, 0)[2], 30);
  EXPECT_EQ(a.numbers(0, 0)[3], 30);
  EXPECT_EQ(a.sum(0, 0), 127 - 64 + 60);
  EXPECT_EQ(a.numbers(0, 1)[3], -127);
  EXPECT_EQ(a.numbers(0, 1)[7], 30);
  EXPECT_EQ(a.sum(0, 1), -97);
  EXPECT_TRUE(a.extras().empty());
}

TEST(RoundedActivations, WithinHalfAStepAtEveryMagnitude) {
  for (const float size : {1.f, 1e30f, 1e-30f, 0x1p-126f, 0x1p-140f}) {
    for (const Index n : testing::kOddSizes) {
      const RowMatrixXf x = testing::gaussian(3, n) * size;
      const RoundedActivations a(x.data(), n, 3, n, InOrder{}), moved(x.data(), n, 3, n, ByEights{});
      for (Index token = 0; token < 3; ++token) {
        for (Index j = 0; j < n; ++j) {
          const Index slice = j / 32;
          const auto scale = static_cast<double>(a.scale(token, slice));
          const double off = static_cast<double>(x(token, j)) - scale * a.numbers(token, slice)[j % 32];
          // Half a step, the rounding of the products, and where scales are subnormal that of the scale.
          ASSERT_LE(std::abs(off), 0.5 * scale * (1 + 1e-4) + 127 * 0x1p-150) << size << ' ' << n << ' ' << j;
          ASSERT_EQ(moved.numbers(token, slice)[j % 8 * 4 + j % 32 / 8], a.numbers(token, slice)[j % 32]);
        }
        for (Index slice = 0; slice < a.slices(); ++slice) {
          int sum = 0;
          for (int i = 0; i < 32; ++i) sum += a.numbers(token, slice)[i];
          ASSERT_EQ(a.sum(token, slice), sum);
        }
      }
    }
  }
}

TEST(RoundedActivations, NumbersThatDwarfTheOthersStandApart) {
  RowMatrixXf x = testing::gaussian(2, 96, 7);
  x(1, 40) = -1e4f;
  x(1, 41) = 100;
  x(1, 63) = 90;
  const RoundedActivations a(x.data(), 96, 2, 96, InOrder{});
  ASSERT_EQ(a.extras().size(), 2u);
  for (const auto& extra : a.extras()) {
    EXPECT_EQ(extra.token, 1);
    EXPECT_EQ(extra.slice, 1);
  }
  EXPECT_EQ(a.extras()[0].numbers[8], -127);
  EXPECT_EQ(a.extras()[0].sum, -127);
  EXPECT_EQ(a.extras()[1].numbers[9], 127);
  EXPECT_EQ(a.extras()[1].numbers[31], 114);
  for (const int i : {8, 9, 31}) EXPECT_EQ(a.numbers(1, 1)[i], 0);
  const Eigen::MatrixXd off = roundedNumbers(a, 96) - x.transpose().cast<double>();
  EXPECT_LT(off.col(1).segment(42, 21).cwiseAbs().maxCoeff(), 0.02) << "the others have steps of their own size";
  EXPECT_LT(std::abs(off(40, 1)), 1e-3);
}

/// A slice ten times as large as the others of its token is split; and so it is in any unit.
TEST(RoundedActivations, PartsAreTheSameAtAnyMagnitude) {
  RowMatrixXf x = testing::gaussian(2, 512, 7);
  x.middleCols(96, 32) *= 10;
  const RoundedActivations a(x.data(), 512, 2, 512, InOrder{});
  ASSERT_FALSE(a.extras().empty());
  for (const float unit : {0x1p-60f, 0x1p-10f, 0x1p40f}) {
    const RowMatrixXf y = x * unit;
    const RoundedActivations b(y.data(), 512, 2, 512, InOrder{});
    ASSERT_EQ(b.extras().size(), a.extras().size()) << unit;
    for (std::size_t i = 0; i < a.extras().size(); ++i) {
      EXPECT_EQ(b.extras()[i].slice, a.extras()[i].slice);
      EXPECT_EQ(b.extras()[i].scale, a.extras()[i].scale * unit);
    }
    EXPECT_EQ(roundedNumbers(b, 512), roundedNumbers(a, 512) * static_cast<double>(unit)) << unit;
  }
}

TEST(RoundedActivations, OneScaleOfATokenIsThatOfItsLargestNumber) {
  for (const std::size_t place : {0u, 31u, 32u, 39u}) {
    std::vector<float> x(40, 1.f);
    x[place] = -254;
    const RoundedActivations a(x.data(), 40, 1, 40, InOrder{}, ScaleReach::kToken);
    for (const Index slice : {0, 1}) EXPECT_EQ(a.scale(0, slice), 2) << place;
    EXPECT_EQ(a.numbers(0, static_cast<Index>(place / 32))[place % 32], -127) << place;
  }
}

TEST(RoundedActivations, GaussianNumbersStandTogether) {
  const RowMatrixXf x = testing::gaussian(64, 4096);  // 8192 slices
  EXPECT_LE(RoundedActivations(x.data(), 4096, 64, 4096, InOrder{}).extras().size(), 2u);
  EXPECT_LE(RoundedActivations(x.data(), 32, 8192, 32, InOrder{}).extras().size(), 2u);
}

TEST(RoundedActivations, ZerosDwarfNothing) {
  RowMatrixXf x = testing::gaussian(1, 4096);
  for (Index j = 0; j < 4096; ++j) {
    if (j % 8 != 3) x(0, j) = 0;
  }
  EXPECT_LE(RoundedActivations(x.data(), 4096, 1, 4096, InOrder{}).extras().size(), 12u);
}

TEST(RoundedActivations, AnyMagnitudesSideBySide) {
  // From the least float to the largest. What a step of a part is to its other numbers is bounded in the mean only.
  std::vector<float> x;
  for (int e = -149; e < 128; e += 2) x.push_back(std::ldexp(e % 4 == 1 ? -1.f : 1.f, e));
  std::swap(x.front(), x.back());
  const auto n = static_cast<Index>(x.size());
  const RoundedActivations a(x.data(), n, 1, n, InOrder{});
  EXPECT_GT(a.extras().size(), 20u);
  EXPECT_LT(a.extras().size(), x.size());
  const Eigen::MatrixXd back = roundedNumbers(a, n);
  for (Index j = 0; j < n; ++j) {
    const auto number = static_cast<double>(x[static_cast<std::size_t>(j)]);
    const double next = 4 * 4 * std::abs(number);  // of three neighbors the smallest may be lost
    EXPECT_LE(std::abs(back(j, 0) - number), 0.08 * next + 127 * 0x1p-150) << number;
  }
}

TEST(RoundedActivations, StepsAreSmallAgainstTheNumbersThatAreNotMassive) {
  // In up to a quarter of the slices up to eight numbers of any size; the others are the measure.
  for (const int many : {1, 3, 8}) {
    for (const float size : {4.f, 6.f, 10.f, 20.f, 40.f, 100.f, 1e4f, 1e20f}) {
      RowMatrixXf x = testing::gaussian(1, 4096, 5), others = x;
      for (Index slice = 0; slice < 128; slice += 4) {
        for (int i = 0; i < many; ++i) {
          const Index j = slice * 32 + (slice + 5 * i) % 32;
          x(0, j) = (i % 2 == 0 ? size : -size) * (i == 2 ? 0.01f : 1.f);
          others(0, j) = 0;
        }
      }
      const RoundedActivations a(x.data(), 4096, 1, 4096, InOrder{});
      const Eigen::MatrixXd off = roundedNumbers(a, 4096) - x.transpose().cast<double>();
      double sum = 0;
      for (Index j = 0; j < 4096; ++j) sum += others(0, j) != 0 ? off(j, 0) * off(j, 0) : 0;
      EXPECT_LT(std::sqrt(sum), 0.0095 * others.cast<double>().norm()) << many << " of " << size;
    }
  }
}

TEST(RoundedActivations, TheSamePartsOnEveryMachine) {
  RowMatrixXf x = testing::gaussian(4, 417, 3).array() * testing::gaussian(4, 417, 4).array().square();
  const RoundedActivations a(x.data(), 417, 4, 417, InOrder{});
  EXPECT_EQ(a.extras().size(), 36u);
  std::vector<std::int8_t> all;
  for (Index token = 0; token < 4; ++token) {
    for (Index slice = 0; slice < a.slices(); ++slice) {
      all.insert(all.end(), a.numbers(token, slice), a.numbers(token, slice) + 32);
    }
  }
  for (const auto& extra : a.extras()) all.insert(all.end(), extra.numbers, extra.numbers + 32);
  EXPECT_EQ(testing::hashBytes(all.data(), all.size()), 17862139550072980537u);
}

TEST(RoundedActivations, ATokenMayHaveOneScale) {
  Eigen::MatrixXf x = testing::gaussian(77, 3);
  x.col(1).setZero();
  x(40, 2) = -254;
  const RoundedActivations a(x.data(), 77, 3, 77, InOrder{}, ScaleReach::kToken);
  for (Index token = 0; token < 3; ++token) {
    const float scale = x.col(token).cwiseAbs().maxCoeff() / 127;
    for (Index slice = 0; slice < 3; ++slice) EXPECT_EQ(a.scale(token, slice), scale);
    for (Index j = 0; j < 77; ++j) {
      const auto q = static_cast<float>(a.numbers(token, j / 32)[j % 32]);
      EXPECT_LE(std::abs(q * scale - x(j, token)), 0.5001f * scale);
    }
  }
  EXPECT_EQ(a.numbers(2, 1)[8], -127);
  EXPECT_EQ(a.sum(1, 0), 0);
  EXPECT_TRUE(a.extras().empty());
  const Eigen::MatrixXf floats = roundedPerToken(x);
  EXPECT_EQ(floats(40, 2), -254);
  EXPECT_EQ(floats(41, 2), 2 * static_cast<float>(a.numbers(2, 1)[9]));
  EXPECT_EQ(floats(76, 0), a.scale(0, 2) * static_cast<float>(a.numbers(0, 2)[12]));
}

TEST(RoundedActivations, SlicesMayGatherColumns) {
  for (const Index n : {1, 7, 159, 160, 161, 417}) {
    Eigen::MatrixXf x = testing::gaussian(n, 3);
    if (n > 100) x(33, 1) = 1e4f;
    const RoundedActivations a(x.data(), n, 3, n, LastNumberFirst<5>{});
    ASSERT_EQ(a.slices(), ceilDiv(n, 160) * 5);
    Eigen::MatrixXf gathered = Eigen::MatrixXf::Zero(a.slices() * 32, 3);
    for (Index at = 0; at < gathered.rows(); ++at) {
      const Index in_tile = at % 160, slice = in_tile / 32, column = at - in_tile + in_tile % 32 * 5 + 4 - slice;
      if (column < n) gathered.row(at) = x.row(column);
    }
    const RoundedActivations b(gathered.data(), gathered.rows(), 3, gathered.rows(), InOrder{});
    ASSERT_EQ(a.extras().size(), b.extras().size());
    EXPECT_EQ(roundedNumbers(a, gathered.rows()), roundedNumbers(b, gathered.rows()));
  }
}

TEST(RoundedActivations, NotANumberStaysOne) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(64, 1.f);
    x[37] = -bad;
    const RoundedActivations a(x.data(), 64, 1, 64, InOrder{});
    EXPECT_EQ(a.scale(0, 0), 1.f / 127);
    EXPECT_NE(a.scale(0, 1), a.scale(0, 1));
  }
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::activations_test
