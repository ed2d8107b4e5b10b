// SPDX-License-Identifier: Apache-2.0
// A rounding of one's own, what its attributes mean, and roundings around roundings.
#include <gosset/calibration/awq.hpp>
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "testing.hpp"

#include <cmath>

namespace gosset::concepts_test {
namespace {

using testing::gaussian;
using Int4 = Grouped<Asymmetric<4>, 32>;
using Columns = std::vector<std::uint32_t>;

/// Knows nothing of scales: they are fitted before.
struct Forgetful {
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    for (Index row = 0; row < w.rows(); ++row) grid.encodeRow(row, w.row(row).data(), codes.row(row).data());
  }
};
/// Sets one scale in the units of the matrix.
struct HalfSteps {
  static constexpr bool kFitsGrid = true;
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    for (Index row = 0; row < w.rows(); ++row) {
      for (Index group = 0; group < grid.groups(); ++group) grid.setScale(row, group, 0.5f, 8);
      grid.encodeRow(row, w.row(row).data(), codes.row(row).data());
    }
  }
};
static_assert(Rounding<Forgetful> && Rounding<HalfSteps> && !Rounding<int> && !Rounding<QuantizeOptions>);
static_assert(RoundingTraits<ChannelScales<Gptq>>::kFitsGrid && !RoundingTraits<ChannelScales<>>::kFitsGrid);
static_assert(RoundingTraits<ChannelScales<OutlierColumns<Gptq>>>::kHooks ==
              (kChannelScalesHook | kOutlierColumnsHook | kColumnOrderHook));
static_assert(RoundingTraits<OutlierColumns<Awq>>::kOptionalHooks == kChannelScalesHook);
static_assert(RoundingTraits<ChannelScales<Gptq>>::kOptionalHooks == kColumnOrderHook);

TEST(Rounding, GridsAreFittedUnlessItDoesThat) {
  const RowMatrixXf w = gaussian(33, 100);
  EXPECT_EQ(quantize<Int4>(w, Forgetful{}), quantize<Int4>(w));
}

TEST(Rounding, ScalesItSetsAreInUnitsOfTheMatrix) {
  for (const float magnitude : {1e-3f, 1.f, 3000.f}) {
    const RowMatrixXf w = gaussian(5, 64) * magnitude;
    const RowMatrixXf q = quantize<Int4>(w, HalfSteps{}).dequantized();
    for (Index i = 0; i < w.size(); ++i) {
      const float nearest = 0.5f * std::clamp(std::nearbyint(w.data()[i] / 0.5f), -8.f, 7.f);
      EXPECT_EQ(q.data()[i], nearest) << magnitude;
    }
  }
}

Hessian correlatedHessian(Index n, RowMatrixXf& x) {
  x = gaussian(4 * n, n, 5);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  Hessian h(n);
  h.accumulate(x);
  return h;
}

TEST(Rounding, MixedColumnsPassItOn) {
  using Mixed = MixedColumns<Grouped<Asymmetric<3>, 32>>;
  RowMatrixXf x;
  const Index n = 96;
  const Hessian h = correlatedHessian(n, x);
  x.col(7) *= 30.f;
  x.col(90) *= 40.f;
  const Hessian loud = [&] {
    Hessian result(n);
    result.accumulate(x);
    return result;
  }();
  const RowMatrixXf w = gaussian(40, n);
  const OutlierColumnsOptions options{.threshold = 10.f};
  const auto nearest = quantize<Mixed>(w, OutlierColumns(x, options));
  const auto fed = quantize<Mixed>(w, OutlierColumns(x, options, Gptq(loud)));
  ASSERT_EQ(Columns(fed.packed().columns().begin(), fed.packed().columns().end()), (Columns{7, 90}));
  EXPECT_LT(proxyLoss(w, fed.dequantized(), loud), 0.6 * proxyLoss(w, nearest.dequantized(), loud));

  // The columns are exact and take no part: the others are what they would be without them.
  RowMatrixXf rest = w;
  Eigen::MatrixXd masked = loud.matrix();
  const double mean = masked.diagonal().mean();
  for (const Index k : {7, 90}) {
    rest.col(k).setZero();
    masked.row(k).setZero();
    masked.col(k).setZero();
    masked(k, k) = mean;
  }
  RowMatrixXf others = fed.dequantized();
  RowMatrixXf expected = quantize<Grouped<Asymmetric<3>, 32>>(rest, Gptq(Hessian::fromMatrix(masked))).dequantized();
  for (const Index k : {7, 90}) {
    others.col(k).setZero();
    expected.col(k).setZero();
  }
  EXPECT_EQ(others, expected);
}

TEST(Rounding, HooksOfTwoFormatsComeFromOne) {
  RowMatrixXf x = gaussian(60, 64, 2);
  x.col(11) *= 50.f;
  const RowMatrixXf w = gaussian(9, 64);
  Eigen::VectorXf s = Eigen::VectorXf::Ones(64);
  s[3] = 4;
  using F = ChannelScaled<LlmInt8>;
  const auto outside = quantize<F>(w, ChannelScales(s, OutlierColumns(x, {.threshold = 20.f})));
  const auto inside = quantize<F>(w, OutlierColumns(x, {.threshold = 20.f}, ChannelScales(s)));
  EXPECT_EQ(outside, inside);
  ASSERT_EQ(outside.packed().inner().columns().size(), 1u);
  EXPECT_EQ(outside.packed().inner().columns()[0], 11u);
  EXPECT_EQ(outside.packed().channelScales()[3], 4 * outside.packed().channelScales()[0]);
  EXPECT_LT((outside.dequantized() - w).norm(), 1e-2f * w.norm());
  // A search of scales sees the columns that stay in 16 bits.
  const auto searched = quantize<F>(w, OutlierColumns(x, {.threshold = 20.f}, Awq(x)));
  EXPECT_LT((searched.dequantized() - w).norm(), 2e-2f * w.norm());
}

/// Two changes of basis, which do not commute: the first two inputs change places, then the last two.
TEST(Rounding, WhatIsInsideFollowsEachChangeOfBasis) {
  const auto swapped = [](Index i) {
    return BasisChange{.hessian =
                           [i](Eigen::MatrixXd& h) {
                             h.row(i).swap(h.row(i + 1));
                             h.col(i).swap(h.col(i + 1));
                           },
                       .tokens = [i](RowMatrixXf& x) { x.col(i).swap(x.col(i + 1)); }};
  };
  Eigen::Matrix3d h = Eigen::Matrix3d::Zero();
  h.diagonal() << 16, 4, 1;
  const OutlierColumns both(Eigen::RowVector3f(9, 1, 2), {}, BySensitivity(Hessian::fromMatrix(h)));
  EXPECT_EQ(both.outlierWeights(3), Eigen::Vector3f(1, 0.5f, 0.25f));
  EXPECT_EQ(both.columns(), Columns{0});
  const auto once = both.inBasis(swapped(0)), twice = once.inBasis(swapped(1));
  EXPECT_EQ(once.outlierWeights(3), Eigen::Vector3f(0.5f, 1, 0.25f));
  EXPECT_EQ(once.columns(), Columns{1});
  EXPECT_EQ(twice.outlierWeights(3), Eigen::Vector3f(0.5f, 0.25f, 1));
  EXPECT_EQ(twice.columns(), Columns{2});
}

TEST(Rounding, OutlierColumnsAreThoseOfTheBasis) {
  // Activations that are all in one direction of the rotated basis: one column is loud there and none here.
  const Index n = 64;
  RowMatrixXf rotated = gaussian(30, n, 3) * 0.01f;
  rotated.col(5).setConstant(8.f);
  const std::uint64_t seed = 7;
  RowMatrixXf x = rotated;  // x' = x V^T with V = H S, so x = x' H S
  hadamardInverseRows(x);
  applyColSigns(x, randomBits(seed, 0));
  const OutlierColumns columns(x, {.threshold = 6.f});
  EXPECT_EQ(columns.columns(), Columns{});
  const auto q = quantize<Incoherent<LlmInt8>>(gaussian(9, n), columns, {.seed = seed});
  const auto kept = q.packed().inner().columns();
  EXPECT_EQ(Columns(kept.begin(), kept.end()), Columns{5});
  // And divided by the scales of channels.
  Eigen::VectorXf s = Eigen::VectorXf::Ones(n);
  s[2] = 100;
  RowMatrixXf loud = gaussian(30, n, 4);
  loud.col(2) *= 100.f;
  const auto scaled =
      quantize<ChannelScaled<LlmInt8>>(gaussian(9, n), ChannelScales(s, OutlierColumns(loud, {.threshold = 50.f})));
  EXPECT_EQ(scaled.packed().inner().columns().size(), 0u);
}

}  // namespace
}  // namespace gosset::concepts_test
