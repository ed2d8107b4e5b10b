// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/kernel/kernels.hpp>

// y += W^T x from packed codes, as formats call it.
namespace gosset::GOSSET_ABI::detail {

/// y += unit * W^T x by the faster of the two. On all machines that take integers the results are the same; in floats
/// they are on all that multiply and add at once (kHasFma). Allocates nothing.
template <TileCodebook C, class T, int kPieces>
void addTransposed(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens, Index x_stride,
                   float* y, Index y_stride) {
  if constexpr (kInAllSets<C>) {
    GOSSET_CALL_RUNNING(addTransposedInSet(w, n, unit, x, tokens, x_stride, y, y_stride))
  } else {
    addTransposedInSet(w, n, unit, x, tokens, x_stride, y, y_stride);
  }
}

/// The same with x' rounded to one byte or two (kRoundedDigits), where the codes have such products on this machine;
/// false, and nothing done, where they have none. The same bits on every machine that has.
template <TileCodebook C, class T, int kPieces>
bool addTransposedRounded(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                          Index x_stride, float* y, Index y_stride) {
  if constexpr (kInAllSets<C>) {
    GOSSET_CALL_RUNNING(addTransposedRoundedInSet(w, n, unit, x, tokens, x_stride, y, y_stride))
  } else {
    return addTransposedRoundedInSet(w, n, unit, x, tokens, x_stride, y, y_stride);
  }
}

}  // namespace gosset::GOSSET_ABI::detail
