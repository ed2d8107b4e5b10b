// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

namespace gosset::GOSSET_ABI {

/// Numbers as they are, in 16- or 32-bit floats, row after row: the baseline that the other formats are measured
/// against. Format Float16, BFloat16 or float; 16 or 32 bits a number, and no scale.
template <StorageScalar T>
class Packed<T> : public PackedBase<Packed<T>> {
 public:
  static constexpr bool kFastProduct = true;
  template <class Rounding>
  static constexpr HowRounded rounds() {
    return RoundingTraits<Rounding>::kIsNearest ? HowRounded::kWell : HowRounded::kNearestOnly;
  }

  Packed() : Packed(0, 0) {}
  static Packed shaped(Index rows, Index cols, const FieldLengths& = {}) { return Packed(rows, cols); }

  /// Errors: std::invalid_argument where a number is beyond the range of T, or all are so small that T loses digits
  /// even of the largest.
  template <class Rounding>
  static Packed quantize(const RowMatrixXf& w, const Rounding& rounding, const QuantizeOptions& options) {
    const auto rowsOfW = [&](Index first, Index count) { return w.middleRows(first, count); };
    return quantizeRows(w.rows(), w.cols(), w.cwiseAbs().maxCoeff(), rowsOfW, rounding, options);
  }

  /// Whether rows can be taken a few at a time.
  template <class>
  static constexpr bool takesRows() {
    return true;
  }

  /// The same for an m x n matrix of which rowsOf(first, count) are rows, and `largest` is the largest magnitude.
  template <class RowsOf, class Rounding>
  static Packed quantizeRows(Index rows, Index cols, float largest, const RowsOf& rowsOf, const Rounding&,
                             const QuantizeOptions&) {
    detail::require(largest <= StorageTraits<T>::kMax, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond the ", StorageTraits<T>::kMax, " that ", formatName(), " can hold");
    const float stored = static_cast<float>(static_cast<T>(largest));
    detail::require(std::abs(stored - largest) <= std::ldexp(largest, -StorageTraits<T>::kDigits),
                    "quantize: the largest magnitude of the matrix is ", largest, ", of which ", formatName(),
                    " holds ", stored, ": it has not all its digits for numbers so small");
    Packed packed(rows, cols);
    T* values = packed.values_.writable().data();
    parallelFor(ceilDiv(rows, kNarrowed), 4 * kNarrowed * cols, [&](Index stretch) {
      const Index first = stretch * kNarrowed;
      const auto& taken = rowsOf(first, std::min(kNarrowed, rows - first));
      const Eigen::Ref<const RowMatrixXf> part = taken;  // no copy but of numbers that do not lie next to each other
      for (Index row = 0; row < part.rows(); ++row) {
        detail::narrow(part.row(row).data(), cols, values + (first + row) * cols);
      }
    });
    return packed;
  }

  static std::string formatName() { return StorageTraits<T>::name(); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("values", self.values_);
  }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    w = map().middleRows(first, count).template cast<float>();
  }

  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if (x.cols() > detail::kFewColumns) {
      detail::addProductInOrder(this->dequantized().transpose(), x, y);
      return;
    }
    detail::addPlainTransposed<true>(values_.data(), rows_, cols_, cols_, x.data(), x.cols(), x.outerStride(), y.data(),
                                     y.outerStride());
  }

  /// A vector by a kernel of its own; a matrix a stretch of rows at a time, widened.
  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y, Activations) const {
    if (x.cols() == 1) return detail::multiplyPlain(values_.data(), rows_, cols_, x.data(), y.data());
    parallelFor(ceilDiv(rows_, kWidened), kWidened * cols_ * (x.cols() + 1), [&](Index stretch) {
      const Index first = stretch * kWidened;
      multiplyStretch(first, std::min(kWidened, rows_ - first), x, y);
    });
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations) const {
    for (const Index end = first + count; x.cols() > 1 && first < end;) {  // as computeProduct() has them
      const Index rows = std::min((first / kWidened + 1) * kWidened, end) - first;
      multiplyStretch(first, rows, x, y);
      first += rows;
    }
    if (x.cols() == 1) detail::multiplyPlain(values_.data() + first * cols_, count, cols_, x.data(), y.data() + first);
  }

 private:
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static constexpr Index kWidened = 128;  ///< rows that are widened at a time
  static constexpr Index kNarrowed = 16;  ///< rows that are narrowed at a time

  Packed(Index rows, Index cols) : rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {}

  Eigen::Map<const Matrix> map() const { return {values_.data(), rows_, cols_}; }

  void multiplyStretch(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                       Eigen::Ref<Eigen::MatrixXf> y) const {
    const RowMatrixXf widened = map().middleRows(first, count).template cast<float>();
    detail::multiplyWidened(widened, x, y.middleRows(first, count));
  }

  detail::EmptyAfterMove<Index> rows_, cols_;
  StoredArray<T> values_;
};

}  // namespace gosset::GOSSET_ABI
