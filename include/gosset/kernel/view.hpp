// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/scalar_tile.hpp>
#include <gosset/kernel/tile_code.hpp>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

// A packed matrix as kernels see it, block of 16 rows by block, tile by tile.
namespace gosset::detail {

/// A packed matrix as kernels see it; the arrays are layout.hpp's.
template <Codebook C, class T>
struct CodeView {
  TileLayout<C> layout;
  const std::uint8_t* codes;
  const T* scales;
  const T* zeros;     ///< null for codebooks without zero points
  bool one_scale;     ///< one scale for the whole matrix, instead of one for each row and group
  Index group_tiles;  ///< tiles in a group
  Index groups;       ///< in a row
};

/// What a block takes, in multiply-adds for one token of floats.
template <Codebook C>
Index blockWork(const TileLayout<C>& layout) {
  return kBlockRows * TileLayout<C>::kTileColumns * layout.tiles() / 8;
}

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
  /// 192 lines, 48 up to 4 bits, 192 at 8 bits.
  static constexpr Index kAhead = (TileLayout<C>::kTileBundles < 8 ? 48 : 192) * kBundleBytes;

  TileReader(const TileLayout<C>& layout, const std::uint8_t* codes, Index block)
      : layout_(layout),
        codes_(codes),
        block_(block),
        whole_(layout.wholeTiles(block)),
        first_(codes + layout.at(block, 0)) {}

  [[gnu::always_inline]] const std::uint8_t* operator[](Index tile) {
    if (tile >= whole_) return copy_.fill(layout_, codes_, block_, tile);
    const std::uint8_t* p = first_ + tile * TileLayout<C>::kTileBytes;
    simd::unroll<TileLayout<C>::kTileBundles>([&](auto i) __attribute__((always_inline)) {
      simd::prefetch(p + kAhead + i * kBundleBytes);
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

/// The scales (or zero points) of a group, one for each row of the block.
template <Codebook C, class T>
[[gnu::always_inline]] inline void loadGroup(const CodeView<C, T>& w, const T* stream, Index block, Index group,
                                             BlockFloats& out) {
  if (w.one_scale) {
    simd::unroll<kParts>([&](auto p) { out[p] = simd::splat<simd::Floats>(static_cast<float>(stream[group])); });
    return;
  }
  const Index rows = w.layout.rowsOf(block);
  const T* from = stream + w.layout.scaleAt(block, group, w.groups);
  T copy[kBlockRows] = {};
  if (rows < kBlockRows) from = std::copy(from, from + rows, copy) - rows;
  simd::unroll<kParts>([&](auto p) { out[p] = simd::widen(from + p * simd::kWordLanes); });
}

/// The numbers of a tile, scale * (level - zero), column by column: kTileColumns of them.
template <TileCodebook C, class T>
void decodeTile(const CodeView<C, T>& w, TileReader<C>& tiles, Index block, Index tile, BlockFloats* columns) {
  BlockFloats scale, zero = {};
  loadGroup(w, w.scales, block, tile / w.group_tiles, scale);
  if (w.zeros != nullptr) loadGroup(w, w.zeros, block, tile / w.group_tiles, zero);
  const auto bytes = tiles[tile];
  simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
    TileCode<C>::levels(
        bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level) __attribute__((always_inline)) {
          columns[column][p] = scale[p] * (level - zero[p]);
        });
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
  simd::unroll<kParts>([&](auto p) { simd::store(all + p * simd::kWordLanes, sums[p]); });
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

}  // namespace gosset::detail
