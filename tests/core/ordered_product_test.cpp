// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/ordered_product.hpp>

#include "testing.hpp"

namespace gosset::GOSSET_ABI::detail::ordered_product_test {
namespace {

using gosset::testing::gaussian;
using gosset::testing::hashBytes;

/// What every machine has to come to, number by number.
RowMatrixXf inOrder(const RowMatrixXf& a, const RowMatrixXf& b, RowMatrixXf c) {
  for (Index i = 0; i < c.rows(); ++i) {
    for (Index j = 0; j < c.cols(); ++j) {
      for (Index k = 0; k < a.cols(); ++k) c(i, j) += simd::unfused(a(i, k) * b(k, j));
    }
  }
  return c;
}

TEST(OrderedProduct, AddsInOrderWhateverTheShape) {
  for (const Index m : {1, 2, 3, 7, 97, 200}) {
    for (const Index n : {1, 5, 16, 49, 193, 400}) {
      for (const Index depth : {1, 4, 161}) {
        const RowMatrixXf a = gaussian(m, depth, 1), b = gaussian(depth, n, 2), c = gaussian(m, n, 3);
        const RowMatrixXf expected = inOrder(a, b, c);
        RowMatrixXf rows = c;
        addProductInOrder(a, b, rows);
        EXPECT_EQ(rows, expected) << m << " " << n << " " << depth;
        Eigen::MatrixXf columns = c;
        addProductInOrder(Eigen::MatrixXf(a), b, columns);
        EXPECT_EQ(columns, expected) << m << " " << n << " " << depth;
        rows = c;
        addProductInOrder(a, Eigen::MatrixXf(b), rows);
        EXPECT_EQ(rows, expected) << m << " " << n << " " << depth;
        EXPECT_TRUE((rows - c).isApprox(a * b, 1e-4f)) << m << " " << n << " " << depth;
      }
    }
  }
}

TEST(OrderedProduct, TakesPartsAndTransposes) {
  const RowMatrixXf a = gaussian(40, 30, 1), b = gaussian(40, 70, 2), wide = gaussian(50, 90, 3);
  RowMatrixXf c = wide;
  addProductInOrder(a.middleCols(5, 20).transpose(), b.rightCols(60), c.block(7, 11, 20, 60));
  RowMatrixXf expected = wide;
  expected.block(7, 11, 20, 60) = inOrder(a.middleCols(5, 20).transpose(), b.rightCols(60), wide.block(7, 11, 20, 60));
  EXPECT_EQ(c, expected);
  Eigen::MatrixXf turned = wide.transpose();
  addProductInOrder(b.rightCols(60).transpose(), a.middleCols(5, 20), turned.block(11, 7, 60, 20));
  EXPECT_EQ(turned, expected.transpose());
}

TEST(OrderedProduct, OfNothingAddsNothing) {
  RowMatrixXf c = gaussian(3, 4);
  const RowMatrixXf before = c;
  addProductInOrder(RowMatrixXf(3, 0), RowMatrixXf(0, 4), c);
  EXPECT_EQ(c, before);
  RowMatrixXf none(0, 4);
  addProductInOrder(RowMatrixXf(0, 2), RowMatrixXf(2, 4), none);
}

TEST(OrderedProduct, OfFloatsInDoubleNeedsNoRounding) {
  const RowMatrixXf a = gaussian(97, 300, 1), b = gaussian(300, 180, 2);
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> exact(97, 180), rounded(97, 180);
  exact.setZero();
  rounded.setZero();
  OrderedTile<double, true>().add(strided(a), strided(b), exact.data(), 180);
  OrderedTile<double, false>().add(strided(a), strided(b), rounded.data(), 180);
  EXPECT_EQ(exact, rounded);
  EXPECT_TRUE(exact.isApprox(a.cast<double>() * b.cast<double>(), 1e-14));
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::ordered_product_test
