// SPDX-License-Identifier: Apache-2.0
#include <gosset/theory/distortion.hpp>

#include "testing.hpp"

#include <sstream>

namespace gosset::distortion_test {
namespace {

TEST(Distortion, ByHand) {
  Eigen::MatrixXf exact(2, 2), close(2, 2);
  exact << 3, 4, 0, 0;
  close << 3, 4.5f, 0, -0.25f;
  const Distortion d = distortion(exact, close);
  EXPECT_DOUBLE_EQ(d.mse, (0.25 + 0.0625) / 4);
  EXPECT_DOUBLE_EQ(d.sqnr_db, 10 * std::log10(25 / 0.3125));
  EXPECT_DOUBLE_EQ(d.max_abs, 0.5);
  EXPECT_DOUBLE_EQ(d.relative, std::sqrt(0.3125) / 5);
}

TEST(Distortion, ExactnessIsInfinite) {
  const RowMatrixXf w = testing::gaussian(7, 9);
  const Distortion d = distortion(w, w);
  EXPECT_EQ(d.mse, 0);
  EXPECT_EQ(d.max_abs, 0);
  EXPECT_EQ(d.relative, 0);
  EXPECT_EQ(d.sqnr_db, std::numeric_limits<double>::infinity());
  EXPECT_EQ(distortion(Eigen::VectorXf::Zero(3), Eigen::VectorXf::Zero(3)).relative, 0);
}

TEST(Distortion, NothingStandsForZero) {
  const Distortion d = distortion(Eigen::Vector2f(0, 0), Eigen::Vector2f(1, 0));
  EXPECT_EQ(d.sqnr_db, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(d.relative, std::numeric_limits<double>::infinity());
}

TEST(Distortion, AnyScalarsOrdersAndExpressions) {
  const RowMatrixXf w = testing::gaussian(9, 7);
  const Eigen::MatrixXd rounded = w.cast<Float16>().cast<double>();
  const Distortion expected = distortion(w, rounded);
  EXPECT_EQ(distortion(w.cast<double>().eval(), w.cast<Float16>()).mse, expected.mse);
  EXPECT_NEAR(distortion(w.transpose().eval(), rounded.transpose()).mse, expected.mse, 1e-18);
  EXPECT_NEAR(distortion(w.array(), rounded.array()).mse, expected.mse, 1e-18);
}

TEST(Distortion, HugeAndTinyNumbersNeitherOverflowNorVanish) {
  const RowMatrixXf w = testing::gaussian(8, 8);
  const RowMatrixXf approximation = w.cast<BFloat16>().cast<float>();
  const double sqnr = distortion(w, approximation).sqnr_db;
  EXPECT_NEAR(distortion(w * 0x1p120f, approximation * 0x1p120f).sqnr_db, sqnr, 1e-9);
  EXPECT_NEAR(distortion(w * 0x1p-100f, approximation * 0x1p-100f).sqnr_db, sqnr, 1e-9);
}

TEST(Distortion, ShapesMustAgree) {
  testing::expectThrows([] { distortion(Eigen::MatrixXf::Ones(2, 3), Eigen::MatrixXf::Ones(3, 2)); },
                        "distortion: expected two matrices of one shape, got 2 x 3 and 3 x 2");
  testing::expectThrows([] { distortion(Eigen::MatrixXf(0, 3), Eigen::MatrixXf(0, 3)); },
                        "distortion: the matrices are empty (0 x 3)");
}

TEST(Distortion, Prints) {
  std::ostringstream text;
  text << Distortion{0.25, 6.5, 0.5, 0.1};
  EXPECT_EQ(text.str(), "MSE 0.25, SQNR 6.5 dB, max error 0.5");
}

}  // namespace
}  // namespace gosset::distortion_test
