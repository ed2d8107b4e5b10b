// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "rounding/pairs.hpp"
#include "testing.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>

#include <algorithm>
#include <numeric>
#include <vector>

namespace gosset::ldlq_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::Pairs;

/// Activations whose neighbouring channels are correlated and whose scales differ.
RowMatrixXf correlated(Index tokens, Index n, std::uint64_t seed = 1) {
  RowMatrixXf x = gaussian(tokens, n, seed);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  for (Index j = 0; j < n; ++j) x.col(j) *= 1.f + static_cast<float>(j * 7 % 5);
  return x;
}

Hessian hessianOf(const RowMatrixXf& x) {
  Hessian h(x.cols());
  h.accumulate(x);
  return h;
}

template <class F>
double loss(const RowMatrixXf& w, const QuantizedMatrix<F>& q, const Hessian& h) {
  return proxyLoss(w, q.dequantized(), h);
}

/// GPTQ as the paper writes it, in double, with grids that are given: `affine(row, group)` for groups of `width`.
template <ScalarCodebook C, class AffineOf>
Eigen::MatrixXi textbookGptq(const RowMatrixXf& weights, const Eigen::MatrixXd& h, double damping,
                             const std::vector<Index>& order, Index width, const AffineOf& affine) {
  const Index n = weights.cols();
  Eigen::MatrixXd w(weights.rows(), n), permuted(n, n);
  for (Index i = 0; i < n; ++i) {
    w.col(i) = weights.col(order[static_cast<std::size_t>(i)]).cast<double>();
    for (Index j = 0; j < n; ++j) {
      permuted(i, j) = h(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
    }
  }
  permuted.diagonal().array() += damping * h.diagonal().mean();
  const Eigen::MatrixXd upper = Eigen::LLT<Eigen::MatrixXd>(permuted.inverse()).matrixU();
  Eigen::MatrixXi codes(weights.rows(), n);
  for (Index i = 0; i < n; ++i) {
    const Index col = order[static_cast<std::size_t>(i)];
    for (Index row = 0; row < w.rows(); ++row) {
      const Affine a = affine(row, col / width, w);
      const auto x = static_cast<float>(w(row, i));
      const auto code = encode<C>(&x, a);
      float value;
      decode<C>(code, a, &value);
      codes(row, col) = code;
      const double error = (w(row, i) - static_cast<double>(value)) / upper(i, i);
      for (Index j = i; j < n; ++j) w(row, j) -= error * upper(i, j);
    }
  }
  return codes;
}

std::vector<Index> naturalOrder(Index n) {
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  return order;
}

std::vector<Index> byFallingDiagonal(const Eigen::MatrixXd& h) {
  std::vector<Index> order = naturalOrder(h.rows());
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return h(a, a) > h(b, b); });
  return order;
}

template <class F>
void expectTextbook(Index rows, Index cols, const GptqOptions& options, const ScaleFit& fit) {
  const RowMatrixXf w = gaussian(rows, cols, 11);
  const Hessian h = hessianOf(correlated(3 * cols, cols));
  const auto q = quantize<F>(w, Gptq(h, options), {.fit = fit});
  const auto order = options.act_order ? byFallingDiagonal(h.matrix()) : naturalOrder(cols);
  const auto affine = [&](Index row, Index group, const Eigen::MatrixXd&) { return q.packed().affine(row, group); };
  const Eigen::MatrixXi expected =
      textbookGptq<typename F::Codebook>(w, h.matrix(), options.damping, order, F::groupWidth(cols), affine);
  EXPECT_EQ(q.packed().codes().template cast<int>(), expected) << F::name() << ' ' << rows << " x " << cols;
}

TEST(Gptq, EqualsTheTextbookInDouble) {
  for (const Index cols : {1, 7, 65, 172}) {
    expectTextbook<PerChannel<Asymmetric<4>>>(19, cols, {}, PublishedRule{});
    expectTextbook<PerChannel<Asymmetric<2>>>(19, cols, {.damping = 0.1}, LeastSquares{});
    expectTextbook<PerChannel<Symmetric<3>>>(19, cols, {.act_order = true}, PublishedRule{});
    expectTextbook<PerTensor<Symmetric<4>>>(19, cols, {}, PublishedRule{});
    expectTextbook<Grouped<Asymmetric<3>, 16>>(19, cols, {.static_groups = true}, PublishedRule{});
    expectTextbook<Grouped<Asymmetric<3>, 16>>(19, cols, {}, PublishedRule{});
    expectTextbook<Grouped<NormalFloat4, 5>>(19, cols, {.act_order = true}, PublishedRule{});
  }
}

/// With groups fitted on the way, the scale of a group comes from the weights as compensated when the loop reaches it.
TEST(Gptq, FitsAGroupToTheCompensatedWeightsWhenItIsReached) {
  constexpr Index kWidth = 24;
  using F = Grouped<Asymmetric<3>, kWidth>;
  const Index rows = 9, cols = 172;
  const RowMatrixXf w = gaussian(rows, cols, 5);
  const Hessian h = hessianOf(correlated(600, cols));
  std::vector<Affine> fitted(static_cast<std::size_t>(rows * ceilDiv(cols, kWidth)));
  std::vector<bool> known(fitted.size());
  const auto affine = [&](Index row, Index group, const Eigen::MatrixXd& now) {
    const auto at = static_cast<std::size_t>(row * ceilDiv(cols, kWidth) + group);
    if (!known[at]) {
      const Index first = group * kWidth;
      const Eigen::RowVectorXf numbers = now.row(row).segment(first, std::min(kWidth, cols - first)).cast<float>();
      fitted[at] = fitAffine<Asymmetric<3>, Float16>(PublishedRule{},
                                                     {numbers.data(), static_cast<std::size_t>(numbers.size())});
      known[at] = true;
    }
    return fitted[at];
  };
  const Eigen::MatrixXi expected = textbookGptq<Asymmetric<3>>(w, h.matrix(), 0.01, naturalOrder(cols), kWidth, affine);
  const auto q = quantize<F>(w, Gptq(h));
  EXPECT_EQ(q.packed().codes().cast<int>(), expected);
  for (Index row = 0; row < rows; ++row) {
    for (Index group = 0; group < ceilDiv(cols, kWidth); ++group) {
      EXPECT_EQ(q.packed().affine(row, group).scale,
                fitted[static_cast<std::size_t>(row * ceilDiv(cols, kWidth) + group)].scale);
    }
  }
}

template <class F>
class LdlqOver : public ::testing::Test {};
using Formats = ::testing::Types<PerChannel<Asymmetric<2>>, PerTensor<Symmetric<4>>, Grouped<NormalFloat4, 32>,
                                 Grouped<Asymmetric<3>, 200>, PerTensor<Pairs>, PerChannel<Pairs>, Grouped<Pairs, 6>>;
TYPED_TEST_SUITE(LdlqOver, Formats);

TYPED_TEST(LdlqOver, AnIdentityHessianLeavesNearest) {
  for (const Index n : testing::kOddSizes) {
    const RowMatrixXf w = gaussian(5, n);
    const Hessian h = Hessian::fromMatrix(Eigen::MatrixXd::Identity(n, n));
    EXPECT_EQ(quantize<TypeParam>(w, Ldlq(h)), quantize<TypeParam>(w)) << n;
    EXPECT_EQ(quantize<TypeParam>(w, Gptq(h, {.sweeps = 2, .static_groups = true})), quantize<TypeParam>(w)) << n;
  }
}

TYPED_TEST(LdlqOver, LowersTheLossAndSweepsLowerItFurther) {
  for (const Index n : {9, 63, 172}) {
    const RowMatrixXf w = gaussian(70, n);
    const Hessian h = hessianOf(correlated(2 * n, n));
    const double nearest = loss(w, quantize<TypeParam>(w), h);
    double before = loss(w, quantize<TypeParam>(w, Ldlq(h, {.sweeps = 0})), h);
    EXPECT_LT(before, (TypeParam::Codebook::kDim == 1 ? 0.4 : 0.65) * nearest) << n;
    for (const int sweeps : {1, 2, 4}) {
      const double after = loss(w, quantize<TypeParam>(w, Ldlq(h, {.sweeps = sweeps})), h);
      EXPECT_LE(after, (sweeps == 1 ? 0.93 : 1) * before) << n << " columns, " << sweeps << " sweeps";
      if (n > 9) {
        EXPECT_LT(after, before) << n << " columns, " << sweeps << " sweeps";
      }
      before = after;
    }
  }
}

TYPED_TEST(LdlqOver, TheSameTwiceAndForAnyRowsBeside) {
  const RowMatrixXf w = gaussian(130, 65);
  const Hessian h = hessianOf(correlated(200, 65));
  const auto q = quantize<TypeParam>(w, Ldlq(h, {.sweeps = 1}));
  EXPECT_EQ(quantize<TypeParam>(w, Ldlq(h, {.sweeps = 1})), q);
  if (!TypeParam::kOneRowOnly) return;
  for (const Index row : {0, 63, 64, 129}) {
    const auto alone = quantize<TypeParam>(w.middleRows(row, 1), Ldlq(h, {.sweeps = 1}));
    EXPECT_EQ(alone.packed().codes(), q.packed().codes().middleRows(row, 1)) << row;
  }
}

TEST(Ldlq, OneColumnAndOneRow) {
  const Hessian h = Hessian::fromMatrix(Eigen::MatrixXd::Identity(1, 1));
  const RowMatrixXf w = gaussian(3, 1);
  EXPECT_EQ(quantize<PerTensor<Pairs>>(w, Ldlq(h)), quantize<PerTensor<Pairs>>(w));
  EXPECT_EQ(quantize<PerTensor<Symmetric<8>>>(w.topRows(1), Ldlq(h)), quantize<PerTensor<Symmetric<8>>>(w.topRows(1)));
}

TEST(Ldlq, DeadChannelsAndConstantWeightsComeThrough) {
  RowMatrixXf x = correlated(300, 40);
  x.col(3).setZero();
  x.rightCols(2).setZero();
  const Hessian h = hessianOf(x);
  RowMatrixXf w = gaussian(6, 40);
  w.row(1).setConstant(0.5f);
  w.row(2).setZero();
  const auto q = quantize<PerChannel<Symmetric<4>>>(w, Ldlq(h, {.damping = 0, .sweeps = 2}));
  EXPECT_TRUE(q.dequantized().allFinite());
  EXPECT_EQ(q.dequantized().row(2), w.row(2));
  EXPECT_EQ(q.dequantized().row(1), w.row(1));
}

TEST(Ldlq, RaisesTheDampingUntilItFactorizesAndSaysSo) {
  const RowMatrixXf w = gaussian(8, 30);
  const Hessian rank_deficient = hessianOf(gaussian(5, 30));
  std::vector<LdlqProgress> seen;
  const auto watch = [&](const LdlqProgress& progress) { seen.push_back(progress); };
  const auto q =
      quantize<PerChannel<Symmetric<4>>>(w, Ldlq(rank_deficient, {.damping = 0, .sweeps = 1, .progress = watch}));
  EXPECT_TRUE(q.dequantized().allFinite());
  ASSERT_GE(seen.size(), 2u);
  EXPECT_EQ(seen.front().damping, 1e-4) << "the first step";
  EXPECT_EQ(seen.front().sweep, 0);
  EXPECT_EQ(seen.back().sweep, 1);
  EXPECT_EQ(seen.back().columns_done, 30);
  EXPECT_EQ(seen.back().columns, 30);

  seen.clear();
  const Hessian healthy = hessianOf(gaussian(100, 30));
  (void)quantize<PerChannel<Symmetric<4>>>(w, Ldlq(healthy, {.damping = 0.25, .progress = watch}));
  EXPECT_EQ(seen.front().damping, 0.25);
}

TEST(Ldlq, AHessianThatSawNothingCountsAllErrorsAlike) {
  const RowMatrixXf w = gaussian(9, 65);
  using F = Grouped<Asymmetric<3>, 32>;
  const auto nearest = quantize<F>(w);
  EXPECT_EQ(quantize<F>(w, Gptq(Hessian(65))), nearest);
  EXPECT_EQ(quantize<F>(w, Ldlq(Hessian(65))), nearest);
  EXPECT_EQ(quantize<Incoherent<E8P>>(w, Ldlq(Hessian(65))), quantize<Incoherent<E8P>>(w));
}

TEST(Ldlq, TheMagnitudeOfActivationsChangesNoCode) {
  const RowMatrixXf w = gaussian(17, 63), x = correlated(200, 63);
  using F = Grouped<Asymmetric<3>, 32>;
  const auto rounded = [&](float magnitude) {
    const Hessian h = hessianOf(RowMatrixXf(x * magnitude));
    return std::pair(quantize<F>(w, Ldlq(h)), quantize<F>(w, Gptq(h, {.sweeps = 2, .act_order = true})));
  };
  const auto expected = rounded(1);
  for (const float magnitude : {0x1p-100f, 0x1p-80f, 0x1p-40f, 0x1p60f, 0x1p100f}) {
    EXPECT_EQ(rounded(magnitude), expected) << magnitude;
  }
}

TEST(Ldlq, RefusesWhatCannotBe) {
  const RowMatrixXf w = gaussian(4, 6);
  const auto run = [&](const Hessian& h, LdlqOptions options = {}) {
    (void)quantize<PerTensor<Symmetric<4>>>(w, Ldlq(h, options));
  };
  expectThrows([&] { run(Hessian::fromMatrix(Eigen::MatrixXd(-Eigen::MatrixXd::Identity(6, 6)))); },
               "Ldlq: expected a Hessian with a positive mean diagonal, got -1");
  expectThrows([&] { run(hessianOf(gaussian(9, 5))); }, "Ldlq: expected a Hessian of 6 inputs, got 5");
  expectThrows([&] { (void)quantize<PerTensor<Pairs>>(gaussian(4, 5), Ldlq(hessianOf(gaussian(9, 6)))); },
               "Ldlq: expected a Hessian of 5 inputs, got 6");
  expectThrows([&] { run(hessianOf(gaussian(9, 6)), {.damping = -1}); }, "Ldlq: expected a damping >= 0, got -1");
  expectThrows([&] { run(hessianOf(gaussian(9, 6)), {.sweeps = -1}); },
               "Ldlq: expected a number of sweeps >= 0, got -1");
  Eigen::MatrixXd indefinite = Eigen::MatrixXd::Identity(6, 6);
  indefinite(0, 5) = indefinite(5, 0) = 1e3;
  expectThrows([&] { run(Hessian::fromMatrix(indefinite)); },
               "Ldlq: the Hessian is not positive definite, not even with 10 times its mean diagonal added");
}

TEST(DampedCholesky, GivesBackLAndH) {
  for (const Index dim : {1, 2, 8}) {
    const Index n = 40;
    const Eigen::MatrixXd h = hessianOf(correlated(100, n)).matrix();
    const detail::DampedCholesky cholesky(h, 0.05);
    EXPECT_EQ(cholesky.damping(), 0.05);
    Eigen::MatrixXd damped = h;
    damped.diagonal().array() += 0.05 * h.diagonal().mean();
    EXPECT_TRUE(cholesky.hessianColumns(0, n).isApprox(damped.cast<float>(), 1e-6f));
    EXPECT_TRUE(cholesky.hessianColumns(8, 16).isApprox(damped.middleCols(8, 16).cast<float>(), 1e-6f));

    Eigen::MatrixXd unit = Eigen::MatrixXd::Zero(n, n);
    for (Index first = 0; first < n; first += 8) {
      unit.block(first, first, n - first, 8) = cholesky.unitBlockColumns(first, 8, dim).cast<double>();
    }
    for (Index k = 0; k < n; k += dim) {
      EXPECT_TRUE(unit.block(k, k, dim, dim).isApprox(Eigen::MatrixXd::Identity(dim, dim), 1e-6));
    }
    // D = L^-1 H L^-T is block diagonal.
    const Eigen::MatrixXd half = unit.partialPivLu().solve(damped);
    Eigen::MatrixXd d = unit.partialPivLu().solve(half.transpose());
    for (Index k = 0; k < n; k += dim) d.block(k, k, dim, dim).setZero();
    EXPECT_LT(d.cwiseAbs().maxCoeff(), 1e-4 * damped.cwiseAbs().maxCoeff()) << dim;
  }
}

}  // namespace
}  // namespace gosset::ldlq_test
