// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit weights with activations of 8 bits and one scale a token, held to integer arithmetic.
#include <gosset/calibration/smoothquant.hpp>
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::w8a8_test {
namespace {

using testing::gaussian;
using Int8 = PerChannel<Symmetric<8>>;

/// A token as W8A8 sees it: numbers -127 .. 127 and their scale.
struct Token {
  explicit Token(const Eigen::VectorXf& x) : scale(x.cwiseAbs().maxCoeff() / 127) {
    const float inverse = 127 / x.cwiseAbs().maxCoeff();
    for (const float value : x) q.push_back(static_cast<std::int64_t>(std::nearbyint(value * inverse)));
  }
  float scale;
  std::vector<std::int64_t> q;
};

/// The definition: integers multiplied and added as integers, the two scales last.
template <class Q>
void expectIntegerProduct(const Q& weights, const Eigen::MatrixXf& x, const Eigen::MatrixXf& y, double tolerance) {
  const auto codes = weights.codes();
  for (Index t = 0; t < x.cols(); ++t) {
    const Token token(x.col(t));
    for (Index i = 0; i < weights.rows(); ++i) {
      std::int64_t sum = 0, size = 0;
      for (Index j = 0; j < weights.cols(); ++j) {
        const auto level = static_cast<std::int64_t>(Symmetric<8>::level(codes(i, j)));
        const std::int64_t product = level * token.q[static_cast<std::size_t>(j)];
        sum += product;
        size += std::abs(product);
      }
      const double scale = static_cast<double>(weights.affine(i, 0).scale) * static_cast<double>(token.scale);
      ASSERT_NEAR(static_cast<double>(y(i, t)), scale * static_cast<double>(sum),
                  tolerance * scale * static_cast<double>(size))
          << weights.rows() << " x " << weights.cols() << ", (" << i << ", " << t << ")";
    }
  }
}

/// Integers in [-127, 127], 127 among them in each row, so that every scale is a power of two.
RowMatrixXf integers(Index rows, Index cols, std::uint64_t seed) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) {
    w.data()[i] = static_cast<float>(static_cast<int>(randomBits(seed, static_cast<std::uint64_t>(i)) % 255) - 127);
  }
  w.col(cols / 3).setConstant(127);
  return w;
}

TEST(W8A8, IntegersMultiplyExactly) {
  for (const Index rows : {1, 9, 16, 65}) {
    for (const Index cols : testing::kOddSizes) {
      const RowMatrixXf w = integers(rows, cols, 1);
      auto q = quantize<Int8>(w * 0x1p-5f);
      q.setActivations(Activations::kRoundedPerToken);
      for (const Index tokens : {1, 2, 11}) {
        const Eigen::MatrixXf x = integers(tokens, cols, 2).transpose() * 0x1p-9f;
        const Eigen::MatrixXf expected = w * (x * 0x1p-5f);
        EXPECT_EQ(Eigen::MatrixXf(q * x), expected) << rows << " x " << cols << " x " << tokens;
      }
    }
  }
}

TEST(W8A8, EqualsIntegerArithmeticOnAnyNumbers) {
  for (const Index rows : {1, 17, 63}) {
    for (const Index cols : testing::kOddSizes) {
      auto q = quantize<Int8>(gaussian(rows, cols));
      q.setActivations(Activations::kRoundedPerToken);
      for (const Index tokens : {1, 5}) {
        for (const float magnitude : {1.f, 1e-30f, 1e30f}) {
          const Eigen::MatrixXf x = gaussian(cols, tokens, 2) * magnitude;
          expectIntegerProduct(q.packed(), x, q * x, 1e-6);
        }
      }
    }
  }
}

TEST(W8A8, ATokenHasOneScaleAndNoOtherTokenMatters) {
  auto q = quantize<Int8>(gaussian(32, 96));
  q.setActivations(Activations::kRoundedPerToken);
  Eigen::MatrixXf x = gaussian(96, 3, 2);
  x(95, 1) = 1000;  // drowns the other numbers of its token: its scale is near 8
  const Eigen::MatrixXf y = q * x;
  const Eigen::MatrixXf w = q.dequantized();
  EXPECT_LT((y.col(1) - 1000 * w.col(95)).cwiseAbs().maxCoeff(), 1e-3f);
  for (const Index t : {0, 2}) EXPECT_LT((y.col(t) - w * x.col(t)).norm(), 0.02f * y.col(t).norm());
}

TEST(W8A8, ZeroAndBadTokens) {
  auto q = quantize<Int8>(gaussian(32, 96));
  q.setActivations(Activations::kRoundedPerToken);
  Eigen::MatrixXf x = gaussian(96, 4, 2);
  x.col(1).setZero();
  x(3, 2) = std::numeric_limits<float>::infinity();
  x(90, 3) = std::numeric_limits<float>::quiet_NaN();
  const Eigen::MatrixXf y = q * x;
  EXPECT_TRUE(y.col(0).allFinite());
  EXPECT_TRUE(y.col(1).isZero(0));
  EXPECT_TRUE((y.rightCols(2).array() != y.rightCols(2).array()).all());
}

template <class F>
class PerTokenTest : public ::testing::Test {};
using Formats =
    ::testing::Types<Symmetric<4>, Grouped<Asymmetric<3>, 32>, Grouped<NormalFloat4, 7>, PerChannel<Ternary>>;
TYPED_TEST_SUITE(PerTokenTest, Formats);  // with kernels for bytes and without

TYPED_TEST(PerTokenTest, EveryFormatOfCodesRoundsItsActivations) {
  for (const Index rows : {9, 33}) {
    for (const Index cols : {31, 172}) {
      auto q = quantize<TypeParam>(gaussian(rows, cols));
      q.setActivations(Activations::kRoundedPerToken);
      const Eigen::MatrixXf x = gaussian(cols, 3, 2);
      Eigen::MatrixXf rounded = x;
      for (Index t = 0; t < 3; ++t) {
        const Token token(x.col(t));
        for (Index j = 0; j < cols; ++j) {
          rounded(j, t) = token.scale * static_cast<float>(token.q[static_cast<std::size_t>(j)]);
        }
      }
      const Eigen::MatrixXf expected = q.dequantized() * rounded, y = q * x;
      EXPECT_LT((y - expected).norm(), 1e-5f * y.norm());
      EXPECT_GT((y - q.dequantized() * x).norm(), 1e-3f * y.norm());
    }
  }
}

TEST(W8A8, FloatsTakeActivationsAsTheyAre) {
  auto q = quantize<BFloat16>(gaussian(33, 65));
  const Eigen::MatrixXf x = gaussian(65, 3, 2), y = q * x;
  q.setActivations(Activations::kRoundedPerToken);
  EXPECT_EQ(Eigen::MatrixXf(q * x), y);
}

/// Activations with two loud channels.
RowMatrixXf loudActivations(Index tokens, Index inputs) {
  RowMatrixXf x = gaussian(tokens, inputs, 2);
  x.col(inputs / 2) *= 60.f;
  x.col(inputs - 1) *= 30.f;
  return x;
}

template <class Q>
float productError(Q q, const RowMatrixXf& w, const RowMatrixXf& x) {
  q.setActivations(Activations::kRoundedPerToken);
  const Eigen::MatrixXf exact = w * x.transpose();
  return (Eigen::MatrixXf(q * x.transpose()) - exact).norm() / exact.norm();
}

TEST(W8A8, SmoothQuantMovesOutliersWhereTheyCostLess) {
  const RowMatrixXf w = gaussian(64, 172), x = loudActivations(40, 172);
  const SmoothQuantSearch found = searchSmoothQuant(w, x);
  const auto smooth = quantize<ChannelScaled<Int8, float>>(w, ChannelScales(found.s));
  const float error = productError(smooth, w, x);
  EXPECT_LT(error, 0.7f * productError(quantize<Int8>(w), w, x));
  EXPECT_NEAR(static_cast<double>(error), found.error, 0.02 * found.error) << "the search measured this very product";
}

TEST(W8A8, SmoothQuantIsAnIntegerProductOfTheScaledMatrices) {
  const RowMatrixXf w = gaussian(33, 172), x = loudActivations(5, 172);
  auto q = quantize<ChannelScaled<Int8, float>>(w, ChannelScales(smoothQuantScales(w, x)));
  q.setActivations(Activations::kRoundedPerToken);
  const Eigen::MatrixXf divided = x.transpose().array().colwise() / q.packed().channelScales().array();
  // The scaled matrix stands in units of a power of two.
  const float unit = q.dequantized()(0, 0) * q.packed().channelScales()[0] / q.packed().inner().dequantized()(0, 0);
  expectIntegerProduct(q.packed().inner(), divided, q * x.transpose() / std::exp2(std::nearbyint(std::log2(unit))),
                       1e-6);
}

TEST(W8A8, LlmInt8KeepsOutliersOutOfTheScale) {
  const RowMatrixXf w = gaussian(64, 172), x = loudActivations(40, 172);
  const auto q = quantize<LlmInt8>(w, OutlierColumns(x, {.threshold = 6, .relative_to_median = true}));
  ASSERT_EQ(q.packed().columns().size(), 2u);
  EXPECT_LT(productError(q, w, x), 0.1f * productError(quantize<Int8>(w), w, x));
  // The rest is an integer product whose tokens' scales do not know of the outliers.
  auto rounding = q;
  rounding.setActivations(Activations::kRoundedPerToken);
  Eigen::MatrixXf rest = x.transpose();
  Eigen::MatrixXf loud = Eigen::MatrixXf::Zero(172, 40);
  for (const auto j : q.packed().columns()) {
    loud.row(j) = rest.row(j);
    rest.row(j).setZero();
  }
  const Eigen::MatrixXf others = rounding * x.transpose() - q.dequantized() * loud;
  const Eigen::MatrixXf exact = q.dequantized() * rest;
  EXPECT_LT((others - exact).norm(), 0.01f * exact.norm());
  expectIntegerProduct(q.packed().inner(), rest, rounding * rest, 1e-6);
}

}  // namespace
}  // namespace gosset::w8a8_test
