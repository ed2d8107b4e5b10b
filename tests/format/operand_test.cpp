// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/format/operand.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace gosset::operand_test {
namespace {

using testing::gaussian;

using Four = Grouped<Asymmetric<4>, 32>;

Eigen::MatrixXf timesPowerOfTwo(const Eigen::MatrixXf& x, int exponent) {
  return x.unaryExpr([exponent](float number) { return std::ldexp(number, exponent); });
}

TEST(Operand, TheLargestMagnitudeIsFoundWhereverItStands) {
  for (Index n = 1; n < 80; ++n) {
    for (Index at = 0; at < n; ++at) {
      Eigen::VectorXf x = Eigen::VectorXf::LinSpaced(n, -1, 1);
      x[at] = -0x1p9f;
      ASSERT_EQ(detail::largestBits(x.data(), n), std::bit_cast<std::uint32_t>(0x1p9f)) << at << " of " << n;
    }
  }
  EXPECT_EQ(detail::largestBits(nullptr, 0), 0u);
}

TEST(Operand, AMatrixIsFiniteWhereAllItsColumnsAre) {
  Eigen::MatrixXf x = Eigen::MatrixXf::Ones(3, 3);
  EXPECT_TRUE(detail::isFinite(x));
  for (Index j = 0; j < 3; ++j) {
    for (const float bad : {INFINITY, -INFINITY, NAN}) {
      Eigen::MatrixXf with = x;
      with(1, j) = bad;
      EXPECT_FALSE(detail::isFinite(with)) << bad << " in column " << j;
    }
  }
}

TEST(Operand, OrdinaryColumns) {
  Eigen::MatrixXf x = Eigen::MatrixXf::Ones(5, 3);
  EXPECT_TRUE(detail::isOrdinary(x));
  for (const float good : {0.f, 0x1p60f, -0x1p60f, 0x1p-149f, INFINITY, NAN}) {
    x(2, 1) = good;
    EXPECT_TRUE(detail::isOrdinary(x)) << good;
  }
  x.col(1).setZero();
  EXPECT_TRUE(detail::isOrdinary(x));
  for (const float bad : {0x1.000002p60f, -0x1p100f, 0x1.fffffep-61f, -0x1p-149f}) {
    x(2, 1) = bad;
    EXPECT_FALSE(detail::isOrdinary(x)) << bad;
  }
}

TEST(Operand, InUnitsOfItsOwn) {
  Eigen::MatrixXf x(2, 4);
  x << 0x1p100f, 3, 0, -0x1p-149f,  //
      -0x1p90f, 5, 0, 0x1p-148f;
  const detail::OperandInUnits operand(x, -60, 60);
  Eigen::MatrixXf expected(2, 4);
  expected << 0x1p60f, 3, 0, -0x1p-61f,  //
      -0x1p50f, 5, 0, 0x1p-60f;
  EXPECT_EQ(operand.numbers(), expected);
  operand.scaleBack(expected);
  EXPECT_EQ(expected, x);
  Eigen::MatrixXf odd(2, 2);
  odd << INFINITY, 3, 0x1p100f, -INFINITY;
  EXPECT_EQ(detail::OperandInUnits(odd, -60, 60).numbers(), odd) << "which has no magnitude";
}

template <class Format>
class AnyMagnitude : public ::testing::Test {};
using Formats = ::testing::Types<float, Float16, Four, PerChannel<Symmetric<8>>, Symmetric<3>, PerTensor<Ternary>,
                                 Grouped<NormalFloat4, 7>, PerChannel<E8P>, LowRank<Outliers<Four, 50>, 2>,
                                 LowRankFirst<Four, 2>, Incoherent<E8P>>;
TYPED_TEST_SUITE(AnyMagnitude, Formats);

/// Powers of two change nothing but exponents.
TYPED_TEST(AnyMagnitude, OfTheOperand) {
  auto q = quantize<TypeParam>(gaussian(40, 70, 1));
  for (const Activations activations : {Activations::kRounded, Activations::kFloat, Activations::kRoundedPerToken}) {
    q.setActivations(activations);
    for (const Index tokens : {1, 20}) {
      const Eigen::MatrixXf x = gaussian(70, tokens, 2), z = gaussian(40, tokens, 3);
      const Eigen::MatrixXf y = q * x, back = q.transpose() * z;
      for (const int exponent : {-110, -70, 70, 115}) {
        EXPECT_EQ(Eigen::MatrixXf(q * timesPowerOfTwo(x, exponent)), timesPowerOfTwo(y, exponent)) << exponent;
        EXPECT_EQ(Eigen::MatrixXf(q.transpose() * timesPowerOfTwo(z, exponent)), timesPowerOfTwo(back, exponent));
        Eigen::MatrixXf rows = Eigen::MatrixXf::Zero(40, tokens);
        q.multiplyRows(16, 16, timesPowerOfTwo(x, exponent), rows);
        Eigen::MatrixXf expected = Eigen::MatrixXf::Zero(40, tokens);
        q.multiplyRows(16, 16, x, expected);
        EXPECT_EQ(rows, timesPowerOfTwo(expected, exponent));
      }
    }
  }
}

TYPED_TEST(AnyMagnitude, OfTheMatrix) {
  if (std::is_same_v<TypeParam, Float16>) GTEST_SKIP() << "Float16 has its range";
  const RowMatrixXf w = gaussian(40, 70, 1);
  const auto q = quantize<TypeParam>(w);
  for (const Index tokens : {1, 20}) {
    const Eigen::MatrixXf x = gaussian(70, tokens, 2), z = gaussian(40, tokens, 3);
    for (const int exponent : {-110, -50, 50, 110}) {
      const auto scaled = quantize<TypeParam>(timesPowerOfTwo(w, exponent));
      EXPECT_EQ(scaled.dequantized(), timesPowerOfTwo(q.dequantized(), exponent)) << exponent;
      EXPECT_EQ(Eigen::MatrixXf(scaled * x), timesPowerOfTwo(q * x, exponent)) << exponent;
      EXPECT_EQ(Eigen::MatrixXf(scaled.transpose() * z), timesPowerOfTwo(q.transpose() * z, exponent)) << exponent;
    }
  }
}

TYPED_TEST(AnyMagnitude, OneColumnDoesNotTouchAnother) {
  auto q = quantize<TypeParam>(gaussian(40, 70, 1));
  const Eigen::MatrixXf x = gaussian(70, 20, 2), z = gaussian(40, 4, 3);
  for (const Activations activations : {Activations::kRounded, Activations::kFloat, Activations::kRoundedPerToken}) {
    q.setActivations(activations);
    const Eigen::MatrixXf y = q * x, back = q.transpose() * z;
    for (const float odd : {1e38f, -3e38f, INFINITY, NAN}) {
      Eigen::MatrixXf with = x, transposed = z;
      with(9, 0) = transposed(9, 0) = odd;
      const Eigen::MatrixXf y_with = q * with, back_with = q.transpose() * transposed;
      EXPECT_EQ(y_with.rightCols(19), y.rightCols(19)) << odd;
      EXPECT_EQ(back_with.rightCols(3), back.rightCols(3)) << odd;
      EXPECT_FALSE(!std::isfinite(odd) && y_with.col(0).allFinite()) << "lost: " << odd;
      EXPECT_FALSE(!std::isfinite(odd) && back_with.col(0).allFinite()) << "lost: " << odd;
      EXPECT_FALSE(std::isfinite(odd) && y_with.col(0).hasNaN()) << odd;
    }
  }
}

TEST(AnyMagnitudeOfBoth, OnTheWayToAProductNothingOverflows) {
  RowMatrixXf w(2, 3);
  w << 2e38f, 2e38f, -2e38f,  //
      1e38f, -3e38f, 2e38f;
  const auto q = quantize<float>(w);
  const Eigen::VectorXf y = q * Eigen::VectorXf::Ones(3);
  EXPECT_NEAR(y[0], 2e38f, 1e32f);
  EXPECT_NEAR(y[1], 0, 1e32f);
  // Whatever the order in which they are added, as many of one sign come together: 2048 times 2^127 and 2047 times the
  // opposite.
  Eigen::RowVectorXf many = Eigen::RowVectorXf::Constant(4095, -0x1p127f);
  many.head(2048).setConstant(0x1p127f);
  const Eigen::VectorXf one = quantize<float>(RowMatrixXf(many)) * Eigen::VectorXf::Ones(4095);
  EXPECT_EQ(one[0], 0x1p127f);
  const auto four = quantize<PerChannel<Symmetric<8>>>(RowMatrixXf::Constant(20, 40, 0x1p100f));
  const Eigen::VectorXf small = four * Eigen::VectorXf::Constant(40, 0x1p-120f);
  EXPECT_EQ(small, Eigen::VectorXf::Constant(20, 40 * 0x1p-20f));
  const Eigen::VectorXf large = four * Eigen::VectorXf::Constant(40, 0x1p100f);
  EXPECT_EQ(large, Eigen::VectorXf::Constant(20, std::numeric_limits<float>::infinity())) << "which it is";
}

}  // namespace
}  // namespace gosset::operand_test
