// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/low_rank_factors.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/unit.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// Adds to Format the best rank-r correction of what it left over: w ~ inner + A B, for errors that many rows or
/// columns have in common. A and B^T have k = min(r, m, n) columns, kept in Factor, 16-bit floats or bytes:
///
///   inner   the matrix as Format keeps it
///   left    A, k x m, column after column of A
///   right   B, k x n, row after row
///   scales  float, one for each of the k: (A B)_ij = sum_k scales_k left_ki right_kj. A power of two for floats, which
///           keep A's columns orthonormal; the product of both steps for bytes, which fill -127 .. 127.
///
/// Bits a number besides the inner ones, with factors of b bits: k (b (m + n) + 32) / (m n).
/// QuantizeOptions: seed is that of the iteration's start, low_rank_iterations their number.
/// Source: Kang et al., "GEAR" (2024), section 3, for the idea; see detail::lowRankFactors.
template <class Format, int r, class Factor = Float16>
struct LowRank {
  static_assert(r >= 1, "LowRank<Format, r>: the rank must be at least 1");
  static_assert(StorageScalar<Factor> || std::is_same_v<Factor, std::int8_t>,
                "LowRank<Format, r, Factor>: factors are kept in Float16, BFloat16, float or std::int8_t");
  using Inner = Format;
};

/// As LowRank, but the other way round: first the best approximation of rank r to the matrix itself, then Format for
/// what that leaves over, w ~ A B + inner. What rows and columns have in common no longer widens the range that codes
/// have to cover, and errors of A and B as they are kept are left over too, so that bytes do for them. Better than
/// LowRank wherever the matrix has a few strong directions: keys and values do, a mean of each channel among them. The
/// same arrays, bits and options.
template <class Format, int r, class Factor = Float16>
struct LowRankFirst {
  static_assert(r >= 1, "LowRankFirst<Format, r>: the rank must be at least 1");
  using Inner = Format;
};

namespace detail {

inline void requireIterations(int iterations) {
  require(iterations >= 0, "quantize: low_rank_iterations must not be negative, got ", iterations);
}

template <class T>
std::string factorName() {
  if constexpr (std::is_same_v<T, Float16>) return "";
  if constexpr (std::is_same_v<T, std::int8_t>) return ", std::int8_t";
  if constexpr (StorageScalar<T> && !std::is_same_v<T, Float16>) return std::string(", ") + StorageTraits<T>::name();
}

/// The factors of a correction as they are kept.
template <int r, class T>
class StoredFactors {
 public:
  StoredFactors(Index rows, Index cols)
      : rows_(rows),
        cols_(cols),
        left_(static_cast<std::size_t>(rank() * rows)),
        right_(static_cast<std::size_t>(rank() * cols)),
        scales_(static_cast<std::size_t>(rank())) {}

  /// Fits them to e, m x n.
  void fit(RowMatrixXf e, const QuantizeOptions& options) {
    const float largest = e.cwiseAbs().maxCoeff();
    if (largest == 0) return;  // the factors are zero already
    const float unit = storageUnit(largest);
    e /= unit;  // so that squares neither overflow nor vanish
    const LowRankFactors factors = lowRankFactors(e, rank(), options.low_rank_iterations, options.seed);
    for (Index k = 0; k < rank(); ++k) {
      const float left = step(factors.left.col(k)), right = step(factors.right.row(k));
      store(factors.left.col(k), left, left_.writable().data() + k * rows_);
      store(factors.right.row(k), right, right_.writable().data() + k * cols_);
      scales_.writable()[static_cast<std::size_t>(k)] = left * right * unit;
    }
  }

  Index rank() const { return std::min({static_cast<Index>(r), rows_.get(), cols_.get()}); }
  RowMatrixXf left() const { return map(left_, rows_).transpose(); }
  RowMatrixXf right() const {
    return Eigen::Map<const Eigen::VectorXf>(scales_.data(), rank()).asDiagonal() * map(right_, cols_);
  }

  /// y += (A B)^T x; x: m x t, y: n x t. Allocates nothing where t is small.
  void addTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    addBetween(left_, rows_, right_, cols_, 0, cols_, x, y);
  }

  /// The rows [first, first + count) of y += A (B x); x: n x t, y: m x t.
  void addProduct(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                  Eigen::Ref<Eigen::MatrixXf> y) const {
    addBetween(right_, cols_, left_, rows_, first, count, x, y);
  }

  /// w += the rows [first, first + w.rows()) of A B.
  void addRows(Index first, Eigen::Ref<RowMatrixXf> w) const {
    addProductInOrder(left().middleRows(first, w.rows()), right(), w);
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("left", self.left_);
    visit("right", self.right_);
    visit("scales", self.scales_);
  }

 private:
  static constexpr bool kBytes = std::is_same_v<T, std::int8_t>;

  /// What stored numbers are in units of.
  template <class Numbers>
  static float step(const Numbers& numbers) {
    const float largest = numbers.cwiseAbs().maxCoeff();
    if (kBytes) return largest > 0 ? largest / 127 : 1.f;
    return storageUnit(largest);
  }

  template <class Numbers>
  static void store(const Numbers& numbers, float step, T* target) {
    for (Index i = 0; i < numbers.size(); ++i) {
      if constexpr (kBytes) {
        target[i] = static_cast<T>(std::lrint(std::clamp(numbers(i) / step, -127.f, 127.f)));
      } else {
        target[i] = storeNearest<T>(numbers(i) / step);
      }
    }
  }

  /// The rows [first, first + count) of y += to^T diag(scales) from x.
  void addBetween(const StoredArray<T>& from, Index inputs, const StoredArray<T>& to, Index outputs, Index first,
                  Index count, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if (x.cols() > kFewColumns) {
      RowMatrixXf inside = RowMatrixXf::Zero(rank(), x.cols());
      addProductInOrder(map(from, inputs), x, inside);
      inside.array().colwise() *= Eigen::Map<const Eigen::ArrayXf>(scales_.data(), rank());
      addProductInOrder(map(to, outputs).middleCols(first, count).transpose(), inside, y.middleRows(first, count));
      return;
    }
    float inside[r * kFewColumns];
    for (Index token = 0; token < x.cols(); ++token) {
      float* target = inside + token * rank();
      multiplyPlain(from.data(), rank(), inputs, x.col(token).data(), target);
      for (Index k = 0; k < rank(); ++k) target[k] *= scales_[static_cast<std::size_t>(k)];
    }
    addPlainTransposed(to.data() + first, rank(), count, outputs, inside, x.cols(), rank(), y.data() + first,
                       y.outerStride());
  }

  RowMatrixXf map(const StoredArray<T>& stored, Index width) const {
    return Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(stored.data(), rank(),
                                                                                               width)
        .template cast<float>();
  }

  EmptyAfterMove<Index> rows_, cols_;
  StoredArray<T> left_, right_;
  StoredArray<float> scales_;
};

}  // namespace detail

template <Format F, int r, class T>
class Packed<LowRank<F, r, T>> : public PackedWrapper<Packed<LowRank<F, r, T>>, F> {
 public:
  using Base = PackedWrapper<Packed<LowRank<F, r, T>>, F>;

  Packed() : Packed(Packed<F>()) {}
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    return Packed(Base::innerShaped(rows, cols, lengths));
  }

  /// Errors: std::invalid_argument where low_rank_iterations is negative, and what the inner format refuses.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    detail::requireIterations(options.low_rank_iterations);
    Packed packed(Packed<F>::quantize(w, std::move(rounding), options));
    w -= packed.inner_.dequantized();
    packed.factors_.fit(std::move(w), options);
    return packed;
  }

  static std::string formatName() {
    return "LowRank<" + Packed<F>::formatName() + ", " + std::to_string(r) + detail::factorName<T>() + ">";
  }

  /// k = min(r, m, n).
  Index rank() const { return factors_.rank(); }

  /// A, m x k, widened.
  RowMatrixXf left() const { return factors_.left(); }
  /// B, k x n, widened, in units of the matrix's values.
  RowMatrixXf right() const { return factors_.right(); }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    this->inner_.decodeRows(first, count, w);
    factors_.addRows(first, w);
  }

  /// y = inner x + A (B x).
  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    this->inner_.multiply(x, y, activations);
    factors_.addProduct(0, this->rows(), x, y);
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    this->inner_.multiplyRows(first, count, x, y, activations);
    factors_.addProduct(first, count, x, y);
  }

  /// y += inner^T x + B^T (A^T x).
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    this->inner_.computeTransposed(x, y);
    factors_.addTransposed(x, y);
  }
  void computeTransposedRounded(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    this->inner_.computeTransposedRounded(x, y);
    factors_.addTransposed(x, y);
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visitWithin("inner.", self.inner_, visit);
    Factors::fields(self.factors_, visit);
  }

 protected:
  using Factors = detail::StoredFactors<r, T>;
  Packed(Packed<F> inner, Factors factors) : Base(std::move(inner)), factors_(std::move(factors)) {}

 private:
  explicit Packed(Packed<F> inner) : Base(std::move(inner)), factors_(this->rows(), this->cols()) {}

  Factors factors_;
};

template <Format F, int r, class T>
class Packed<LowRankFirst<F, r, T>> : public Packed<LowRank<F, r, T>> {
 public:
  using Base = Packed<LowRank<F, r, T>>;

  Packed() = default;
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    return Packed(Base::shaped(rows, cols, lengths));
  }

  /// Errors: std::invalid_argument where low_rank_iterations is negative, and what the inner format refuses.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    detail::requireIterations(options.low_rank_iterations);
    typename Base::Factors factors(w.rows(), w.cols());
    factors.fit(w, options);
    const RowMatrixXf negative = -factors.left();
    detail::addProductInOrder(negative, factors.right(), w);
    return Packed(Packed<F>::quantize(std::move(w), std::move(rounding), options), std::move(factors));
  }

  static std::string formatName() {
    return "LowRankFirst<" + Packed<F>::formatName() + ", " + std::to_string(r) + detail::factorName<T>() + ">";
  }

 private:
  explicit Packed(Base&& base) : Base(std::move(base)) {}
  Packed(Packed<F> inner, typename Base::Factors factors) : Base(std::move(inner), std::move(factors)) {}
};

}  // namespace gosset::GOSSET_ABI
