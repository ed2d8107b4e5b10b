// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/quantized_matrix.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <algorithm>
#include <sstream>

namespace gosset::quantized_matrix_test {
namespace {

template <class F>
class QuantizedMatrixTest : public ::testing::Test {};
using Formats =
    ::testing::Types<Symmetric<4>, PerChannel<Binary>, Grouped<Asymmetric<3>, 32>, Grouped<NormalFloat4, 7>, BFloat16>;
TYPED_TEST_SUITE(QuantizedMatrixTest, Formats);

TYPED_TEST(QuantizedMatrixTest, AnyShapeMultipliesAsItsDequantizedSelf) {
  for (const Index rows : testing::kOddSizes) {
    for (const Index cols : testing::kOddSizes) {
      if (rows * cols > 172 * 65) continue;
      auto q = quantize<TypeParam>(testing::gaussian(rows, cols));
      q.setActivations(Activations::kFloat);
      ASSERT_EQ(q.rows(), rows);
      ASSERT_EQ(q.cols(), cols);
      const RowMatrixXf w = q.dequantized();
      const Eigen::VectorXf x = testing::gaussian(cols, 1, 2);
      const Eigen::VectorXf y = q * x;
      const Eigen::VectorXf expected = w * x;
      const float bound = 1e-6f * (w.cwiseAbs() * x.cwiseAbs()).maxCoeff() * 8;
      ASSERT_LE((y - expected).cwiseAbs().maxCoeff(), bound) << rows << " x " << cols;
    }
  }
}

TYPED_TEST(QuantizedMatrixTest, RoundedActivationsChangeAProductByLessThanAHundredth) {
  const auto q = quantize<TypeParam>(testing::gaussian(172, 417));
  ASSERT_EQ(q.activations(), Activations::kRounded);
  const Eigen::MatrixXf x = testing::gaussian(417, 5, 2);
  const Eigen::MatrixXf expected = q.dequantized() * x;
  EXPECT_LE((q * x - expected).norm(), 0.01f * expected.norm());
  EXPECT_LE((q * x.col(0) - expected.col(0)).norm(), 0.01f * expected.col(0).norm());
}

TYPED_TEST(QuantizedMatrixTest, ActivationsCountInRowsOfAProductAndForOtherScalars) {
  auto q = quantize<TypeParam>(testing::gaussian(300, 96));
  const Eigen::MatrixXf x = testing::gaussian(96, 3, 2);
  for (const Activations activations : {Activations::kRounded, Activations::kFloat, Activations::kRoundedPerToken}) {
    q.setActivations(activations);
    Eigen::MatrixXf y(300, 3), rows(300, 3);
    q.packed().multiply(x, y, activations);
    for (Index first = 0; first < 300; first += kRowBlock) {
      q.multiplyRows(first, std::min<Index>(kRowBlock, 300 - first), x, rows);
    }
    EXPECT_EQ(rows, y);
    EXPECT_EQ(Eigen::MatrixXd(q * x.cast<double>()), y.cast<double>());
  }
}

TYPED_TEST(QuantizedMatrixTest, DequantizesIntoPartsOfLargerMatrices) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {17, 33}, {63, 172}}) {
    const auto q = quantize<TypeParam>(testing::gaussian(rows, cols));
    RowMatrixXf w = RowMatrixXf::Constant(rows + 2, cols + 3, 77);
    q.dequantizeTo(w.block(1, 1, rows, cols));
    EXPECT_EQ(w.block(1, 1, rows, cols), q.dequantized());
    w.block(1, 1, rows, cols).setConstant(77);
    EXPECT_TRUE((w.array() == 77).all()) << "something else was written";
  }
}

TYPED_TEST(QuantizedMatrixTest, EqualMeansEveryBit) {
  const RowMatrixXf w = testing::gaussian(7, 9);
  const auto q = quantize<TypeParam>(w);
  const auto copy = q;
  EXPECT_EQ(copy, q);
  EXPECT_EQ(quantize<TypeParam>(w), q);
  EXPECT_FALSE(quantize<TypeParam>(RowMatrixXf(-w)) == q);
  EXPECT_FALSE(quantize<TypeParam>(w.leftCols(8)) == q);
  RowMatrixXf other = w;
  other(6, 8) *= -1;
  EXPECT_FALSE(quantize<TypeParam>(other) == q) << "the last number counts, too";
  auto assigned = quantize<TypeParam>(testing::gaussian(2, 2));
  EXPECT_FALSE(assigned == q);
  assigned = q;
  EXPECT_EQ(assigned, q);
  EXPECT_EQ(assigned.dequantized(), q.dequantized());
}

TEST(QuantizedMatrix, OfTheSameBitsInAnotherShapeItIsAnother) {
  const auto zeros = [](Index rows, Index cols) { return quantize<float>(RowMatrixXf::Zero(rows, cols)); };
  EXPECT_EQ(zeros(2, 3), zeros(2, 3));
  EXPECT_FALSE(zeros(2, 3) == zeros(3, 2));
  EXPECT_FALSE(zeros(2, 3) == zeros(1, 6));
}

TEST(QuantizedMatrix, DequantizesOnlyIntoItsShape) {
  const auto q = quantize<Symmetric<8>>(testing::gaussian(2, 3));
  RowMatrixXf w(3, 2);
  testing::expectThrows<std::invalid_argument>([&] { q.dequantizeTo(w); },
                                               "dequantizeTo: expected a matrix of 2 x 3, got 3 x 2");
}

TEST(QuantizedMatrix, EveryBitIsCounted) {
  const RowMatrixXf w = testing::gaussian(63, 417);
  const auto rows = [](Index bytes) { return 63 * bytes; };
  EXPECT_EQ((quantize<PerChannel<Symmetric<8>>>(w).bytes()), rows(417 + 2) + 4);
  EXPECT_EQ((quantize<Grouped<Asymmetric<4>, 64>>(w).bytes()), rows(209 + 7 * 4) + 4);
  EXPECT_EQ((quantize<Grouped<LloydMax<3>, 32, float>>(w).bytes()), rows(26 * 4 + 1 + 13 * 4 + 1 + 14 * 4) + 4);
  EXPECT_EQ((quantize<Ternary>(w).bytes()), rows(105) + 2 + 4);
  EXPECT_EQ((quantize<float>(w).bytes()), rows(417 * 4));
  EXPECT_DOUBLE_EQ((quantize<PerChannel<Symmetric<8>>>(w).bitsPerWeight()), 8.0 * (63 * 419 + 4) / (63 * 417));
  EXPECT_DOUBLE_EQ(quantize<float>(w).bitsPerWeight(), 32);
}

TEST(QuantizedMatrix, Prints) {
  std::ostringstream text;
  text << quantize<Grouped<Asymmetric<4>, 64>>(testing::gaussian(4, 64));
  EXPECT_EQ(text.str(), "Grouped<Asymmetric<4>, 64>, 4 x 64, 4.625 bits a weight, 148 bytes");
}

}  // namespace
}  // namespace gosset::quantized_matrix_test
