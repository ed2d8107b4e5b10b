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

/// The scales and zero points of a block's group and x of its rows, filled up with zeros: of a block of fewer rows, or
/// of a matrix with one scale.
template <int kTokens, class T>
struct FilledRows {
  T scales[kBlockRows] = {}, zeros[kBlockRows] = {};
  float x[kTokens][kBlockRows] = {};

  template <Codebook C, int kPieces>
  [[gnu::noinline]] void fill(const CodeView<C, T, kPieces>& w, Index block, Index group, const float* rows,
                              Index x_stride) {
    const Index count = w.layout.rowsOf(block), at = w.layout.scaleAt(block, group, w.groups);
    *this = FilledRows();
    for (Index i = 0; i < count; ++i) {
      scales[i] = w.scales[w.one_scale ? 0 : at + i];
      if (w.zeros != nullptr) zeros[i] = w.zeros[w.one_scale ? 0 : at + i];
      for (int k = 0; k < kTokens; ++k) x[k][i] = rows[k * x_stride + i];
    }
  }
};

/// x' = scale * x for the rows of `count` blocks from `first` on and kTokens columns of x, whose rows begin there:
/// calls visit(block, token, part, x', zero) for each register of rows; rows that do not exist are 0.
template <int kTokens, Codebook C, class T, int kPieces, class Visit>
[[gnu::always_inline]] inline void forFoldedRows(const CodeView<C, T, kPieces>& w, Index first, Index count,
                                                 Index group, const float* x, Index x_stride, const Visit& visit) {
  // What is read next: the cache line with the next groups of a block, else the next blocks.
  constexpr Index kAhead = 64 / (kBlockRows * static_cast<Index>(sizeof(T))) + 1;
  const Index ahead = (group + kAhead < w.groups ? kAhead : count * w.groups) * kBlockRows;
  const Index whole = w.one_scale ? 0 : std::min(count, w.layout.rows() / kBlockRows - first);
  const Index start = w.one_scale ? 0 : w.layout.scaleAt(first, 0, w.groups) + group * kBlockRows;
  const T* block_scales = w.scales + start;
  const T* block_zeros = w.zeros != nullptr ? w.zeros + start : nullptr;
  FilledRows<kTokens, T> last;
  for (Index b = 0; b < count; ++b) {
    const Index at = b * w.groups * kBlockRows;
    const T* scales = block_scales + at;
    const T* zeros = block_zeros + (block_zeros != nullptr ? at : 0);
    const float* rows = x + b * kBlockRows;
    Index stride = x_stride;
    if (b < whole) [[likely]] {
      simd::prefetch(scales + ahead);
      if (zeros != nullptr) simd::prefetch(zeros + ahead);
    } else {
      last.fill(w, first + b, group, rows, x_stride);
      scales = last.scales;
      if (zeros != nullptr) zeros = last.zeros;
      rows = last.x[0];
      stride = kBlockRows;
    }
    simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
      constexpr int kFirst = p * simd::kWordLanes;
      const simd::Floats scale = simd::widen(scales + kFirst);
      const simd::Floats zero = zeros != nullptr ? simd::widen(zeros + kFirst) : simd::Floats{};
      simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
        visit(b, k, p, simd::load<simd::Floats>(rows + k * stride + kFirst) * scale, zero);
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
