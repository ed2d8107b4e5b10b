// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/product.hpp>
#include <gosset/kernel/transposed.hpp>
#include <gosset/scale/grid.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset {

namespace detail {

/// A power of two that brings numbers of at most this magnitude to below 2^12, so that their scales and low-rank or
/// sparse companions lie well inside what 16-bit floats hold, at any magnitude of the matrix. 1 for an all-zero matrix.
inline float storageUnit(float abs_max) {
  constexpr int kTarget = 11;
  constexpr int kLeastExponent = -149;  // of the least positive float
  if (abs_max == 0) return 1;
  return std::ldexp(1.f, std::max(std::ilogb(abs_max) - kTarget, kLeastExponent));
}

template <class Rounding>
inline constexpr bool kRowByRow = requires {
  requires Rounding::kRowByRow;
};

}  // namespace detail

/// Codes and scales of an m x n matrix; n is padded with zeros to a multiple of the codebook's kDim.
///
///   codes   rows interleaved by 16, as kernel/layout.hpp draws it: about n b / 8 bytes a row
///   scales  F::Scale, one for each row and group: 16 rows of a group together, group after group, block after block of
///           rows; or one for the whole matrix
///   zeros   as scales, for codebooks with a zero point
///   unit    float, a power of two: value = scale * (level - zero) * unit. It keeps 16-bit scales in range for matrices
///           of any magnitude.
template <ScaledFormat F>
class Packed<F> : public detail::VisitsFields<Packed<F>> {
 public:
  using Codebook = typename F::Codebook;
  using Code = typename Codebook::Code;
  using Scale = typename F::Scale;

  /// An all-zero matrix.
  static Packed shaped(Index rows, Index cols) { return Packed(rows, cols); }

  /// Errors: std::invalid_argument where a magnitude is beyond 2^127.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    const float largest = w.cwiseAbs().maxCoeff();
    const auto rowsOfW = [&](Index first, Index count) { return w.middleRows(first, count); };
    if constexpr (takesRows<Rounding>()) {
      return quantizeRows(w.rows(), w.cols(), largest, rowsOfW, rounding, options);
    } else {
      Packed packed(w.rows(), w.cols(), largest);
      packed.roundRows(0, std::move(w), rounding, options);
      return packed;
    }
  }

  /// Whether blocks of rows can be quantized one by one, in memory that a cache holds.
  template <class Rounding>
  static constexpr bool takesRows() {
    return F::kOneRowOnly && detail::kRowByRow<Rounding>;
  }

  /// The same for an m x n matrix of which rowsOf(first, count) are rows, and `largest` is the largest magnitude.
  template <class RowsOf, class Rounding>
  static Packed quantizeRows(Index rows, Index cols, float largest, const RowsOf& rowsOf, const Rounding& rounding,
                             const QuantizeOptions& options) {
    static_assert(takesRows<Rounding>());
    Packed packed(rows, cols, largest);
    parallelFor(packed.layout().blocks(), 32 * detail::kBlockRows * cols, [&](Index block) {
      RowMatrixXf part = rowsOf(block * detail::kBlockRows, packed.layout().rowsOf(block));
      packed.roundRows(block, std::move(part), rounding, options);
    });
    return packed;
  }

  static std::string formatName() { return F::name(); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  /// Codes in a row.
  Index blocks() const { return ceilDiv(cols_, Codebook::kDim); }

  /// The codes, unpacked.
  CodeMatrix<Codebook> codes() const {
    CodeMatrix<Codebook> result(rows_, blocks());
    parallelFor(layout().blocks(), detail::kBlockRows * cols_, [&](Index block) {
      layout().unpackBlock(codes_.data(), block, result.row(block * detail::kBlockRows).data(), blocks());
    });
    return result;
  }

  /// The scale, in units of the matrix's values, and the zero point of a group.
  Affine affine(Index row, Index group) const {
    Affine a = storedAffine(row, group);
    a.scale *= unit_;
    return a;
  }

  RowMatrixXf dequantized() const {
    RowMatrixXf w(rows_, cols_);
    dequantizeTo(w);
    return w;
  }

  /// The same into memory that is there already, m x n.
  void dequantizeTo(Eigen::Ref<RowMatrixXf> w) const {
    parallelFor(layout().blocks(), 2 * detail::kBlockRows * cols_, [&](Index block) {
      auto rows = w.middleRows(block * detail::kBlockRows, layout().rowsOf(block));
      decodeRows(block, rows.data(), w.outerStride());
      if (unit_ != 1) rows *= unit_;
    });
  }

  /// y = matrix * x, x: n x t, y: m x t. Activations are rounded only where a kernel for bytes exists: for codebooks
  /// that have a TileCode, in groups of a multiple of 32 or whole rows. Others decode a block of rows at a time, then
  /// use Eigen's product; Activations::kRoundedPerToken rounds for these too.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations) const {
    if constexpr (detail::TileCodebook<Codebook>) {
      if (detail::hasKernel<Codebook>(groupWidth(), cols_)) {
        detail::multiplyCodes(view(), activations, x.data(), cols_, x.cols(), x.outerStride(), y.data(),
                              y.outerStride());
        y *= unit_;
        return;
      }
    }
    if (activations == Activations::kRoundedPerToken) return multiplyDecoded(detail::roundedPerToken(x), y);
    multiplyDecoded(x, y);
  }

  /// y += matrix^T * x; x: m x t, y: n x t. Few columns meet the codes as they are and without an allocation, where a
  /// kernel exists; for many the matrix is decoded once.
  void addTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if constexpr (detail::TileCodebook<Codebook>) {
      if (x.cols() <= detail::kFewColumns && detail::hasKernel<Codebook>(groupWidth(), cols_)) {
        detail::addTransposed(view(), cols_, unit_, x.data(), x.cols(), x.outerStride(), y.data(), y.outerStride());
        return;
      }
    }
    y.noalias() += dequantized().transpose() * x;
  }

 private:
  Packed(Index rows, Index cols)
      : rows_(rows),
        cols_(cols),
        codes_(static_cast<std::size_t>(layout().bytes())),
        scales_(static_cast<std::size_t>((F::kOneRowOnly ? rows : 1) * groups())),
        zeros_(hasZero() ? scales_.size() : 0) {}

  /// With the unit for numbers of this magnitude.
  Packed(Index rows, Index cols, float largest) : Packed(rows, cols) {
    detail::require(largest <= 0x1p127f, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond 2^127, up to which the values of its codes are finite in float");
    unit_ = detail::storageUnit(largest);
  }

  void multiplyDecoded(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    parallelFor(layout().blocks(), detail::kBlockRows * cols_ * (x.cols() + 2), [&](Index block) {
      RowMatrixXf values(layout().rowsOf(block), cols_);
      decodeRows(block, values.data(), cols_);
      auto target = y.middleRows(block * detail::kBlockRows, values.rows());
      target.noalias() = values * x;
      target *= unit_;
    });
  }

  static constexpr bool hasZero() {
    if constexpr (ScalarCodebook<Codebook>) return Codebook::kHasZero;
    return false;
  }

  friend class detail::VisitsFields<Packed<F>>;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("codes", std::span(self.codes_));
    visit("scales", std::span(self.scales_));
    if constexpr (hasZero()) visit("zeros", std::span(self.zeros_));
    visit("unit", std::span(&self.unit_, 1));
  }

  detail::TileLayout<Codebook> layout() const { return {rows_, blocks()}; }
  Index groupWidth() const { return F::groupWidth(blocks() * Codebook::kDim); }
  Index groups() const { return ceilDiv(blocks() * Codebook::kDim, groupWidth()); }

  /// What kernels take; only where there is one for this width of groups.
  detail::CodeView<Codebook, Scale> view() const {
    return {layout(),        codes_.data(),
            scales_.data(),  hasZero() ? zeros_.data() : nullptr,
            !F::kOneRowOnly, groups() == 1 ? layout().tiles() : groupWidth() / detail::kTileColumns,
            groups()};
  }

  /// Where the scale of a group stands.
  std::size_t scaleAt(Index row, Index group) const {
    if constexpr (!F::kOneRowOnly) return 0;
    const Index block = row / detail::kBlockRows;
    return static_cast<std::size_t>(layout().scaleAt(block, group, groups()) + row % detail::kBlockRows);
  }

  Affine storedAffine(Index row, Index group) const {
    const std::size_t at = scaleAt(row, group);
    return {static_cast<float>(scales_[at]), hasZero() ? static_cast<float>(zeros_[at]) : 0.f};
  }

  /// Quantizes w, the rows from a block on.
  template <class Rounding>
  void roundRows(Index firstBlock, RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    if (unit_ != 1) w /= unit_;
    Grid<F> grid(w.rows(), w.cols(), options.fit);
    if (grid.cols() > grid.inputs()) {
      w.conservativeResize(Eigen::NoChange, grid.cols());
      w.rightCols(grid.cols() - grid.inputs()).setZero();
    }
    CodeMatrix<Codebook> codes(w.rows(), blocks());
    rounding.round(w, grid, codes);
    storeAffine(firstBlock * detail::kBlockRows, grid);
    parallelFor(ceilDiv(w.rows(), detail::kBlockRows), 2 * detail::kBlockRows * cols_, [&](Index block) {
      layout().packBlock(codes.row(block * detail::kBlockRows).data(), blocks(), firstBlock + block, codes_.data());
    });
  }

  void storeAffine(Index firstRow, const Grid<F>& grid) {
    for (Index row = 0; row < (F::kOneRowOnly ? grid.rows() : 1); ++row) {
      for (Index group = 0; group < groups(); ++group) {
        const Affine& a = grid.affine(row, group);
        const std::size_t at = scaleAt(firstRow + row, group);
        scales_[at] = static_cast<Scale>(a.scale);
        if constexpr (hasZero()) zeros_[at] = static_cast<Scale>(a.zero);
      }
    }
  }

  /// The rows of a block, cols() numbers each and `stride` apart, in units of unit_.
  void decodeRows(Index block, float* values, Index stride) const {
    if constexpr (detail::TileCodebook<Codebook>) {
      if (detail::hasKernel<Codebook>(groupWidth(), cols_)) {
        detail::decodeBlock(view(), block, cols_, values, stride);
        return;
      }
    }
    const Index rows = layout().rowsOf(block), padded = blocks() * Codebook::kDim;
    std::vector<Code> codes(static_cast<std::size_t>(rows * blocks()));
    std::vector<float> whole(static_cast<std::size_t>(padded));
    layout().unpackBlock(codes_.data(), block, codes.data(), blocks());
    for (Index row = 0; row < rows; ++row) {
      for (Index group = 0; group < groups(); ++group) {
        const Index first = group * groupWidth() / Codebook::kDim;
        const Index count = std::min(groupWidth() / Codebook::kDim, blocks() - first);
        decodeRun<Codebook>(codes.data() + row * blocks() + first, count,
                            storedAffine(block * detail::kBlockRows + row, group),
                            whole.data() + first * Codebook::kDim);
      }
      std::copy_n(whole.data(), cols_, values + row * stride);
    }
  }

  Index rows_, cols_;
  detail::AlignedVector<std::uint8_t> codes_;
  std::vector<Scale> scales_;
  std::vector<Scale> zeros_;
  float unit_ = 1;
};

}  // namespace gosset
