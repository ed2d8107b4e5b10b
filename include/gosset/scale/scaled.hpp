// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/bits.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/packed.hpp>
#include <gosset/core/parallel.hpp>
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

}  // namespace detail

/// Codes and scales of an m x n matrix; n is padded with zeros to a multiple of the codebook's kDim.
///
///   codes   m rows of packedBytes(ceil(n / kDim), kBits) bytes, a row's codes lowest bit first (core/bits.hpp)
///   scales  F::Scale, row after row, one a group: m x groups, or 1 where one scale serves the whole matrix
///   zeros   as scales, for codebooks with a zero point
///   unit    float, a power of two: value = scale * (level - zero) * unit. It keeps 16-bit scales in range for matrices
///           of any magnitude.
template <ScaledFormat F>
class Packed<F> {
 public:
  using Codebook = typename F::Codebook;
  using Code = typename Codebook::Code;
  using Scale = typename F::Scale;

  /// An all-zero matrix.
  static Packed shaped(Index rows, Index cols) { return Packed(rows, cols); }

  /// Errors: std::invalid_argument where a magnitude is beyond 2^127.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    Packed packed(w.rows(), w.cols());
    const float largest = w.cwiseAbs().maxCoeff();
    detail::require(largest <= 0x1p127f, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond 2^127, up to which the values of its codes are finite in float");
    packed.unit_ = detail::storageUnit(largest);
    w /= packed.unit_;
    Grid<F> grid(w.rows(), w.cols(), options.fit);
    if (grid.cols() > grid.inputs()) {
      w.conservativeResize(Eigen::NoChange, grid.cols());
      w.rightCols(grid.cols() - grid.inputs()).setZero();
    }
    CodeMatrix<Codebook> codes(packed.rows(), packed.blocks());
    rounding.round(w, grid, codes);
    packed.store(grid, codes);
    return packed;
  }

  static std::string formatName() { return F::name(); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  template <class Visitor>
  void visitFields(Visitor&& visit) const {
    fields(*this, visit);
  }
  template <class Visitor>
  void visitFields(Visitor&& visit) {
    fields(*this, visit);
  }

  /// Codes in a row.
  Index blocks() const { return ceilDiv(cols_, Codebook::kDim); }

  /// The codes, unpacked.
  CodeMatrix<Codebook> codes() const {
    CodeMatrix<Codebook> result(rows_, blocks());
    parallelFor(rows_, cols_, [&](Index row) { unpackRow(row, result.row(row).data()); });
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
    parallelFor(rows_, 2 * cols_, [&](Index row) {
      Eigen::RowVectorXf values(blocks() * Codebook::kDim);
      decodeRow(row, values.data());
      w.row(row) = values.head(cols_) * unit_;
    });
    return w;
  }

  /// y = matrix * x, a block of rows at a time: decoded, then Eigen's product.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    constexpr Index kRows = 32;
    parallelFor(ceilDiv(rows_, kRows), kRows * cols_ * (x.cols() + 2), [&](Index block) {
      const Index first = block * kRows;
      const Index count = std::min(kRows, rows_ - first);
      RowMatrixXf values(count, blocks() * Codebook::kDim);
      for (Index i = 0; i < count; ++i) decodeRow(first + i, values.row(i).data());
      y.middleRows(first, count).noalias() = values.leftCols(cols_) * x;
      y.middleRows(first, count) *= unit_;
    });
  }

 private:
  Packed(Index rows, Index cols)
      : rows_(rows),
        cols_(cols),
        codes_(static_cast<std::size_t>(rows * rowBytes())),
        scales_(static_cast<std::size_t>((F::kOneRowOnly ? rows : 1) * groups())),
        zeros_(hasZero() ? scales_.size() : 0) {}

  static constexpr bool hasZero() {
    if constexpr (ScalarCodebook<Codebook>) return Codebook::kHasZero;
    return false;
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("codes", std::span(self.codes_));
    visit("scales", std::span(self.scales_));
    if constexpr (hasZero()) visit("zeros", std::span(self.zeros_));
    visit("unit", std::span(&self.unit_, 1));
  }

  Index rowBytes() const { return packedBytes(blocks(), Codebook::kBits); }
  Index groupWidth() const { return F::groupWidth(blocks() * Codebook::kDim); }
  Index groups() const { return ceilDiv(blocks() * Codebook::kDim, groupWidth()); }

  Affine storedAffine(Index row, Index group) const {
    const auto at = static_cast<std::size_t>((F::kOneRowOnly ? row * groups() : 0) + group);
    return {static_cast<float>(scales_[at]), hasZero() ? static_cast<float>(zeros_[at]) : 0.f};
  }

  void store(const Grid<F>& grid, const CodeMatrix<Codebook>& codes) {
    std::transform(grid.affines().begin(), grid.affines().end(), scales_.begin(),
                   [](const Affine& a) { return static_cast<Scale>(a.scale); });
    if constexpr (hasZero()) {
      std::transform(grid.affines().begin(), grid.affines().end(), zeros_.begin(),
                     [](const Affine& a) { return static_cast<Scale>(a.zero); });
    }
    parallelFor(rows_, 2 * cols_, [&](Index row) {
      packBits<Codebook::kBits>(codes.row(row).data(), blocks(), codes_.data() + row * rowBytes());
    });
  }

  void unpackRow(Index row, Code* codes) const {
    unpackBits<Codebook::kBits>(codes_.data() + row * rowBytes(), blocks(), codes);
  }

  /// The padded row, in units of unit_.
  void decodeRow(Index row, float* values) const {
    std::vector<Code> codes(static_cast<std::size_t>(blocks()));
    unpackRow(row, codes.data());
    for (Index group = 0; group < groups(); ++group) {
      const Index first = group * groupWidth() / Codebook::kDim;
      const Index count = std::min(groupWidth() / Codebook::kDim, blocks() - first);
      decodeRun<Codebook>(codes.data() + first, count, storedAffine(row, group), values + first * Codebook::kDim);
    }
  }

  Index rows_, cols_;
  std::vector<std::uint8_t> codes_;
  std::vector<Scale> scales_;
  std::vector<Scale> zeros_;
  float unit_ = 1;
};

/// A bare codebook has one scale for the whole matrix.
template <Codebook C>
class Packed<C> : public Packed<PerTensor<C>> {
 public:
  using Base = Packed<PerTensor<C>>;
  explicit Packed(Base&& base) : Base(std::move(base)) {}

  static Packed shaped(Index rows, Index cols) { return Packed(Base::shaped(rows, cols)); }
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    return Packed(Base::quantize(std::move(w), rounding, options));
  }
  static std::string formatName() { return C::name(); }
};

}  // namespace gosset
