// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

namespace gosset::GOSSET_ABI::detail {

/// to (cols x rows, rows `to_stride` apart) = the transpose of from (rows x cols, rows `stride` apart), in squares that
/// registers hold: each line of memory is read once, however far apart rows lie.
inline void transposeInto(const float* from, Index rows, Index cols, Index stride, float* to, Index to_stride) {
  using Floats = simd::Vec<float>;
  constexpr Index kSide = simd::kLanes<float>;
  const Index whole_rows = rows / kSide * kSide, whole_cols = cols / kSide * kSide;
  for (Index row = 0; row < whole_rows; row += kSide) {
    for (Index col = 0; col < whole_cols; col += kSide) {
      Floats square[kSide];
      for (Index i = 0; i < kSide; ++i) square[i] = simd::load<Floats>(from + (row + i) * stride + col);
      simd::transpose(square);
      for (Index i = 0; i < kSide; ++i) simd::store(to + (col + i) * to_stride + row, square[i]);
    }
  }
  const auto one = [&](Index row, Index col) { to[col * to_stride + row] = from[row * stride + col]; };
  for (Index row = 0; row < rows; ++row) {
    for (Index col = row < whole_rows ? whole_cols : 0; col < cols; ++col) one(row, col);
  }
}

}  // namespace gosset::GOSSET_ABI::detail
