// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <type_traits>
#include <utility>

namespace gosset::GOSSET_ABI {

/// The transpose of a quantized matrix, for products. Matrix is QuantizedMatrix<Format> or AnyMatrix, or a reference to
/// one, which must then outlive it.
template <class Matrix>
class Transposed {
 public:
  explicit Transposed(Matrix matrix) : matrix_(std::forward<Matrix>(matrix)) {}

  Index rows() const { return matrix_.cols(); }
  Index cols() const { return matrix_.rows(); }

  /// matrix^T * x for any dense x of cols() rows, a value in x's scalar type.
  /// Errors: std::invalid_argument where x has another number of rows.
  template <DenseExpression Rhs>
  auto operator*(const Rhs& x) const {
    using Result = Eigen::Matrix<typename Rhs::Scalar, Eigen::Dynamic, Rhs::ColsAtCompileTime>;
    detail::require(x.rows() == cols(), "product with a transposed matrix: it is ", rows(), " x ", cols(),
                    ", so the operand needs ", cols(), " rows, got ", x.rows(), " x ", x.cols());
    const Eigen::MatrixXf operand = x.derived().matrix().template cast<float>();
    Eigen::MatrixXf y = Eigen::MatrixXf::Zero(rows(), operand.cols());
    addTo(operand, y);
    return Result(y.template cast<typename Rhs::Scalar>());
  }

  /// y += matrix^T * x into memory that is there already; x: cols() x t, y: rows() x t, which must not overlap.
  /// Errors: std::invalid_argument where a shape does not fit.
  void addTo(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    matrix_.packed().addTransposed(x, y);
  }

 private:
  Matrix matrix_;
};

namespace detail {

/// x * q, x: t x m.
template <class Lhs, class Matrix>
auto timesPacked(const Lhs& x, const Matrix& q) {
  using Result = Eigen::Matrix<typename Lhs::Scalar, Lhs::RowsAtCompileTime, Eigen::Dynamic, Eigen::RowMajor>;
  require(x.cols() == q.rows(), "product with a quantized matrix of ", q.rows(), " x ", q.cols(),
          " on the right: the left operand needs ", q.rows(), " columns, got ", x.rows(), " x ", x.cols());
  return Result((q.transpose() * x.derived().matrix().transpose()).transpose());
}

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
