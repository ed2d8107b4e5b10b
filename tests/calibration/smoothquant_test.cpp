// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/smoothquant.hpp>

#include "testing.hpp"

#include <cmath>
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

TEST(SmoothQuant, MagnitudesCountWhateverTheirSign) {
  Eigen::Matrix2f w, x;
  w << 1, 0.5f, -4, -0.25f;
  x << 2, -9, -16, 3;  // maxima 16 and 9 of the activations; 4 and 0.5 of the weights
  EXPECT_EQ(smoothQuantScales(w, x, {.alpha = 1}), Eigen::Vector2f(16, 9));
  EXPECT_EQ(smoothQuantScales(w, x, {.alpha = 0}), Eigen::Vector2f(0.25f, 2));
  EXPECT_EQ(smoothQuantScales(w, x), Eigen::Vector2f(2, std::sqrt(18.f)));
}

/// What is below 1e-5 of the largest counts as that, and what is all zero as 1.
TEST(SmoothQuant, DeadChannelsHaveTheScalesOfTheFloor) {
  const Eigen::RowVector4f dead(8, 0, -7e-5f, 9e-5f), ones = Eigen::RowVector4f::Ones(), zeros(0, 0, 0, 0);
  const auto near = [](const Eigen::VectorXf& s, const Eigen::Vector4f& expected) {
    EXPECT_LT((s - expected).cwiseQuotient(expected).cwiseAbs().maxCoeff(), 1e-6f) << s.transpose();
  };
  near(smoothQuantScales(ones, dead, {.alpha = 1}), {8, 8e-5f, 8e-5f, 9e-5f});
  near(smoothQuantScales(dead, ones, {.alpha = 0}), {1 / 8.f, 1 / 8e-5f, 1 / 8e-5f, 1 / 9e-5f});
  near(smoothQuantScales(ones, zeros, {.alpha = 1}), ones);
  near(smoothQuantScales(zeros, 4 * ones, {.alpha = 0.5f}), 2 * ones);
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
  constexpr float kLeast = std::numeric_limits<float>::min();
  const RowMatrixXf tiny = RowMatrixXf::Constant(1, 1, 1e-40f), huge = RowMatrixXf::Constant(1, 1, 1e38f);
  EXPECT_EQ(smoothQuantScales(huge, tiny)[0], kLeast) << "and not 1e-39, which has lost digits";
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

/// W in 8 bits with a scale a row times X alike, in double.
double errorAt(const RowMatrixXf& w, const RowMatrixXf& x, float alpha) {
  const Eigen::VectorXf s = smoothQuantScales(w, x, {.alpha = alpha});
  const auto rounded = [](RowMatrixXf m) {
    for (Index row = 0; row < m.rows(); ++row) {
      const float step = m.row(row).cwiseAbs().maxCoeff() / 127;
      if (step == 0) continue;
      for (float& value : m.row(row)) value = step * std::nearbyint(value / step);
    }
    return Eigen::MatrixXd(m.cast<double>());
  };
  const Eigen::MatrixXd exact = w.cast<double>() * x.cast<double>().transpose();
  const Eigen::MatrixXd product = rounded(w.array().rowwise() * s.transpose().array()) *
                                  rounded(x.array().rowwise() / s.transpose().array()).transpose();
  return (product - exact).norm() / exact.norm();
}

/// Powers of two evened out are exact: by the weights where each token has one input, and the reverse.
TEST(SmoothQuant, TheSearchTriesBothEnds) {
  RowMatrixXf uneven(1, 6);
  for (int j = 0; j < 6; ++j) uneven(0, j) = std::ldexp(j % 2 == 0 ? 1.f : -1.f, j);
  const RowMatrixXf one_by_one = RowMatrixXf::Identity(6, 6);
  const SmoothQuantSearch weights = searchSmoothQuant(uneven, one_by_one);
  EXPECT_EQ(weights.alpha, 0);
  EXPECT_LT(weights.error, 1e-6);
  EXPECT_GT(errorAt(uneven, one_by_one, 0.05f), 1e-4);
  const SmoothQuantSearch activations = searchSmoothQuant(one_by_one, uneven);
  EXPECT_EQ(activations.alpha, 1);
  EXPECT_LT(activations.error, 1e-6);
  EXPECT_GT(errorAt(one_by_one, uneven, 0.95f), 1e-4);
}

TEST(SmoothQuant, OfEqualOnesTheSearchTakesTheFirst) {
  const SmoothQuantSearch nothing = searchSmoothQuant(gaussian(4, 9), RowMatrixXf::Zero(3, 9));
  EXPECT_EQ(nothing.error, 0);
  EXPECT_EQ(nothing.alpha, 0);
}

TEST(SmoothQuant, TheSearchIsExhaustive) {
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    RowMatrixXf w = gaussian(7, 12, seed), x = gaussian(9, 12, seed + 10);
    x.col(5) *= seed % 2 == 0 ? -40.f : 3.f;
    w.col(2) *= seed > 2 ? -30.f : 2.f;
    float best = 0;
    for (int step = 1; step <= 20; ++step) {
      const float alpha = static_cast<float>(step) / 20;
      if (errorAt(w, x, alpha) < errorAt(w, x, best)) best = alpha;
    }
    const SmoothQuantSearch found = searchSmoothQuant(w, x);
    EXPECT_EQ(found.alpha, best) << seed;
    EXPECT_NEAR(found.error, errorAt(w, x, best), 1e-3 * found.error) << seed;
    EXPECT_EQ(found.s, smoothQuantScales(w, x, {.alpha = best})) << seed;
  }
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
