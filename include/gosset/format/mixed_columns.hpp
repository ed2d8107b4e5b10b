// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/symmetric.hpp>
#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/rounding/outlier_columns.hpp>
#include <gosset/scale/granularity.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/unit.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// Keeps a few columns of the matrix, those that meet outliers among the activations, in T, and the others in the inner
/// format, which sees zeros in their place: y = inner * x[others] + values * x[columns].
///
/// Kept besides the inner format, for k such columns:
///   columns  k indices of 32 bits, rising
///   values   m x k numbers of T, row after row
///   unit     float, a power of two: a weight of these columns is value * unit
/// That is k (16 m + 32) bits with 16-bit T. The inner format keeps codes for these columns too.
///
/// The columns come from the rounding, by its hook outlierColumns: see OutlierColumns. The rounding then chooses the
/// codes of the others; a Hessian is told that these columns are exact and take no part. Source: Dettmers et al.,
/// "LLM.int8()", NeurIPS 2022, section 3.2.
template <class Format, StorageScalar T = Float16>
struct MixedColumns {
  using Inner = Format;
};

/// LLM.int8(): outlier columns in 16 bits, the rest in 8 with one scale an output.
using LlmInt8 = MixedColumns<PerChannel<Symmetric<8>>>;

template <Format F, StorageScalar T>
class Packed<MixedColumns<F, T>> : public PackedWrapper<Packed<MixedColumns<F, T>>, F> {
 public:
  using Base = PackedWrapper<Packed<MixedColumns<F, T>>, F>;
  static constexpr unsigned kUses = Base::kUses | kOutlierColumnsHook, kNeeds = Base::kNeeds | kOutlierColumnsHook;

  Packed() : Packed(Packed<F>()) {}
  /// An all-zero matrix with as many outlier columns as a file has, if it has their values; else without any.
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    Packed packed(Base::innerShaped(rows, cols, lengths));
    if (!lengths) return packed;
    const Index count = std::clamp<Index>(lengths("columns"), 0, cols);
    packed.columns_ = StoredArray<std::uint32_t>(static_cast<std::size_t>(count));
    packed.values_ = StoredArray<T>(static_cast<std::size_t>(std::clamp<Index>(lengths("values"), 0, rows * count)));
    return packed;
  }

  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    const std::vector<std::uint32_t> chosen = rounding.outlierColumns(w.cols());
    Eigen::MatrixXf outliers(w.rows(), static_cast<Index>(chosen.size()));
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      outliers.col(static_cast<Index>(k)) = w.col(chosen[k]);
      w.col(chosen[k]).setZero();
    }
    Packed packed(Packed<F>::quantize(std::move(w), inBasis(std::move(rounding), without(chosen)), options));
    packed.store(chosen, outliers);
    return packed;
  }

  static std::string formatName() { return detail::scaledName<T>("MixedColumns<" + Packed<F>::formatName()); }

  /// Also columns that do not rise, do not lie in the matrix or lack values, and a unit that is not positive.
  std::string fault() const {
    const bool rising = std::adjacent_find(columns_.begin(), columns_.end(), std::greater_equal<>()) == columns_.end();
    const bool inside = columns_.empty() || static_cast<Index>(columns_.values().back()) < this->cols();
    if (!rising || !inside) return detail::concat("columns: expected rising numbers below ", this->cols());
    if (values_.size() != columns_.size() * static_cast<std::size_t>(this->rows())) {
      return detail::concat("values: expected ", this->rows(), " for each of ", columns_.size(), " columns");
    }
    if (!(unit_ > 0)) return "unit: expected a positive number";
    return Base::fault();
  }

  std::span<const std::uint32_t> columns() const { return columns_.values(); }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    this->inner_.decodeRows(first, count, w);
    const RowMatrixXf outliers = values(first, count);
    for (Index k = 0; k < outliers.cols(); ++k) w.col(column(k)) = outliers.col(k);
  }

  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    if (columns_.empty()) return this->inner_.multiply(x, y, activations);
    const auto [rest, gathered] = split(x);
    this->inner_.multiply(rest, y, activations);
    addColumns(0, this->rows(), gathered, y);
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    if (columns_.empty()) return this->inner_.multiplyRows(first, count, x, y, activations);
    const auto [rest, gathered] = split(x);
    this->inner_.multiplyRows(first, count, rest, y, activations);
    addColumns(first, count, gathered, y);
  }

  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    Eigen::MatrixXf kept(static_cast<Index>(columns_.size()), x.cols());
    for (Index k = 0; k < kept.rows(); ++k) kept.row(k) = y.row(column(k));
    this->inner_.addTransposed(x, y);
    detail::addProductInOrder(values(0, this->rows()).transpose(), x, kept);
    for (Index k = 0; k < kept.rows(); ++k) y.row(column(k)) = kept.row(k);
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("columns", self.columns_);
    visit("values", self.values_);
    visit("unit", self.unit_.get());
    visitWithin("inner.", self.inner_, visit);
  }

 private:
  explicit Packed(Packed<F> inner) : Base(std::move(inner)) {}

  /// What is known of the inputs, for a matrix without these columns: they meet nothing, and nothing goes with them.
  static BasisChange without(const std::vector<std::uint32_t>& columns) {
    return {.hessian =
                [columns](Eigen::MatrixXd& h) {
                  const double mean = h.diagonal().mean();
                  for (const std::uint32_t k : columns) {
                    h.row(k).setZero();
                    h.col(k).setZero();
                    h(k, k) = mean;
                  }
                },
            .tokens =
                [columns](RowMatrixXf& x) {
                  for (const std::uint32_t k : columns) x.col(k).setZero();
                }};
  }

  void store(const std::vector<std::uint32_t>& columns, const Eigen::MatrixXf& outliers) {
    columns_ = StoredArray<std::uint32_t>(columns.size());
    std::copy(columns.begin(), columns.end(), columns_.writable().begin());
    unit_ = detail::storageUnit(outliers.size() > 0 ? outliers.cwiseAbs().maxCoeff() : 0.f);
    values_ = StoredArray<T>(static_cast<std::size_t>(outliers.size()));
    auto target = values_.writable().begin();
    for (Index row = 0; row < outliers.rows(); ++row) {
      for (Index k = 0; k < outliers.cols(); ++k) *target++ = storeNearest<T>(outliers(row, k) / unit_);
    }
  }

  Index column(Index k) const { return static_cast<Index>(columns_[static_cast<std::size_t>(k)]); }

  /// Of the outlier columns the rows [first, first + count).
  RowMatrixXf values(Index first, Index count) const {
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const auto width = static_cast<Index>(columns_.size());
    const Eigen::Map<const Matrix> stored(values_.data() + first * width, count, width);
    return stored.template cast<float>() * unit_.get();
  }

  /// The rows [first, first + count) of y += columns * gathered.
  void addColumns(Index first, Index count, const Eigen::MatrixXf& gathered, Eigen::Ref<Eigen::MatrixXf>& y) const {
    Base::forStretches(first, count, [&](Index start, Index rows) {
      detail::addProductInOrder(values(start, rows), gathered, y.middleRows(start, rows));
    });
  }

  /// x without the rows that meet outlier columns, for not every codebook has a level for 0; and these rows.
  std::pair<Eigen::MatrixXf, Eigen::MatrixXf> split(const Eigen::Ref<const Eigen::MatrixXf>& x) const {
    std::pair<Eigen::MatrixXf, Eigen::MatrixXf> parts(x,
                                                      Eigen::MatrixXf(static_cast<Index>(columns_.size()), x.cols()));
    for (Index k = 0; k < parts.second.rows(); ++k) {
      parts.second.row(k) = x.row(column(k));
      parts.first.row(column(k)).setZero();
    }
    return parts;
  }

  StoredArray<std::uint32_t> columns_;
  StoredArray<T> values_;
  detail::EmptyAfterMove<float, 1> unit_;
};

}  // namespace gosset::GOSSET_ABI
