// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/awq.hpp>
#include <gosset/calibration/smoothquant.hpp>
#include <gosset/codebook.hpp>
#include <gosset/format/channel_scaled.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/matrix.hpp>
#include <gosset/theory.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

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

/// Mean magnitudes of tokens, root mean squares of a Hessian; nothing is less than 1e-4 of the largest.
TEST(Awq, ScalesByHand) {
  Eigen::MatrixXf x(2, 2);
  x << 0, -2, 4, 2;
  EXPECT_EQ(Awq(x).scalesAt(1), Eigen::Vector2f(1, 1));
  Hessian h(2);
  h.accumulate(x);
  const float root = std::sqrt(std::sqrt(2.f));  // root mean squares of sqrt 8 and 2
  EXPECT_LT((Awq(h).scalesAt(1) - Eigen::Vector2f(root, 1 / root)).norm(), 1e-6f);
  const Eigen::RowVector4f dead(-8, 0, 7e-4f, -16e-4f);
  const Eigen::Vector4f floored(100, 0.01f, 0.01f, 0.02f);
  EXPECT_LT((Awq(dead).scalesAt(1) - floored).cwiseQuotient(floored).cwiseAbs().maxCoeff(), 1e-6f);
  const Eigen::Vector4f half(10, 0.1f, 0.1f, 0.1f * std::sqrt(2.f));
  EXPECT_LT((Awq(dead).scalesAt(0.5) - half).cwiseQuotient(half).cwiseAbs().maxCoeff(), 1e-6f);
}

/// In another basis the magnitudes are those of its inputs: here the two change places, and one is turned round.
TEST(Awq, ScalesOfAnotherBasisByHand) {
  const Eigen::RowVector2f x(1, 4);
  const BasisChange swapped{.hessian = [](Eigen::MatrixXd& h) { h = h.reverse().eval(); },
                            .tokens = [](RowMatrixXf& tokens) { tokens = tokens.rowwise().reverse().eval(); }};
  EXPECT_EQ(Awq(x).scalesAt(1), Eigen::Vector2f(0.5f, 2));
  EXPECT_EQ(Awq(x).inBasis(swapped).scalesAt(1), Eigen::Vector2f(2, 0.5f));
  EXPECT_EQ(Awq(x).inBasis(swapped).inBasis(swapped).scalesAt(1), Eigen::Vector2f(0.5f, 2));
}

/// What channelScales() tries, and what it takes of it: the first of the least losses.
TEST(Awq, TriesTheDocumentedGridOnRowsThatAreSpreadEvenly) {
  RowMatrixXf w(7, 2);
  for (Index i = 0; i < 7; ++i) w.row(i) << static_cast<float>(i), 1;
  Eigen::RowVector2f x(1, 4);  // scales 2^-alpha and 2^alpha
  const auto run = [&](Index search_rows, const std::vector<float>& errors) {
    std::vector<std::vector<float>> rows;
    std::vector<float> alphas;
    const auto trial = [&](const RowMatrixXf& sample, const Eigen::VectorXf& s) {
      std::vector<float> numbers;
      for (Index i = 0; i < sample.rows(); ++i) numbers.push_back(sample(i, 0));
      rows.push_back(numbers);
      EXPECT_NEAR(s[0] * s[1], 1, 1e-6f);
      alphas.push_back(std::log2(s[1]));
      return RowMatrixXf(sample.array() + errors[alphas.size() - 1]);
    };
    const Awq awq(x, {.steps = 4, .search_rows = search_rows});
    const float best = std::log2(awq.channelScales(w, trial)[1]);
    EXPECT_THAT(alphas, ::testing::Pointwise(::testing::FloatNear(1e-6f), {0.f, 0.25f, 0.5f, 0.75f, 1.f}));
    for (const auto& numbers : rows) EXPECT_EQ(numbers, rows[0]);
    return std::pair(best, rows[0]);
  };
  using Rows = std::vector<float>;
  const auto [first, three] = run(3, {1, 1, 2, 3, 4});
  EXPECT_NEAR(first, 0, 1e-6f);
  EXPECT_EQ(three, (Rows{0, 2, 4}));  // 0 / 3, 7 / 3 and 14 / 3
  const auto [last, five] = run(5, {5, 4, 3, 2, 1});
  EXPECT_NEAR(last, 1, 1e-6f);
  EXPECT_EQ(five, (Rows{0, 1, 2, 4, 5}));
  const auto [inside, all] = run(0, {5, 4, -3, 4, 3.5f});
  EXPECT_NEAR(inside, 0.5, 1e-6f);
  EXPECT_EQ(all, (Rows{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(run(7, {5, 4, 3, 4, 5}).second, all);
}

/// Every group of a row, or of all rows where one scale serves them, under each of the documented ranges, in double.
template <ScaledFormat F>
std::vector<int> expectClippedAsByExhaustiveSearch(const RowMatrixXf& w, const RowMatrixXf& x, int steps) {
  using C = typename F::Codebook;
  Hessian h(x.cols());
  h.accumulate(x);
  const auto q = quantize<F>(w, Awq(x, {.clip_steps = steps}));
  const Index width = F::groupWidth(w.cols()), together = F::kOneRowOnly ? 1 : w.rows();
  std::vector<int> chosen;
  for (Index row = 0; row < w.rows(); row += together) {
    for (Index begin = 0; begin < w.cols(); begin += width) {
      const Index count = std::min(width, w.cols() - begin);
      const RowMatrixXf numbers = w.block(row, begin, together, count);
      const auto fit = [&](int step) {
        const float share = 1 - static_cast<float>(step) / 20;
        const RowMatrixXf inside = numbers.cwiseMax(share * numbers.minCoeff()).cwiseMin(share * numbers.maxCoeff());
        return fitAffine<C, typename F::Scale>(PublishedRule{},
                                               {inside.data(), static_cast<std::size_t>(inside.size())}, count);
      };
      std::vector<double> losses;
      for (int step = 0; step < steps; ++step) {
        const Affine a = fit(step);
        Eigen::MatrixXd error = numbers.cast<double>();
        for (Index i = 0; i < numbers.rows(); ++i) {
          for (Index j = 0; j < count; ++j) {
            float back;
            decode<C>(encode<C>(&numbers(i, j), a), a, &back);
            error(i, j) -= static_cast<double>(back);
          }
        }
        losses.push_back((error * h.matrix().block(begin, begin, count, count) * error.transpose()).trace());
      }
      chosen.push_back(static_cast<int>(std::ranges::min_element(losses) - losses.begin()));
      EXPECT_EQ(q.packed().affine(row, begin / width), fit(chosen.back())) << "row " << row << ", column " << begin;
    }
  }
  return chosen;
}

TEST(Awq, ClipsAsAnExhaustiveSearchDoes) {
  RowMatrixXf w = gaussian(12, 40, 31), x = gaussian(60, 40, 5);
  for (Index j = 1; j < 40; ++j) x.col(j) += x.col(j - 1);
  w.row(0) = w.row(0).cwiseSign();           // exact at the full range
  for (Index row = 1; row < 12; row += 2) {  // far out where no activation is: at the least range
    w(row, 3) = 9;
    w(row, 21) = -9;
    w(row, 39) = row % 4 == 1 ? 7.f : -7.f;
  }
  x.col(3).setZero();
  x.col(21) *= 0.01f;
  for (const int steps : {10, 13}) {
    const auto chosen = expectClippedAsByExhaustiveSearch<Grouped<Asymmetric<3>, 16>>(w, x, steps);
    EXPECT_THAT(chosen, ::testing::Contains(0));
    EXPECT_THAT(chosen, ::testing::Contains(steps - 1));
    EXPECT_THAT(chosen, ::testing::Contains(::testing::AllOf(::testing::Gt(1), ::testing::Lt(steps - 2))));
  }
  expectClippedAsByExhaustiveSearch<PerChannel<Symmetric<4>>>(w, x, 20);
  for (const float sign : {1.f, -1.f}) {
    RowMatrixXf v = gaussian(5, 40, 32);
    v(2, 3) = sign * 8;
    EXPECT_EQ((expectClippedAsByExhaustiveSearch<PerTensor<Symmetric<3>>>(v, x, 10)), std::vector<int>{9});
    v(2, 3) = sign * 4.2f;
    expectClippedAsByExhaustiveSearch<PerTensor<Symmetric<3>>>(v, x, 10);
  }
}

/// Even in a codebook without levels for it, where another scale would lose less.
TEST(Awq, AGroupOfOneNumberHasNoRangeToShrink) {
  RowMatrixXf w(2, 16);
  w.row(0).setConstant(1);
  w.row(1).setConstant(-0.7f);
  RowMatrixXf x(25, 16);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = 2 * randomUniform(4, static_cast<std::uint64_t>(i)) - 1;
  for (Index j = 1; j < 16; ++j) x.col(j) += x.col(j - 1);
  EXPECT_EQ(quantize<PerChannel<E8P>>(w, Awq{x}), quantize<PerChannel<E8P>>(w));
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
  for (const Index rows : {1, 16, 63}) {
    RowMatrixXf sample(rows, 172);
    for (Index i = 0; i < rows; ++i) sample.row(i) = w.row(i * 64 / rows);
    const auto alone = quantize<ChannelScaled<Int3>>(sample, Awq(x, {.search_rows = 0}));
    const auto q = quantize<ChannelScaled<Int3>>(w, Awq(x, {.search_rows = rows}));
    EXPECT_EQ(q.packed().channelScales(), alone.packed().channelScales()) << rows;
  }
}

TEST(Awq, InOtherBasesAndCodebooks) {
  const RowMatrixXf w = gaussian(64, 172), x = activations(128, 172);
  // As measured: scales in front of the basis hold the loud inputs apart, behind it there are none.
  EXPECT_NEAR(outputError(quantize<ChannelScaled<Incoherent<E8P>>>(w, Awq{x}), w, x), 0.138, 0.007);
  EXPECT_NEAR(outputError(quantize<Incoherent<ChannelScaled<E8P>>>(w, Awq{x}), w, x), 0.322, 0.016);
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
  // All errors count alike, as with inputs of one magnitude that have nothing in common.
  const auto alike = Hessian::fromMatrix(Eigen::MatrixXd::Identity(65, 65));
  EXPECT_EQ(quantize<Int3>(w, Awq(Hessian(65))), quantize<Int3>(w, Awq(alike)));
  EXPECT_FALSE(quantize<Int3>(w, Awq(alike)) == quantize<Int3>(w)) << "some ranges are clipped";
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
