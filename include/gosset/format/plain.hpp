// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

namespace gosset {

/// Numbers as they are, in 16- or 32-bit floats, row after row: the baseline that the other formats are measured
/// against. Format Float16, BFloat16 or float; 16 or 32 bits a number, and no scale.
template <StorageScalar T>
class Packed<T> {
 public:
  static Packed shaped(Index rows, Index cols) { return Packed(rows, cols); }

  /// Errors: std::invalid_argument where a number is beyond the range of T.
  template <class Rounding>
  static Packed quantize(const RowMatrixXf& w, const Rounding&, const QuantizeOptions&) {
    static_assert(std::is_same_v<Rounding, Nearest>,
                  "a plain float format stores numbers as they are: only Nearest rounding applies to it");
    const float largest = w.cwiseAbs().maxCoeff();
    detail::require(largest <= StorageTraits<T>::kMax, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond the ", StorageTraits<T>::kMax, " that ", formatName(), " can hold");
    Packed packed(w.rows(), w.cols());
    std::transform(w.data(), w.data() + w.size(), packed.values_.begin(), [](float x) { return static_cast<T>(x); });
    return packed;
  }

  static std::string formatName() { return StorageTraits<T>::name(); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  template <class Visitor>
  void visitFields(Visitor&& visit) const {
    visit("values", std::span(values_));
  }
  template <class Visitor>
  void visitFields(Visitor&& visit) {
    visit("values", std::span(values_));
  }

  RowMatrixXf dequantized() const { return map().template cast<float>(); }
  void dequantizeTo(Eigen::Ref<RowMatrixXf> w) const { w = map().template cast<float>(); }

  /// y += matrix^T * x; x: m x t, y: n x t.
  void addTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if (x.cols() > detail::kFewColumns) {
      y.noalias() += dequantized().transpose() * x;
      return;
    }
    detail::addPlainTransposed(values_.data(), rows_, cols_, cols_, x.data(), x.cols(), x.outerStride(), y.data(),
                               y.outerStride());
  }

  /// y = matrix * x: a vector by a kernel of its own; a matrix a block of rows at a time, widened for Eigen's product.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y, Activations) const {
    if (x.cols() == 1) return detail::multiplyPlain(values_.data(), rows_, cols_, x.data(), y.data());
    constexpr Index kRows = 128;
    parallelFor(ceilDiv(rows_, kRows), kRows * cols_ * (x.cols() + 1), [&](Index block) {
      const Index first = block * kRows;
      const Index count = std::min(kRows, rows_ - first);
      const RowMatrixXf widened = map().middleRows(first, count).template cast<float>();
      y.middleRows(first, count).noalias() = widened * x;
    });
  }

 private:
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  Packed(Index rows, Index cols) : rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {}

  Eigen::Map<const Matrix> map() const { return {values_.data(), rows_, cols_}; }

  Index rows_, cols_;
  std::vector<T> values_;
};

}  // namespace gosset
