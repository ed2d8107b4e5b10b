// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

namespace gosset::GOSSET_ABI::detail {

/// A matrix whose entry (i, j) stands at data[i * down + j * right].
template <class T>
struct Strided {
  const T* data;
  Index rows, cols, down, right;

  Strided transpose() const { return {data, cols, rows, right, down}; }
  Strided block(Index row, Index col, Index count, Index width) const {
    return {data + row * down + col * right, count, width, down, right};
  }
};

/// A matrix of Eigen's as it lies in memory.
template <class Matrix>
Strided<typename Matrix::Scalar> strided(const Matrix& m) {
  return {m.data(), m.rows(), m.cols(), m.rowStride(), m.colStride()};
}

}  // namespace gosset::GOSSET_ABI::detail
