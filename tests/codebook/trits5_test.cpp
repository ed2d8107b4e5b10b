// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/trits5.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory.hpp>

#include "testing.hpp"

#include <array>
#include <cmath>
#include <numbers>
#include <set>

namespace gosset::trits5_test {
namespace {

using testing::gaussian;

TEST(Trits5, EveryCodeComesBack) {
  std::set<std::array<float, 5>> points;
  for (int q = 0; q < Trits5::kCodes; ++q) {
    std::array<float, 5> y;
    Trits5::decode(static_cast<std::uint8_t>(q), y.data());
    EXPECT_EQ(Trits5::encode(y.data()), q);
    points.insert(y);
  }
  EXPECT_EQ(points.size(), 243u);
}

TEST(Trits5, KnownAnswers) {
  const std::array<float, 5> x = {0.6f, -2.f, 0.4f, -0.f, 9.f};  // levels 1, -1, 0, 0, 1
  EXPECT_EQ(Trits5::encode(x.data()), 2 + 0 * 3 + 1 * 9 + 1 * 27 + 2 * 81);
  std::array<float, 5> y;
  Trits5::decode(255, y.data());
  EXPECT_EQ(y, (std::array<float, 5>{1, 1, 1, 1, 1}));
}

TEST(Trits5, HoldsTheValuesOfTernaryInFewerBits) {
  for (const Index cols : testing::kOddSizes) {  // multiples of 5 or not
    const RowMatrixXf w = gaussian(9, cols);
    EXPECT_EQ(quantize<PerChannel<Trits5>>(w).dequantized(), quantize<PerChannel<Ternary>>(w).dequantized());
    EXPECT_EQ(quantize<Trits5>(w).dequantized(), quantize<Ternary>(w).dequantized());
  }
  for (const Index cols : testing::kOddSizes) {
    const auto q = quantize<PerTensor<Trits5>>(gaussian(4, cols));
    EXPECT_EQ(q.bytes(), 4 * ceilDiv(cols, 5) + 2 + 4);
  }
  EXPECT_EQ((quantize<Grouped<Trits5, 320>>(gaussian(4, 640)).bitsPerWeight()), 1.6 + 16.0 / 320 + 32.0 / (4 * 640));
}

TEST(Trits5, TernaryWeightsComeBackExactly) {
  for (const Index cols : testing::kOddSizes) {
    RowMatrixXf w = gaussian(7, cols);
    w = w.unaryExpr([](float x) { return 0.0234375f * Ternary::level(Ternary::encode(x)); }).eval();
    EXPECT_EQ(quantize<PerChannel<Trits5>>(w).dequantized(), w);
    EXPECT_EQ((quantize<Grouped<Trits5, 20>>(w).dequantized()), w);
    EXPECT_EQ(quantize<Trits5>(w, Nearest{}, {.fit = Percentile{100}}).dequantized(), w);
  }
}

TEST(Trits5, TheLeastSquaresScaleIsTheOneOfTheGaussian) {
  const RowMatrixXf w = gaussian(200, 400);
  const auto q = quantize<PerTensor<Trits5>>(w, Nearest{}, {.fit = LeastSquares{}});
  EXPECT_NEAR(q.packed().affine(0, 0).scale, Trits5::kGaussianScale, 0.02);
  EXPECT_NEAR(distortion(w, q.dequantized()).mse, 0.1902, 0.003);
}

/// A level is the mean of the numbers beyond its threshold, half of it: Lloyd's condition.
TEST(Trits5, TheScaleOfTheGaussianIsLloyds) {
  const double level = Trits5::kGaussianScale, threshold = level / 2;
  const double density = std::exp(-threshold * threshold / 2) / std::sqrt(2 * std::numbers::pi);
  EXPECT_NEAR(density / (std::erfc(threshold / std::numbers::sqrt2) / 2), level, 1e-4);
}

TEST(Trits5, TakesFeedback) {
  RowMatrixXf x = gaussian(300, 65, 2);
  for (Index j = 1; j < 65; ++j) x.col(j) = 0.9f * x.col(j - 1) + 0.4f * x.col(j);
  Hessian h(65);
  h.accumulate(x);
  const RowMatrixXf w = gaussian(30, 65);
  EXPECT_LT(proxyLoss(w, quantize<PerChannel<Trits5>>(w, Ldlq(h)).dequantized(), h),
            0.7 * proxyLoss(w, quantize<PerChannel<Trits5>>(w).dequantized(), h));
}

}  // namespace
}  // namespace gosset::trits5_test
