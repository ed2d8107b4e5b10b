// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/granularity.hpp>

#include <algorithm>
#include <span>
#include <vector>

namespace gosset {

/// The codes of a matrix, unpacked: m x ceil(n / kDim).
template <Codebook C>
using CodeMatrix = Eigen::Matrix<typename C::Code, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What a rounding works with: the groups of one m x n matrix, their fitted scales, and the map between numbers and
/// codes. The matrix is padded with zeros to cols(), a multiple of the codebook's kDim; inputs() of its columns are
/// real. Group g holds the columns [begin(g), end(g)) of one row, or of all rows where the format has one scale for
/// all.
template <ScaledFormat F>
class Grid {
 public:
  using Format = F;
  using Codebook = typename F::Codebook;
  using Code = typename Codebook::Code;

  /// `unit` is what the numbers handed to a rounding are in: the matrix's divided by it, a power of two.
  Grid(Index rows, Index inputs, ScaleFit fit, float unit = 1)
      : rows_(rows),
        inputs_(inputs),
        cols_(ceilDiv(inputs, Codebook::kDim) * Codebook::kDim),
        width_(F::groupWidth(cols_)),
        groups_(ceilDiv(cols_, width_)),
        fit_(fit),
        unit_(unit),
        affine_(static_cast<std::size_t>((F::kOneRowOnly ? rows : 1) * groups_)) {}

  float unit() const { return unit_; }
  Index rows() const { return rows_; }
  Index inputs() const { return inputs_; }
  Index cols() const { return cols_; }
  Index groups() const { return groups_; }
  Index begin(Index group) const { return group * width_; }
  Index end(Index group) const { return std::min(begin(group) + width_, cols_); }
  Index groupOf(Index col) const { return col / width_; }

  /// Fits a group of every row to the numbers it holds now: m x (end - begin), its columns in any order.
  void fitGroup(Index group, const Eigen::Ref<const RowMatrixXf>& numbers) {
    if constexpr (F::kOneRowOnly) {
      const auto width = static_cast<std::size_t>(numbers.cols());
      parallelFor(rows_, 16 * numbers.cols(), [&](Index row) {
        affine_[at(row, group)] = fitted({numbers.row(row).data(), width});
      });
    } else {
      const bool contiguous = numbers.outerStride() == numbers.cols();
      const RowMatrixXf copy = contiguous ? RowMatrixXf() : RowMatrixXf(numbers);
      affine_[at(0, group)] =
          fitted({contiguous ? numbers.data() : copy.data(), static_cast<std::size_t>(numbers.size())});
    }
  }

  /// Fits all groups to w (m x cols()).
  void fitAll(const RowMatrixXf& w) {
    if constexpr (F::kOneRowOnly) {
      parallelFor(rows_, 16 * cols_, [&](Index row) {
        for (Index group = 0; group < groups_; ++group) {
          const auto width = static_cast<std::size_t>(end(group) - begin(group));
          affine_[at(row, group)] = fitted({w.row(row).data() + begin(group), width});
        }
      });
    } else {
      for (Index group = 0; group < groups_; ++group) {
        fitGroup(group, w.middleCols(begin(group), end(group) - begin(group)));
      }
    }
  }

  /// Takes a group's scale and zero point from elsewhere; they must be such as storage gives back.
  void setAffine(Index row, Index group, const Affine& a) { affine_[at(row, group)] = a; }

  /// The same from a scale in the units of the matrix, and a zero point, each rounded to how the format stores it.
  void setScale(Index row, Index group, float scale, float zero) {
    using Scale = typename F::Scale;
    setAffine(row, group,
              {static_cast<float>(storeNearest<Scale>(scale / unit_)), static_cast<float>(storeNearest<Scale>(zero))});
  }

  const Affine& affine(Index row, Index group) const { return affine_[at(row, group)]; }
  std::span<const Affine> affines() const { return affine_; }

  /// The codes of one whole row of cols() numbers.
  void encodeRow(Index row, const float* x, Code* codes) const {
    for (Index group = 0; group < groups_; ++group) {
      const Index first = begin(group);
      encodeRun<Codebook>(x + first, (end(group) - first) / Codebook::kDim, affine(row, group),
                          codes + first / Codebook::kDim);
    }
  }

 private:
  std::size_t at(Index row, Index group) const {
    return static_cast<std::size_t>((F::kOneRowOnly ? row * groups_ : 0) + group);
  }
  Affine fitted(std::span<const float> x) const { return fitAffine<Codebook, typename F::Scale>(fit_, x); }

  Index rows_, inputs_, cols_, width_, groups_;
  ScaleFit fit_;
  float unit_;
  std::vector<Affine> affine_;
};

}  // namespace gosset
