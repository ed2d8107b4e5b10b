// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/matrix/eigen_product.hpp>

#include <cstring>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace gosset {

/// An m x n matrix kept in a format, usable in Eigen expressions: y = q * x, y.noalias() += q * x, for vectors and
/// matrices x. It behaves as the dense matrix dequantized() would, up to the rounding of the activations: to 8 bits in
/// groups of 32 unless setActivations() asks for floats, which changes a product by less than 1% of its norm.
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

  /// Takes over what quantize() or a file made.
  explicit QuantizedMatrix(Packed<Format> packed) : packed_(std::move(packed)) {}

  Index rows() const { return packed_.rows(); }
  Index cols() const { return packed_.cols(); }

  /// The m x n matrix that the codes stand for, always a value.
  RowMatrixXf dequantized() const { return packed_.dequantized(); }

  /// The same into memory that is there already: new memory costs more than the decoding.
  /// Errors: std::invalid_argument where w is not m x n.
  void dequantizeTo(Eigen::Ref<RowMatrixXf> w) const {
    detail::require(w.rows() == rows() && w.cols() == cols(), "QuantizedMatrix::dequantizeTo: expected a matrix of ",
                    rows(), " x ", cols(), ", got ", w.rows(), " x ", w.cols());
    if constexpr (requires { packed_.dequantizeTo(w); }) {
      packed_.dequantizeTo(w);
    } else {
      w = packed_.dequantized();
    }
  }

  /// Bytes kept: codes, scales, zero points, seeds, side data, and the padding of each.
  Index bytes() const { return storedBytes(packed_); }

  /// 8 * bytes() / (m n): everything counted.
  double bitsPerWeight() const {
    return 8.0 * static_cast<double>(bytes()) / (static_cast<double>(rows()) * static_cast<double>(cols()));
  }

  const Packed<Format>& packed() const { return packed_; }

  /// What products do with their operand: round it to 8 bits where that is faster (the default), take it as it is, or
  /// round it with one scale a token.
  /// It is no part of the matrix: neither counted, stored nor compared.
  Activations activations() const { return activations_; }
  void setActivations(Activations activations) { activations_ = activations; }

  /// y (m x t) = q * x (n x t), what operator* comes down to; x and y must not overlap.
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    packed_.multiply(x, y, activations_);
  }

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

}  // namespace gosset
