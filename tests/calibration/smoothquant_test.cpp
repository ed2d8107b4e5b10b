// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/smoothquant.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::smoothquant_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

TEST(SmoothQuant, FollowsTheFormula) {
  Eigen::Matrix3f w, x;
  w << 1, -4, 0.25f, 0.5f, 2, 0, -1, 1, 0;
  x << 16, 1, 1, -2, 4, -1, 0, 0, 4;  // maxima 16, 4, 4 of the activations; 1, 4, 0.25 of the weights
  EXPECT_EQ(smoothQuantScales(w, x), Eigen::Vector3f(4, 1, 4));
  EXPECT_EQ(smoothQuantScales(w, x, {.alpha = 1}), Eigen::Vector3f(16, 4, 4));
  EXPECT_EQ(smoothQuantScales(w, x, {.alpha = 0}), Eigen::Vector3f(1, 0.25f, 4));
  EXPECT_EQ(smoothQuantScales(w, x, {.alpha = 0.75f}), Eigen::Vector3f(8, 2, 4));
}

TEST(SmoothQuant, TakesEveryScalarAndOrder) {
  const RowMatrixXf w = gaussian(8, 9).cast<Float16>().cast<float>(), x = gaussian(5, 9, 2);
  const Eigen::VectorXf s = smoothQuantScales(w, x);
  EXPECT_EQ(smoothQuantScales(Eigen::MatrixXd(w.cast<double>()), Eigen::MatrixXf(x)), s);
  EXPECT_EQ(smoothQuantScales(w.cast<Float16>(), x), s);
}

TEST(SmoothQuant, DeadChannelsAndWildMagnitudesGiveFiniteScales) {
  RowMatrixXf w = gaussian(8, 65), x = gaussian(20, 65, 2);
  w.col(3).setZero();
  x.col(4).setZero();
  for (const float magnitude : {1e-37f, 1.f, 1e37f}) {
    for (const float alpha : {0.f, 0.5f, 1.f}) {
      for (const auto& s : {smoothQuantScales(w * magnitude, x, {.alpha = alpha}),
                            smoothQuantScales(w, x * magnitude, {.alpha = alpha}),
                            smoothQuantScales(RowMatrixXf::Zero(8, 65), x, {.alpha = alpha}),
                            smoothQuantScales(w, RowMatrixXf::Zero(8, 65), {.alpha = alpha})}) {
        EXPECT_TRUE(s.allFinite() && s.minCoeff() > 0);
      }
    }
  }
}

TEST(SmoothQuant, TheSearchBeatsBothEnds) {
  RowMatrixXf w = gaussian(64, 128), x = gaussian(100, 128, 2);
  x.col(5) *= 100.f;
  x.col(77) *= 40.f;
  w.col(9) *= 20.f;
  const SmoothQuantSearch found = searchSmoothQuant(w, x);
  EXPECT_EQ(found.s, smoothQuantScales(w, x, {.alpha = found.alpha}));
  EXPECT_GT(found.alpha, 0.2f);
  EXPECT_LT(found.alpha, 0.9f);
  const auto error = [&](const Eigen::VectorXf& s) {
    using Int8 = PerChannel<Symmetric<8>, float>;
    const RowMatrixXf ws = w.array().rowwise() * s.transpose().array(),
                      xs = x.array().rowwise() / s.transpose().array();
    const RowMatrixXf exact = w * x.transpose();
    return (quantize<Int8>(ws).dequantized() * quantize<Int8>(xs).dequantized().transpose() - exact).norm() /
           exact.norm();
  };
  EXPECT_NEAR(found.error, error(found.s), 1e-5);
  EXPECT_LT(found.error, 0.5 * error(Eigen::VectorXf::Ones(128)));
  EXPECT_LE(found.error, 1.0001 * error(smoothQuantScales(w, x)));
  EXPECT_EQ(searchSmoothQuant(RowMatrixXf::Zero(3, 4), RowMatrixXf::Zero(2, 4)).error, 0);
}

/// y = W (gain * x + bias), and what folding makes of it.
TEST(SmoothQuant, ANetworkWithFoldedScalesComputesTheSameFunction) {
  for (const Index n : testing::kOddSizes) {
    Eigen::MatrixXf w = gaussian(9, n);
    const Eigen::MatrixXf x = gaussian(n, 5, 2);
    Eigen::VectorXf gain = gaussian(n, 1, 3), bias = gaussian(n, 1, 4), none;
    Eigen::MatrixXf previous = gaussian(n, 7, 5);
    const Eigen::MatrixXf z = gaussian(7, 5, 6);
    const Eigen::VectorXf s = smoothQuantScales(w, x.transpose());
    {
      Eigen::MatrixXf v = w;
      Eigen::VectorXf g = gain, b = bias;
      const auto output = [&] { return Eigen::MatrixXf(v * ((g.asDiagonal() * x).colwise() + b)); };
      const Eigen::MatrixXf before = output();
      foldIntoNorm(s, g, b, v);
      EXPECT_LT((output() - before).norm(), 2e-6f * before.norm());
      EXPECT_EQ(g[0], gain[0] / s[0]);
      foldIntoNorm(s, g, none, v);
      EXPECT_EQ(v(0, 0), w(0, 0) * s[0] * s[0]);
    }
    {
      Eigen::MatrixXf v = w, p = previous;
      Eigen::VectorXf b = bias;
      const auto output = [&] { return Eigen::MatrixXf(v * ((p * z).colwise() + b)); };
      const Eigen::MatrixXf before = output();
      foldIntoLinear(s, p, b, v);
      EXPECT_LT((output() - before).norm(), 2e-6f * before.norm());
      EXPECT_EQ(p(0, 0), previous(0, 0) / s[0]);
    }
  }
}

TEST(SmoothQuant, RefusesWhatDoesNotFit) {
  RowMatrixXf w = gaussian(3, 5);
  expectThrows([&] { smoothQuantScales(w, gaussian(4, 6)); },
               "smoothQuantScales: expected W (out x in) and X (tokens x in) of as many inputs, got 3 x 5 and 4 x 6");
  expectThrows([&] { smoothQuantScales(w, gaussian(4, 5), {.alpha = 1.5f}); }, "expected alpha in [0, 1], got 1.5");
  expectThrows([&] { smoothQuantScales(w, RowMatrixXf(0, 5)); }, "smoothQuantScales: the matrix is empty (0 x 5)");
  RowMatrixXf x = gaussian(4, 5);
  x(1, 2) = std::numeric_limits<float>::quiet_NaN();
  expectThrows([&] { searchSmoothQuant(w, x); },
               "searchSmoothQuant: expected numbers that are finite in float, got nan");
  Eigen::VectorXf s = Eigen::VectorXf::Ones(5), gain = s, bias, four = Eigen::VectorXf::Ones(4);
  expectThrows([&] { foldIntoNorm(four, gain, bias, w); }, "foldIntoNorm: expected 5 channel scales, got 4");
  expectThrows([&] { foldIntoNorm(s, four, bias, w); }, "foldIntoNorm: expected 5 gains, got 4");
  expectThrows([&] { foldIntoNorm(s, gain, four, w); }, "foldIntoNorm: expected 5 biases or none, got 4");
  RowMatrixXf previous = gaussian(4, 2);
  expectThrows([&] { foldIntoLinear(s, previous, bias, w); },
               "foldIntoLinear: expected a previous layer of 5 outputs, got 4");
  RowMatrixXf fitting = gaussian(5, 2);
  expectThrows([&] { foldIntoLinear(s, fitting, four, w); }, "foldIntoLinear: expected 5 biases or none, got 4");
  s[1] = 0;
  expectThrows([&] { foldIntoLinear(s, fitting, bias, w); },
               "foldIntoLinear: expected channel scales that are positive");
}

}  // namespace
}  // namespace gosset::smoothquant_test
