// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/aligned.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

// The layout of packed codes, made for products. Rows stand in blocks of 16, a row's codes in tiles of 32 (of 4, where
// a code of whole bytes stands for 8 numbers): so a tile is 16 x 32 numbers, or 16 x 32 d where a code stands for d.
// Its codes are cut into planes of 8, 4, 2 and 1 bits, from the lowest bits up: 3 bits are planes of 2 and 1, an E8P
// code of 16 bits is two planes of 8.
//
//   codes    block 0                           block 1    ...      16 rows each, the last block fewer
//   block    tile 0 | tile 1 | ...                                 32 codes each, the last tile fewer
//   tile     plane of the low bits | plane of the next | ...
//   plane    bundle 0 | bundle 1 | ...
//   bundle   64 bytes: lane 0 | lane 1 | .. | lane 15              4 bytes for each row: one 32-bit lane of a register
//   lane     byte 0     byte 1     byte 2     byte 3               4 codes next to each other, a field of p bits each
//            [c8 c4 c0] [c9 c5 c1] ...                             and in the next field the 4 codes after them
//
// In a plane of p bits code i of a tile lies in bundle i / (32/p), and there, with c = i mod (32/p), in byte c mod 4 at
// bit p (c / 4). So a shift and a mask of a whole register give 4 columns of 16 rows, which is what the instructions
// for dot products of bytes take. A bundle of p = 2, the numbers in the lanes being columns:
//
//   bit      7 6   5 4   3 2   1 0
//   byte 0   12    8     4     0
//   byte 1   13    9     5     1
//   byte 2   14    10    6     2
//   byte 3   15    11    7     3
//
// Where fewer codes are left than fill a bundle, fewer bundles are kept; of the last one a row keeps as many bytes as
// it has codes, at most 4. A block of fewer rows has fewer lanes. So a row takes, summed over its planes,
//
//   4 floor(k p / 32) + min(4, codes left)  bytes,
//
// k being its codes: never more than 3 bytes a plane above k b / 8. Bits that belong to no code are zero.
//
// Scales and zero points have streams of their own: block after block, group after group, one for each row of the
// block.
namespace gosset::GOSSET_ABI::detail {

inline constexpr Index kBlockRows = 16;
inline constexpr Index kSliceColumns = 32;  ///< tiles meet activations in slices of so many columns
inline constexpr Index kBundleBytes = 64;

/// A plane: kBits of each code, from bit kShift on.
struct Plane {
  int bits;
  int shift;
};

/// Where the codes of a rows x cols matrix stand, in the codebook's own units: `codes` in a row.
template <Codebook C>
class TileLayout {
 public:
  static constexpr int kBits = C::kBits;
  static constexpr int kPlanes = kBits / 8 + (kBits % 8 >= 4) + (kBits % 4 >= 2) + kBits % 2;
  static constexpr std::array<Plane, kPlanes> kPlane = [] {
    std::array<Plane, kPlanes> planes{};
    int shift = 0;
    for (Plane& plane : planes) {
      const int left = kBits - shift;
      plane = {left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1, shift};
      shift += plane.bits;
    }
    return planes;
  }();
  static constexpr Index kTileCodes = C::kDim == 8 && kBits % 8 == 0 ? 4 : 32;
  static constexpr Index kTileColumns = kTileCodes * C::kDim;
  static constexpr Index kTileBundles = kTileCodes * kBits / 32;
  static constexpr Index kTileBytes = kTileBundles * kBundleBytes;

  /// A tile as kernels take it.
  using TileAt = const std::uint8_t*;

  TileLayout(Index rows, Index codes) : rows_(rows), codes_(codes), row_bytes_(0) {
    for (const Plane& plane : kPlane) row_bytes_ += planeBytes(codes, plane.bits);
  }

  Index rows() const { return rows_; }
  Index codes() const { return codes_; }
  Index blocks() const { return ceilDiv(rows_, kBlockRows); }
  Index tiles() const { return ceilDiv(codes_, kTileCodes); }
  Index wholeTiles() const { return codes_ / kTileCodes; }
  Index rowBytes() const { return row_bytes_; }
  Index bytes() const { return rows_ * row_bytes_; }

  Index rowsOf(Index block) const { return std::min(kBlockRows, rows_ - block * kBlockRows); }
  Index codesOf(Index tile) const { return std::min(kTileCodes, codes_ - tile * kTileCodes); }
  /// Where a tile begins.
  Index at(Index block, Index tile) const {
    return block * kBlockRows * row_bytes_ + rowsOf(block) * tile * (kTileBytes / kBlockRows);
  }
  /// Where the scale of a group begins, `groups` in a row: one for each row of the block.
  Index scaleAt(Index block, Index group, Index groups) const {
    return block * kBlockRows * groups + group * rowsOf(block);
  }

  /// `count` rows from a block on; codes are those from there on, then.
  TileLayout part(Index /*first_block*/, Index count) const { return {count, codes_}; }

  TileAt tile(const std::uint8_t* codes, Index block, Index tile) const { return codes + at(block, tile); }
  /// How many tiles of a block, from its first on, can be read where they stand.
  Index wholeTiles(Index block) const { return rowsOf(block) == kBlockRows ? wholeTiles() : 0; }

  /// What the tiles of a block have in common.
  struct Block {
    Index block, whole;  ///< wholeTiles(block)
  };
  Block block(Index number) const { return {number, wholeTiles(number)}; }
  TileAt tile(const std::uint8_t* codes, const Block& of, Index number) const { return tile(codes, of.block, number); }

  /// Reads a tile as if it were whole: kTileBytes, rows and columns that do not exist being zero.
  void copyTile(const std::uint8_t* bytes, Index block, Index tile, std::uint8_t* whole) const {
    std::memset(whole, 0, kTileBytes);
    forLanes(block, tile, [&](Index offset, Index size, Index target) {
      std::memcpy(whole + target, bytes + offset, static_cast<std::size_t>(size));
    });
  }

  /// Writes the codes of a block from a whole tile on: rowsOf(block) x codes() in all, rows `stride` apart.
  template <class Code>
  void packBlock(const Code* codes, Index stride, Index block, std::uint8_t* bytes, Index first_tile = 0) const {
    for (Index tile = first_tile; tile < wholeTiles(); ++tile) {
      for (Index row = 0; row < rowsOf(block); ++row) {
        packLanes(codes + row * stride + tile * kTileCodes, bytes + at(block, tile) + 4 * row, 4 * rowsOf(block));
      }
    }
    for (Index tile = wholeTiles(); tile < tiles(); ++tile) {
      std::uint8_t whole[kTileBytes] = {};
      for (Index row = 0; row < rowsOf(block); ++row) {
        for (Index i = 0; i < codesOf(tile); ++i) putCode(codes[row * stride + tile * kTileCodes + i], row, i, whole);
      }
      forLanes(block, tile, [&](Index offset, Index size, Index target) {
        std::memcpy(bytes + offset, whole + target, static_cast<std::size_t>(size));
      });
    }
  }

  /// Reads what packBlock wrote.
  template <class Code>
  void unpackBlock(const std::uint8_t* bytes, Index block, Code* codes, Index stride) const {
    for (Index tile = 0; tile < wholeTiles(); ++tile) {
      for (Index row = 0; row < rowsOf(block); ++row) {
        unpackLanes(bytes + at(block, tile) + 4 * row, 4 * rowsOf(block), codes + row * stride + tile * kTileCodes);
      }
    }
    for (Index tile = wholeTiles(); tile < tiles(); ++tile) {
      std::uint8_t whole[kTileBytes];
      copyTile(bytes, block, tile, whole);
      for (Index row = 0; row < rowsOf(block); ++row) {
        for (Index i = 0; i < codesOf(tile); ++i) {
          codes[row * stride + tile * kTileCodes + i] = static_cast<Code>(getCode(whole, row, i));
        }
      }
    }
  }

  /// The codes of a row of a whole tile.
  template <class Code>
  static void unpackRow(const std::uint8_t* whole, Index row, Code* codes) {
    unpackLanes(whole + 4 * row, kBundleBytes, codes);
  }

  /// Whether the bits that belong to no code are zero, as packBlock leaves them. Looks at no more than each row's end.
  bool isPaddingZero(const std::uint8_t* bytes) const {
    const auto isShared = [this](const Plane& plane) { return plane.bits < 8 && codes_ % (32 / plane.bits) != 0; };
    if (std::none_of(kPlane.begin(), kPlane.end(), isShared)) return true;
    std::uint8_t used[kTileBytes] = {}, whole[kTileBytes];
    for (Index row = 0; row < kBlockRows; ++row) {
      for (Index i = 0; i < codesOf(tiles() - 1); ++i) putCode(~0u, row, i, used);
    }
    for (Index block = 0; block < blocks(); ++block) {
      copyTile(bytes, block, tiles() - 1, whole);
      for (Index i = 0; i < kTileBytes; ++i) {
        if ((whole[i] & ~used[i]) != 0) return false;
      }
    }
    return true;
  }

  /// The code of `row` and column i of a whole tile: the definition that every decoder is held to.
  static std::uint32_t getCode(const std::uint8_t* whole, Index row, Index i) {
    std::uint32_t code = 0;
    Index bundle = 0;
    for (const Plane& plane : kPlane) {
      const Index c = i % (32 / plane.bits), byte = (bundle + i / (32 / plane.bits)) * kBundleBytes + 4 * row + c % 4;
      const std::uint32_t field = static_cast<std::uint32_t>(whole[byte]) >> (plane.bits * (c / 4));
      code |= (field & ((1u << plane.bits) - 1)) << plane.shift;
      bundle += kTileCodes * plane.bits / 32;
    }
    return code;
  }

  static void putCode(std::uint32_t code, Index row, Index i, std::uint8_t* whole) {
    Index bundle = 0;
    for (const Plane& plane : kPlane) {
      const Index c = i % (32 / plane.bits), byte = (bundle + i / (32 / plane.bits)) * kBundleBytes + 4 * row + c % 4;
      const std::uint32_t field = (code >> plane.shift) & ((1u << plane.bits) - 1);
      whole[byte] = static_cast<std::uint8_t>(whole[byte] | (field << (plane.bits * (c / 4))));
      bundle += kTileCodes * plane.bits / 32;
    }
  }

 private:
  /// The 4 codes of a byte position in all fields of a lane: bits [shift, shift + width of mask) of each, in a byte
  /// each.
  template <class Code>
  static std::uint32_t fieldsOf(const Code* codes, int shift, std::uint32_t mask) {
    if constexpr (sizeof(Code) == 1) {
      std::uint32_t four;
      std::memcpy(&four, codes, 4);
      return (four >> shift) & (mask * 0x01010101u);
    } else {
      std::uint32_t four = 0;
      for (int k = 0; k < 4; ++k) four |= ((static_cast<std::uint32_t>(codes[k]) >> shift) & mask) << (8 * k);
      return four;
    }
  }

  /// A row of a whole tile, a lane at a time; the row's lanes are `step` bytes apart. What putCode says, quickly.
  template <class Code>
  static void packLanes(const Code* codes, std::uint8_t* lane, Index step) {
    for (const Plane& plane : kPlane) {
      const std::uint32_t mask = (1u << plane.bits) - 1;
      for (Index first = 0; first < kTileCodes; first += 32 / plane.bits, lane += step) {
        std::uint32_t fields = 0;
        for (int f = 0; f < 8 / plane.bits; ++f) {
          fields |= fieldsOf(codes + first + 4 * f, plane.shift, mask) << (plane.bits * f);
        }
        std::memcpy(lane, &fields, 4);
      }
    }
  }

  /// The inverse: what getCode says.
  template <class Code>
  static void unpackLanes(const std::uint8_t* lane, Index step, Code* codes) {
    if constexpr (kBits == 8 && sizeof(Code) == 1) {
      for (Index first = 0; first < kTileCodes; first += 4, lane += step) std::memcpy(codes + first, lane, 4);
      return;
    }
    std::fill_n(codes, kTileCodes, Code{});
    for (const Plane& plane : kPlane) {
      const std::uint32_t mask = (1u << plane.bits) - 1;
      for (Index first = 0; first < kTileCodes; first += 32 / plane.bits, lane += step) {
        std::uint32_t fields;
        std::memcpy(&fields, lane, 4);
        for (int f = 0; f < 8 / plane.bits; ++f) {
          const std::uint32_t four = fields >> (plane.bits * f) & (mask * 0x01010101u);
          for (int k = 0; k < 4; ++k) {
            const std::uint32_t part = (four >> (8 * k)) & mask;
            codes[first + 4 * f + k] = static_cast<Code>(codes[first + 4 * f + k] | (part << plane.shift));
          }
        }
      }
    }
  }

  static constexpr Index planeBytes(Index codes, int bits) {
    const Index in_bundle = 32 / bits;
    return 4 * (codes / in_bundle) + std::min<Index>(4, codes % in_bundle);
  }

  /// Calls visit(offset among all bytes, bytes, offset in a whole tile) for each lane of a tile, or all lanes at once
  /// where they stand next to each other in both.
  template <class Visit>
  void forLanes(Index block, Index tile, const Visit& visit) const {
    const Index rows = rowsOf(block), codes = codesOf(tile);
    Index offset = at(block, tile), bundle = 0;
    for (const Plane& plane : kPlane) {
      const Index in_bundle = 32 / plane.bits;
      for (Index first = 0, j = 0; first < codes; first += in_bundle, ++j) {
        const Index size = std::min<Index>(4, codes - first);
        if (rows == kBlockRows && size == 4) {
          visit(offset, kBundleBytes, (bundle + j) * kBundleBytes);
          offset += kBundleBytes;
          continue;
        }
        for (Index row = 0; row < rows; ++row, offset += size) {
          visit(offset, size, (bundle + j) * kBundleBytes + 4 * row);
        }
      }
      bundle += kTileCodes * plane.bits / 32;
    }
  }

  Index rows_, codes_, row_bytes_;
};

}  // namespace gosset::GOSSET_ABI::detail
