// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/matrix.hpp>
#include <gosset/train/fake_quant.hpp>

#include "testing.hpp"

namespace gosset::fake_quant_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

template <class Format>
class FakeQuantOf : public ::testing::Test {};
using Formats = ::testing::Types<PerChannel<Symmetric<4>>, Grouped<Asymmetric<2>, 16>, PerTensor<LloydMax<2>>, Ternary,
                                 Grouped<Binary, 7, float>>;
TYPED_TEST_SUITE(FakeQuantOf, Formats);

TYPED_TEST(FakeQuantOf, ForwardIsWhatQuantizeKeeps) {
  for (const Index cols : {1, 9, 65}) {
    const RowMatrixXf w = gaussian(7, cols);
    EXPECT_EQ(FakeQuant<TypeParam>().forward(w), quantize<TypeParam>(w).dequantized());
    EXPECT_EQ(FakeQuant<TypeParam>().forward(Eigen::MatrixXd(w.cast<double>())), quantize<TypeParam>(w).dequantized());
  }
}

TYPED_TEST(FakeQuantOf, BackwardKeepsOrDropsEachEntry) {
  const RowMatrixXf w = gaussian(7, 65), g = gaussian(7, 65, 2);
  const RowMatrixXf passed = FakeQuant<TypeParam>().backward(w, g);
  for (Index i = 0; i < w.size(); ++i) EXPECT_TRUE(passed.data()[i] == g.data()[i] || passed.data()[i] == 0);
  EXPECT_GT((passed.array() != 0).count(), w.size() / 3);
}

TYPED_TEST(FakeQuantOf, ZeroMatricesPassEverything) {
  const RowMatrixXf g = gaussian(3, 9);
  EXPECT_EQ(FakeQuant<TypeParam>().backward(RowMatrixXf::Zero(3, 9), g), g);
}

TEST(FakeQuant, RangesThatCoverEverythingClipNothing) {
  const RowMatrixXf w = gaussian(9, 65), g = gaussian(9, 65, 2);
  EXPECT_EQ(FakeQuant<PerChannel<Symmetric<4>>>().backward(w, g), g);
  EXPECT_EQ((FakeQuant<Grouped<Asymmetric<3>, 32>>().backward(w, g)), g);
  EXPECT_EQ((FakeQuant<Grouped<Asymmetric<3>, 32>>().backward(w * 1e30f, g)), g);
}

TEST(FakeQuant, TheMaskIsWhereTernaryClips) {
  // The mean magnitude is 1: clipped are magnitudes above 1.5.
  Eigen::RowVectorXf w(8), g(8), expected(8);
  w << 0.25f, -0.5f, 1.5f, -1.5f, 1.75f, -2, 0.5f, 0;
  g << 1, 2, 3, 4, 5, 6, 7, 8;
  expected << 1, 2, 3, 4, 0, 0, 7, 8;
  EXPECT_EQ(FakeQuant<Ternary>().backward(w, g), RowMatrixXf(expected));
}

TEST(FakeQuant, TheMaskOfAClippingFit) {
  RowMatrixXf w = RowMatrixXf::Zero(1, 101);
  for (Index j = 0; j < 100; ++j) w(0, j) = static_cast<float>(j % 10) / 10;
  w(0, 100) = 50;
  const FakeQuant<PerTensor<Symmetric<4>>> fq({.fit = Percentile{.percent = 90}});
  RowMatrixXf expected = RowMatrixXf::Ones(1, 101);
  expected(0, 100) = 0;
  EXPECT_EQ(fq.backward(w, RowMatrixXf::Ones(1, 101)), expected);
}

TEST(FakeQuant, TheMaskOfAShortLastGroup) {
  RowMatrixXf w = RowMatrixXf::Constant(1, 21, 0.5f), expected = RowMatrixXf::Ones(1, 21);
  w(0, 20) = 50;
  expected(0, 20) = 0;
  const FakeQuant<Grouped<Symmetric<4>, 16>> fq({.fit = Percentile{.percent = 60}});
  EXPECT_EQ(fq.backward(w, RowMatrixXf::Ones(1, 21)), expected);
}

/// Least squares regression with ternary weights: training through the rounding finds what rounding afterwards misses.
TEST(FakeQuant, TrainingThroughItLowersTheLoss) {
  RowMatrixXf x = gaussian(200, 24, 4);
  for (Index j = 1; j < 24; ++j) x.col(j) = 0.9f * x.col(j - 1) + 0.4f * x.col(j);
  const RowMatrixXf target = gaussian(6, 24);
  const FakeQuant<PerChannel<Ternary>> fq;
  const auto loss = [&](const RowMatrixXf& w) {
    return ((fq.forward(w) - target) * x.transpose()).squaredNorm() / 200;
  };
  RowMatrixXf w = target;
  const float before = loss(w);
  float best = before;
  for (int step = 0; step < 300; ++step) {
    const RowMatrixXf gradient = (fq.forward(w) - target) * (x.transpose() * x) / 200;
    w -= 0.02f * fq.backward(w, gradient);
    best = std::min(best, loss(w));
  }
  EXPECT_LT(best, 0.5f * before);
}

TEST(FakeQuant, RefusesGradientsOfAnotherShape) {
  expectThrows([] { FakeQuant<Ternary>().backward(gaussian(3, 4), gaussian(4, 3)); },
               "FakeQuant::backward: expected a gradient of 3 x 4, as the weights have, got 4 x 3");
  expectThrows([] { FakeQuant<Ternary>().forward(RowMatrixXf(0, 4)); }, "the matrix is empty");
}

}  // namespace
}  // namespace gosset::fake_quant_test
