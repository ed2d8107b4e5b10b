// SPDX-License-Identifier: Apache-2.0
#include <gosset/hadamard/random_signs.hpp>
#include <gosset/hadamard/transform.hpp>
#include <gosset/theory/incoherence.hpp>

#include <testing.hpp>

#include <cmath>
#include <limits>

namespace gosset::incoherence_test {
namespace {

TEST(Incoherence, KnownAnswers) {
  EXPECT_DOUBLE_EQ(incoherence(Eigen::MatrixXf::Constant(7, 9, -3.f)), 1.0);
  EXPECT_DOUBLE_EQ(incoherence(Eigen::MatrixXd::Identity(16, 16)), 4.0);
  RowMatrixXf one = RowMatrixXf::Zero(8, 8);
  one(3, 5) = -2.f;
  EXPECT_DOUBLE_EQ(incoherence(one), 8.0);
  Eigen::RowVector2f pair(3.f, 4.f);
  EXPECT_DOUBLE_EQ(incoherence(pair), 4.0 * std::sqrt(2.0) / 5.0);
  EXPECT_DOUBLE_EQ(incoherence(Eigen::MatrixXf::Zero(3, 3)), 1.0);
}

TEST(Incoherence, HasNoUnit) {
  const RowMatrixXf w = testing::gaussian(17, 63);
  const double mu = incoherence(w);
  EXPECT_GT(mu, 1.0);
  EXPECT_DOUBLE_EQ(incoherence(w * 0x1p100f), mu);
  EXPECT_DOUBLE_EQ(incoherence(w * 0x1p-100f), mu);
  EXPECT_DOUBLE_EQ(incoherence(w.cast<double>() * 1e300), incoherence(w.cast<double>()));
  EXPECT_DOUBLE_EQ(incoherence(w.transpose()), mu);
}

TEST(Incoherence, TakesHalves) {
  Eigen::Matrix<Float16, Eigen::Dynamic, Eigen::Dynamic> w = testing::gaussian(5, 7).cast<Float16>();
  EXPECT_DOUBLE_EQ(incoherence(w), incoherence(w.cast<float>()));
}

TEST(Incoherence, RefusesWhatHasNone) {
  testing::expectThrows([] { incoherence(Eigen::MatrixXf(0, 5)); }, "w: expected at least one entry, got 0 x 5");
  Eigen::Vector2f x(1.f, std::numeric_limits<float>::quiet_NaN());
  testing::expectThrows([&] { incoherence(x); }, "w: expected finite entries, got nan");
  x[1] = std::numeric_limits<float>::infinity();
  testing::expectThrows([&] { incoherence(x); }, "got inf");
}

/// Both sides by random signs and Hadamard, as QuIP# does.
RowMatrixXf rotated(RowMatrixXf w) {
  applyRowSigns(w, 1);
  applyColSigns(w, 2);
  hadamardRows(w);
  hadamardCols(w);
  return w;
}

class IncoherenceOfOutliers : public ::testing::TestWithParam<std::pair<Index, Index>> {};

TEST_P(IncoherenceOfOutliers, DropsByTheTransform) {
  const auto [m, n] = GetParam();
  // After a random rotation of either kind mu is near that of normal entries; QuIP's bound, 2 sqrt(log(4 m n / delta))
  // squared for two sides, is far above it.
  const double normal = std::sqrt(2 * std::log(static_cast<double>(m * n))) + 2;

  RowMatrixXf single = testing::gaussian(m, n);
  single(m / 2, n / 3) = 200.f;
  RowMatrixXf channel = testing::gaussian(m, n);
  channel.col(n / 2) *= 50.f;
  RowMatrixXf neuron = testing::gaussian(m, n);
  neuron.row(m / 4) *= 50.f;
  for (const RowMatrixXf& w : {single, channel, neuron}) {
    const RowMatrixXf after = rotated(w);
    EXPECT_GT(incoherence(w), 2 * normal);
    EXPECT_LT(incoherence(after), normal);
    EXPECT_NEAR(after.norm() / w.norm(), 1.0, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, IncoherenceOfOutliers,
                         ::testing::Values(std::pair<Index, Index>{128, 256}, std::pair<Index, Index>{96, 344},
                                           std::pair<Index, Index>{172, 417}));

}  // namespace
}  // namespace gosset::incoherence_test
