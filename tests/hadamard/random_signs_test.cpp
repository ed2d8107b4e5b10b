// SPDX-License-Identifier: Apache-2.0
#include <gosset/hadamard/random_signs.hpp>

#include <testing.hpp>

#include <cmath>

namespace gosset::random_signs_test {
namespace {

TEST(RandomSigns, AreTheSeedsSigns) {
  const Eigen::VectorXf signs = randomSigns<float>(7, 1000);
  for (Index i = 0; i < signs.size(); ++i) EXPECT_EQ(signs[i], randomSign(7, static_cast<std::uint64_t>(i)));
  EXPECT_LT(std::abs(signs.sum()), 100.f);
  EXPECT_NE(signs, randomSigns<float>(8, 1000));
  EXPECT_EQ(randomSigns<double>(7, 1000), signs.cast<double>());
  EXPECT_EQ(randomSigns<float>(7, 0).size(), 0);
}

TEST(RandomSigns, MultiplyRowsAndColumns) {
  const RowMatrixXf w = testing::gaussian(7, 65);
  const Eigen::VectorXf rows = randomSigns<float>(3, 7);
  const Eigen::VectorXf cols = randomSigns<float>(4, 65);
  const auto check = [&](auto x) {
    applyRowSigns(x, 3);
    EXPECT_EQ(x, rows.asDiagonal() * w);
    applyColSigns(x, 4);
    EXPECT_EQ(x, rows.asDiagonal() * w * cols.asDiagonal());
    applyColSigns(x, 4);
    applyRowSigns(x, 3);
    EXPECT_EQ(x, w) << "twice is once back";
  };
  check(w);
  check(Eigen::MatrixXf(w));
}

TEST(RandomSigns, MultiplyVectorsInPlace) {
  Eigen::MatrixXd w = testing::gaussian(9, 8).cast<double>();
  const Eigen::MatrixXd before = w;
  applySigns(w.col(2), 11);
  applySigns(w.row(5).head(2), 12);
  EXPECT_EQ(w.col(2).eval().head(5), randomSigns<double>(11, 9).cwiseProduct(before.col(2)).head(5));
  EXPECT_EQ(w(5, 0), randomSign(12, 0) * before(5, 0));
  EXPECT_EQ(w(5, 1), randomSign(12, 1) * before(5, 1));
  EXPECT_EQ(w.rightCols(5), before.rightCols(5));
}

TEST(RandomSigns, TakeHalves) {
  Eigen::Matrix<Float16, Eigen::Dynamic, 1> x = Eigen::Matrix<Float16, Eigen::Dynamic, 1>::Ones(63);
  applySigns(x, 5);
  for (Index i = 0; i < 63; ++i) EXPECT_EQ(static_cast<float>(x[i]), randomSign(5, static_cast<std::uint64_t>(i)));
}

TEST(RandomSigns, AreExactOnExtremes) {
  Eigen::VectorXf x(4);
  x << std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(), 0.f,
      std::numeric_limits<float>::infinity();
  Eigen::VectorXf y = x;
  applySigns(y, 1);
  for (Index i = 0; i < 4; ++i) {
    EXPECT_EQ(std::abs(y[i]), x[i]);
    EXPECT_EQ(std::signbit(y[i]), randomSign(1, static_cast<std::uint64_t>(i)) < 0);
  }
}

}  // namespace
}  // namespace gosset::random_signs_test
