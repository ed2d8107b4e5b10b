// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// What coordinate descent has changed in a panel of columns, in blocks of kDim columns of a row each: few, once it has
/// swept a matrix, so that what follows from them costs little beside a whole product.
template <int kDim>
class BlockChanges {
 public:
  /// rows x width numbers, all 0.
  void reset(Index rows, Index width) { numbers_.setZero(rows, width); }

  /// The changes of some rows in the block from column col on.
  auto at(Index row, Index rows, Index col) { return numbers_.block(row, col, rows, kDim); }

  /// Looks for the blocks that changed; none of them is looked at before.
  void collect() {
    columns_.clear();
    ends_.clear();
    for (Index row = 0; row < numbers_.rows(); ++row) {
      for (Index col = numbers_.cols() - kDim; col >= 0; col -= kDim) {
        if (!numbers_.template block<1, kDim>(row, col).isZero(0)) columns_.push_back(col);
      }
      ends_.push_back(columns_.size());
    }
  }

  bool empty() const { return columns_.empty(); }

  /// The columns [first, end) of g += changes * h, for h: width x n and g: rows x n; block after block from the last
  /// on, each product rounded before it is added.
  void addProduct(const Eigen::Ref<const RowMatrixXf>& h, Index first, Index end, RowMatrixXf& g) const {
    constexpr Index kTile = 256;  // columns whose part of h a cache holds
    if (columns_.empty() || first >= end) return;
    parallelFor(ceilDiv(end - first, kTile), static_cast<Index>(columns_.size()) * kDim * kTile, [&](Index tile) {
      const Index from = first + tile * kTile, count = std::min(kTile, end - from);
      std::size_t at = 0;
      for (Index row = 0; row < g.rows(); ++row) {
        const std::size_t last = ends_[static_cast<std::size_t>(row)];
        if (at < last) addRow(row, at, last, h, from, count, &g(row, from));
        at = last;
      }
    });
  }

 private:
  void addRow(Index row, std::size_t at, std::size_t last, const Eigen::Ref<const RowMatrixXf>& h, Index from,
              Index count, float* g) const {
    constexpr Index kLanes = simd::kLanes<float>;
    Index i = 0;
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) addVectors<4>(row, at, last, h, from + i, g + i);
    for (; i + kLanes <= count; i += kLanes) addVectors<1>(row, at, last, h, from + i, g + i);
    for (; i < count; ++i) {
      for (std::size_t block = at; block < last; ++block) {
        for (Index k = 0; k < kDim; ++k) {
          g[i] += simd::unfused(h(columns_[block] + k, from + i) * numbers_(row, columns_[block] + k));
        }
      }
    }
  }

  template <int kVectors>
  void addVectors(Index row, std::size_t at, std::size_t last, const Eigen::Ref<const RowMatrixXf>& h, Index from,
                  float* g) const {
    using Vector = simd::Vec<float>;
    constexpr Index kLanes = simd::kLanes<float>;
    Vector sums[kVectors];
    for (int r = 0; r < kVectors; ++r) sums[r] = simd::load<Vector>(g + r * kLanes);
    for (; at < last; ++at) {
      for (Index k = 0; k < kDim; ++k) {
        const float* from_h = h.data() + (columns_[at] + k) * h.outerStride() + from;
        const auto factor = simd::splat<Vector>(numbers_(row, columns_[at] + k));
        for (int r = 0; r < kVectors; ++r) {
          sums[r] += simd::unfused(simd::load<Vector>(from_h + r * kLanes) * factor);
        }
      }
    }
    for (int r = 0; r < kVectors; ++r) simd::store(g + r * kLanes, sums[r]);
  }

  RowMatrixXf numbers_;
  std::vector<Index> columns_;     ///< where changed blocks begin, row after row, the last block of a row first
  std::vector<std::size_t> ends_;  ///< of each row's among them
};

}  // namespace gosset::GOSSET_ABI::detail
