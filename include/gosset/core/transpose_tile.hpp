// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

// The kernels of transpose.hpp and float_rows.hpp.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// to (cols x rows, rows `to_stride` apart) = the transpose of from (rows x cols, rows `stride` apart), in floats; in
/// squares that registers hold: each line of memory is read once, however far apart rows lie.
template <class T>
void transposeInSet(const T* from, Index rows, Index cols, Index stride, float* to, Index to_stride) {
  constexpr Index kSide = simd::kWordLanes;
  const Index whole_rows = rows / kSide * kSide, whole_cols = cols / kSide * kSide;
  for (Index row = 0; row < whole_rows; row += kSide) {
    for (Index col = 0; col < whole_cols; col += kSide) {
      simd::Floats square[kSide];
      for (Index i = 0; i < kSide; ++i) square[i] = simd::widen(from + (row + i) * stride + col);
      simd::transpose(square);
      for (Index i = 0; i < kSide; ++i) simd::store(to + (col + i) * to_stride + row, square[i]);
    }
  }
  const auto one = [&](Index row, Index col) {
    to[col * to_stride + row] = static_cast<float>(from[row * stride + col]);
  };
  for (Index row = 0; row < rows; ++row) {
    for (Index col = row < whole_rows ? whole_cols : 0; col < cols; ++col) one(row, col);
  }
}

/// n numbers as floats.
template <class T>
void widenInSet(const T* from, Index n, float* to) {
  Index i = 0;
  for (; i + simd::kWordLanes <= n; i += simd::kWordLanes) simd::store(to + i, simd::widen(from + i));
  for (; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
