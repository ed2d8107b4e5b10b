// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "testing.hpp"

#include <algorithm>
#include <limits>

namespace gosset::act_order_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Int4 = Grouped<Asymmetric<4>, 32>;
using Order = std::vector<std::uint32_t>;

/// Nearest, in an order that is given.
struct Given : Nearest {
  Order order;
  explicit Given(Order given) : order(std::move(given)) {}
  Order columnOrder(Index) const { return order; }
};

/// 0, s, 2 s, .. modulo n, for s without a common factor with n.
Order stride(Index n, Index s) {
  Order order;
  for (Index k = 0; k < n; ++k) order.push_back(static_cast<std::uint32_t>(k * s % n));
  return order;
}

RowMatrixXf gathered(const RowMatrixXf& w, const Order& order) {
  RowMatrixXf result(w.rows(), w.cols());
  for (std::size_t k = 0; k < order.size(); ++k) result.col(static_cast<Index>(k)) = w.col(order[k]);
  return result;
}

TEST(ActOrder, GroupsAreOfColumnsThatFollowInTheOrder) {
  // Columns 0, 2, 4, .. hold 0 and 15, the others 0 and 1500: each kind by itself is exact at 4 bits.
  RowMatrixXf w(16, 64);
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) w(i, j) = static_cast<float>((i + j / 2) % 16) * (j % 2 == 0 ? 1.f : 100.f);
  }
  Order order(64);
  for (std::uint32_t k = 0; k < 64; ++k) order[k] = k < 32 ? 2 * k : 2 * (k - 32) + 1;
  const auto q = quantize<ActOrder<Int4>>(w, Given(order));
  EXPECT_EQ(q.dequantized(), w);
  EXPECT_NE(quantize<Int4>(w).dequantized(), w);
  EXPECT_TRUE(std::equal(order.begin(), order.end(), q.packed().order().begin()));
  EXPECT_EQ(q.bytes(), quantize<Int4>(w).bytes() + 64 * 4);
}

TEST(ActOrder, IsTheInnerFormatOfTheColumnsInOrder) {
  for (const Index n : {1, 7, 9, 63, 65, 172, 417}) {
    const RowMatrixXf w = gaussian(300, n);
    // As they stand, backwards, and an order that is not its own inverse.
    for (const Order& order : {stride(n, 1), stride(n, n == 1 ? 1 : n - 1), stride(n, n % 2 == 0 ? 3 : 2)}) {
      const auto q = quantize<ActOrder<Int4>>(w, Given(order));
      const auto inner = quantize<Int4>(gathered(w, order));
      EXPECT_EQ(gathered(q.dequantized(), order), inner.dequantized()) << n;
      const Eigen::MatrixXf x = gaussian(n, 3, 2);
      const Eigen::MatrixXf there = gathered(x.transpose(), order).transpose();
      EXPECT_EQ(Eigen::MatrixXf(q * x), Eigen::MatrixXf(inner * there)) << "the same bits, rounding included";
      Eigen::MatrixXf rows = Eigen::MatrixXf::Zero(300, 3);
      q.multiplyRows(256, 44, x, rows);
      EXPECT_EQ(rows.bottomRows(44), Eigen::MatrixXf(q * x).bottomRows(44));
      EXPECT_EQ(q.row(299), q.dequantized().row(299));
    }
  }
}

TEST(ActOrder, TransposedProductsMeetTheirColumns) {
  const RowMatrixXf w = gaussian(33, 65);
  const auto q = quantize<ActOrder<Int4>>(w, Given(stride(65, 8)));
  const Eigen::MatrixXf x = gaussian(33, 4, 5), expected = q.dequantized().transpose() * x;
  Eigen::MatrixXf y = Eigen::MatrixXf::Ones(65, 4);
  q.packed().addTransposed(x, y);
  EXPECT_LT((y - expected - Eigen::MatrixXf::Ones(65, 4)).norm(), 1e-5f * expected.norm());
}

TEST(ActOrder, NaNStaysInItsColumn) {
  const auto q = quantize<ActOrder<Int4>>(gaussian(20, 65), Given(stride(65, 8)));
  Eigen::MatrixXf x = gaussian(65, 2, 3);
  const Eigen::VectorXf clean = q * x.col(1).eval();
  x(7, 0) = std::numeric_limits<float>::quiet_NaN();
  const Eigen::MatrixXf y = q * x;
  EXPECT_TRUE(y.col(0).array().isNaN().all());
  EXPECT_FALSE(y.col(1).array().isNaN().any());
  EXPECT_LT((y.col(1) - clean).norm(), 0.02f * clean.norm());
}

/// Activations whose channels differ in size, in no order.
Hessian unevenHessian(Index n) {
  RowMatrixXf x = gaussian(4 * n, n, 5);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.6f * x.col(j - 1) + 0.8f * x.col(j);
  for (Index j = 0; j < n; ++j) x.col(j) *= static_cast<float>(1 + (j * 7) % 10);
  Hessian h(n);
  h.accumulate(x);
  return h;
}

TEST(ActOrder, OfGptqIsByFallingDiagonal) {
  Eigen::MatrixXd m = Eigen::MatrixXd::Identity(5, 5);
  m.diagonal() << 2, 5, 2, 9, 1;
  EXPECT_EQ(Gptq(Hessian::fromMatrix(m)).columnOrder(5), (Order{3, 1, 0, 2, 4}));
  const Index n = 172;
  const Hessian h = unevenHessian(n);
  const RowMatrixXf w = gaussian(40, n);
  const auto q = quantize<ActOrder<Int4>>(w, Gptq(h));
  const Order order = Gptq(h).columnOrder(n);
  // The matrix and the Hessian in that order, by hand.
  Eigen::MatrixXd there(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j)
      there(i, j) = h.matrix()(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
  }
  const auto byHand = quantize<Int4>(gathered(w, order), Gptq(Hessian::fromMatrix(there)));
  EXPECT_EQ(gathered(q.dequantized(), order), byHand.dequantized());
  EXPECT_LT(proxyLoss(w, q.dequantized(), h), 0.9 * proxyLoss(w, quantize<Int4>(w, Gptq(h)).dequantized(), h));
}

TEST(ActOrder, WrappersHandTheOrderOn) {
  const Index n = 65;
  const Hessian h = unevenHessian(n);
  const RowMatrixXf w = gaussian(9, n);
  const auto q = quantize<ActOrder<Outliers<Int4, 20>>>(w, BySensitivity(h, Gptq(h)));
  const Order order = Gptq(h).columnOrder(n);
  EXPECT_TRUE(std::equal(order.begin(), order.end(), q.packed().order().begin()));
  const Eigen::VectorXf s = Eigen::VectorXf::LinSpaced(n, 1.f, 8.f);
  const auto scaled = quantize<ChannelScaled<ActOrder<Int4>>>(w, ChannelScales(s, Gptq(h)));
  Eigen::MatrixXd divided = h.matrix();
  const Eigen::VectorXd inverse = scaled.packed().channelScales().cast<double>().cwiseInverse();
  divided = (inverse.asDiagonal() * divided * inverse.asDiagonal()).eval();
  const Order ofScaled = Gptq(Hessian::fromMatrix(divided)).columnOrder(n);
  EXPECT_TRUE(std::equal(ofScaled.begin(), ofScaled.end(), scaled.packed().inner().order().begin()));
}

TEST(ActOrder, OfAMatrixThatIsThere) {
  const auto inner = quantize<Int4>(gaussian(5, 40));
  const QuantizedMatrix<ActOrder<Int4>> q(Packed<ActOrder<Int4>>::assembled(inner.packed(), stride(40, 3)));
  EXPECT_EQ(gathered(q.dequantized(), stride(40, 3)), inner.dequantized());
  expectThrows([&] { (void)Packed<ActOrder<Int4>>::assembled(inner.packed(), stride(39, 1)); },
               "ActOrder: expected an order of 40 columns, each once, got 39 numbers that are none");
}

TEST(ActOrder, RefusesWhatIsNoOrder) {
  const RowMatrixXf w = gaussian(3, 4);
  const std::string text = "ActOrder: expected an order of 4 columns, each once, got ";
  for (const Order& order : {Order{0, 1, 2}, Order{0, 1, 2, 4}, Order{0, 1, 1, 2}, Order{0, 1, 2, 3, 4}}) {
    expectThrows([&] { (void)quantize<ActOrder<Int4>>(w, Given(order)); }, text + std::to_string(order.size()));
  }
  expectThrows([&] { (void)quantize<ActOrder<Int4>>(w, Gptq(Hessian(5))); },
               "Gptq: expected a matrix of 5 inputs, as the Hessian has, got 4");
  auto packed = Packed<ActOrder<Int4>>::shaped(3, 4);
  EXPECT_EQ(packed.fault(), "");
  packed.visitFields([]<class T>(std::string_view name, std::span<T> values) {
    if constexpr (std::is_same_v<T, std::uint32_t>) {
      if (name == "order") values[2] = 1;
    }
  });
  EXPECT_EQ(packed.fault(), "order: expected each column's number once");
}

TEST(ActOrder, HasAName) {
  EXPECT_EQ(Packed<ActOrder<Int4>>::formatName(), "ActOrder<Grouped<Asymmetric<4>, 32>>");
  static_assert(hasFastProduct<ActOrder<Int4>> && Packed<ActOrder<Int4>>::kRowsIndependent);
}

}  // namespace
}  // namespace gosset::act_order_test
