// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kernel/tile_code.hpp>
#include <gosset/kernel/transposed_float.hpp>
#include <gosset/kernel/transposed_integer.hpp>
#include <gosset/kernel/view.hpp>

// y += W^T x from packed codes, as formats call it.
namespace gosset::detail {

/// Whether sums of integers are at least about as fast as floats.
#if defined(__AVX2__)
inline constexpr bool kTransposesIntegers = true;
#else
inline constexpr bool kTransposesIntegers = simd::kHasDot;
#endif

/// y += unit * W^T x, in integers where the codes allow it and the machine has the instructions. Allocates nothing.
template <TileCodebook C, class T>
void addTransposed(const CodeView<C, T>& w, Index n, float unit, const float* x, Index tokens, Index x_stride, float* y,
                   Index y_stride) {
  if constexpr (TileCode<C>::kExact && kTransposesIntegers) {
    addTransposedInteger(w, n, unit, x, tokens, x_stride, y, y_stride);
  } else {
    addTransposedFloat(w, n, unit, x, tokens, x_stride, y, y_stride);
  }
}

}  // namespace gosset::detail
