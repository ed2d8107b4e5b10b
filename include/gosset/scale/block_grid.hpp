// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/block_coder.hpp>
#include <gosset/scale/block_fit.hpp>
#include <gosset/scale/block_scales.hpp>
#include <gosset/scale/grid.hpp>

#include <algorithm>
#include <cstddef>
#include <variant>
#include <vector>

namespace gosset::GOSSET_ABI {

/// The codes of a BlockScaled layout as a ScaledFormat, for roundings: a group is a block of a row. name(): the
/// layout's.
template <class F>
concept BlockFormat = ScaledFormat<F> && BlockScaled<typename F::Layout>;

/// The Grid of such a format. fitGroup() takes the numbers of a whole block and searches all scales that it keeps; rows
/// are whole blocks, so that there is no padding. Published rules are those of ggml's quantizers, searches too: what
/// PublishedRule does here is a search of the same kind, LeastSquares a thorough one.
template <BlockFormat F>
class Grid<F> {
 public:
  using Format = F;
  using Layout = typename F::Layout;
  using Codebook = typename F::Codebook;
  using Code = typename Codebook::Code;
  /// fitGroup() wants its columns in the matrix's order.
  static constexpr bool kInOrder = true;

  /// Errors: std::invalid_argument where the fit is a percentile.
  Grid(Index rows, Index inputs, ScaleFit fit)
      : rows_(rows),
        cols_(inputs),
        effort_(std::holds_alternative<LeastSquares>(fit) ? detail::BlockEffort::kThorough
                                                          : detail::BlockEffort::kQuick),
        weights_(static_cast<std::size_t>(inputs), 1.f),
        scales_(static_cast<std::size_t>(rows * groups())),
        scale_(static_cast<std::size_t>(rows * inputs / kGroup)),
        min_(scale_.size()) {
    detail::require(!std::holds_alternative<Percentile>(fit), "Percentile: ", F::name(),
                    " searches the scales of its blocks, which no percentile tells; use PublishedRule or LeastSquares");
  }

  Index rows() const { return rows_; }
  Index inputs() const { return cols_; }
  Index cols() const { return cols_; }
  Index groups() const { return cols_ / kBlock; }
  Index begin(Index group) const { return group * kBlock; }
  Index end(Index group) const { return (group + 1) * kBlock; }
  Index groupOf(Index col) const { return col / kBlock; }
  float unit() const { return 1; }

  /// What errors in each column weigh when scales are searched, cols() numbers that are not negative; at first all 1.
  void setColumnWeights(const std::vector<double>& weights) {
    double most = 0;
    for (const double weight : weights) most = std::max(most, weight);
    constexpr double kLeast = 1e-6;  // of the largest: no scale shall be lost altogether
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] = static_cast<float>(std::max(weights[i] / most, kLeast));
    }
  }

  void fitGroup(Index group, const Eigen::Ref<const RowMatrixXf>& numbers, Index /*last_code*/ = -1) {
    parallelFor(rows_, 1024 * kBlock, [&](Index row) { fit(row, group, numbers.row(row).data()); });
  }
  void fitAll(const RowMatrixXf& w) {
    parallelFor(rows_, 1024 * cols_, [&](Index row) {
      for (Index group = 0; group < groups(); ++group) fit(row, group, w.row(row).data() + begin(group));
    });
  }

  const BlockScales& scales(Index row, Index group) const {
    return scales_[static_cast<std::size_t>(row * groups() + group)];
  }

  /// Sets the scales of a block: integers within the layout's range, floats as stored.
  void setScales(Index row, Index group, const BlockScales& scales) {
    scales_[static_cast<std::size_t>(row * groups() + group)] = scales;
    for (std::size_t g = 0; g < static_cast<std::size_t>(kBlock / kGroup); ++g) {
      const std::size_t at = place(row, begin(group)) + g;
      scale_[at] = scales.scaleOf(g);
      min_[at] = scales.minOf(g);
    }
  }

  /// Where a number lies among the levels.
  float levelAt(Index row, Index col, float x) const {
    const std::size_t at = place(row, col);
    return scale_[at] != 0 ? (x + min_[at]) / scale_[at] : 0.f;
  }
  /// The number of a code.
  float valueAt(Index row, Index col, Code code) const {
    const std::size_t at = place(row, col);
    return simd::unfused(scale_[at] * Codebook::level(code)) - min_[at];
  }

  void encodeAll(const RowMatrixXf& w, CodeMatrix<Codebook>& codes) const {
    parallelFor(rows_, 8 * cols_, [&](Index row) { encodeRow(row, w.row(row).data(), codes.row(row).data()); });
  }
  void encodeRow(Index row, const float* x, Code* codes) const {
    for (Index col = 0; col < cols_; ++col) codes[col] = Codebook::encode(levelAt(row, col, x[col]));
  }

  /// The numbers of a group of a row become what their nearest codes stand for.
  void roundGroup(Index row, Index group, float* x) const {
    for (Index col = begin(group); col < end(group); ++col, ++x) {
      *x = valueAt(row, col, Codebook::encode(levelAt(row, col, *x)));
    }
  }

  // What roundings may ask of other grids.
  void setScale(Index, Index, float, float) {
    static_assert(sizeof(F) == 0,
                  "the scales within a block are multiples of the block's: no group has one of its own to be set or "
                  "asked for; see Grid::levelAt() and valueAt()");
  }
  void setAffine(Index, Index, const Affine&) {
    static_assert(sizeof(F) == 0,
                  "the scales within a block are multiples of the block's: no group has one of its own to be set or "
                  "asked for; see Grid::levelAt() and valueAt()");
  }
  void affine(Index, Index) const {
    static_assert(sizeof(F) == 0,
                  "the scales within a block are multiples of the block's: no group has one of its own to be set or "
                  "asked for; see Grid::levelAt() and valueAt()");
  }

 private:
  static constexpr Index kBlock = Layout::kBlock, kGroup = Layout::kGroup;

  std::size_t place(Index row, Index col) const { return static_cast<std::size_t>((row * cols_ + col) / kGroup); }

  void fit(Index row, Index group, const float* numbers) {
    setScales(row, group, detail::fitBlock<Layout>(numbers, weights_.data() + begin(group), effort_));
  }

  Index rows_, cols_;
  detail::BlockEffort effort_;
  std::vector<float> weights_;
  std::vector<BlockScales> scales_;
  std::vector<float> scale_, min_;  ///< of each group within a block
};

namespace detail {

/// Columns of a BlockFormat.
template <class Grid>
requires BlockFormat<typename Grid::Format>
class BlockCoder<Grid> {
 public:
  using C = typename Grid::Codebook;
  using Code = typename C::Code;
  static constexpr Index kTogether = 1;

  BlockCoder(const Grid& grid, Index row, Index rows) : grid_(grid), row_(row), rows_(rows) {}

  void encode(Index col, const float* x, Code* codes) const {
    for (Index i = 0; i < rows_; ++i) codes[i] = C::encode(grid_.levelAt(row_ + i, col, x[i]));
  }
  void decode(Index col, const Code* codes, float* y) const {
    for (Index i = 0; i < rows_; ++i) y[i] = grid_.valueAt(row_ + i, col, codes[i]);
  }

 private:
  const Grid& grid_;
  Index row_, rows_;
};

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
