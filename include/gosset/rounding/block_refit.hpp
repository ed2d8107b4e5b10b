// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/rounding/row_product.hpp>
#include <gosset/scale/block_fit.hpp>
#include <gosset/scale/block_grid.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

// Scales of codes that are chosen: once feedback has put errors where they hurt least, the scales that the codes were
// searched under are no longer the best for them. With E = W - What and G = E H a change D of the values of some
// columns of a row changes the loss tr(E H E^T) by
//
//   D H D^T - 2 G D^T,
//
// H and G being those of these columns. For given levels D is linear in the changes of scale and minimum, so two
// equations tell the best: for the integers of each group first, one group after the other, then for the block's own
// two floats. What is stored instead is tried by the same formula, and kept where the loss falls.
namespace gosset::GOSSET_ABI::detail {

/// How the loss depends on changes a of the scale and b of the minimum, by which values change by a l - b m.
struct ScaleLoss {
  double gl = 0, gm = 0, ll = 0, lm = 0, mm = 0;  ///< G l, G m, l H l, l H m, m H m

  double rise(double a, double b) const {
    const double linear = times(b, gm) - times(a, gl);
    return times(times(a, a), ll) - times(times(2 * a, b), lm) + times(times(b, b), mm) + 2 * linear;
  }
  /// The best change of the scale for one of the minimum, and of the minimum for one of the scale.
  double bestScale(double b) const { return ll > 0 ? (gl + times(b, lm)) / ll : 0; }
  double bestMin(double a) const { return mm > 0 ? (times(a, lm) - gm) / mm : 0; }
  /// The best of both.
  void best(double& a, double& b) const {
    const double determinant = times(ll, mm) - times(lm, lm);
    const bool both = determinant > 1e-9 * times(ll, mm);
    a = both ? (times(gl, mm) - times(gm, lm)) / determinant : bestScale(0);
    b = both ? bestMin(a) : 0;
  }
};

/// The scales of one block of columns, for some rows.
template <BlockFormat F>
class BlockRefit {
 public:
  using Layout = typename F::Layout;
  using C = typename F::Codebook;

  /// The rows [row, row + rows) of the grid; h: the block's part of the damped H, as feedback has it. Columns are in
  /// the matrix's order.
  BlockRefit(Grid<F>& grid, Index row, Index rows, Index block, const Eigen::MatrixXf& h)
      : grid_(grid), row_(row), rows_(rows), block_(block), h_(h) {}

  /// Gives better scales to the grid. codes: rows x kBlock; gradient: E H there. Returns the change of the values.
  template <class Codes>
  RowMatrixXf run(const Codes& codes, RowMatrixXf gradient) {
    RowMatrixXf before(rows_, kBlock), levels(rows_, kBlock);
    for (Index i = 0; i < rows_; ++i) {
      for (Index j = 0; j < kBlock; ++j) {
        before(i, j) = grid_.valueAt(row_ + i, grid_.begin(block_) + j, codes(i, j));
        levels(i, j) = C::level(codes(i, j));
      }
    }
    if constexpr (kSteps) {
      for (Index group = 0; group < kGroups; ++group) chooseSteps(group, levels, gradient);
    }
    chooseFloats(levels, gradient);
    RowMatrixXf change(rows_, kBlock);
    for (Index i = 0; i < rows_; ++i) {
      for (Index j = 0; j < kBlock; ++j) {
        change(i, j) = grid_.valueAt(row_ + i, grid_.begin(block_) + j, codes(i, j)) - before(i, j);
      }
    }
    return change;
  }

 private:
  static constexpr Index kBlock = Layout::kBlock, kGroup = Layout::kGroup, kGroups = kBlock / kGroup;
  static constexpr bool kHasMin = Layout::kMostMin > 0, kSteps = Layout::kMostStep > 1;

  static double dot(const float* a, const float* b, Index count) {
    double sum = 0;
    for (Index i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
  }

  /// The integers of one group; what changes of its values do to the gradient of the whole block.
  void chooseSteps(Index group, const RowMatrixXf& levels, RowMatrixXf& gradient) {
    const Index first = group * kGroup;
    const Eigen::MatrixXf h = h_.block(first, first, kGroup, kGroup);
    const RowMatrixXf l = levels.middleCols(first, kGroup), ones = RowMatrixXf::Ones(1, kGroup);
    RowMatrixXf lh = RowMatrixXf::Zero(rows_, kGroup), mh = RowMatrixXf::Zero(1, kGroup);
    addProduct<Late<F>>(l, h, lh);
    addProduct<Late<F>>(ones, h, mh);
    RowMatrixXf change = RowMatrixXf::Zero(rows_, kGroup);
    for (Index i = 0; i < rows_; ++i) {
      const float *of_row = l.row(i).data(), *g = gradient.row(i).data() + first, *one = ones.data();
      const ScaleLoss loss = {dot(g, of_row, kGroup), dot(g, one, kGroup), dot(lh.row(i).data(), of_row, kGroup),
                              dot(mh.data(), of_row, kGroup), dot(mh.data(), one, kGroup)};
      BlockScales scales = grid_.scales(row_ + i, block_);
      const auto at = static_cast<std::size_t>(group);
      const float scale = scales.scaleOf(at), min = scales.minOf(at);
      if (!improveSteps(loss, scales, at)) continue;
      grid_.setScales(row_ + i, block_, scales);
      const float a = scales.scaleOf(at) - scale, b = scales.minOf(at) - min;
      for (Index j = 0; j < kGroup; ++j) change(i, j) = simd::unfused(-a * of_row[j]) + b;
    }
    addProduct<Late<F>>(change, h_.middleRows(first, kGroup), gradient);
  }

  /// Tries the integers next to the best, or to the end of their range that is next to it; false where none is better.
  bool improveSteps(const ScaleLoss& loss, BlockScales& scales, std::size_t group) const {
    const auto unit = static_cast<double>(scales.scale), min_unit = static_cast<double>(scales.min);
    const int step = scales.scales[group], min_step = scales.mins[group];
    double a, b, least = 0;
    loss.best(a, b);
    if (!kHasMin) a = loss.bestScale(0);
    const int wanted = unit != 0 ? step + steps(a / unit) : step;
    const int middle = std::clamp(wanted, int{Layout::kLeastStep}, int{Layout::kMostStep}) - step;
    int best = 0, best_min = 0;
    for (int up = middle - 2; up <= middle + 2; ++up) {
      if (step + up < Layout::kLeastStep || step + up > Layout::kMostStep) continue;
      const double change = times(unit, up);
      const int min_middle = kHasMin && min_unit != 0 ? steps(loss.bestMin(change) / min_unit) : 0;
      const int min_up = std::clamp(min_step + min_middle, 0, Layout::kMostMin) - min_step;
      const double rise = loss.rise(change, times(min_unit, min_up));
      if (rise < least) least = rise, best = up, best_min = min_up;
    }
    scales.scales[group] = static_cast<std::int8_t>(step + best);
    scales.mins[group] = static_cast<std::int8_t>(min_step + best_min);
    return least < 0;
  }

  /// The nearest integer, of those that may matter.
  static int steps(double x) { return static_cast<int>(std::nearbyint(std::clamp(x, -256., 256.))); }

  /// The block's own scale and minimum.
  void chooseFloats(const RowMatrixXf& levels, const RowMatrixXf& gradient) {
    RowMatrixXf l(rows_, kBlock), m(rows_, kBlock);
    for (Index i = 0; i < rows_; ++i) {
      const BlockScales& scales = grid_.scales(row_ + i, block_);
      for (Index j = 0; j < kBlock; ++j) {
        const auto group = static_cast<std::size_t>(j / kGroup);
        l(i, j) = static_cast<float>(scales.scales[group]) * levels(i, j);
        m(i, j) = static_cast<float>(scales.mins[group]);
      }
    }
    RowMatrixXf lh = RowMatrixXf::Zero(rows_, kBlock), mh = lh;
    addProduct<Late<F>>(l, h_, lh);
    if (kHasMin) addProduct<Late<F>>(m, h_, mh);
    for (Index i = 0; i < rows_; ++i) {
      const float *a = l.row(i).data(), *b = m.row(i).data(), *g = gradient.row(i).data();
      const ScaleLoss loss = {dot(g, a, kBlock), kHasMin ? dot(g, b, kBlock) : 0, dot(lh.row(i).data(), a, kBlock),
                              dot(mh.row(i).data(), a, kBlock), dot(mh.row(i).data(), b, kBlock)};
      BlockScales scales = grid_.scales(row_ + i, block_);
      if (improveFloats(loss, scales)) grid_.setScales(row_ + i, block_, scales);
    }
  }

  static bool improveFloats(const ScaleLoss& loss, BlockScales& scales) {
    const auto scale = static_cast<double>(scales.scale), min = static_cast<double>(scales.min);
    double a, b;
    loss.best(a, b);
    BlockScales next = scales;
    next.scale = Layout::stored(static_cast<float>(scale + a));
    const double stored = static_cast<double>(next.scale) - scale;
    if (kHasMin) next.min = Layout::stored(static_cast<float>(min + loss.bestMin(stored)));
    const bool allowed = Layout::kMostMin <= 1 || next.min >= 0;
    if (!allowed || !std::isfinite(next.scale) || !std::isfinite(next.min)) return false;
    if (!(loss.rise(stored, static_cast<double>(next.min) - min) < 0)) return false;
    scales = next;
    return true;
  }

  Grid<F>& grid_;
  Index row_, rows_, block_;
  const Eigen::MatrixXf& h_;
};

}  // namespace gosset::GOSSET_ABI::detail
