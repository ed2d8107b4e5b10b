// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/block_refit.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/rounding/ldlq.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "format/ggml/types.hpp"
#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace gosset::block_refit_test {
namespace {

using testing::gaussian;

/// Activations of which neighbours are alike, some of them large.
RowMatrixXf someActivations(Index n) {
  RowMatrixXf x = gaussian(4 * n, n, 5);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  for (Index j = 0; j < n; j += 37) x.col(j) *= 8;
  return x;
}

/// What a grid's codes stand for.
template <class F, class Codes>
RowMatrixXf valuesOf(const Grid<F>& grid, const Codes& codes) {
  RowMatrixXf values(codes.rows(), codes.cols());
  for (Index i = 0; i < values.rows(); ++i) {
    for (Index j = 0; j < values.cols(); ++j) values(i, j) = grid.valueAt(i, j, codes(i, j));
  }
  return values;
}

double lossOf(const RowMatrixXf& error, const Eigen::MatrixXf& h) {
  const Eigen::MatrixXd e = error.cast<double>();
  return (e * h.cast<double>() * e.transpose()).trace();
}

TEST(ScaleLoss, IsTheChangeOfTheLoss) {
  const RowMatrixXf x = someActivations(16), e = gaussian(1, 16, 3), l = gaussian(1, 16, 4), m = gaussian(1, 16, 6);
  const Eigen::MatrixXd h = (x.transpose() * x).cast<double>() / 64;
  const Eigen::RowVectorXd error = e.cast<double>(), levels = l.cast<double>(), ones = m.cast<double>();
  const Eigen::RowVectorXd gradient = error * h;
  const auto dot = [&](const Eigen::RowVectorXd& a, const Eigen::RowVectorXd& b) { return a.dot(b); };
  const detail::ScaleLoss loss = {dot(gradient, levels), dot(gradient, ones), dot(levels * h, levels),
                                  dot(levels * h, ones), dot(ones * h, ones)};
  const auto exact = [&](double a, double b) {
    const Eigen::RowVectorXd after = error - a * levels + b * ones;
    return dot(after * h, after) - dot(gradient, error);
  };
  const double size = dot(gradient, error);
  for (const double a : {-0.7, 0., 0.3}) {
    for (const double b : {-0.2, 0., 0.9}) EXPECT_NEAR(loss.rise(a, b), exact(a, b), 1e-9 * size);
  }
  double a, b;
  loss.best(a, b);
  for (const double off : {-0.01, 0.01}) {
    EXPECT_LT(loss.rise(a, b), loss.rise(a + off, b));
    EXPECT_LT(loss.rise(a, b), loss.rise(a, b + off));
    EXPECT_LT(loss.rise(loss.bestScale(0.5), 0.5), loss.rise(loss.bestScale(0.5) + off, 0.5));
    EXPECT_LT(loss.rise(0.5, loss.bestMin(0.5)), loss.rise(0.5, loss.bestMin(0.5) + off));
  }
  detail::ScaleLoss{2, 0, 4, 0, 0}.best(a, b);  // without minima
  EXPECT_EQ(a, 0.5);
  EXPECT_EQ(b, 0);
}

template <class F>
class BlockRefit : public ::testing::Test {};
using Layouts = ::testing::Types<ggml::Q4_0, ggml::Q4_1, ggml::MXFP4, ggml::Q2_K, ggml::Q3_K, ggml::Q4_K, ggml::IQ4_XS>;
TYPED_TEST_SUITE(BlockRefit, Layouts, testing::GgmlNames);

TYPED_TEST(BlockRefit, LowersTheLossByWhatItSays) {
  using Layout = TypeParam;
  using F = ggml::Codes<Layout>;
  constexpr Index kRows = 20, n = 2 * Layout::kBlock;
  const RowMatrixXf w = gaussian(kRows, n), x = someActivations(n);
  const Eigen::MatrixXf h = x.transpose() * x / static_cast<float>(n);
  Grid<F> grid(kRows, n, PublishedRule{});
  grid.fitAll(w);
  CodeMatrix<typename F::Codebook> codes(kRows, n);
  grid.encodeAll(w, codes);
  RowMatrixXf error = w - valuesOf(grid, codes);
  for (Index block = 0; block < 2; ++block) {
    const Index first = grid.begin(block);
    const Eigen::MatrixXf own = h.block(first, first, Layout::kBlock, Layout::kBlock);
    const RowMatrixXf gradient = error * h, before = valuesOf(grid, codes);
    const double loss = lossOf(error, h);
    const RowMatrixXf change =
        detail::BlockRefit<F>(grid, 3, kRows - 3, block, own)
            .run(codes.block(3, first, kRows - 3, Layout::kBlock), gradient.block(3, first, kRows - 3, Layout::kBlock));
    RowMatrixXf changed = before;  // neither other rows nor other blocks
    changed.block(3, first, kRows - 3, Layout::kBlock) += change;
    const RowMatrixXf after = valuesOf(grid, codes);
    EXPECT_LE((after - changed).cwiseAbs().maxCoeff(), 1e-6f);
    EXPECT_EQ(after.topRows(3), before.topRows(3));
    error = w - after;
    if (Layout::stored(1.5f) == 1.5f) {
      EXPECT_LT(lossOf(error, h), 0.999 * loss);
    } else {  // powers of two are seldom better
      EXPECT_LE(lossOf(error, h), loss);
    }
    for (Index row = 0; row < kRows; ++row) {
      const BlockScales& scales = grid.scales(row, block);
      EXPECT_EQ(scales.scale, Layout::stored(scales.scale));
      if (Layout::kMostMin > 0) {
        EXPECT_EQ(scales.min, Layout::stored(scales.min));
      }
      if (Layout::kMostMin > 1) {
        EXPECT_GE(scales.min, 0);
      }
      for (std::size_t g = 0; g < static_cast<std::size_t>(Layout::kBlock / Layout::kGroup); ++g) {
        EXPECT_GE(scales.scales[g], Layout::kLeastStep);
        EXPECT_LE(scales.scales[g], Layout::kMostStep);
        EXPECT_GE(scales.mins[g], 0);
        EXPECT_LE(scales.mins[g], Layout::kMostMin);
      }
    }
  }
}

/// In all orders of columns: the sweep after it starts from sums that are right.
TYPED_TEST(BlockRefit, FurtherSweepsLowerTheLoss) {
  using F = TypeParam;
  constexpr Index n = std::max<Index>(2 * F::kBlock, 128);
  const RowMatrixXf w = gaussian(12, n), x = someActivations(n);
  Hessian h(n);
  h.accumulate(x);
  const auto loss = [&](const auto& rounding) { return proxyLoss(w, quantize<F>(w, rounding).dequantized(), h); };
  const auto check = [&](const auto& roundingOf) {
    double last = loss(roundingOf(1));
    for (const int sweeps : {2, 3}) {
      const double next = loss(roundingOf(sweeps));
      EXPECT_LE(next, last * (1 + 1e-6)) << sweeps;
      last = next;
    }
  };
  check([&](int sweeps) { return Gptq(h, {.damping = 0, .sweeps = sweeps}); });
  check([&](int sweeps) { return Gptq(h, {.damping = 0, .sweeps = sweeps, .act_order = true}); });
  check([&](int sweeps) { return Ldlq(h, {.damping = 0, .sweeps = sweeps}); });
}

/// Codes of numbers that some scales hold exactly, under others: those come back.
template <class Layout>
void expectBack(BlockScales right, const BlockScales& wrong) {
  using F = ggml::Codes<Layout>;
  Grid<F> grid(1, Layout::kBlock, PublishedRule{});
  CodeMatrix<typename F::Codebook> codes(1, Layout::kBlock);
  for (Index j = 0; j < Layout::kBlock; ++j) {
    codes(0, j) = static_cast<std::uint8_t>(randomBits(1, static_cast<std::uint64_t>(j)) % F::Codebook::kLevels);
  }
  grid.setScales(0, 0, right);
  const RowMatrixXf w = valuesOf(grid, codes);
  grid.setScales(0, 0, wrong);
  const RowMatrixXf error = w - valuesOf(grid, codes);
  const Eigen::MatrixXf h = Eigen::MatrixXf::Identity(Layout::kBlock, Layout::kBlock);
  const RowMatrixXf change = detail::BlockRefit<F>(grid, 0, 1, 0, h).run(codes, error);
  EXPECT_EQ(change, error);
  EXPECT_EQ(grid.scales(0, 0), right);
}

TEST(BlockRefitOfGivenCodes, ScalesThatWereRightComeBack) {
  BlockScales right, wrong;
  right.scale = 0.5f;
  right.scales[0] = 1;
  wrong = right;
  wrong.scale = 0.625f;
  expectBack<ggml::Q4_0>(right, wrong);
  right.min = 1;
  right.mins[0] = wrong.mins[0] = 1;
  wrong.min = -2;
  expectBack<ggml::Q4_1>(right, wrong);
  right.min = 0.25f;
  for (std::size_t g = 0; g < 8; ++g) {
    right.scales[g] = static_cast<std::int8_t>(10 + g);
    right.mins[g] = static_cast<std::int8_t>(3 * g);
  }
  wrong = right;
  for (std::size_t g = 0; g < 8; ++g) {
    wrong.scales[g] = static_cast<std::int8_t>(12 - g);
    wrong.mins[g] = static_cast<std::int8_t>(g);
  }
  expectBack<ggml::Q4_K>(right, wrong);
  expectBack<ggml::Q4_K>(right, right);
}

/// Where all columns see the same activation, what one group has mended is no other's to mend.
TEST(BlockRefitOfGivenCodes, GroupsKnowOfEachOther) {
  using F = ggml::Codes<ggml::Q4_K>;
  Grid<F> grid(1, 256, PublishedRule{});
  BlockScales scales;
  scales.scale = 0.5f;
  scales.min = 0.25f;
  scales.scales.fill(20);
  scales.mins.fill(20);
  grid.setScales(0, 0, scales);
  CodeMatrix<F::Codebook> codes(1, 256);
  for (Index j = 0; j < 256; ++j) codes(0, j) = static_cast<std::uint8_t>(j % 16);
  const RowMatrixXf error = RowMatrixXf::Constant(1, 256, 12.f / 256);
  const Eigen::MatrixXf h = Eigen::MatrixXf::Ones(256, 256) + 0.01f * Eigen::MatrixXf::Identity(256, 256);
  const RowMatrixXf change = detail::BlockRefit<F>(grid, 0, 1, 0, h).run(codes, error * h);
  EXPECT_LT(lossOf(error - change, h), 0.2 * lossOf(error, h));
}

/// One group would need a larger integer than there is.
TEST(BlockRefitOfGivenCodes, TakesTheEndOfTheRangeWhereTheBestIsBeyond) {
  using F = ggml::Codes<ggml::Q3_K>;
  Grid<F> grid(1, 256, PublishedRule{});
  BlockScales scales;
  scales.scale = 0.5f;
  scales.scales.fill(4);
  grid.setScales(0, 0, scales);
  CodeMatrix<F::Codebook> codes(1, 256);
  for (Index j = 0; j < 256; ++j) codes(0, j) = static_cast<std::uint8_t>(j % 8);
  const RowMatrixXf before = valuesOf(grid, codes);
  RowMatrixXf error = RowMatrixXf::Zero(1, 256);
  error.leftCols(16) = 13 * before.leftCols(16);     // 56, where the range ends with 31
  error.rightCols(16) = -13 * before.rightCols(16);  // -48, where it begins with -32
  const Eigen::MatrixXf h = Eigen::MatrixXf::Identity(256, 256);
  detail::BlockRefit<F>(grid, 0, 1, 0, h).run(codes, error);
  EXPECT_EQ(grid.scales(0, 0).scales[0], 31);
  EXPECT_EQ(grid.scales(0, 0).scales[15], -32);
}

/// The next power of two is the nearest to the best, and worse than what is there.
TEST(BlockRefitOfGivenCodes, KeepsAScaleThatNoOtherBeats) {
  using F = ggml::Codes<ggml::MXFP4>;
  Grid<F> grid(1, 32, PublishedRule{});
  BlockScales scales;
  scales.scale = 1;
  scales.scales[0] = 1;
  grid.setScales(0, 0, scales);
  CodeMatrix<F::Codebook> codes(1, 32);
  codes.setConstant(F::Codebook::encode(4));
  const RowMatrixXf error = RowMatrixXf::Constant(1, 32, 4 * 0.45f);  // the best scale is 1.45, in ratio nearer to 2
  const Eigen::MatrixXf h = Eigen::MatrixXf::Identity(32, 32);
  EXPECT_TRUE(detail::BlockRefit<F>(grid, 0, 1, 0, h).run(codes, error).isZero(0));
  EXPECT_EQ(grid.scales(0, 0), scales);
}

}  // namespace
}  // namespace gosset::block_refit_test
