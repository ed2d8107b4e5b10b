// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/matrix.hpp>
#include <gosset/train/learned_step.hpp>

#include "testing.hpp"

namespace gosset {
namespace {

using testing::expectThrows;
using testing::gaussian;

TEST(LearnedStep, StartsWhereQuantizeIs) {
  const RowMatrixXf w = gaussian(9, 65);
  const auto start = [&](auto format) {
    using F = decltype(format);
    const LearnedStep<F> steps(w);
    EXPECT_LT((steps.forward(w) - quantize<F>(w).dequantized()).norm(), 1e-5f * w.norm());
    return std::pair(steps.scales().rows(), steps.scales().cols());
  };
  EXPECT_EQ(start(PerChannel<Symmetric<4>>{}), std::pair(Index{9}, Index{1}));
  EXPECT_EQ(start(Grouped<Symmetric<3>, 32>{}), std::pair(Index{9}, Index{3}));
  EXPECT_EQ(start(Ternary{}), std::pair(Index{1}, Index{1}));
}

TEST(LearnedStep, GradientsByHand) {
  Eigen::RowVectorXf w(4), g(4);
  w << 0.25f, 1.f, -3.5f, 0.75f;
  g << 1, 2, 4, 8;
  LearnedStep<Symmetric<2>> steps(w);  // levels -1, 0, 1
  steps.scales()(0, 0) = 1;
  const auto gradients = steps.backward(w, g);
  Eigen::RowVectorXf expected(4);
  expected << 1, 2, 0, 8;
  EXPECT_EQ(gradients.weights, RowMatrixXf(expected));
  // (0 - 0.25) * 1 + (1 - 1) * 2 + (-1) * 4 + (1 - 0.75) * 8 = -2.25, over sqrt(4 * 1)
  EXPECT_FLOAT_EQ(gradients.scales(0, 0), -1.125f);
  steps.scales()(0, 0) = 0;
  EXPECT_TRUE(steps.forward(w).isZero(0));
  EXPECT_EQ(steps.backward(w, g).weights, RowMatrixXf(g));
  EXPECT_EQ(steps.backward(w, g).scales(0, 0), 0);
}

/// Away from the points where a code changes, the loss is |scale * level - w|^2 and its derivative d/dscale is sum 2
/// (value - w) * level. LSQ's estimate differs by design in unclipped entries; where all are clipped they agree.
TEST(LearnedStep, AgreesWithDifferencesWhereAllIsClipped) {
  const RowMatrixXf w = 10.f * RowMatrixXf::Ones(2, 8) + 0.5f * gaussian(2, 8);
  LearnedStep<PerChannel<Symmetric<3>>> steps(w);
  steps.scales().setConstant(0.5f);
  const auto loss = [&] { return (steps.forward(w) - w).cast<double>().squaredNorm(); };
  const RowMatrixXf g = 2 * (steps.forward(w) - w);
  const auto gradients = steps.backward(w, g);
  EXPECT_TRUE(gradients.weights.isZero(0));
  for (Index row = 0; row < 2; ++row) {
    constexpr float kStep = 1.f / 64;
    steps.scales()(row, 0) += kStep;
    const double above = loss();
    steps.scales()(row, 0) -= 2 * kStep;
    const double below = loss();
    steps.scales()(row, 0) += kStep;
    EXPECT_NEAR((above - below) / (2 * static_cast<double>(kStep)),
                static_cast<double>(gradients.scales(row, 0)) * std::sqrt(8.0 * 3.0), 0.01);
  }
}

TEST(LearnedStep, LearnsAScaleThatLosesLess) {
  const RowMatrixXf w = gaussian(8, 256);
  LearnedStep<PerChannel<Symmetric<3>>> steps(w);
  const auto loss = [&] { return (steps.forward(w) - w).squaredNorm(); };
  const float before = loss();
  for (int i = 0; i < 300; ++i) steps.scales() -= 0.01f * steps.backward(w, 2 * (steps.forward(w) - w)).scales;
  EXPECT_LT(loss(), 0.8f * before);
}

TEST(LearnedStep, RefusesOtherShapes) {
  const LearnedStep<Ternary> steps(gaussian(3, 4));
  expectThrows([&] { steps.forward(gaussian(4, 3)); }, "LearnedStep::forward: expected weights of 3 x 4, got 4 x 3");
  expectThrows([&] { steps.backward(gaussian(4, 3), gaussian(4, 3)); },
               "LearnedStep::backward: expected weights of 3 x 4");
  expectThrows([&] { steps.backward(gaussian(3, 4), gaussian(4, 3)); },
               "LearnedStep::backward: expected a gradient of 3 x 4, as the weights have, got 4 x 3");
}

}  // namespace
}  // namespace gosset
