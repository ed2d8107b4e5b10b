// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/asymmetric.hpp>
#include <gosset/codebook/e8p.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "rounding/pairs.hpp"
#include "testing.hpp"
#include "textbook_feedback.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

// Rounding with feedback in blocks of several columns, code for code against a textbook in double that knows neither
// factors nor panels: before a block is rounded, all that is not yet rounded stands where the loss is least.
namespace gosset::feedback_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::Pairs;

Hessian correlated(Index n) {
  RowMatrixXf x = gaussian(2 * n + 20, n, 3);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.9f * x.col(j - 1) + 0.5f * x.col(j);
  for (Index j = 0; j < n; ++j) x.col(j) *= 1.f + 0.25f * static_cast<float>(j * 7 % 5);
  Hessian h(n);
  h.accumulate(x);
  return h;
}

enum class Order { kLastFirst, kFirstFirst, kByDiagonal };

struct Setting {
  Order order;
  int sweeps;
  bool fit_before;  ///< all groups before the first block, not each when it is reached
  double damping = 0.01;
};

template <class F>
class Textbook {
 public:
  using C = typename F::Codebook;

  Textbook(const RowMatrixXf& w, const Eigen::MatrixXd& hessian, const Setting& setting)
      : inputs_(w.cols()), blocks_(ceilDiv(w.cols(), C::kDim)), width_(F::groupWidth(blocks_ * C::kDim)) {
    const Index n = blocks_ * C::kDim;
    w_ = RowMatrixXf::Zero(w.rows(), n);
    w_.leftCols(inputs_) = w;
    const double mean = hessian.trace() / static_cast<double>(inputs_);
    h_ = mean * Eigen::MatrixXd::Identity(n, n);  // what padding counts
    h_.topLeftCorner(inputs_, inputs_) = hessian;
    order_.resize(static_cast<std::size_t>(blocks_));
    std::iota(order_.begin(), order_.end(), Index{0});
    const auto weight = [&](Index block) { return h_.diagonal().segment(block * C::kDim, C::kDim).sum(); };
    if (setting.order == Order::kLastFirst) std::reverse(order_.begin(), order_.end());
    if (setting.order == Order::kByDiagonal) {
      std::sort(order_.begin(), order_.end(), [&](Index a, Index b) { return weight(a) > weight(b); });
    }
    h_.diagonal().array() += setting.damping * mean;
    error_ = Eigen::MatrixXd::Zero(w.rows(), n);
    codes.resize(w.rows(), blocks_);
    affines.assign(static_cast<std::size_t>(F::kOneRowOnly ? w.rows() : 1),
                   std::vector<Affine>(static_cast<std::size_t>(ceilDiv(n, width_))));
    const Eigen::MatrixXd given = w_.cast<double>();
    std::vector<bool> fitted(affines[0].size(), setting.fit_before);
    for (std::size_t group = 0; setting.fit_before && group < fitted.size(); ++group) {
      fit(given, static_cast<Index>(group));
    }
    std::vector<bool> is_free(static_cast<std::size_t>(n), true);
    for (const Index block : order_) {
      const Eigen::MatrixXd now = given + testing::textbookFeedback(h_, error_, is_free);
      const Index group = block * C::kDim / width_;
      if (!fitted[static_cast<std::size_t>(group)]) fit(now, group);
      fitted[static_cast<std::size_t>(group)] = true;
      for (Index row = 0; row < w.rows(); ++row) {
        const auto [code, values] = encoded(row, block, now.row(row).segment(block * C::kDim, C::kDim));
        keep(row, block, code, values);
      }
      for (Index j = 0; j < C::kDim; ++j) is_free[static_cast<std::size_t>(block * C::kDim + j)] = false;
    }
    for (int sweep = 0; sweep < setting.sweeps; ++sweep) descend();
  }

  CodeMatrix<C> codes;
  std::vector<std::vector<Affine>> affines;  ///< by row, or one for all; then by group

 private:
  using Numbers = Eigen::Matrix<double, 1, C::kDim>;

  /// A group of each row, or of all rows, by the published rule; padding counts for nothing.
  void fit(const Eigen::MatrixXd& numbers, Index group) {
    const Index first = group * width_, count = std::min({width_, inputs_ - first});
    const RowMatrixXf part = numbers.middleCols(first, count).template cast<float>();
    const auto size = static_cast<std::size_t>(count);
    for (std::size_t row = 0; row < affines.size(); ++row) {
      const float* x = part.data() + row * size;
      affines[row][static_cast<std::size_t>(group)] = fitAffine<C, typename F::Scale>(
          PublishedRule{}, {x, F::kOneRowOnly ? size : static_cast<std::size_t>(part.size())}, count);
    }
  }

  std::tuple<typename C::Code, Numbers> encoded(Index row, Index block, const Numbers& numbers) const {
    const Affine& a =
        affines[F::kOneRowOnly ? static_cast<std::size_t>(row) : 0][static_cast<std::size_t>(block * C::kDim / width_)];
    const Eigen::Matrix<float, 1, C::kDim> x = numbers.template cast<float>();
    Eigen::Matrix<float, 1, C::kDim> y;
    const typename C::Code code = encode<C>(x.data(), a);
    decode<C>(code, a, y.data());
    return {code, y.template cast<double>()};
  }

  void keep(Index row, Index block, typename C::Code code, const Numbers& values) {
    codes(row, block) = code;
    error_.row(row).segment(block * C::kDim, C::kDim) =
        w_.row(row).segment(block * C::kDim, C::kDim).template cast<double>() - values;
  }

  double loss(Index row) const { return (error_.row(row) * h_ * error_.row(row).transpose()).value(); }

  /// Each block once more, in the same order: the code nearest to where it alone would be best, if the loss falls.
  void descend() {
    for (const Index block : order_) {
      const Index first = block * C::kDim;
      const Eigen::MatrixXd own = h_.block(first, first, C::kDim, C::kDim);
      for (Index row = 0; row < w_.rows(); ++row) {
        const Numbers before = error_.row(row).segment(first, C::kDim);
        const typename C::Code old_code = codes(row, block);
        const Numbers old_values = w_.row(row).segment(first, C::kDim).template cast<double>() - before;
        const Numbers slope = error_.row(row) * h_.middleCols(first, C::kDim);
        const Numbers best_error = before - own.llt().solve(slope.transpose()).transpose();
        const auto [code, values] =
            encoded(row, block, w_.row(row).segment(first, C::kDim).template cast<double>() - best_error);
        if (code == old_code) continue;
        const double old_loss = loss(row);
        keep(row, block, code, values);
        if (loss(row) > old_loss) keep(row, block, old_code, old_values);
      }
    }
  }

  Index inputs_, blocks_, width_;
  RowMatrixXf w_;
  Eigen::MatrixXd h_, error_;
  std::vector<Index> order_;
};

template <class F, class Rounding>
void expectTextbook(Index rows, Index cols, const Hessian& h, const Rounding& rounding, const Setting& setting) {
  const RowMatrixXf w = gaussian(rows, cols, 21);
  const auto q = quantize<F>(w, rounding);
  const Textbook<F> expected(w, h.matrix(), setting);
  EXPECT_EQ(q.packed().codes(), expected.codes) << F::name() << ", " << cols << " columns, " << setting.sweeps;
  for (std::size_t row = 0; row < expected.affines.size(); ++row) {
    for (std::size_t group = 0; group < expected.affines[row].size(); ++group) {
      EXPECT_EQ(q.packed().affine(static_cast<Index>(row), static_cast<Index>(group)), expected.affines[row][group])
          << F::name() << ", row " << row << ", group " << group;
    }
  }
}

/// Panels are 128 columns wide, and 64 rows go through them together.
TEST(Feedback, PairsEqualTheTextbook) {
  for (const Index cols : {6, 131, 264}) {
    const Hessian h = correlated(cols);
    for (const int sweeps : {0, 2}) {
      expectTextbook<PerChannel<Pairs>>(5, cols, h, Ldlq(h, {.sweeps = sweeps}), {Order::kLastFirst, sweeps, true});
    }
    if (cols > 200) break;  // of the others two panels will do
    expectTextbook<PerTensor<Pairs>>(5, cols, h, Ldlq(h, {.damping = 0.1, .sweeps = 1}),
                                     {Order::kLastFirst, 1, true, 0.1});
    expectTextbook<Grouped<Pairs, 10>>(5, cols, h, Ldlq(h, {.sweeps = 1}), {Order::kLastFirst, 1, false});
    expectTextbook<Grouped<Pairs, 10>>(5, cols, h, Gptq(h), {Order::kFirstFirst, 0, false});
    expectTextbook<Grouped<Pairs, 10>>(5, cols, h, Gptq(h, {.static_groups = true}), {Order::kFirstFirst, 0, true});
    expectTextbook<Grouped<Pairs, 10>>(5, cols, h, Gptq(h, {.sweeps = 1, .act_order = true}),
                                       {Order::kByDiagonal, 1, true});
  }
  const Hessian h = correlated(20);
  expectTextbook<PerChannel<Pairs>>(131, 20, h, Ldlq(h, {.sweeps = 1}), {Order::kLastFirst, 1, true});
  const Hessian odd = correlated(35);  // of the last group's three codes the last is partly padding
  expectTextbook<Grouped<Pairs, 10>>(5, 35, odd, Gptq(odd), {Order::kFirstFirst, 0, false});
}

TEST(Feedback, E8PEqualsTheTextbook) {
  for (const Index cols : {24, 268}) {
    const Hessian h = correlated(cols);
    for (const int sweeps : {0, 1, 2}) {
      expectTextbook<PerTensor<E8P>>(5, cols, h, Ldlq(h, {.sweeps = sweeps}), {Order::kLastFirst, sweeps, true});
    }
    expectTextbook<PerChannel<E8P>>(5, cols, h, Gptq(h), {Order::kFirstFirst, 0, true});
  }
}

TEST(Feedback, ScalarsEqualTheTextbookAfterSweeps) {
  const Hessian h = correlated(140);
  using F = Grouped<Asymmetric<2>, 35>;
  expectTextbook<F>(5, 140, h, Ldlq(h), {Order::kLastFirst, 4, false});
  expectTextbook<F>(5, 140, h, Gptq(h, {.sweeps = 2, .static_groups = true}), {Order::kFirstFirst, 2, true});
}

/// The shares as they were measured: a sweep that accepts nothing, or feedback that is halved, has others.
TEST(Feedback, EachPassLowersTheLossByItsShare) {
  const Hessian h = correlated(256);
  const RowMatrixXf w = gaussian(24, 256);
  const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), h); };
  const auto expect = [&](const char* what, double value, double before, double share) {
    EXPECT_NEAR(value / before, share, 0.05 * share) << what;
  };
  const double nearest = loss(quantize<E8P>(w));
  const double first = loss(quantize<E8P>(w, Ldlq(h, {.sweeps = 0})));
  const double second = loss(quantize<E8P>(w, Ldlq(h, {.sweeps = 1})));
  const double third = loss(quantize<E8P>(w, Ldlq(h, {.sweeps = 2})));
  expect("first pass", first, nearest, 0.448);
  expect("one sweep", second, first, 0.746);
  expect("another", third, second, 0.905);
}

/// Of single numbers the code nearest to the best place is the best code. So when sweeps find nothing more, no other
/// code of any weight gives less loss, however small the gain.
TEST(Feedback, SweepsEndWhereNoOtherCodeIsBetter) {
  const Index cols = 24;
  const Hessian h = correlated(cols);
  // Numbers count in units of the largest: beside it most rows have gains that are very small.
  RowMatrixXf w = gaussian(70, cols, 4);
  const auto unitOf = [](Index row) { return std::ldexp(1.f, static_cast<int>(-(row % 14))); };
  for (Index row = 0; row < w.rows(); ++row) w.row(row) *= unitOf(row);
  const auto q = quantize<PerChannel<Asymmetric<2>>>(w, Ldlq(h, {.damping = 0, .sweeps = 100}));
  const Eigen::MatrixXd error = w.cast<double>() - q.dequantized().cast<double>();
  for (Index row = 0; row < w.rows(); ++row) {
    const Affine a = q.packed().affine(row, 0);
    for (Index col = 0; col < cols; ++col) {
      const double slope = (error.row(row) * h.matrix().col(col)).value(), curve = h.matrix()(col, col);
      for (std::uint8_t code = 0; code < 4; ++code) {
        float value;
        decode<Asymmetric<2>>(code, a, &value);
        const double change = static_cast<double>(w(row, col)) - static_cast<double>(value) - error(row, col);
        EXPECT_GE(change * (2 * slope + change * curve), -1e-6 * curve * std::pow(unitOf(row), 2))
            << row << ", " << col << ": " << int{code};
      }
    }
  }
}

/// Halfway between two levels either is as good, and the one that is there stays. With errors e of the last column
/// and f of the one before, the loss e^2 + e f + f^2 is least in e at -f / 2, which 0.375 is half a level away from.
TEST(Feedback, SweepsKeepWhatIsAsGood) {
  Eigen::MatrixXd h = Eigen::MatrixXd::Identity(4, 4);
  h(2, 3) = h(3, 2) = 0.5;
  RowMatrixXf w(2, 4);  // levels 0, 1, 2, 3
  w << 0, 3, 1.25f, 1.375f, 0, 3, 1.75f, 1.625f;
  const auto q = quantize<PerChannel<Asymmetric<2>>>(w, Ldlq(Hessian::fromMatrix(h), {.damping = 0, .sweeps = 3}));
  RowMatrixXf expected(2, 4);
  expected << 0, 3, 1, 1, 0, 3, 2, 2;
  EXPECT_EQ(q.dequantized(), expected);
}

TEST(Feedback, ReportsEachPanelOfEachPass) {
  std::vector<std::tuple<int, Index>> seen;
  const auto watch = [&](const LdlqProgress& p) {
    EXPECT_EQ(p.columns, 264);
    EXPECT_EQ(p.damping, 0.01);
    seen.emplace_back(p.sweep, p.columns_done);
  };
  (void)quantize<PerTensor<E8P>>(gaussian(9, 264), Ldlq(correlated(264), {.sweeps = 1, .progress = watch}));
  EXPECT_EQ(seen, (std::vector<std::tuple<int, Index>>{{0, 128}, {0, 256}, {0, 264}, {1, 128}, {1, 256}, {1, 264}}));
}

TEST(Feedback, SweepsFourTimesUnlessAskedOtherwise) {
  int last = 0;
  const auto watch = [&](const LdlqProgress& p) { last = p.sweep; };
  const RowMatrixXf w = gaussian(200, 172);
  const Hessian h = correlated(172);
  (void)quantize<PerChannel<Asymmetric<2>>>(w, Ldlq(h, {.damping = 1e-4, .progress = watch}));
  EXPECT_EQ(last, 4);
  (void)quantize<PerChannel<Asymmetric<2>>>(w, Ldlq(h, {.damping = 1e-4, .sweeps = 6, .progress = watch}));
  EXPECT_GT(last, 4) << "there was more to change";
}

/// With 1 on the diagonal and `beside` next to it, the least eigenvalue is 1 - beside. Dampings double, from 1e-4 on.
TEST(Feedback, RaisesTheDampingByDoubling) {
  const auto damping = [](double beside, double first) {
    Eigen::MatrixXd h(2, 2);
    h << 1, beside, beside, 1;
    return detail::DampedCholesky(h, first).damping();
  };
  EXPECT_EQ(damping(0.5, 0), 0);
  EXPECT_DOUBLE_EQ(damping(1 + 1.5e-4, 0), 2e-4);
  EXPECT_DOUBLE_EQ(damping(1 + 0.5e-4, 1e-5), 1e-4);
  EXPECT_DOUBLE_EQ(damping(2, 0.3), 1.2);
  EXPECT_DOUBLE_EQ(damping(10.9, 5), 10);
  EXPECT_EQ(damping(0.5, 20), 20);
  expectThrows([&] { damping(11.1, 5); }, "not even with 10 times its mean diagonal added");
  expectThrows([&] { damping(31, 25); }, "not even with 25 times its mean diagonal added");
}

}  // namespace
}  // namespace gosset::feedback_test
