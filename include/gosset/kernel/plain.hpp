// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/ordered_product.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/kernels.hpp>

// y = W x and y += W^T x from 16- or 32-bit floats (or bytes), row after row: the baseline that packed codes are
// measured against. Sums have one order and are not fused with products, unless one asks for it: the same bits on every
// machine.
namespace gosset::GOSSET_ABI::detail {

/// y (m) = W x; w: m x n, rows `stride` apart.
template <class T>
void multiplyPlain(const T* w, Index m, Index n, Index stride, const float* x, float* y) {
  GOSSET_CALL_RUNNING(multiplyPlain(w, m, n, stride, x, y))
}

/// The same, row after row.
template <class T>
void multiplyPlain(const T* w, Index m, Index n, const float* x, float* y) {
  multiplyPlain(w, m, n, n, x, y);
}

/// y = W x for rows that have become floats.
inline void multiplyWidened(const Eigen::Ref<const RowMatrixXf>& w, const Eigen::Ref<const Eigen::MatrixXf>& x,
                            Eigen::Ref<Eigen::MatrixXf> y) {
  if (x.cols() == 1) return multiplyPlain(w.data(), w.rows(), w.cols(), w.outerStride(), x.data(), y.data());
  y.setZero();
  addProductInOrder(w, x, y);
}

/// n numbers as stored ones, to the nearest, ties to even; finite in T.
template <class T>
void narrow(const float* x, Index n, T* y) {
  GOSSET_CALL_RUNNING(narrowInSet(x, n, y))
}

/// Up to so many columns of x have kernels for products with W^T; more are worth widening W.
inline constexpr Index kFewColumns = 16;

/// y (n x t, column-major, columns y_stride apart) += W^T x; w: m x n, rows `stride` apart; x: m x t, columns x_stride
/// apart. A few rows at a time, from end to end, so that memory is read as it lies. kFused: products are fused with
/// sums where the machine can, which spares up to a quarter of the time. Allocates nothing.
template <bool kFused = false, class T>
void addPlainTransposed(const T* w, Index m, Index n, Index stride, const float* x, Index tokens, Index x_stride,
                        float* y, Index y_stride) {
  GOSSET_CALL_RUNNING(addPlainTransposed<kFused>(w, m, n, stride, x, tokens, x_stride, y, y_stride))
}

}  // namespace gosset::GOSSET_ABI::detail
