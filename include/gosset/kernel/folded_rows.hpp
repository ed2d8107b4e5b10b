// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>

// y += W^T x from packed codes, for a few columns of x. The 16 rows of a block stand in the lanes of a register, so
// scales go into x: with x'_i = scale_i x_i for the rows i of a group of columns,
//
//   sum_i scale_i (level_ij - zero_i) x_i  =  sum_i level_ij x'_i  -  sum_i zero_i x'_i,
//
// the last of which is the same for all columns of the group. A few columns of W at a time are decoded, down all rows,
// and meet all columns of x; what the lanes have summed up is added together once, at the end.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// x' = scale * x for the rows of `count` blocks from `first` on and kTokens columns of x, whose rows begin there:
/// calls visit(block, token, part, x', zero) for each register of rows; rows that do not exist are 0.
template <int kTokens, Codebook C, class T, int kPieces, class Visit>
[[gnu::always_inline]] inline void forFoldedRows(const CodeView<C, T, kPieces>& w, Index first, Index count,
                                                 Index group, const float* x, Index x_stride, const Visit& visit) {
  // What is read next: the cache line with the next groups of a block, else the next blocks.
  constexpr Index kAhead = 64 / (kBlockRows * static_cast<Index>(sizeof(T))) + 1;
  const Index ahead = (group + kAhead < w.groups ? kAhead : count * w.groups) * kBlockRows;
  float last[kTokens][kBlockRows];
  for (Index b = 0; b < count; ++b) {
    BlockFloats scale, zero = {};
    const Index at = w.layout.scaleAt(first + b, group, w.groups) + ahead;
    loadGroup(w, w.scales, first + b, group, scale);
    simd::prefetch(w.scales + at);
    if (w.zeros != nullptr) {
      loadGroup(w, w.zeros, first + b, group, zero);
      simd::prefetch(w.zeros + at);
    }
    const float* from = x + b * kBlockRows;
    Index stride = x_stride;
    if (const Index rows = w.layout.rowsOf(first + b); rows < kBlockRows) {
      for (int k = 0; k < kTokens; ++k) std::fill(std::copy_n(from + k * x_stride, rows, last[k]), last[k + 1], 0.f);
      from = last[0];
      stride = kBlockRows;
    }
    simd::unroll<kTokens>([&](auto k) __attribute__((always_inline)) {
      simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
        visit(b, k, p, simd::load<simd::Floats>(from + k * stride + p * simd::kWordLanes) * scale[p], zero[p]);
      });
    });
  }
}

/// Calls visit(tile, from, to) for each tile that has columns of a group: those from `from` to before `to` of the tile.
/// W has n columns.
template <Codebook C, class T, int kPieces, class Visit>
[[gnu::always_inline]] inline void forTilesOfGroup(const CodeView<C, T, kPieces>& w, Index group, Index n,
                                                   const Visit& visit) {
  constexpr Index kColumns = TileLayout<C>::kTileColumns;
  const Index first = group * w.group_columns, end = std::min(first + w.group_columns, n);
  for (Index tile = first / kColumns; tile * kColumns < end; ++tile) {
    const Index from = kPieces == 1 ? 0 : std::max<Index>(first - tile * kColumns, 0);
    visit(tile, from, std::min(end - tile * kColumns, kColumns));
  }
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
