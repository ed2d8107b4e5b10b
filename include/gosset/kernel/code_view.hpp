// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/kernel/layout.hpp>

#include <cstdint>

namespace gosset::GOSSET_ABI::detail {

/// A packed matrix as kernels see it; the arrays are layout.hpp's. Tiles are cut into kPieces, each of them in one
/// group (piecesOf() in tile_code.hpp).
template <Codebook C, class T, int kPieces = 1>
struct CodeView {
  TileLayout<C> layout;
  const std::uint8_t* codes;
  const T* scales;
  const T* zeros;       ///< null for codebooks without zero points
  bool one_scale;       ///< one scale for the whole matrix, instead of one for each row and group
  Index group_columns;  ///< columns in a group
  Index groups;         ///< in a row

  /// Tiles in a group.
  Index groupTiles() const requires(kPieces == 1) { return ceilDiv(group_columns, TileLayout<C>::kTileColumns); }
};

/// What a block takes, in multiply-adds for one token of floats.
template <Codebook C>
Index blockWork(const TileLayout<C>& layout) {
  return kBlockRows * TileLayout<C>::kTileColumns * layout.tiles() / 8;
}

}  // namespace gosset::GOSSET_ABI::detail
