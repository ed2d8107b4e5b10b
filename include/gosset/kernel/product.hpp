// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/activations.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/kernels.hpp>

#include <cstdint>

// Products from packed codes, as formats call them, by the kernels of the instruction set that runs.
namespace gosset::GOSSET_ABI::detail {

/// y (m x t, columns y_stride apart) = W x, x being n x t, its columns x_stride apart.
template <TileCodebook C, class T, int kPieces>
void multiplyCodes(const CodeView<C, T, kPieces>& w, Activations activations, const float* x, Index n, Index tokens,
                   Index x_stride, float* y, Index y_stride) {
  if constexpr (kInAllSets<C>) {
    GOSSET_CALL_RUNNING(multiplyCodesInSet(w, activations, x, n, tokens, x_stride, y, y_stride))
  } else {
    multiplyCodesInSet(w, activations, x, n, tokens, x_stride, y, y_stride);
  }
}

/// The numbers of a block, rows `stride` apart: rowsOf(block) rows of n.
template <TileCodebook C, class T, int kPieces>
void decodeBlock(const CodeView<C, T, kPieces>& w, Index block, Index n, float* out, Index stride) {
  if constexpr (kInAllSets<C>) {
    GOSSET_CALL_RUNNING(decodeBlockInSet(w, block, n, out, stride))
  } else {
    decodeBlockInSet(w, block, n, out, stride);
  }
}

}  // namespace gosset::GOSSET_ABI::detail
