// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/symmetric.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/scaled.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset {

/// Keeps a few columns of the matrix, those that meet outliers among the activations, in T, and the others in the inner
/// format, which sees zeros in their place: y = inner * x[others] + values * x[columns].
///
/// Kept besides the inner format, for k such columns:
///   columns  k indices of 32 bits, rising
///   values   m x k numbers of T, row after row
///   unit     float, a power of two: a weight of these columns is value * unit
/// That is k (16 m + 32) bits with 16-bit T. The inner format keeps codes for these columns too.
///
/// The columns come from the argument beside W, as outlierColumns(n): see OutlierColumns.
/// Source: Dettmers et al., "LLM.int8()", NeurIPS 2022, section 3.2.
template <class Format, StorageScalar T = Float16>
struct MixedColumns {
  using Inner = Format;
};

/// LLM.int8(): outlier columns in 16 bits, the rest in 8 with one scale an output.
using LlmInt8 = MixedColumns<PerChannel<Symmetric<8>>>;

struct OutlierColumnsOptions {
  float threshold = 6.f;            ///< positive; a column is an outlier where max |X_j| reaches it
  bool relative_to_median = false;  ///< the threshold counts in medians of max |X_j| over all columns
};

/// The input columns whose activations reach a threshold, as the argument of a MixedColumns format. An absolute
/// threshold suits only models whose activations have the magnitude that it was found on; the relative one suits all.
class OutlierColumns {
 public:
  /// x: t x n, tokens x in. Errors: std::invalid_argument where X is empty or not finite, or the threshold is not
  /// positive.
  template <DenseExpression Activations>
  explicit OutlierColumns(const Activations& x, const OutlierColumnsOptions& options = {}) : inputs_(x.cols()) {
    detail::require(options.threshold > 0 && std::isfinite(options.threshold),
                    "OutlierColumns: expected a threshold > 0, got ", options.threshold);
    const Eigen::VectorXf maxima = detail::finiteFloats("OutlierColumns", x).cwiseAbs().colwise().maxCoeff();
    const float threshold = options.threshold * (options.relative_to_median ? median(maxima) : 1.f);
    for (Index j = 0; j < inputs_; ++j) {
      if (maxima[j] > 0 && maxima[j] >= threshold) columns_.push_back(static_cast<std::uint32_t>(j));
    }
  }

  /// The columns, rising.
  const std::vector<std::uint32_t>& columns() const { return columns_; }

  /// The same, for a matrix of n columns. Errors: std::invalid_argument where the activations had another width.
  const std::vector<std::uint32_t>& outlierColumns(Index n) const {
    detail::require(n == inputs_, "OutlierColumns: expected a matrix of ", inputs_,
                    " inputs, as the activations have, got ", n);
    return columns_;
  }

 private:
  /// The lower one of two.
  static float median(Eigen::VectorXf values) {
    float* middle = values.data() + (values.size() - 1) / 2;
    std::nth_element(values.data(), middle, values.data() + values.size());
    return *middle;
  }

  Index inputs_;
  std::vector<std::uint32_t> columns_;
};

template <Format F, StorageScalar T>
class Packed<MixedColumns<F, T>> : public detail::VisitsFields<Packed<MixedColumns<F, T>>> {
 public:
  /// An all-zero matrix without outlier columns.
  static Packed shaped(Index rows, Index cols) { return Packed(Packed<F>::shaped(rows, cols)); }
  /// One with as many as a file has, if it has their values: their number does not follow from the shape.
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths) {
    Packed packed(detail::innerShapedFor<Packed<F>>(rows, cols, lengths));
    const Index count = std::clamp<Index>(lengths("columns"), 0, cols);
    packed.columns_.resize(static_cast<std::size_t>(count));
    packed.values_.resize(static_cast<std::size_t>(std::clamp<Index>(lengths("values"), 0, rows * count)));
    return packed;
  }

  template <class Columns>
  static Packed quantize(RowMatrixXf w, const Columns& columns, const QuantizeOptions& options) {
    static_assert(
        requires { std::vector<std::uint32_t>(columns.outlierColumns(w.cols())); },
        "a MixedColumns format such as LlmInt8 takes its outlier columns from the argument beside the matrix: "
        "quantize<LlmInt8>(W, OutlierColumns{X})");
    const std::vector<std::uint32_t> chosen = columns.outlierColumns(w.cols());
    Eigen::MatrixXf outliers(w.rows(), static_cast<Index>(chosen.size()));
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      outliers.col(static_cast<Index>(k)) = w.col(chosen[k]);
      w.col(chosen[k]).setZero();
    }
    Packed packed(Packed<F>::quantize(std::move(w), Nearest{}, options));
    packed.store(chosen, outliers);
    return packed;
  }

  static std::string formatName() { return detail::scaledName<T>("MixedColumns<" + Packed<F>::formatName()); }
  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }

  /// For files: columns must rise, lie in the matrix and all have values, the unit must be positive and finite.
  bool isValid() const {
    const bool rising = std::adjacent_find(columns_.begin(), columns_.end(), std::greater_equal<>()) == columns_.end();
    const bool inside = columns_.empty() || static_cast<Index>(columns_.back()) < cols();
    const bool whole = values_.size() == columns_.size() * static_cast<std::size_t>(rows());
    return rising && inside && whole && unit_ > 0 && std::isfinite(unit_) && detail::isValid(inner_);
  }

  const Packed<F>& inner() const { return inner_; }
  std::span<const std::uint32_t> columns() const { return columns_; }

  RowMatrixXf dequantized() const {
    RowMatrixXf w = inner_.dequantized();
    const RowMatrixXf outliers = values();
    for (Index k = 0; k < outliers.cols(); ++k) w.col(column(k)) = outliers.col(k);
    return w;
  }

  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations) const {
    if (columns_.empty()) return inner_.multiply(x, y, activations);
    Eigen::MatrixXf rest = x;
    Eigen::MatrixXf gathered(static_cast<Index>(columns_.size()), x.cols());
    for (Index k = 0; k < gathered.rows(); ++k) {
      gathered.row(k) = x.row(column(k));
      rest.row(column(k)).setZero();  // not every codebook has a level for 0
    }
    inner_.multiply(rest, y, activations);
    y.noalias() += values() * gathered;
  }

 private:
  explicit Packed(Packed<F> inner) : inner_(std::move(inner)) {}

  void store(const std::vector<std::uint32_t>& columns, const Eigen::MatrixXf& outliers) {
    columns_ = columns;
    unit_ = detail::storageUnit(outliers.size() > 0 ? outliers.cwiseAbs().maxCoeff() : 0.f);
    for (Index row = 0; row < outliers.rows(); ++row) {
      for (Index k = 0; k < outliers.cols(); ++k) values_.push_back(storeNearest<T>(outliers(row, k) / unit_));
    }
  }

  Index column(Index k) const { return static_cast<Index>(columns_[static_cast<std::size_t>(k)]); }

  RowMatrixXf values() const {
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const Matrix> stored(values_.data(), rows(), static_cast<Index>(columns_.size()));
    return stored.template cast<float>() * unit_;
  }

  friend class detail::VisitsFields<Packed<MixedColumns<F, T>>>;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("columns", std::span(self.columns_));
    visit("values", std::span(self.values_));
    visit("unit", std::span(&self.unit_, 1));
    detail::visitWithin("inner.", self.inner_, visit);
  }

  Packed<F> inner_;
  std::vector<std::uint32_t> columns_;
  std::vector<T> values_;
  float unit_ = 1;
};

}  // namespace gosset
