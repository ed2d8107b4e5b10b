// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/granularity.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace gosset {

/// The codes of a matrix, unpacked: m x ceil(n / kDim).
template <Codebook C>
using CodeMatrix = Eigen::Matrix<typename C::Code, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What a rounding works with: the groups of one m x n matrix, their fitted scales, and the map between numbers and
/// codes. The matrix is padded with zeros to cols(), a multiple of the codebook's kDim; inputs() of its columns are
/// real, and no fit looks at the others. Group g holds the columns [begin(g), end(g)) of one row, or of all rows where
/// the format has one scale for all. Numbers, and so scales, are in units of unit(): the matrix's divided by it.
template <ScaledFormat F>
class Grid {
 public:
  using Format = F;
  using Codebook = typename F::Codebook;
  using Code = typename Codebook::Code;

  /// unit: a power of two.
  Grid(Index rows, Index inputs, ScaleFit fit, float unit = 1)
      : rows_(rows),
        inputs_(inputs),
        cols_(ceilDiv(inputs, Codebook::kDim) * Codebook::kDim),
        width_(F::groupWidth(cols_)),
        groups_(ceilDiv(cols_, width_)),
        fit_(fit),
        unit_(unit),
        affine_(static_cast<std::size_t>((F::kOneRowOnly ? rows : 1) * groups_)) {}

  Index rows() const { return rows_; }
  Index inputs() const { return inputs_; }
  Index cols() const { return cols_; }
  Index groups() const { return groups_; }
  Index begin(Index group) const { return group * width_; }
  Index end(Index group) const { return std::min(begin(group) + width_, cols_); }
  Index groupOf(Index col) const { return col / width_; }

  /// What numbers given to a rounding are to be multiplied with to be those of the matrix.
  float unit() const { return unit_; }

  /// Fits a group of every row to the numbers it holds now: m x (end - begin), its columns in any order of whole codes.
  /// Where cols() > inputs(), the last code of the last group is partly padding: last_code is the column of `numbers`
  /// where it begins, by default the one it has in the matrix.
  void fitGroup(Index group, const Eigen::Ref<const RowMatrixXf>& numbers, Index last_code = -1) {
    const Index padding = end(group) == cols_ ? cols_ - inputs_ : 0;
    if (padding > 0 || (!F::kOneRowOnly && numbers.outerStride() != numbers.cols())) {
      const Index at = last_code < 0 ? numbers.cols() - Codebook::kDim : last_code;
      fitReal(group, withoutPadding(numbers, at, padding));
    } else {
      fitReal(group, numbers);
    }
  }

  /// Fits all groups to w (m x cols()).
  void fitAll(const RowMatrixXf& w) {
    if constexpr (F::kOneRowOnly) {
      parallelFor(rows_, 16 * cols_, [&](Index row) {
        for (Index group = 0; group < groups_; ++group) {
          const Index width = std::min(end(group), inputs_) - begin(group);
          affine_[at(row, group)] = fitted(w.row(row).data() + begin(group), width, width);
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

  /// The same for a scale in units of the matrix's numbers and any zero point (0 for codebooks without one): both are
  /// rounded to how F::Scale stores them. Errors: std::invalid_argument where one is not finite, or the scale negative.
  void setScale(Index row, Index group, float scale, float zero) {
    detail::require(std::isfinite(scale) && scale >= 0 && std::isfinite(zero),
                    "Grid::setScale: expected a scale that is finite and not negative and a finite zero point, got ",
                    scale, " and ", zero);
    using Scale = typename F::Scale;
    const float in_units = std::min(scale / unit_, StorageTraits<Scale>::kMax);
    setAffine(row, group,
              {static_cast<float>(storeNearest<Scale>(in_units)),
               detail::hasZeroPoint<Codebook>() ? static_cast<float>(storeNearest<Scale>(zero)) : 0.f});
  }

  const Affine& affine(Index row, Index group) const { return affine_[at(row, group)]; }
  std::span<const Affine> affines() const { return affine_; }

  /// The codes of one whole row of cols() numbers. Of the last code only the real numbers count.
  void encodeRow(Index row, const float* x, Code* codes) const {
    for (Index group = 0; group < groups_; ++group) {
      const Index first = begin(group);
      encodeRun<Codebook>(x + first, (end(group) - first) / Codebook::kDim, affine(row, group),
                          codes + first / Codebook::kDim);
    }
    if constexpr (VectorCodebook<Codebook>) {
      if (cols_ > inputs_) codes[cols_ / Codebook::kDim - 1] = lastCode(affine(row, groups_ - 1), x);
    }
  }

 private:
  /// A code for the numbers of the last, partly padded one: the padding may be anything, so it becomes what the code
  /// found last has there, as long as that brings the real numbers nearer.
  Code lastCode(Affine a, const float* row) const {
    constexpr Index kDim = Codebook::kDim;
    const Index real = kDim - (cols_ - inputs_);
    const float* x = row + cols_ - kDim;
    float wanted[kDim], values[kDim];
    std::copy(x, x + kDim, wanted);
    Code best{};
    for (double least = std::numeric_limits<double>::infinity();;) {
      const Code code = encode<Codebook>(wanted, a);
      decode<Codebook>(code, a, values);
      const double error = sumOfSquares(real, [&](Index i) {
        return static_cast<float>(static_cast<double>(x[i]) - static_cast<double>(values[i]));
      });
      if (!(error < least)) return best;
      least = error;
      best = code;
      std::copy(values + real, values + kDim, wanted + real);
    }
  }

  std::size_t at(Index row, Index group) const {
    return static_cast<std::size_t>((F::kOneRowOnly ? row * groups_ : 0) + group);
  }
  /// m rows of real numbers; contiguous, where one scale serves all.
  void fitReal(Index group, const Eigen::Ref<const RowMatrixXf>& numbers) {
    if constexpr (F::kOneRowOnly) {
      parallelFor(rows_, 16 * numbers.cols(), [&](Index row) {
        affine_[at(row, group)] = fitted(numbers.row(row).data(), numbers.cols(), numbers.cols());
      });
    } else {
      affine_[at(0, group)] = fitted(numbers.data(), numbers.size(), numbers.cols());
    }
  }

  /// A copy without the last `padding` columns of the code that begins at a column; what is left of it comes last.
  static RowMatrixXf withoutPadding(const Eigen::Ref<const RowMatrixXf>& numbers, Index code, Index padding) {
    const Index after = numbers.cols() - code - Codebook::kDim;
    RowMatrixXf real(numbers.rows(), numbers.cols() - padding);
    real.leftCols(code) = numbers.leftCols(code);
    real.middleCols(code, after) = numbers.rightCols(after);
    real.rightCols(Codebook::kDim - padding) = numbers.middleCols(code, Codebook::kDim - padding);
    return real;
  }

  /// `count` contiguous numbers in rows of `row` each.
  Affine fitted(const float* x, Index count, Index row) const {
    return fitAffine<Codebook, typename F::Scale>(fit_, {x, static_cast<std::size_t>(count)}, row);
  }

  Index rows_, inputs_, cols_, width_, groups_;
  ScaleFit fit_;
  float unit_;
  std::vector<Affine> affine_;
};

}  // namespace gosset
