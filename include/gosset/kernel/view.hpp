// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

// A packed matrix as kernels see it, block of 16 rows by block, tile by tile.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Registers that hold a number for each row of a block.
inline constexpr int kParts = static_cast<int>(kBlockRows) / simd::kWordLanes;
struct BlockFloats {
  simd::Floats part[kParts];
  [[gnu::always_inline]] simd::Floats& operator[](int p) { return part[p]; }
  [[gnu::always_inline]] const simd::Floats& operator[](int p) const { return part[p]; }
};

/// A tile at the edge of the matrix, copied and filled up.
template <Codebook C>
class TileCopy {
 public:
  typename TileLayout<C>::TileAt fill(const TileLayout<C>& layout, const std::uint8_t* codes, Index block, Index tile) {
    layout.copyTile(codes, block, tile, bytes_);
    return bytes_;
  }

 private:
  alignas(64) std::uint8_t bytes_[TileLayout<C>::kTileBytes];
};

/// Tiles of a block one after the other, each whole.
template <Codebook C>
class TileReader {
 public:
  /// How far ahead a cache line is asked for: hardware alone does not hide the latency of DRAM. Measured best: of 24 to
  /// 192 lines, 48 up to 4 bits; at 8 bits 192, which L1 would lose before they are read.
  static constexpr bool kToL2 = TileLayout<C>::kTileBundles >= 8;
  static constexpr Index kAhead = (kToL2 ? 192 : 48) * kBundleBytes;

  TileReader(const TileLayout<C>& layout, const std::uint8_t* codes, Index block)
      : layout_(layout),
        codes_(codes),
        block_(block),
        whole_(layout.wholeTiles(block)),
        first_(codes + layout.at(block, 0)) {}

  [[gnu::always_inline]] const std::uint8_t* operator[](Index tile) {
    if (tile >= whole_) return copy_.fill(layout_, codes_, block_, tile);
    const std::uint8_t* p = first_ + tile * TileLayout<C>::kTileBytes;
    simd::unroll<TileLayout<C>::kTileBundles>([&](int i) __attribute__((always_inline)) {
      const std::uint8_t* line = p + kAhead + i * kBundleBytes;
      if constexpr (kToL2) {
        simd::prefetchToL2(line);
      } else {
        simd::prefetch(line);
      }
    });
    return p;
  }

 private:
  const TileLayout<C>& layout_;
  const std::uint8_t* codes_;
  Index block_, whole_;
  const std::uint8_t* first_;
  TileCopy<C> copy_;
};

/// The scales (or zero points) of a block's groups, one for each row.
template <class T>
class GroupReader {
 public:
  template <Codebook C, int kPieces>
  [[gnu::always_inline]] GroupReader(const CodeView<C, T, kPieces>& w, const T* stream, Index block)
      : rows_(w.one_scale ? 0 : w.layout.rowsOf(block)),
        first_(w.one_scale || stream == nullptr ? stream : stream + w.layout.scaleAt(block, 0, w.groups)) {}

  [[gnu::always_inline]] void load(Index group, BlockFloats& out) const {
    if (rows_ < kBlockRows) [[unlikely]]
      return loadFew(group, out);
    const T* from = first_ + group * kBlockRows;
    simd::unroll<kParts>([&](int p)
                             __attribute__((always_inline)) { out[p] = simd::widen(from + p * simd::kWordLanes); });
  }

 private:
  /// Of the last block, which has fewer rows, or of a matrix with one scale.
  [[gnu::noinline]] void loadFew(Index group, BlockFloats& out) const {
    T copy[kBlockRows] = {};
    if (rows_ == 0) std::fill_n(copy, kBlockRows, *first_);
    std::copy_n(first_ + group * rows_, rows_, copy);
    simd::unroll<kParts>([&](int p)
                             __attribute__((always_inline)) { out[p] = simd::widen(copy + p * simd::kWordLanes); });
  }

  Index rows_;
  const T* first_;
};
template <Codebook C, class T, int kPieces>
GroupReader(const CodeView<C, T, kPieces>&, const T*, Index) -> GroupReader<T>;

template <Codebook C, class T, int kPieces>
[[gnu::always_inline]] inline void loadGroup(const CodeView<C, T, kPieces>& w, const T* stream, Index block,
                                             Index group, BlockFloats& out) {
  GroupReader(w, stream, block).load(group, out);
}

/// Ends a group: adds what its columns summed up to, less what zero points stand for, times its scale to the total, and
/// begins with the next. group_sums: of the activations, group after group; null where there are no zero points.
template <class T>
[[gnu::always_inline]] inline void closeGroup(const GroupReader<T>& scales, const GroupReader<T>& zeros, Index group,
                                              const float* group_sums, BlockFloats& sum, BlockFloats& total) {
  BlockFloats scale;
  scales.load(group, scale);
  if (group_sums != nullptr) {
    BlockFloats zero;
    zeros.load(group, zero);
    simd::unroll<kParts>([&](int p)
                             __attribute__((always_inline)) { sum[p] -= simd::unfused(zero[p] * group_sums[group]); });
  }
  simd::unroll<kParts>([&](int p) __attribute__((always_inline)) { total[p] += simd::unfused(sum[p] * scale[p]); });
  sum = {};
}

/// Scales and zero points of a tile's columns, piece by piece; of groups that end anywhere, column by column.
template <TileCodebook C, int kPieces>
struct TileScales {
  static constexpr int kCount = kPieces == 0 ? static_cast<int>(kTileColumns<C>) : kPieces;
  static constexpr Index kWidth = kTileColumns<C> / kCount;
  BlockFloats scales[kCount], zeros[kCount];

  template <class T>
  [[gnu::always_inline]] TileScales(const CodeView<C, T, kPieces>& w, Index block, Index tile) {
    const Index first = tile * kTileColumns<C>;
    Index group = first / w.group_columns, end = (group + 1) * w.group_columns;
    for (int i = 0; i < kCount; ++i) {
      const bool same = i > 0 && first + i * kWidth < end;
      if (i > 0 && !same) ++group, end += w.group_columns;
      if (same || group >= w.groups) {  // behind the last group only padding is left
        scales[i] = i > 0 ? scales[i - 1] : BlockFloats{};
        zeros[i] = i > 0 ? zeros[i - 1] : BlockFloats{};
        continue;
      }
      loadGroup(w, w.scales, block, group, scales[i]);
      zeros[i] = {};
      if (w.zeros != nullptr) loadGroup(w, w.zeros, block, group, zeros[i]);
    }
  }

  /// The number of a column whose level is known.
  [[gnu::always_inline]] simd::Floats number(Index column, int part, simd::Floats level) const {
    const Index piece = column / kWidth;
    return scales[piece][part] * (level - zeros[piece][part]);
  }
};

/// Calls visit(column, part, numbers) for the numbers of a tile, scale * (level - zero), column by column.
template <TileCodebook C, class T, int kPieces, class Visit>
[[gnu::always_inline]] inline void forNumbers(const CodeView<C, T, kPieces>& w, TileReader<C>& tiles, Index block,
                                              Index tile, const Visit& visit) {
  const TileScales<C, kPieces> scales(w, block, tile);
  const auto bytes = tiles[tile];
  simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
    TileCode<C>::levels(
        bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level) __attribute__((always_inline)) {
          visit(column, p, scales.number(column, p, level));
        });
  });
}

/// The numbers of a tile: kTileColumns of them.
template <TileCodebook C, class T, int kPieces>
void decodeTile(const CodeView<C, T, kPieces>& w, TileReader<C>& tiles, Index block, Index tile, BlockFloats* columns) {
  forNumbers(
      w, tiles, block, tile, [&](auto column, auto part, simd::Floats number) __attribute__((always_inline)) {
        columns[column][part] = number;
      });
}

/// Tokens that a register of weights meets before the next is loaded.
inline constexpr int kTokens = simd::kVectorRegisters >= 32 ? 8 : 4;

/// Calls visit(first, count) for all tokens, count a compile-time constant: kTokens at a time, then 4, 2 and 1.
template <int kCount = kTokens, class Visit>
[[gnu::always_inline]] inline void forTokens(Index first, Index tokens, const Visit& visit) {
  for (; first + kCount <= tokens; first += kCount) visit(first, std::integral_constant<int, kCount>{});
  if constexpr (kCount > 1) forTokens<kCount / 2>(first, tokens, visit);
}

/// Writes a number for each row of the block.
[[gnu::always_inline]] inline void storeBlock(const BlockFloats& sums, Index rows, float* y) {
  float all[kBlockRows];
  simd::unroll<kParts>([&](int p) __attribute__((always_inline)) { simd::store(all + p * simd::kWordLanes, sums[p]); });
  std::copy(all, all + rows, y);
}

/// Writes such numbers of all tokens: y (m x t, column-major, columns y_stride apart).
template <Codebook C>
void storeBlocks(const std::vector<BlockFloats>& totals, const TileLayout<C>& layout, Index block, float* y,
                 Index y_stride) {
  float* target = y + block * kBlockRows;
  for (const BlockFloats& total : totals) {
    storeBlock(total, layout.rowsOf(block), target);
    target += y_stride;
  }
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
