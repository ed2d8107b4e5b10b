// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/feedback.hpp>

#include <gosset/codebook/e8p.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/rounding/ldlq.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "testing.hpp"
#include "textbook_feedback.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>

#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// Rounding with feedback into trellis codes, where all rows of a band are rounded together and the columns of a tile
// may have a rate of their own: against a textbook in double that knows neither factors nor panels.
namespace gosset::feedback_trellis_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

/// Activations of which some inputs are much louder than others, and neighbours akin.
Hessian uneven(Index n) {
  RowMatrixXf x = gaussian(2 * n + 20, n, 3);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.7f * x.col(j - 1) + 0.7f * x.col(j);
  for (Index j = 0; j < n; ++j) x.col(j) *= std::pow(1.5f, static_cast<float>(j * 7 % 11 - 5));
  Hessian h(n);
  h.accumulate(x);
  return h;
}

enum class Order { kLastFirst, kFirstFirst, kByDiagonal };

/// One band of rows.
template <class F>
class Textbook {
 public:
  using C = typename F::Codebook;
  using Block = Eigen::Matrix<double, Eigen::Dynamic, 4>;

  Textbook(const RowMatrixXf& w, const Eigen::MatrixXd& hessian, Order order, int sweeps, bool fit_before,
           double mean_bits = 2)
      : grid(w.rows(), w.cols(), PublishedRule{}), codes(w.rows(), grid.cols()), coder_(grid, 0, w.rows()) {
    const Index n = grid.cols();
    w_ = RowMatrixXf::Zero(w.rows(), n);
    w_.leftCols(w.cols()) = w;
    const double mean = hessian.trace() / static_cast<double>(w.cols());
    h_ = mean * Eigen::MatrixXd::Identity(n, n);  // what padding counts
    h_.topLeftCorner(w.cols(), w.cols()) = hessian;
    order_.resize(static_cast<std::size_t>(n / 4));
    std::iota(order_.begin(), order_.end(), Index{0});
    const auto weight = [&](Index block) { return h_.diagonal().segment(4 * block, 4).sum(); };
    if (order == Order::kLastFirst) std::reverse(order_.begin(), order_.end());
    if (order == Order::kByDiagonal) {
      std::sort(order_.begin(), order_.end(), [&](Index a, Index b) { return weight(a) > weight(b); });
    }
    h_.diagonal().array() += 0.01 * mean;
    error_ = Eigen::MatrixXd::Zero(w.rows(), n);
    if constexpr (MixedRates<C>) chooseRates(mean_bits);

    const Eigen::MatrixXd given = w_.cast<double>();
    if (fit_before) grid.fitAll(w_);
    std::vector<bool> is_free(static_cast<std::size_t>(n), true),
        fitted(static_cast<std::size_t>(grid.groups()), fit_before);
    for (const Index block : order_) {
      const Eigen::MatrixXd now = given + testing::textbookFeedback(h_, error_, is_free);
      const Index group = grid.groupOf(4 * block);
      if (!fitted[static_cast<std::size_t>(group)]) {
        const RowMatrixXf numbers = now.template cast<float>();
        grid.fitGroup(group, numbers.middleCols(grid.begin(group), grid.end(group) - grid.begin(group)));
      }
      fitted[static_cast<std::size_t>(group)] = true;
      const auto [states, values] = encoded(block, now.middleCols(4 * block, 4));
      keep(block, states, values);
      for (Index j = 0; j < 4; ++j) is_free[static_cast<std::size_t>(4 * block + j)] = false;
    }
    for (int sweep = 0; sweep < sweeps; ++sweep) descend();
  }

  Grid<F> grid;
  CodeMatrix<C> codes;

  double loss() const { return (error_ * h_).cwiseProduct(error_).sum(); }

 private:
  using States = Eigen::Matrix<std::uint16_t, Eigen::Dynamic, 4, Eigen::RowMajor>;

  /// By what an error weighs once all blocks that follow have made up for it as well as they can.
  void chooseRates(double mean_bits) {
    std::vector<Index> rest(static_cast<std::size_t>(h_.cols()));
    std::iota(rest.begin(), rest.end(), Index{0});
    std::vector<double> weights(static_cast<std::size_t>(grid.tiles()));
    std::vector<Index> columns(weights.size());
    for (const Index block : order_) {
      const Eigen::MatrixXd inverse = Eigen::MatrixXd(h_(rest, rest)).inverse();
      const auto at = std::find(rest.begin(), rest.end(), 4 * block) - rest.begin();
      const Eigen::MatrixXd own = inverse.block(at, at, 4, 4).inverse();
      const auto tile = static_cast<std::size_t>(block / 8);
      weights[tile] += own.trace();
      columns[tile] += 4;
      rest.erase(rest.begin() + at, rest.begin() + at + 4);
    }
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] /= static_cast<double>(columns[i]);
    grid.setRates(detail::tileRates<14>(weights, columns, mean_bits));
  }

  std::pair<States, Block> encoded(Index block, const Block& numbers) {
    const Eigen::Matrix<float, Eigen::Dynamic, 4, Eigen::RowMajor> x = numbers.template cast<float>();
    Eigen::Matrix<float, Eigen::Dynamic, 4, Eigen::RowMajor> y(x.rows(), 4);
    States states(x.rows(), 4);
    coder_.encode(4 * block, x.data(), states.data());
    coder_.decode(4 * block, states.data(), y.data());
    return {states, y.template cast<double>()};
  }

  void keep(Index block, const States& states, const Block& values) {
    codes.middleCols(4 * block, 4) = states;
    error_.middleCols(4 * block, 4) = w_.middleCols(4 * block, 4).template cast<double>() - values;
  }

  /// Each block once more: the walk nearest to where it alone would be best, if the loss falls.
  void descend() {
    for (const Index block : order_) {
      const Index first = 4 * block;
      const Block before = error_.middleCols(first, 4), numbers = w_.middleCols(first, 4).template cast<double>();
      const States old_states = codes.middleCols(first, 4);
      const Block slope = error_ * h_.middleCols(first, 4);
      const Eigen::Matrix4d own = h_.block<4, 4>(first, first);
      const Block best_error = before - slope * own.inverse();
      const auto [states, values] = encoded(block, numbers - best_error);
      const double old_loss = loss();
      keep(block, states, values);
      if (loss() >= old_loss) keep(block, old_states, numbers - before);
    }
  }

  RowMatrixXf w_;
  Eigen::MatrixXd h_, error_;
  std::vector<Index> order_;
  detail::BlockCoder<Grid<F>> coder_;
};

template <class F, class Rounding>
void expectTextbook(Index rows, Index cols, const Hessian& h, const Rounding& rounding, Order order, int sweeps,
                    bool fit_before, double mean_bits = 2) {
  const RowMatrixXf w = gaussian(rows, cols, 21);
  const auto q = quantize<F>(w, rounding);
  const Textbook<F> expected(w, h.matrix(), order, sweeps, fit_before, mean_bits);
  const std::string name = F::name() + ", " + std::to_string(rows) + " x " + std::to_string(cols);
  const auto rates = expected.grid.rates();
  EXPECT_EQ(q.packed().rates(), std::vector<std::uint8_t>(rates.begin(), rates.end())) << name;
  for (Index group = 0; group < expected.grid.groups(); ++group) {
    EXPECT_EQ(q.packed().affine(rows - 1, group), expected.grid.affine(rows - 1, group)) << name;
  }
  EXPECT_EQ(q.packed().codes(), expected.codes) << name << ", " << sweeps << " sweeps";
}

/// Panels are 128 columns wide.
TEST(FeedbackTrellis, EqualsTheTextbook) {
  using F = PerChannel<Trellis<2, 1, 12>>;
  for (const Index cols : {6, 131}) {
    const Hessian h = uneven(cols);
    for (const int sweeps : {0, 1, 2}) {
      expectTextbook<F>(20, cols, h, Ldlq(h, {.sweeps = sweeps}), Order::kLastFirst, sweeps, true);
    }
    expectTextbook<F>(7, cols, h, Gptq(h), Order::kFirstFirst, 0, true);
    expectTextbook<F>(130, cols, h, Gptq(h, {.sweeps = 1, .act_order = true}), Order::kByDiagonal, 1, true);
  }
}

TEST(FeedbackTrellis, MixedRatesEqualTheTextbook) {
  for (const Index cols : {6, 131}) {
    const Hessian h = uneven(cols);
    using F = Grouped<TrellisMixed, 32>;
    for (const double mean : {1., 2.5, 4.}) {
      expectTextbook<F>(5, cols, h, Ldlq(h, {.sweeps = 1, .mean_bits = mean}), Order::kLastFirst, 1, false, mean);
    }
    expectTextbook<F>(17, cols, h, Gptq(h), Order::kFirstFirst, 0, false);
    expectTextbook<F>(5, cols, h, Gptq(h, {.act_order = true}), Order::kByDiagonal, 0, true);
  }
}

/// Bands do not know of each other.
TEST(FeedbackTrellis, ABandIsRoundedAsIfAlone) {
  const Hessian h = uneven(37);
  const RowMatrixXf w = gaussian(300, 37);
  using F = PerChannel<Trellis<2, 1, 12>>;
  const auto codes = quantize<F>(w, Ldlq(h)).packed().codes();
  EXPECT_EQ(quantize<F>(w.topRows(128), Ldlq(h)).packed().codes(), codes.topRows(128));
  EXPECT_EQ(quantize<F>(w.bottomRows(172), Ldlq(h)).packed().codes(), codes.bottomRows(172));
}

TEST(FeedbackTrellis, ASweepLowersTheLossAndIsTheDefault) {
  using F = PerChannel<Trellis<2, 1, 12>>;
  for (const Index cols : {64, 172}) {
    const Hessian h = uneven(cols);
    const RowMatrixXf w = gaussian(150, cols);
    const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), h); };
    const auto one = quantize<F>(w, Ldlq(h, {.sweeps = 1}));
    const double nearest = loss(quantize<F>(w)), none = loss(quantize<F>(w, Ldlq(h, {.sweeps = 0})));
    EXPECT_LT(none, 0.93 * nearest) << cols;
    EXPECT_LT(loss(one), 0.99 * none) << cols;
    EXPECT_LE(loss(quantize<F>(w, Ldlq(h, {.sweeps = 3}))), loss(one)) << cols;
    EXPECT_EQ(quantize<F>(w, Ldlq(h)), one) << cols;
  }
}

TEST(FeedbackTrellis, RatesThatFollowTheHessianLoseLess) {
  const RowMatrixXf w = gaussian(128, 256);
  using Plain = PerChannel<Trellis<2, 1, 12>>;
  using Mixed = Grouped<TrellisMixed, 32>;
  // Loud inputs in tiles of their own, so that these have something to gain.
  Eigen::MatrixXd tiles = uneven(256).matrix();
  for (Index j = 0; j < 256; ++j) {
    const double size = std::exp2(static_cast<double>(j / 32 * 3 % 8));
    tiles.row(j) *= size;
    tiles.col(j) *= size;
  }
  const Hessian loud = Hessian::fromMatrix(tiles);
  const auto mixed = quantize<Mixed>(w, Ldlq(loud, {.mean_bits = 2}));
  const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), loud); };
  EXPECT_LT(loss(mixed), 0.5 * loss(quantize<Plain>(w, Ldlq(loud))));
  const auto rates = mixed.packed().rates();
  EXPECT_EQ(std::accumulate(rates.begin(), rates.end(), 0), 8 * 16);
  EXPECT_LT(*std::min_element(rates.begin(), rates.end()), 14);
  EXPECT_GT(*std::max_element(rates.begin(), rates.end()), 18);
  EXPECT_EQ(quantize<Mixed>(w, Ldlq(loud)), mixed) << "2 bits by default";
}

/// TrellisMixed without a spread is the code of one rate.
TEST(FeedbackTrellis, TilesAllAlikeAreThePlainCode) {
  const RowMatrixXf w = gaussian(20, 70);
  const Hessian h = uneven(70);
  const auto mixed = quantize<PerChannel<TrellisMixed>>(w, Ldlq(h, {.mean_bits = 1.5, .rate_spread = 0}));
  const auto plain = quantize<PerChannel<Trellis<3, 2>>>(w, Ldlq(h));
  EXPECT_EQ(mixed.packed().codes(), plain.packed().codes());
  EXPECT_EQ(mixed.dequantized(), plain.dequantized());
}

TEST(FeedbackTrellis, AnIdentityLeavesNearest) {
  for (const Index n : {1, 8, 65, 172}) {
    const RowMatrixXf w = gaussian(17, n);
    const Hessian h = Hessian::fromMatrix(Eigen::MatrixXd::Identity(n, n));
    using F = PerChannel<Trellis<2, 1, 12>>;
    EXPECT_EQ(quantize<F>(w, Ldlq(h, {.sweeps = 0})), quantize<F>(w)) << n;
    using Mixed = Grouped<TrellisMixed, 32>;
    const auto rates = quantize<Mixed>(w, Ldlq(h, {.sweeps = 0, .mean_bits = 3})).packed().rates();
    for (const int rate : rates) EXPECT_NEAR(rate, 24, 8) << n;
  }
}

TEST(FeedbackTrellis, DeadInputsAndZeroRowsComeThrough) {
  RowMatrixXf x = gaussian(300, 40);
  x.col(3).setZero();
  x.rightCols(6).setZero();
  Hessian h(40);
  h.accumulate(x);
  RowMatrixXf w = gaussian(20, 40);
  w.row(2).setZero();
  const auto q = quantize<Grouped<TrellisMixed, 32>>(w, Ldlq(h, {.damping = 0, .mean_bits = 3}));
  EXPECT_TRUE(q.dequantized().allFinite());
  EXPECT_TRUE(q.dequantized().row(2).isZero(0));
  EXPECT_TRUE(q.packed().isValid());
}

TEST(FeedbackTrellis, RefusesWhatCannotBe) {
  const RowMatrixXf w = gaussian(4, 8);
  const Hessian h = uneven(8);
  expectThrows([&] { (void)quantize<PerChannel<Trellis<2, 1, 12>>>(w, Ldlq(h, {.mean_bits = 2.0})); },
               "Ldlq: mean_bits: PerChannel<Trellis<2, 1, 12>> has the same rate for all columns; TrellisMixed has "
               "rates to choose");
  expectThrows([&] { (void)quantize<PerChannel<E8P>>(w, Ldlq(h, {.mean_bits = 2.0})); },
               "Ldlq: mean_bits: PerChannel<E8P> has the same rate for all columns; TrellisMixed has rates to choose");
  expectThrows(
      [&] { (void)quantize<PerChannel<E8P>>(w, Ldlq(h, {.rate_spread = 1.0})); },
      "Ldlq: rate_spread: PerChannel<E8P> has the same rate for all columns; TrellisMixed has rates to choose");
  expectThrows([&] { (void)quantize<Grouped<TrellisMixed, 32>>(w, Ldlq(h, {.mean_bits = 0.5})); },
               "Ldlq: mean_bits: expected 1 to 6, got 0.5");
  expectThrows([&] { (void)quantize<Grouped<TrellisMixed, 32>>(w, Ldlq(h, {.sweeps = -1})); },
               "Ldlq: expected a number of sweeps >= 0, got -1");
}

}  // namespace
}  // namespace gosset::feedback_trellis_test
