// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/matrix/eigen_product.hpp>
#include <gosset/matrix/transposed.hpp>

#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// An m x n matrix kept in a format, usable in Eigen expressions: y = q * x, y.noalias() += q * x, q.transpose() * x,
/// for vectors and matrices x. It behaves as the dense matrix dequantized() would, up to the rounding of the
/// activations: to 8 bits in groups of 32 unless setActivations() asks for floats, which changes a product by less than
/// 1% of its norm.
///
/// What was moved from is an empty matrix.
///
/// As with any Eigen product, `auto y = q * x` is an expression that refers to q and x; on a temporary q the product is
/// computed at once.
template <class Format_>
class QuantizedMatrix : public Eigen::EigenBase<QuantizedMatrix<Format_>> {
  static_assert(
      gosset::Format<Format_>,
      "QuantizedMatrix<Format>: Format is a codebook, a codebook in PerTensor, PerChannel or Grouped, a wrapper "
      "such as Incoherent around one of these, or a float type");

 public:
  using Format = Format_;
  using Scalar = float;
  using RealScalar = float;
  using StorageIndex = int;
  enum {
    ColsAtCompileTime = Eigen::Dynamic,
    RowsAtCompileTime = Eigen::Dynamic,
    MaxColsAtCompileTime = Eigen::Dynamic,
    MaxRowsAtCompileTime = Eigen::Dynamic,
    SizeAtCompileTime = Eigen::Dynamic,
    IsRowMajor = false
  };

  /// Empty, 0 x 0.
  QuantizedMatrix() = default;

  /// Takes over what quantize() or a file made.
  explicit QuantizedMatrix(Packed<Format> packed) : packed_(std::move(packed)) {}

  QuantizedMatrix(const QuantizedMatrix&) = default;
  QuantizedMatrix(QuantizedMatrix&&) noexcept = default;
  QuantizedMatrix& operator=(const QuantizedMatrix& other) { return *this = QuantizedMatrix(other); }  // all or nothing
  QuantizedMatrix& operator=(QuantizedMatrix&&) noexcept = default;
  ~QuantizedMatrix() = default;

  Index rows() const { return packed_.rows(); }
  Index cols() const { return packed_.cols(); }

  /// The m x n matrix that the codes stand for, always a value.
  RowMatrixXf dequantized() const { return packed_.dequantized(); }

  /// The same into memory that is there already: new memory costs more than the decoding.
  /// Errors: std::invalid_argument where w is not m x n.
  void dequantizeTo(Eigen::Ref<RowMatrixXf> w) const { packed_.dequantizeTo(w); }

  /// Row i as floats, n numbers, such as an embedding. Where hasIndependentRows() is false it reads the whole matrix,
  /// and equals that row of dequantized() but for the rounding of sums. Errors: std::invalid_argument where there is no
  /// such row.
  Eigen::RowVectorXf row(Index i) const { return packed_.row(i); }

  /// Whether a row can be had without the others: not in a format that mixes them, such as Incoherent.
  static constexpr bool hasIndependentRows() { return Packed<Format>::kRowsIndependent; }

  /// Bytes kept: codes, scales, zero points, seeds, side data, and the padding of each.
  Index bytes() const { return packed_.bytes(); }

  /// 8 * bytes() / (m n): everything counted; 0 for an empty matrix.
  double bitsPerWeight() const {
    const double weights = static_cast<double>(rows()) * static_cast<double>(cols());
    return weights > 0 ? 8.0 * static_cast<double>(bytes()) / weights : 0.0;
  }

  /// Whether all memory is its own; false for a view of a mapped file.
  bool owns() const { return packed_.owns(); }

  const Packed<Format>& packed() const& { return packed_; }
  Packed<Format> packed() && { return std::move(packed_); }

  /// What products do with their operand: round it to 8 bits where that is faster (the default), take it as it is, or
  /// round it with one scale a token.
  /// It is no part of the matrix: neither counted, stored nor compared.
  Activations activations() const { return activations_; }
  void setActivations(Activations activations) { activations_ = activations; }

  /// y (m x t) = q * x (n x t), what operator* comes down to; x and y must not overlap.
  /// Errors: std::invalid_argument where a shape does not fit.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    packed_.multiply(x, y, activations_);
  }

  /// The rows [first, first + count) of q * x into those rows of y, m x t, in the calling thread alone: so that a
  /// caller's own threads can share the rows out, best kRowBlock at a time. The same bits as multiply(). Where
  /// hasIndependentRows() is false each call costs as much as the whole product.
  /// Errors: std::invalid_argument where a shape or the rows do not fit.
  void multiplyRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                    Eigen::Ref<Eigen::MatrixXf> y) const {
    packed_.multiplyRows(first, count, x, y, activations_);
  }

  /// The transposed matrix, for products: q.transpose() * x, x: m x t. Activations are taken as they are. That of a
  /// temporary keeps it.
  Transposed<const QuantizedMatrix&> transpose() const& { return Transposed<const QuantizedMatrix&>(*this); }
  Transposed<QuantizedMatrix> transpose() && { return Transposed<QuantizedMatrix>(std::move(*this)); }

  /// q * x for any dense x of n rows. Float operands give an Eigen product; others are computed in float and come back
  /// in their own scalar type.
  template <DenseExpression Rhs>
  auto operator*(const Rhs& x) const& {
    checkProduct(x);
    if constexpr (std::is_same_v<typename Rhs::Scalar, float>) {
      return Eigen::Product<QuantizedMatrix, Rhs, Eigen::DefaultProduct>(*this, x.derived());
    } else {
      return evaluated(x);
    }
  }
  template <DenseExpression Rhs>
  auto operator*(const Rhs& x) const&& {
    checkProduct(x);
    return evaluated(x);
  }

  /// x * q for any dense x of m columns, in x's scalar type; as transpose() has it.
  template <DenseExpression Lhs>
  friend auto operator*(const Lhs& x, const QuantizedMatrix& q) {
    return detail::timesPacked(x, q);
  }

  /// Equal in shape and in every stored bit.
  friend bool operator==(const QuantizedMatrix& a, const QuantizedMatrix& b) {
    return a.rows() == b.rows() && a.cols() == b.cols() && a.image() == b.image();
  }

  friend std::ostream& operator<<(std::ostream& out, const QuantizedMatrix& q) {
    return out << Packed<Format>::formatName() << ", " << q.rows() << " x " << q.cols() << ", " << q.bitsPerWeight()
               << " bits a weight, " << q.bytes() << " bytes";
  }

 private:
  template <class Rhs>
  void checkProduct(const Rhs& x) const {
    detail::require(x.rows() == cols(), "QuantizedMatrix product: the matrix is ", rows(), " x ", cols(),
                    ", so the operand needs ", cols(), " rows, got ", x.rows(), " x ", x.cols());
  }

  template <class Rhs>
  auto evaluated(const Rhs& x) const {
    using Result = Eigen::Matrix<typename Rhs::Scalar, Eigen::Dynamic, Rhs::ColsAtCompileTime>;
    const Eigen::MatrixXf operand = x.derived().matrix().template cast<float>();
    Eigen::MatrixXf y(rows(), operand.cols());
    multiply(operand, y);
    return Result(y.template cast<typename Rhs::Scalar>());
  }

  std::string image() const {
    std::string bytes;
    packed_.visitFields([&](std::string_view, auto values) {
      bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
    });
    return bytes;
  }

  Packed<Format> packed_;
  Activations activations_ = Activations::kRounded;
};

}  // namespace gosset::GOSSET_ABI
