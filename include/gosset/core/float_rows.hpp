// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/strided.hpp>
#include <gosset/core/transpose.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>

// Rows of any dense expression as row-major floats, at the speed of memory where they lie in it one after the other, or
// columns do.
namespace gosset::GOSSET_ABI::detail {

/// Whether numbers of an expression lie in memory.
template <class Matrix>
inline constexpr bool kInMemory = (Matrix::Flags & Eigen::DirectAccessBit) != 0;

/// n numbers as floats.
template <StorageScalar T>
void widenInto(const T* from, Index n, float* to) {
  GOSSET_CALL_RUNNING(widenInSet(from, n, to))
}

/// Rows [first, first + count) of w, to which w.cols() apart.
template <class Matrix>
void floatRowsInto(const Matrix& w, Index first, Index count, float* to) {
  if constexpr (kInMemory<Matrix> && StorageScalar<typename Matrix::Scalar>) {
    const auto lines = strided(w.derived());
    const auto* from = lines.data + first * lines.down;
    if (lines.right == 1) {
      for (Index row = 0; row < count; ++row) widenInto(from + row * lines.down, lines.cols, to + row * lines.cols);
      return;
    }
    if (lines.down == 1) return transposeInto(from, lines.cols, count, lines.right, to, lines.cols);
  }
  Eigen::Map<RowMatrixXf>(to, count, w.cols()) = w.middleRows(first, count).template cast<float>();
}
template <class Matrix>
RowMatrixXf floatRows(const Matrix& w, Index first, Index count) {
  RowMatrixXf rows(count, w.cols());
  floatRowsInto(w, first, count, rows.data());
  return rows;
}

}  // namespace gosset::GOSSET_ABI::detail
