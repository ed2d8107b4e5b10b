// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/awq.hpp>
#include <gosset/calibration/smoothquant.hpp>
#include <gosset/codebook.hpp>
#include <gosset/format/channel_scaled.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/matrix.hpp>
#include <gosset/theory.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::awq_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

using Int3 = Grouped<Asymmetric<3>, 64>;

RowMatrixXf activations(Index tokens, Index inputs) {
  RowMatrixXf x = gaussian(tokens, inputs, 5);
  x.col(inputs / 3) *= 60.f;
  x.col(inputs / 2) *= 25.f;
  return x;
}

template <class Q>
double outputError(const Q& q, const RowMatrixXf& w, const RowMatrixXf& x) {
  const RowMatrixXf exact = w * x.transpose();
  return static_cast<double>((q.dequantized() * x.transpose() - exact).norm() / exact.norm());
}

TEST(Awq, ScalesAreTheActivationsMagnitudeToThePowerOfAlpha) {
  Eigen::MatrixXf x(2, 3);
  x << 1, -4, 16, 1, 4, -16;
  const Awq awq(x);
  EXPECT_EQ(awq.scalesAt(0), Eigen::Vector3f(1, 1, 1));
  EXPECT_EQ(awq.scalesAt(0.5), Eigen::Vector3f(0.5f, 1, 2));
  EXPECT_EQ(awq.scalesAt(1), Eigen::Vector3f(0.25f, 1, 4));
}

TEST(Awq, BeatsNearestWhereAFewInputsAreLarge) {
  for (const Index inputs : {63, 172, 256}) {
    const RowMatrixXf w = gaussian(64, inputs), x = activations(128, inputs);
    const double nearest = outputError(quantize<Int3>(w), w, x);
    const double awq = outputError(quantize<ChannelScaled<Int3>>(w, Awq{x}), w, x);
    EXPECT_LT(awq, 0.6 * nearest) << inputs;
  }
}

TEST(Awq, BothEndsOfAlphaAreTried) {
  // One token in which input j has magnitude 2^j, and weights of 2^-j: alpha = 1 makes all weights equal, and exact.
  Eigen::RowVectorXf x(6), w(6);
  for (int j = 0; j < 6; ++j) x[j] = std::ldexp(1.f, j), w[j] = std::ldexp(1.f, -j);
  const auto q = quantize<ChannelScaled<PerChannel<Binary>>>(w, Awq(x, {.clip = false}));
  EXPECT_EQ(q.dequantized(), RowMatrixXf(w));
  // And where the inputs are alike, alpha changes nothing: the first, 0, is kept.
  const auto even = quantize<ChannelScaled<Int3>>(gaussian(8, 64), Awq(RowMatrixXf::Ones(3, 64), {.clip = false}));
  EXPECT_EQ(even.packed().channelScales(), Eigen::VectorXf::Ones(64));
  EXPECT_EQ(even.dequantized(), quantize<Int3>(gaussian(8, 64)).dequantized());
}

TEST(Awq, IsNeverWorseThanNearestOnItsOwnTokens) {
  for (const Index inputs : {1, 7, 9, 65}) {
    const RowMatrixXf w = gaussian(16, inputs), x = gaussian(50, inputs, 8);
    const double nearest = outputError(quantize<Int3>(w), w, x);
    EXPECT_LE(outputError(quantize<ChannelScaled<Int3, float>>(w, Awq(x, {.clip = false})), w, x), nearest * 1.0001);
  }
}

TEST(Awq, ClippingLowersTheError) {
  RowMatrixXf w = gaussian(64, 128);
  for (Index row = 0; row < 64; ++row) w(row, row) = 6;
  const RowMatrixXf x = gaussian(300, 128, 5);
  const auto error = [&](const auto& rounding, auto format) {
    return outputError(quantize<decltype(format)>(w, rounding), w, x);
  };
  EXPECT_LT(error(Awq{x}, Int3{}), 0.95 * error(Nearest{}, Int3{}));
  EXPECT_LT(error(Awq{x}, PerTensor<Symmetric<3>>{}), 0.95 * error(Nearest{}, PerTensor<Symmetric<3>>{}));
  EXPECT_EQ(error(Awq(x, {.clip = false}), Int3{}), error(Nearest{}, Int3{}));
  EXPECT_EQ(error(Awq(x, {.clip_steps = 1}), Int3{}), error(Nearest{}, Int3{}));
}

TEST(Awq, TakesTheAlphaOfTheLeastOutputErrorOfAll) {
  const RowMatrixXf w = gaussian(24, 65), x = activations(128, 65);
  for (const int steps : {1, 5, 20}) {
    const Awq awq(x, {.steps = steps, .clip = false, .search_rows = 0});
    Eigen::VectorXf best;
    double least = std::numeric_limits<double>::infinity();
    for (int step = 0; step <= steps; ++step) {
      const Eigen::VectorXf s = awq.scalesAt(static_cast<double>(step) / steps);
      const double error = outputError(quantize<ChannelScaled<Int3, float>>(w, ChannelScales(s)), w, x);
      if (error < least) least = error, best = s;
    }
    const auto q = quantize<ChannelScaled<Int3, float>>(w, awq);
    EXPECT_NEAR(outputError(q, w, x), least, 1e-4 * least) << steps;
    const Eigen::VectorXf ratio = q.packed().channelScales().cwiseQuotient(best);  // scales count up to a factor
    EXPECT_LT(ratio.maxCoeff(), 1.0001f * ratio.minCoeff()) << steps;
  }
}

/// y = W (gain * x + bias) with the scales folded into the norm in front, and the weights in the format.
TEST(Awq, FoldedScalesComputeTheSameFunction) {
  for (const Index inputs : testing::kOddSizes) {
    const RowMatrixXf w = gaussian(9, inputs), x = activations(40, inputs);
    Eigen::VectorXf gain = gaussian(inputs, 1, 3), bias = gaussian(inputs, 1, 4);
    const Eigen::MatrixXf z = gaussian(inputs, 5, 6);
    const Awq awq(x);
    for (const double alpha : {0.25, 1.0}) {
      Eigen::MatrixXf v = w;
      Eigen::VectorXf g = gain, b = bias;
      const auto output = [&](const Eigen::MatrixXf& weights) {
        return Eigen::MatrixXf(weights * ((g.asDiagonal() * z).colwise() + b));
      };
      const Eigen::MatrixXf before = output(v);
      foldIntoNorm(awq.scalesAt(alpha), g, b, v);
      EXPECT_LT((output(v) - before).norm(), 2e-6f * before.norm()) << inputs;
    }
    // The format carries the scales itself: the same product as that of the folded weights with divided inputs.
    const auto q = quantize<ChannelScaled<Int3, float>>(w, awq);
    const Eigen::VectorXf s = q.packed().channelScales();
    const RowMatrixXf inside = q.dequantized().array().rowwise() * s.transpose().array();
    const Eigen::MatrixXf divided = z.array().colwise() / s.array();
    EXPECT_LT((inside * divided - q.dequantized() * z).norm(), 2e-6f * (q.dequantized() * z).norm()) << inputs;
  }
}

TEST(Awq, WorksFromAHessian) {
  const RowMatrixXf w = gaussian(64, 172), x = activations(128, 172);
  Hessian h(172);
  h.accumulate(x);
  EXPECT_LT(outputError(quantize<ChannelScaled<Int3>>(w, Awq(h)), w, x), 0.6 * outputError(quantize<Int3>(w), w, x));
}

TEST(Awq, WorksOnASampleOfRows) {
  const RowMatrixXf w = gaussian(64, 172), x = activations(128, 172);
  const double all = outputError(quantize<ChannelScaled<Int3>>(w, Awq(x, {.search_rows = 0})), w, x);
  EXPECT_LT(outputError(quantize<ChannelScaled<Int3>>(w, Awq(x, {.search_rows = 16})), w, x), 1.1 * all);
}

TEST(Awq, InOtherBasesAndCodebooks) {
  const RowMatrixXf w = gaussian(64, 172), x = activations(128, 172);
  const double plain = outputError(quantize<Incoherent<E8P>>(w), w, x);
  EXPECT_LT(outputError(quantize<ChannelScaled<Incoherent<E8P>>>(w, Awq{x}), w, x), plain);
  EXPECT_LT(outputError(quantize<Incoherent<ChannelScaled<E8P>>>(w, Awq{x}), w, x), 1.2 * plain);
}

TEST(Awq, DeadInputsZeroWeightsAndWildMagnitudesGiveFiniteResults) {
  RowMatrixXf w = gaussian(16, 65), x = activations(40, 65);
  x.col(3).setZero();
  x.leftCols(2) *= 1e-30f;
  w.col(5).setZero();
  w.row(2).setZero();
  for (const float magnitude : {1e-30f, 1.f, 65504.f, 1e30f}) {
    for (const float weights : {1e-35f, 1.f, 1e35f}) {
      const auto q = quantize<ChannelScaled<Int3>>(w * weights, Awq(x * magnitude));
      EXPECT_TRUE(q.dequantized().allFinite());
      EXPECT_TRUE(q.packed().channelScales().allFinite());
      EXPECT_TRUE(q.dequantized().row(2).isZero(0));
      EXPECT_LT(outputError(quantize<ChannelScaled<Int3>>(w, Awq(x * magnitude)), w, x), 0.3);
    }
  }
  EXPECT_TRUE(quantize<ChannelScaled<Int3>>(w, Awq(RowMatrixXf::Zero(4, 65))).dequantized().allFinite());
  EXPECT_TRUE(quantize<ChannelScaled<Int3>>(RowMatrixXf::Zero(4, 65), Awq(x)).dequantized().isZero(0));
}

TEST(Awq, AHessianThatSawNothingScalesNothing) {
  const RowMatrixXf w = gaussian(9, 65);
  const auto q = quantize<ChannelScaled<Int3>>(w, Awq(Hessian(65), {.clip = false}));
  EXPECT_EQ(q.packed().channelScales(), Eigen::VectorXf::Ones(65));
  EXPECT_LT((q.dequantized() - quantize<Int3>(w).dequantized()).norm(), 1e-2f * w.norm());
}

TEST(Awq, RefusesWhatItCannotUse) {
  const RowMatrixXf x = gaussian(4, 5);
  Eigen::Matrix<Float16, 1, 2> overflown(Float16(1.f), Float16(1e6f));
  expectThrows([&] { Awq{overflown}; }, "the activations hold NaN or infinity");
  expectThrows([&] { Awq(RowMatrixXf(0, 5)); },
               "Awq: expected the activations of at least 1 token (tokens x in), got 0 x 5");
  expectThrows([&] { Awq(x, {.steps = 0}); }, "Awq: expected a number of steps >= 1, got 0");
  expectThrows([&] { Awq(x, {.clip_steps = 21}); }, "Awq: expected a number of clip steps in 1 .. 20, got 21");
  expectThrows([&] { Awq(x, {.search_rows = -1}); }, "Awq: expected a number of rows >= 0, got -1");
  expectThrows([&] { (void)quantize<ChannelScaled<Int3>>(gaussian(3, 6), Awq{x}); },
               "Awq: expected a matrix of 5 inputs, as the activations have, got 6");
  expectThrows([&] { (void)quantize<Int3>(gaussian(3, 6), Awq{x}); }, "Awq: expected a matrix of 5 inputs");
}

}  // namespace
}  // namespace gosset::awq_test
