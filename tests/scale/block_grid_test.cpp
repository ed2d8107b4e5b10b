// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/ggml.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/scale/block_grid.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace gosset::block_grid_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using F = ggml::Codes<ggml::Q4_K>;

static_assert(BlockFormat<F> && !BlockFormat<detail::ProbeFormat>);

TEST(BlockGrid, GroupsAreBlocks) {
  const Grid<F> grid(3, 768, PublishedRule{});
  EXPECT_EQ(grid.rows(), 3);
  EXPECT_EQ(grid.cols(), 768);
  EXPECT_EQ(grid.inputs(), 768);
  EXPECT_EQ(grid.groups(), 3);
  EXPECT_EQ(grid.begin(2), 512);
  EXPECT_EQ(grid.end(2), 768);
  EXPECT_EQ(grid.groupOf(511), 1);
  EXPECT_EQ(grid.unit(), 1);
  expectThrows(
      [] { Grid<F>(1, 256, Percentile{99}); },
      "Percentile: ggml::Q4_K searches the scales of its blocks, which no percentile tells; use PublishedRule or "
      "LeastSquares");
}

TEST(BlockGrid, EncodesToTheNearestValue) {
  const RowMatrixXf w = gaussian(2, 512);
  Grid<F> grid(2, 512, LeastSquares{});
  grid.fitAll(w);
  CodeMatrix<F::Codebook> codes(2, 512);
  grid.encodeAll(w, codes);
  RowMatrixXf rounded = w;
  for (Index row = 0; row < 2; ++row) {
    for (Index group = 0; group < 2; ++group) grid.roundGroup(row, group, rounded.row(row).data() + grid.begin(group));
    for (Index col = 0; col < 512; ++col) {
      const float value = grid.valueAt(row, col, codes(row, col));
      EXPECT_EQ(rounded(row, col), value);
      for (int q = 0; q < 16; ++q) {
        const float other = grid.valueAt(row, col, static_cast<std::uint8_t>(q));
        ASSERT_LE(std::abs(w(row, col) - value), std::abs(w(row, col) - other) * 1.0001f) << row << " " << col;
      }
      const BlockScales& scales = grid.scales(row, col / 256);
      const auto group = static_cast<std::size_t>(col % 256 / 32);
      EXPECT_EQ(value, scales.scaleOf(group) * static_cast<float>(codes(row, col)) - scales.minOf(group));
    }
  }
}

TEST(BlockGrid, FitGroupIsFitAllOfItsColumns) {
  const RowMatrixXf w = gaussian(3, 512);
  Grid<F> all(3, 512, PublishedRule{}), parts(3, 512, PublishedRule{});
  all.fitAll(w);
  for (const Index group : {1, 0}) parts.fitGroup(group, w.middleCols(parts.begin(group), 256));
  for (Index row = 0; row < 3; ++row) {
    for (Index group = 0; group < 2; ++group) EXPECT_EQ(all.scales(row, group), parts.scales(row, group));
  }
}

TEST(BlockGrid, ColumnWeightsChangeTheFit) {
  const RowMatrixXf w = gaussian(1, 512);
  Grid<F> grid(1, 512, PublishedRule{});
  std::vector<double> weights(512, 5.);
  grid.fitAll(w);
  const BlockScales first = grid.scales(0, 0), second = grid.scales(0, 1);
  grid.setColumnWeights(weights);  // only ratios count
  grid.fitAll(w);
  EXPECT_EQ(grid.scales(0, 0), first);
  EXPECT_EQ(grid.scales(0, 1), second);
  std::fill(weights.begin() + 256 + 32, weights.end(), 0.);
  grid.setColumnWeights(weights);
  grid.fitAll(w);
  EXPECT_EQ(grid.scales(0, 0), first);  // each block has the weights of its own columns
  EXPECT_FALSE(grid.scales(0, 1) == second);
}

/// GPTQ takes columns from the first to the last, which stand in its memory the other way round: what comes to a fit
/// has the matrix's order, or groups would get one another's scales.
TEST(BlockGrid, FeedbackFitsColumnsInTheirOrder) {
  RowMatrixXf w = gaussian(4, 512);
  for (Index j = 0; j < 512; ++j) w.col(j) *= static_cast<float>(1 + j / 32);  // groups differ in size
  const Hessian h = Hessian::fromMatrix(Eigen::MatrixXd::Identity(512, 512));  // no feedback at all
  for (const bool last_first : {false, true}) {
    Grid<F> expected(4, 512, PublishedRule{}), grid(4, 512, PublishedRule{});
    expected.fitAll(w);
    CodeMatrix<F::Codebook> codes(4, 512), nearest(4, 512);
    expected.encodeAll(w, nearest);
    RowMatrixXf copy = w;
    const auto order = last_first ? detail::BlockOrder::kLastFirst : detail::BlockOrder::kFirstFirst;
    detail::Feedback<F>(BasisHessian(h), copy, grid, codes, {0.01, 0, order, false, {}, {}, {}}).run();
    for (Index row = 0; row < 4; ++row) {
      for (Index group = 0; group < 2; ++group) EXPECT_EQ(grid.scales(row, group), expected.scales(row, group));
    }
    EXPECT_EQ(codes, nearest);
  }
}

}  // namespace
}  // namespace gosset::block_grid_test
