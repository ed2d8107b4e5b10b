// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/dense_product.hpp>

#include "testing.hpp"

#include <vector>

namespace gosset {
namespace {

using testing::gaussian;

/// The product of integers is exact in any order.
RowMatrixXf integers(Index rows, Index cols) {
  return RowMatrixXf::NullaryExpr(rows, cols,
                                  [](Index i, Index j) { return static_cast<float>((3 * i + 7 * j) % 11 - 5); });
}

TEST(DenseProduct, AddsTheProduct) {
  for (const Index m : {1, 3, 64, 193, 417}) {
    for (const Index n : {1, 17, 130}) {
      for (const Index t : {1, 5, 40}) {
        const RowMatrixXf a = integers(m, n), y = integers(m, t);
        const Eigen::MatrixXf b = integers(n, t);
        Eigen::MatrixXf expected(m, t);
        for (Index i = 0; i < m; ++i) {
          for (Index j = 0; j < t; ++j) {
            expected(i, j) = y(i, j);
            for (Index k = 0; k < n; ++k) expected(i, j) += 2 * a(i, k) * b(k, j);
          }
        }
        Eigen::MatrixXf by_column = y, here = y;
        RowMatrixXf by_row = y;
        detail::addDenseProduct(a, b, by_column, 2);
        detail::addDenseProductHere(a, b, here, 2);
        detail::addDenseProduct(a, b, by_row, 2);
        EXPECT_EQ(by_column, expected) << m << " x " << n << " x " << t;
        EXPECT_EQ(here, expected);
        EXPECT_EQ(by_row, expected);
      }
    }
  }
}

TEST(DenseProduct, TakesTransposesAndBlocks) {
  const RowMatrixXf a = integers(90, 300);
  const Eigen::MatrixXf b = integers(200, 50);
  Eigen::MatrixXf y = Eigen::MatrixXf::Zero(250, 30);
  detail::addDenseProduct(a.leftCols(250).transpose(), b.block(10, 5, 90, 30), y);
  Eigen::MatrixXf expected = Eigen::MatrixXf::Zero(250, 30);
  for (Index i = 0; i < 250; ++i) {
    for (Index j = 0; j < 30; ++j) {
      for (Index k = 0; k < 90; ++k) expected(i, j) += a(k, i) * b(10 + k, 5 + j);
    }
  }
  EXPECT_EQ(y, expected);
}

TEST(DenseProduct, HasTheBitsOfEigensProductInOneThread) {
  const RowMatrixXf a = gaussian(417, 333, 1);
  const Eigen::MatrixXf b = gaussian(333, 70, 2);
  Eigen::setNbThreads(1);
  Eigen::MatrixXf expected = Eigen::MatrixXf::Zero(417, 70);
  expected.noalias() += a * b;
  for (const int threads : {1, 2, 5}) {
    Eigen::setNbThreads(threads);
    Eigen::MatrixXf y = Eigen::MatrixXf::Zero(417, 70), here = y;
    detail::addDenseProduct(a, b, y);
    detail::addDenseProductHere(a, b, here);
    EXPECT_EQ(y, expected) << threads << " threads";
    EXPECT_EQ(here, expected);
  }
  Eigen::setNbThreads(0);
}

}  // namespace
}  // namespace gosset
