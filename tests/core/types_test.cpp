// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/types.hpp>

#include "testing.hpp"

#include <Eigen/Dense>
#include <Eigen/SparseCore>

namespace gosset::types_test {
namespace {

static_assert(RealScalar<float> && RealScalar<double> && RealScalar<Float16> && RealScalar<BFloat16>);
static_assert(!RealScalar<int> && !RealScalar<long double> && !RealScalar<std::complex<float>>);
static_assert(StorageScalar<float> && StorageScalar<Float16> && StorageScalar<BFloat16> && !StorageScalar<double>);

static_assert(DenseExpression<Eigen::MatrixXf> && DenseExpression<const Eigen::VectorXd&>);
static_assert(DenseExpression<Eigen::ArrayXXf> && DenseExpression<Eigen::Map<const RowMatrixXf>>);
static_assert(DenseExpression<decltype(std::declval<Eigen::MatrixXf&>() * std::declval<Eigen::MatrixXf&>())>);
static_assert(DenseExpression<decltype(std::declval<Eigen::VectorXf&>().segment(1, 2))>);
static_assert(!DenseExpression<Eigen::MatrixXi> && !DenseExpression<float> && !DenseExpression<std::string>);
static_assert(!DenseExpression<Eigen::SparseMatrix<float>>);

TEST(Types, CeilDivRoundsUp) {
  EXPECT_EQ(ceilDiv(0, 8), 0);
  EXPECT_EQ(ceilDiv(1, 8), 1);
  EXPECT_EQ(ceilDiv(8, 8), 1);
  EXPECT_EQ(ceilDiv(9, 8), 2);
  EXPECT_EQ(ceilDiv(std::numeric_limits<Index>::max(), 2), Index{1} << 62);
}

}  // namespace
}  // namespace gosset::types_test
