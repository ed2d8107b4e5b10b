// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/matrix.hpp>
#include <gosset/train/learned_step.hpp>

#include "testing.hpp"

#include <limits>
#include <utility>

namespace gosset::learned_step_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

template <class Format>
class LearnedStepOf : public ::testing::Test {};
using Formats = ::testing::Types<PerChannel<Symmetric<4>>, Grouped<Asymmetric<3>, 32>, Grouped<LloydMax<2>, 16, float>,
                                 PerTensor<Ternary>, Ternary>;
TYPED_TEST_SUITE(LearnedStepOf, Formats);

TYPED_TEST(LearnedStepOf, StartsWhereQuantizeIs) {
  for (const Index cols : {1, 9, 65}) {
    for (const float size : {1.f, 1e-20f, 1e30f}) {
      const RowMatrixXf w = size * gaussian(9, cols);
      const LearnedStep<TypeParam> steps(w);
      EXPECT_EQ(steps.quantized(w), quantize<TypeParam>(w)) << cols << ", " << size;
      EXPECT_EQ(steps.forward(w), quantize<TypeParam>(w).dequantized());
    }
  }
}

/// Zeros where the codebook has them, else numbers of the size of the step that they start with.
TYPED_TEST(LearnedStepOf, ZeroGroupsStartWithATinyStep) {
  const LearnedStep<TypeParam> zero(RowMatrixXf::Zero(3, 40));
  EXPECT_TRUE((zero.scales().array() == 0x1p-10f).all());
  EXPECT_LE(zero.forward(RowMatrixXf::Zero(3, 40)).cwiseAbs().maxCoeff(), 0x1p-10f);
  RowMatrixXf w = gaussian(9, 65);
  w.row(4).setZero();
  const LearnedStep<TypeParam> steps(w);
  const RowMatrixXf fresh = quantize<TypeParam>(w).dequantized();
  EXPECT_GT(steps.scales().minCoeff(), 0);
  EXPECT_LE((steps.forward(w) - fresh).cwiseAbs().maxCoeff(), 0x1p-10f * steps.scales().maxCoeff());
  if (steps.scales().rows() > 1) {
    EXPECT_EQ(steps.scales()(4, 0), 0x1p-10f * steps.scales().maxCoeff());
  }
}

/// With as many levels below as above.
TEST(LearnedStep, ZeroGroupsStartInTheMiddleOfTheirLevels) {
  RowMatrixXf w = RowMatrixXf::Zero(2, 32);
  w(1, 3) = 7;
  const LearnedStep<Grouped<Asymmetric<3>, 32>> steps(w);
  EXPECT_EQ(steps.zeros()(0, 0), 4);
  EXPECT_EQ(steps.zeros()(1, 0), 0) << "a group that goes from 0 to 7 starts as it is fitted";
}

/// All steps are those of the format, and finite, whatever an optimizer made of them.
TYPED_TEST(LearnedStepOf, AStepIsNeverLessThanTheLeast) {
  const RowMatrixXf w = gaussian(9, 65), g = gaussian(9, 65, 2);
  LearnedStep<TypeParam> floor(w);
  floor.scales() *= 0x1p-10f;
  const auto least = floor.quantized(w);
  for (const float wrong : {0x1p-11f, 0.f, -0.f, -1.f, -1e30f}) {
    LearnedStep<TypeParam> steps(w);
    steps.scales() *= wrong;
    EXPECT_EQ(steps.quantized(w), least) << wrong;
    EXPECT_EQ(steps.forward(w), least.dequantized()) << wrong;
    const auto gradients = steps.backward(w, g), expected = floor.backward(w, g);
    EXPECT_EQ(gradients.weights, expected.weights);
    EXPECT_EQ(gradients.scales, expected.scales);
    EXPECT_EQ(gradients.zeros, expected.zeros);
    EXPECT_TRUE((gradients.scales.array() != 0).any());
  }
}

TYPED_TEST(LearnedStepOf, TinyAndHugeWeightsStayFinite) {
  for (const Index cols : testing::kOddSizes) {
    for (const float start : {0x1p-149f, 1e-40f, 1e-20f, 1.f, 1e30f}) {
      const RowMatrixXf w = start * gaussian(3, cols);
      const LearnedStep<TypeParam> steps(w);
      for (const float now : {0.f, -0.f, 1e-40f, 1.f, 1e30f}) {  // weights move on, steps stay behind
        const RowMatrixXf moved = now * gaussian(3, cols, 3);
        const auto gradients = steps.backward(moved, gaussian(3, cols, 2));
        EXPECT_TRUE(steps.forward(moved).allFinite()) << start << ' ' << now;
        EXPECT_GT(steps.quantized(moved).packed().affine(0, 0).scale, 0) << start << ' ' << now;
        EXPECT_TRUE(gradients.weights.allFinite()) << start << ' ' << now;
        EXPECT_TRUE(gradients.zeros.allFinite()) << start << ' ' << now;
      }
    }
  }
}

/// |forward(W) - target|^2 by gradient descent on the weights, the steps and the zero points.
template <class Format>
float trained(RowMatrixXf w, LearnedStep<Format>& steps, const RowMatrixXf& target) {
  for (int i = 0; i < 1000; ++i) {
    const auto gradients = steps.backward(w, 2 * (steps.forward(w) - target));
    w -= 0.05f * gradients.weights;
    steps.scales() -= 0.05f * gradients.scales;
    if (steps.zeros().size() > 0) steps.zeros() -= 0.05f * gradients.zeros;
  }
  EXPECT_TRUE(w.allFinite() && steps.scales().allFinite());
  return (steps.forward(w) - target).squaredNorm();
}

TYPED_TEST(LearnedStepOf, ComesBackFromZeroAndBelow) {
  const RowMatrixXf target = gaussian(4, 32);
  const float fresh = (quantize<TypeParam>(target).dequantized() - target).squaredNorm();
  for (const float start : {1e-3f, 1e-8f, 0.f}) {
    const RowMatrixXf w = start * gaussian(4, 32, 7);
    LearnedStep<TypeParam> steps(w);
    EXPECT_LT(trained(w, steps, target), 3 * fresh) << start;
  }
  LearnedStep<TypeParam> negative(target);
  negative.scales().setConstant(-0.01f);
  EXPECT_LT(trained(target, negative, target), 3 * fresh);
}

/// Wherever an optimizer has moved them, the scales that are kept are the ones that training saw.
TYPED_TEST(LearnedStepOf, WhatItExportsIsWhatItTrained) {
  const RowMatrixXf w = gaussian(9, 65);
  LearnedStep<TypeParam> steps(w);
  steps.scales() *= 1.234567f;
  steps.zeros().array() += 0.3f;
  const auto q = steps.quantized(w);
  EXPECT_EQ(q.dequantized(), steps.forward(Eigen::MatrixXd(w.cast<double>())));
  for (Index row = 0; row < 9; ++row) {
    EXPECT_NEAR(q.packed().affine(row, 0).scale, steps.scales()(std::min(row, steps.scales().rows() - 1), 0),
                1e-3f * steps.scales()(0, 0));
    if (steps.zeros().size() > 0) {
      EXPECT_NEAR(q.packed().affine(row, 0).zero, steps.zeros()(row, 0), 2e-3f);
    }
  }
  EXPECT_NE(q, quantize<TypeParam>(w));
}

TEST(LearnedStep, HasAScaleAGroup) {
  const auto shape = [](const auto& steps) { return std::pair(steps.scales().rows(), steps.scales().cols()); };
  const RowMatrixXf w = gaussian(9, 65);
  EXPECT_EQ(shape(LearnedStep<PerChannel<Symmetric<4>>>(w)), std::pair(Index{9}, Index{1}));
  EXPECT_EQ(shape(LearnedStep<Grouped<Symmetric<3>, 32>>(w)), std::pair(Index{9}, Index{3}));
  EXPECT_EQ(shape(LearnedStep<Ternary>(w)), std::pair(Index{1}, Index{1}));
  EXPECT_EQ(LearnedStep<Ternary>(w).zeros().size(), 0);
  EXPECT_EQ((LearnedStep<Grouped<Asymmetric<3>, 32>>(w).zeros().size()), 27);
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
}

TEST(LearnedStep, GradientsOfZeroPointsByHand) {
  Eigen::RowVectorXf w(4), g(4);
  w << 0.5f, 4.f, -3.f, 1.f;
  g << 1, 2, 4, 8;
  LearnedStep<Asymmetric<2>> steps(w);  // levels 0 .. 3
  steps.scales()(0, 0) = 2;
  steps.zeros()(0, 0) = 1;
  Eigen::RowVectorXf values(4), expected(4);
  values << 0, 4, -2, 2;  // codes of 1.25, 3, -0.5 and 1.5, a tie that goes to even
  EXPECT_EQ(steps.forward(w), RowMatrixXf(values));
  const auto gradients = steps.backward(w, g);
  EXPECT_EQ(gradients.weights, RowMatrixXf(g)) << "-0.5 is half a step out, not more";
  EXPECT_EQ(gradients.zeros(0, 0), 0);
  w(2) = -3.5f;
  expected << 1, 2, 0, 8;
  const auto clipped = steps.backward(w, g);
  EXPECT_EQ(clipped.weights, RowMatrixXf(expected));
  // (0 - 0.25) * 1 + (2 - 2) * 2 + (0 - 1) * 4 + (1 - 0.5) * 8, over sqrt(4 * 3)
  EXPECT_FLOAT_EQ(clipped.scales(0, 0), -0.25f / std::sqrt(12.f));
  EXPECT_FLOAT_EQ(clipped.zeros(0, 0), -8 / std::sqrt(12.f));
}

TEST(LearnedStep, GradientsOfEveryGroupByHand) {
  RowMatrixXf w(2, 5), g(2, 5), weights(2, 5), values(2, 5);
  w << 0.5f, 3, -3, 8, 1,  //
      -1, 0.25f, 0.75f, -4, 6;
  g << 1, 2, 4, 8, 16,  //
      1, 1, 1, 1, 1;
  LearnedStep<Grouped<Symmetric<2>, 2>> steps(w);  // levels -1, 0, 1; the last group has one number
  steps.scales() << 1, 4, 2,                       //
      0.5f, 2, 3;
  values << 0, 1, -4, 4, 0,   // of 0.5, 3, -0.75, 2 and 0.5, a tie that goes to even
      -0.5f, 0, 0, -2, 3;     // of -2, 0.5, 0.375, -2 and 2
  weights << 1, 0, 4, 0, 16,  //
      0, 1, 1, 0, 0;
  EXPECT_EQ(steps.forward(w), values);
  const auto gradients = steps.backward(w, g);
  EXPECT_EQ(gradients.weights, weights);
  RowMatrixXf scales(2, 3);
  scales << -0.5f * 1 + 1 * 2, (-1 + 0.75f) * 4 + 1 * 8, -0.5f * 16,  //
      -1 - 0.5f, -0.375f - 1, 1;
  scales.leftCols(2) /= std::sqrt(2.f);
  EXPECT_TRUE(gradients.scales.isApprox(scales, 1e-6f)) << gradients.scales;
}

TEST(LearnedStep, GradientsOfOneStepForAllRowsByHand) {
  RowMatrixXf w(2, 3), g(2, 3), weights(2, 3);
  w << 0.25f, 1, -3.5f,  //
      0.75f, 5, 1.5f;
  g << 1, 2, 4,  //
      8, 16, 32;
  weights << 1, 2, 0,  //
      8, 0, 32;
  LearnedStep<PerTensor<Symmetric<2>>> steps(w);  // levels -1, 0, 1
  steps.scales()(0, 0) = 1;
  const auto gradients = steps.backward(w, g);
  EXPECT_EQ(gradients.weights, weights) << "1.5 is half a step out, not more";
  ASSERT_EQ(gradients.scales.size(), 1);
  // -0.25 * 1 + 0 * 2 - 1 * 4, then 0.25 * 8 + 1 * 16 - 0.5 * 32, over sqrt(6 numbers * level 1)
  EXPECT_FLOAT_EQ(gradients.scales(0, 0), -2.25f / std::sqrt(6.f));
}

/// Every group has its own map, the last, shorter one as well, as the scale's type holds it.
TEST(LearnedStep, ExportsTheMapOfEveryGroup) {
  const RowMatrixXf w = gaussian(3, 10), scales = 0.1f * gaussian(3, 3, 2).cwiseAbs().array() + 0.1f;
  const RowMatrixXf zeros = 3.f * gaussian(3, 3, 3).cwiseAbs();
  LearnedStep<Grouped<Asymmetric<3>, 4>> half(w);
  LearnedStep<Grouped<Asymmetric<3>, 4, float>> single(w);
  half.scales() = single.scales() = scales;
  half.zeros() = single.zeros() = zeros;
  const auto q = half.quantized(w);
  const auto exact = single.quantized(w);
  for (Index row = 0; row < 3; ++row) {
    for (Index group = 0; group < 3; ++group) {
      const float scale = scales(row, group), zero = zeros(row, group);
      EXPECT_EQ(exact.packed().affine(row, group), (Affine{scale, zero}));
      EXPECT_EQ(q.packed().affine(row, group),
                (Affine{static_cast<float>(Float16(scale)), static_cast<float>(Float16(zero))}));
      for (Index col = 4 * group; col < std::min<Index>(10, 4 * group + 4); ++col) {
        const float level = std::clamp(std::nearbyint(w(row, col) / scale + zero), 0.f, 7.f);
        EXPECT_FLOAT_EQ(exact.dequantized()(row, col), scale * (level - zero)) << row << ", " << col;
      }
    }
  }
}

/// Half holds 2.3 as 2.30078125 and 0.7 as 0.7001953125: what is stored is what counts, in both directions.
TEST(LearnedStep, ZeroPointsCountAsTheyAreStored) {
  Eigen::RowVectorXf w(3), g(3);
  w << 0.3f, 5, -4;
  g << 1, 2, 4;
  constexpr float kScale = 0.7001953125f, kZero = 2.30078125f;
  LearnedStep<PerChannel<Asymmetric<2>>> steps(w);
  steps.scales()(0, 0) = 0.7f;
  steps.zeros()(0, 0) = 2.3f;
  const auto q = steps.quantized(w);
  EXPECT_EQ(q.packed().affine(0, 0), (Affine{kScale, kZero}));
  Eigen::RowVectorXf values(3), expected(3);
  values << kScale * (3 - kZero), kScale * (3 - kZero), kScale * -kZero;  // of 2.73, 9.4 and -3.4
  EXPECT_EQ(steps.forward(w), RowMatrixXf(values));
  const auto gradients = steps.backward(w, g);
  expected << 1, 0, 0;
  EXPECT_EQ(gradients.weights, RowMatrixXf(expected));
  EXPECT_FLOAT_EQ(gradients.scales(0, 0), ((3 - kZero - 0.3f / kScale) + 2 * (3 - kZero) + 4 * -kZero) / 3);
  EXPECT_FLOAT_EQ(gradients.zeros(0, 0), -(2 + 4) * kScale / 3);  // sqrt(3 numbers * level 3) = 3
}

/// A clipped number becomes scale * (end level - zero), whose derivatives are those that backward() takes.
TEST(LearnedStep, AgreesWithDifferencesInEveryGroup) {
  const RowMatrixXf w = 10.f * RowMatrixXf::Ones(3, 10) + 0.5f * gaussian(3, 10), target = gaussian(3, 10, 5);
  LearnedStep<Grouped<Asymmetric<3>, 4, float>> steps(w);
  steps.scales() = 0.5f * RowMatrixXf::Ones(3, 3) + 0.05f * gaussian(3, 3, 6);
  steps.zeros() = 2.f * RowMatrixXf::Ones(3, 3) + 0.25f * gaussian(3, 3, 7);
  const auto loss = [&] { return (steps.forward(w) - target).cast<double>().squaredNorm(); };
  const auto gradients = steps.backward(w, 2 * (steps.forward(w) - target));
  EXPECT_TRUE(gradients.weights.isZero(0));
  const auto difference = [&](float& parameter) {
    constexpr float kStep = 1.f / 256;
    const float start = parameter;
    parameter = start + kStep;
    const double above = loss();
    parameter = start - kStep;
    const double below = loss();
    parameter = start;
    return (above - below) / (2 * static_cast<double>(kStep));
  };
  for (Index row = 0; row < 3; ++row) {
    for (Index group = 0; group < 3; ++group) {
      const double size = std::sqrt((group < 2 ? 4.0 : 2.0) * 7.0);
      EXPECT_NEAR(difference(steps.scales()(row, group)), size * static_cast<double>(gradients.scales(row, group)),
                  0.02);
      EXPECT_NEAR(difference(steps.zeros()(row, group)), size * static_cast<double>(gradients.zeros(row, group)), 0.02);
    }
  }
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

TEST(LearnedStep, LearnsAZeroPointThatLosesLess) {
  const RowMatrixXf w = gaussian(8, 256).array() + 2.f;
  LearnedStep<PerChannel<Asymmetric<3>>> steps(w);
  steps.zeros().setConstant(3.5f);  // as if the range lay around zero
  const auto loss = [&] { return (steps.forward(w) - w).squaredNorm(); };
  const float before = loss();
  for (int i = 0; i < 100; ++i) steps.zeros() -= 0.02f * steps.backward(w, 2 * (steps.forward(w) - w)).zeros;
  EXPECT_LT(loss(), 0.5f * before);
}

TEST(LearnedStep, RefusesOtherShapes) {
  const LearnedStep<Ternary> steps(gaussian(3, 4));
  expectThrows([&] { steps.forward(gaussian(4, 3)); }, "LearnedStep::forward: expected weights of 3 x 4, got 4 x 3");
  expectThrows([&] { steps.backward(gaussian(4, 3), gaussian(4, 3)); },
               "LearnedStep::backward: expected weights of 3 x 4");
  expectThrows([&] { steps.backward(gaussian(3, 4), gaussian(4, 3)); },
               "LearnedStep::backward: expected a gradient of 3 x 4, as the weights have, got 4 x 3");
}

TEST(LearnedStep, RefusesWhatIsNotFinite) {
  const RowMatrixXf w = gaussian(3, 4);
  LearnedStep<PerChannel<Asymmetric<4>>> steps(w);
  steps.zeros()(1, 0) = std::numeric_limits<float>::quiet_NaN();
  expectThrows([&] { steps.forward(w); },
               "LearnedStep::forward: expected finite scales and zero points, got NaN or an infinity");
  expectThrows([&] { LearnedStep<Ternary>(w).quantized(w * std::numeric_limits<float>::infinity()); },
               "LearnedStep::quantized: expected numbers that are finite");
}

}  // namespace
}  // namespace gosset::learned_step_test
