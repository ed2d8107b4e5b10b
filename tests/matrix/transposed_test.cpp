// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/transposed.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

namespace gosset::transposed_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Int4 = Grouped<Asymmetric<4>, 32>;

TEST(Transposed, MultipliesAsTheDenseTransposeDoes) {
  for (const Index m : testing::kOddSizes) {
    const auto q = quantize<Int4>(gaussian(m, 65));
    const RowMatrixXf w = q.dequantized();
    const Eigen::MatrixXf z = gaussian(m, 3, 2);
    EXPECT_EQ(q.transpose().rows(), 65);
    EXPECT_EQ(q.transpose().cols(), m);
    const Eigen::MatrixXf expected = w.transpose() * z;
    EXPECT_LT((q.transpose() * z - expected).norm(), 1e-5f * (1 + expected.norm()));
    const Eigen::VectorXf vector = q.transpose() * z.col(1);
    EXPECT_LT((vector - expected.col(1)).norm(), 1e-5f * (1 + expected.norm()));
    const Eigen::RowVectorXf left = z.col(1).transpose() * q;
    EXPECT_EQ(left, vector.transpose());
    EXPECT_EQ((z.transpose() * q).eval().rows(), 3);
    const Eigen::VectorXd wide = q.transpose() * z.col(1).cast<double>();
    EXPECT_EQ(wide, vector.cast<double>());
    Eigen::MatrixXf sum = Eigen::MatrixXf::Ones(65, 3);
    q.transpose().addTo(z, sum);
    EXPECT_LT((sum - expected - Eigen::MatrixXf::Ones(65, 3)).norm(), 1e-5f * (1 + expected.norm()));
  }
}

TEST(Transposed, OfATemporaryKeepsIt) {
  const RowMatrixXf w = gaussian(9, 40);
  const Eigen::VectorXf z = gaussian(9, 1, 2);
  const auto transposed = quantize<Int4>(w).transpose();
  const auto any = AnyMatrix(quantize<Int4>(w)).transpose();
  const Eigen::VectorXf expected = quantize<Int4>(w).transpose() * z;
  EXPECT_EQ(transposed * z, expected);
  EXPECT_EQ(any * z, expected);
}

TEST(Transposed, ChecksShapes) {
  const auto q = quantize<Int4>(gaussian(9, 40));
  expectThrows([&] { (void)(q.transpose() * gaussian(40, 2)); },
               "product with a transposed matrix: it is 40 x 9, so the operand needs 9 rows, got 40 x 2");
  expectThrows([&] { (void)(gaussian(2, 40) * q); },
               "product with a quantized matrix of 9 x 40 on the right: the left operand needs 9 columns, got 2 x 40");
  Eigen::MatrixXf y(39, 2);
  expectThrows([&] { q.transpose().addTo(gaussian(9, 2), y); },
               "addTransposed: expected a result y of 40 x 2, got 39 x 2");
}

}  // namespace
}  // namespace gosset::transposed_test
