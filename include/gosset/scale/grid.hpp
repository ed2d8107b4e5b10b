// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/block_coder.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/granularity.hpp>
#include <gosset/scale/level_codes.hpp>
#include <gosset/scale/sixteen_fits.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// The codes of a matrix, unpacked: m x codesInRow<C>(n), for most codebooks ceil(n / kDim).
template <Codebook C>
using CodeMatrix = Eigen::Matrix<typename C::Code, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What a rounding works with: the groups of one m x n matrix, their fitted scales, and the map between numbers and
/// codes. The matrix is padded with zeros to cols(), whole blocks of columns; inputs() of its columns are
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
        cols_(ceilDiv(inputs, kColumns) * kColumns),
        width_(F::groupWidth(cols_)),
        groups_(ceilDiv(cols_, width_)),
        fit_(fit),
        unit_(unit),
        affine_(static_cast<std::size_t>((F::kOneRowOnly ? rows : 1) * groups_)) {
    if constexpr (TrellisCodebook<Codebook>) rates_.assign(static_cast<std::size_t>(tiles()), Codebook::kRate8);
  }

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
      const Index at = last_code < 0 ? numbers.cols() - kColumns : last_code;
      fitReal(group, withoutPadding(numbers, at, padding));
    } else {
      fitReal(group, numbers);
    }
  }

  /// Fits all groups to w (m x cols()).
  void fitAll(const RowMatrixXf& w) {
    if constexpr (F::kOneRowOnly) {
      const bool by_vectors = detail::FitsByRange<Codebook> && std::holds_alternative<PublishedRule>(fit_);
      const Index together = by_vectors ? kRowsTogether : 1;
      parallelFor(ceilDiv(rows_, together), 16 * together * cols_, [&](Index part) {
        const Index row = part * together, rows = std::min(together, rows_ - row);
        for (Index group = 0; group < groups_; ++group) fitRows(row, rows, group, w);
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

  /// The grid of `count` of its rows from `first` on, for roundings that share rows out. What all rows have in common
  /// stays as it is, whatever the fits are given: a scale that serves all of them, which is to be fitted before.
  Grid rowsOf(Index first, Index count) const {
    Grid part = *this;
    part.rows_ = count;
    part.scale_is_given_ = !F::kOneRowOnly;
    if (F::kOneRowOnly) part.affine_.assign(rowBegin(first), rowBegin(first + count));
    return part;
  }
  /// Takes over the scales and rates of such a part, whose first row is `first`.
  void setRowsOf(Index first, const Grid& part) {
    if (F::kOneRowOnly) std::copy(part.affine_.begin(), part.affine_.end(), affine_.begin() + first * groups_);
    rates_ = part.rates_;
  }

  /// Where a number lies among the levels.
  float levelAt(Index row, Index col, float x) const requires ScalarCodebook<Codebook> {
    const Affine& a = affine(row, groupOf(col));
    return Codebook::kHasZero ? x / detail::divisor(a) + a.zero : x / detail::divisor(a);
  }

  /// The number of a code.
  float valueAt(Index row, Index col, Code code) const requires ScalarCodebook<Codebook> {
    float value;
    decode<Codebook>(code, affine(row, groupOf(col)), &value);
    return value;
  }

  /// The numbers of a group of a row become what their nearest codes stand for: end - begin of them, in any order of
  /// whole codes.
  void roundGroup(Index row, Index group, float* x) const requires(!TrellisCodebook<Codebook>) {
    std::vector<Code> codes(static_cast<std::size_t>((end(group) - begin(group)) / Codebook::kDim));
    const auto count = static_cast<Index>(codes.size());
    encodeRun<Codebook>(x, count, affine(row, group), codes.data());
    decodeRun<Codebook>(codes.data(), count, affine(row, group), x);
  }

  const Affine& affine(Index row, Index group) const { return affine_[at(row, group)]; }
  std::span<const Affine> affines() const { return affine_; }

  /// Tiles of 32 columns, each of which may have a rate of its own where the codebook has mixed rates.
  Index tiles() const { return ceilDiv(cols_, kTileColumns); }
  /// Eighths of a bit, a number for each tile.
  std::span<const std::uint8_t> rates() const { return rates_; }
  Index tileOf(Index col) const { return col / kTileColumns; }
  int rateAt(Index col) const { return rates_[static_cast<std::size_t>(tileOf(col))]; }
  void setRates(std::vector<std::uint8_t> rates) requires MixedRates<Codebook> {
    detail::require(rates.size() == rates_.size(), "Grid::setRates: expected ", rates_.size(), " rates, got ",
                    rates.size());
    for (const std::uint8_t rate : rates) {
      detail::require(rate >= detail::kLeastTrellisRate8 && rate <= detail::kMostTrellisRate8,
                      "Grid::setRates: expected rates of ", detail::kLeastTrellisRate8, " to ",
                      detail::kMostTrellisRate8, " eighths of a bit, got ", int{rate});
    }
    rates_ = std::move(rates);
  }

  /// The nearest codes of all of w (m x cols()).
  void encodeAll(const RowMatrixXf& w, CodeMatrix<Codebook>& codes) const {
    if constexpr (TrellisCodebook<Codebook>) {
      const detail::RowChunks<Codebook> chunks(rows_);
      parallelFor(chunks.count(), Index{1} << 20, [&](Index i) {
        const Index row = chunks.begin(i), rows = chunks.size(i);
        detail::BlockCoder<Grid> coder(*this, row, rows);
        Eigen::Matrix<float, Eigen::Dynamic, kColumns, Eigen::RowMajor> numbers(rows, kColumns);
        Eigen::Matrix<Code, Eigen::Dynamic, kColumns, Eigen::RowMajor> chosen(rows, kColumns);
        for (Index col = 0; col < cols_; col += kColumns) {
          numbers = w.block(row, col, rows, kColumns);
          coder.encode(col, numbers.data(), chosen.data());
          codes.block(row, col, rows, kColumns) = chosen;
        }
      });
    } else {
      parallelFor(rows_, 8 * cols_, [&](Index row) { encodeRow(row, w.row(row).data(), codes.row(row).data()); });
    }
  }

  /// The codes of one whole row of cols() numbers. Of the last code only the real numbers count.
  void encodeRow(Index row, const float* x, Code* codes) const requires(!TrellisCodebook<Codebook>) {
    detail::encodeGroups<Codebook>(x, cols_, width_, affine_.data() + at(row, 0), codes);
    if constexpr (VectorCodebook<Codebook>) {
      if (cols_ > inputs_) codes[cols_ / Codebook::kDim - 1] = lastCode(affine(row, groups_ - 1), x);
    }
  }

 private:
  static constexpr Index kColumns = kBlockColumns<Codebook>, kTileColumns = 32, kRowsTogether = 16;

  /// A code for the numbers of the last, partly padded one: the padding may be anything, so it becomes what the code
  /// found last has there, as long as that brings the real numbers nearer.
  Code lastCode(Affine a, const float* row) const {
    constexpr Index kDim = Codebook::kDim;
    const Index real = kDim - (cols_ - inputs_);
    const float* x = row + cols_ - kDim;
    float wanted[kDim], values[kDim < 8 ? 8 : kDim];  // gcc 12 takes sums for as long as eight numbers
    std::copy(x, x + kDim, wanted);
    Code best{};
    for (double least = std::numeric_limits<double>::infinity();;) {
      const Code code = encode<Codebook>(wanted, a);
      decode<Codebook>(code, a, values);
      const double error = sumOfSquares(real, [&](Index i) {
        return x[i] - simd::unfused(values[i]);  // a value is a product
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
  auto rowBegin(Index row) const { return affine_.begin() + row * groups_; }
  /// Fits a group of rows [row, row + rows) to w (m x cols()).
  void fitRows(Index row, Index rows, Index group, const RowMatrixXf& w) {
    const Index width = std::min(end(group), inputs_) - begin(group);
    const float* x = w.row(row).data() + begin(group);
    unsigned left = ~0u;
    if constexpr (detail::FitsByRange<Codebook>) {
      if (rows == kRowsTogether && width >= 16 && std::holds_alternative<PublishedRule>(fit_)) {
        float scale[kRowsTogether], zero[kRowsTogether];
        constexpr detail::LevelRule kRule = detail::levelRule<Codebook, typename F::Scale>();
        left = detail::fitSixteen(x, w.outerStride(), width, kRule, scale, zero);
        for (Index i = 0; i < rows; ++i) affine_[at(row + i, group)] = {scale[i], zero[i]};
      }
    }
    for (Index i = 0; i < rows && left != 0; ++i, left >>= 1) {
      if ((left & 1) != 0) affine_[at(row + i, group)] = fitted(x + i * w.outerStride(), width, width);
    }
  }

  /// m rows of real numbers; contiguous, where one scale serves all.
  void fitReal(Index group, const Eigen::Ref<const RowMatrixXf>& numbers) {
    if constexpr (F::kOneRowOnly) {
      parallelFor(rows_, 16 * numbers.cols(), [&](Index row) {
        affine_[at(row, group)] = fitted(numbers.row(row).data(), numbers.cols(), numbers.cols());
      });
    } else if (!scale_is_given_) {
      affine_[at(0, group)] = fitted(numbers.data(), numbers.size(), numbers.cols());
    }
  }

  /// A copy without the last `padding` columns of the code that begins at a column; what is left of it comes last.
  static RowMatrixXf withoutPadding(const Eigen::Ref<const RowMatrixXf>& numbers, Index code, Index padding) {
    const Index after = numbers.cols() - code - kColumns;
    RowMatrixXf real(numbers.rows(), numbers.cols() - padding);
    real.leftCols(code) = numbers.leftCols(code);
    real.middleCols(code, after) = numbers.rightCols(after);
    real.rightCols(kColumns - padding) = numbers.middleCols(code, kColumns - padding);
    return real;
  }

  /// `count` contiguous numbers in rows of `row` each.
  Affine fitted(const float* x, Index count, Index row) const {
    return fitAffine<Codebook, typename F::Scale>(fit_, {x, static_cast<std::size_t>(count)}, row);
  }

  Index rows_, inputs_, cols_, width_, groups_;
  ScaleFit fit_;
  float unit_;
  bool scale_is_given_ = false;
  std::vector<Affine> affine_;
  std::vector<std::uint8_t> rates_;  ///< of trellis codes
};

}  // namespace gosset::GOSSET_ABI
