// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/rounding/block_changes.hpp>

#include "testing.hpp"

#include <vector>

namespace gosset::block_changes_test {
namespace {

using testing::gaussian;

/// The definition, product after product.
template <int kDim>
RowMatrixXf expected(const RowMatrixXf& changes, const RowMatrixXf& h, Index first, Index end, RowMatrixXf g) {
  for (Index row = 0; row < g.rows(); ++row) {
    for (Index j = first; j < end; ++j) {
      for (Index col = changes.cols() - kDim; col >= 0; col -= kDim) {
        for (Index k = col; k < col + kDim; ++k) g(row, j) += simd::unfused(h(k, j) * changes(row, k));
      }
    }
  }
  return g;
}

template <int kDim>
void expectProducts(Index rows, Index width, Index n) {
  RowMatrixXf numbers = gaussian(rows, width, 1);
  for (Index row = 0; row < rows; ++row) {
    for (Index col = 0; col < width; col += kDim) {
      if ((row + col / kDim) % 3 != 0) numbers.block<1, kDim>(row, col).setZero();
    }
  }
  const RowMatrixXf h = gaussian(width, n, 2), g = gaussian(rows, n, 3);
  detail::BlockChanges<kDim> changes;
  changes.reset(rows, width);
  changes.collect();
  EXPECT_TRUE(changes.empty());
  RowMatrixXf result = g;
  changes.addProduct(h, 0, n, result);
  EXPECT_EQ(result, g);
  for (Index col = 0; col < width; col += kDim) changes.at(0, rows, col) = numbers.middleCols(col, kDim);
  changes.collect();
  EXPECT_FALSE(changes.empty());
  for (const auto& [first, end] :
       std::vector<std::pair<Index, Index>>{{0, n}, {n / 3, n}, {0, n / 2}, {n / 2, n / 2}}) {
    result = g;
    changes.addProduct(h, first, end, result);
    EXPECT_EQ(result, expected<kDim>(numbers, h, first, end, g)) << n << ": " << first << " .. " << end;
  }
}

TEST(BlockChanges, GiveTheProductInOneOrder) {
  for (const Index n : {1, 7, 8, 9, 63, 65, 172, 417}) {
    expectProducts<1>(5, 9, n);
    expectProducts<2>(1, 8, n);
    expectProducts<8>(40, 128, n);
  }
}

TEST(BlockChanges, OfOneNumberOfABlockAreSeen) {
  detail::BlockChanges<4> changes;
  changes.reset(2, 8);
  changes.at(1, 1, 4)(0, 3) = 2;
  changes.collect();
  RowMatrixXf g = RowMatrixXf::Zero(2, 1);
  changes.addProduct(RowMatrixXf::Constant(8, 1, 3), 0, 1, g);
  EXPECT_EQ(g, (RowMatrixXf(2, 1) << 0, 6).finished());
}

/// More rows than go through a panel together, and more columns than a panel has.
TEST(Sweeps, OfManyPanelsAreThoseOfFewerRows) {
  const Index n = 140;
  RowMatrixXf x = gaussian(300, n, 5);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  Hessian h(n);
  h.accumulate(x);
  const RowMatrixXf w = gaussian(128, n);
  using F = PerChannel<Asymmetric<2>>;
  const RowMatrixXf all = quantize<F>(w, Ldlq(h, {.sweeps = 3})).dequantized();
  EXPECT_EQ(quantize<F>(w.topRows(64), Ldlq(h, {.sweeps = 3})).dequantized(), all.topRows(64));
  EXPECT_EQ(quantize<F>(w.bottomRows(64), Ldlq(h, {.sweeps = 3})).dequantized(), all.bottomRows(64));
}

/// More rows than are swept at a time: each is rounded as if it stood alone, and progress says which rows are swept.
TEST(Sweeps, OfManyRowsAreThoseOfEach) {
  const Index m = 2200, n = 24;
  RowMatrixXf x = gaussian(200, n, 5);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  Hessian h(n);
  h.accumulate(x);
  const RowMatrixXf w = gaussian(m, n);
  using F = PerChannel<Symmetric<3>>;
  std::vector<LdlqProgress> seen;
  const auto watch = [&](const LdlqProgress& progress) { seen.push_back(progress); };
  const RowMatrixXf all = quantize<F>(w, Ldlq(h, {.sweeps = 3, .progress = watch})).dequantized();
  for (const auto& [first, count] : std::vector<std::pair<Index, Index>>{{0, 64}, {2000, 130}, {2199, 1}}) {
    const RowMatrixXf rows = w.middleRows(first, count);
    EXPECT_EQ(quantize<F>(rows, Ldlq(h, {.sweeps = 3})).dequantized(), all.middleRows(first, count)) << first;
  }
  EXPECT_NE(quantize<F>(w, Ldlq(h, {.sweeps = 0})).dequantized(), all);
  ASSERT_GE(seen.size(), 3u);
  EXPECT_EQ(seen[0].rows, m);
  EXPECT_EQ(seen[1].sweep, 1);
  EXPECT_EQ(seen[1].first_row, 0);
  EXPECT_EQ(seen[1].rows, 2048);
  EXPECT_EQ(seen.back().first_row, 2048);
  EXPECT_EQ(seen.back().rows, m - 2048);
}

}  // namespace
}  // namespace gosset::block_changes_test
