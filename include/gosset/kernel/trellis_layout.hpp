// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/trellis.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/trellis_decoder_tables.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

// The layout of trellis codes, made for the same products as layout.hpp's: blocks of 16 rows, tiles of 32 columns. A
// chain (codebook/trellis.hpp) runs through the rows of a band, four columns wide, and is cut into a piece for each
// block: its number n of 0 .. 63 stands in row n / 4 and column n % 4, and of the chain's bits a piece keeps those of
// its own numbers, 8 R bytes at R bits a number.
//
//   codes    block 0 | block 1 | ...         16 rows each; rows of the last that do not exist have bits too
//   block    tile 0 | tile 1 | ...           32 columns each, the last tile fewer
//   tile     piece 0 | piece 1 | .. | piece 7   4 columns each: 8 R bytes, lowest bits first
//
//   columns     0..3     4..7     8..11   ...
//   block 0    [piece]  [piece]  [piece]             the state of a number: L bits from bit floor(R n) of its piece on;
//                 v        v        v                at the end of a piece the next block's goes on, in the same
//   block 1    [piece]  [piece]  [piece]             columns, at the end of the band its first block's
//                 v        v        v
namespace gosset::GOSSET_ABI::detail {

/// A tile of trellis codes: where its pieces stand, and those of the block that goes on.
struct TrellisTile {
  const std::uint8_t* pieces;
  const std::uint8_t* next;
  const TrellisDecoder* decoder;
  int lane = 0;  ///< the first byte lane of 64 that is wanted

  friend TrellisTile operator+(TrellisTile tile, int lanes) {
    tile.lane += lanes;
    return tile;
  }
};

template <TrellisCodebook C>
class TileLayout<C> {
 public:
  static constexpr Index kTileCodes = 32, kTileColumns = 32, kPieceColumns = C::kChainColumns;
  static constexpr Index kTileBundles = ceilDiv(C::kRate8, 8), kTileBytes = kTileBundles * kBundleBytes;  ///< about
  static constexpr Index kSlack = 64;  ///< bytes behind a tile that decoders may read

  using TileAt = TrellisTile;

  /// rate_sums: where tiles have rates of their own, the sum of the rates up to and with each tile, in eighths.
  TileLayout(Index rows, Index codes, const std::uint32_t* rate_sums = nullptr)
      : rows_(rows),
        codes_(codes),
        whole_rows_(rows),
        sums_(rate_sums),
        decoders_(trellisDecoders<C::kStateBits>() + (C::kMixedRates ? 0 : C::kRate8 - kLeastTrellisRate8)) {}

  Index rows() const { return rows_; }
  Index codes() const { return codes_; }
  Index blocks() const { return ceilDiv(rows_, kBlockRows); }
  Index tiles() const { return ceilDiv(codes_, kTileCodes); }
  Index wholeTiles() const { return codes_ / kTileCodes; }
  Index rowBytes() const { return blockBytes() / kBlockRows; }
  Index bytes() const { return blocks() * blockBytes(); }

  Index rowsOf(Index block) const { return std::min(kBlockRows, rows_ - block * kBlockRows); }
  Index codesOf(Index tile) const { return std::min(kTileCodes, codes_ - tile * kTileCodes); }
  Index at(Index block, Index tile) const { return block * blockBytes() + 8 * ratesBefore(tile); }
  Index scaleAt(Index block, Index group, Index groups) const {
    return block * kBlockRows * groups + group * rowsOf(block);
  }

  /// `count` rows from a block on; `codes` is to point at that block then.
  TileLayout part(Index first_block, Index count) const {
    TileLayout result = *this;
    result.rows_ = count;
    result.first_block_ += first_block;
    return result;
  }

  /// The sum of the rates of the tiles before one, in eighths.
  Index ratesBefore(Index tile) const {
    if constexpr (C::kMixedRates) return tile == 0 ? 0 : static_cast<Index>(sums_[tile - 1]);
    return tile * C::kRate8;
  }
  int rate8(Index tile) const {
    if constexpr (C::kMixedRates) return static_cast<int>(ratesBefore(tile + 1) - ratesBefore(tile));
    return C::kRate8;
  }
  Index pieces(Index tile) const { return ceilDiv(codesOf(tile), kPieceColumns); }
  Index tileBytes(Index tile) const { return pieces(tile) * rate8(tile); }

  /// How far on the codes of the block stand that goes on.
  Index toNext(Index block) const {
    const TrellisBands bands(ceilDiv(whole_rows_, kBlockRows));
    const Index here = first_block_ + block, band = bands.of(here);
    return (here + 1 < bands.end(band) ? 1 : bands.begin(band) - here) * blockBytes();
  }

  TileAt tile(const std::uint8_t* codes, Index block, Index tile) const {
    const std::uint8_t* own = codes + at(block, tile);
    return {own, own + toNext(block), &decoder(tile)};
  }
  /// How many tiles of a block, from its first on, can be read where they stand, with what decoders read behind them
  /// and behind what goes on of them.
  Index wholeTiles(Index block) const {
    const Index before = std::max<Index>(0, toNext(block)),
                all = (whole_rows_ + kBlockRows - 1) / kBlockRows * blockBytes();
    Index count = wholeTiles();
    while (count > 0 &&
           first_block_ * blockBytes() + before + at(block, count - 1) + tileBytes(count - 1) + kSlack > all) {
      --count;
    }
    return count;
  }
  /// What the tiles of a block have in common.
  struct Block {
    Index block, whole, to_next;  ///< wholeTiles(block), toNext(block)
  };
  Block block(Index number) const { return {number, wholeTiles(number), toNext(number)}; }
  TileAt tile(const std::uint8_t* codes, const Block& of, Index number) const {
    const std::uint8_t* own = codes + at(of.block, number);
    return {own, own + of.to_next, &decoder(number)};
  }

  const TrellisDecoder& decoder(Index tile) const {
    return C::kMixedRates ? decoders_[rate8(tile) - kLeastTrellisRate8] : *decoders_;
  }

  /// Writes the states of a block: rowsOf(block) x codes(), rows `stride` apart.
  template <class Code>
  void packBlock(const Code* codes, Index stride, Index block, std::uint8_t* bytes) const {
    for (Index t = 0; t < tiles(); ++t) {
      const auto& table = C::table(rate8(t));
      for (Index p = 0; p < pieces(t); ++p) {
        packPiece(table, codes + t * kTileCodes + p * kPieceColumns, stride, rowsOf(block),
                  std::min(kPieceColumns, codesOf(t) - p * kPieceColumns), bytes + at(block, t) + p * rate8(t));
      }
    }
  }

  /// Reads what packBlock wrote.
  template <class Code>
  void unpackBlock(const std::uint8_t* bytes, Index block, Code* codes, Index stride) const {
    for (Index row = 0; row < rowsOf(block); ++row) {
      for (Index col = 0; col < codes_; ++col)
        codes[row * stride + col] = static_cast<Code>(state(bytes, block, row, col));
    }
  }

  /// Whether the bits that belong to no state are zero: those behind the last row's.
  bool isPaddingZero(const std::uint8_t* bytes) const {
    const Index block = blocks() - 1;
    if (block < 0 || rowsOf(block) == kBlockRows) return true;
    for (Index t = 0; t < tiles(); ++t) {
      const TrellisTable& table = C::table(rate8(t));
      const Index end = table.firstBit(kPieceColumns * rowsOf(block) - 1) + C::kStateBits;
      for (Index p = 0; p < pieces(t); ++p) {
        const std::uint8_t* piece = bytes + at(block, t) + p * rate8(t);
        for (Index bit = end; bit < 8 * rate8(t); ++bit) {
          if ((piece[bit / 8] >> (bit % 8) & 1) != 0) return false;
        }
      }
    }
    return true;
  }

  /// The state of a number: the definition that every decoder is held to.
  int state(const std::uint8_t* bytes, Index block, Index row, Index col) const {
    const Index t = col / kTileCodes, piece = col % kTileCodes / kPieceColumns;
    const int rate = rate8(t);
    const std::uint8_t* own = bytes + at(block, t) + piece * rate;
    const Index first = rate * (kPieceColumns * row + col % kPieceColumns) / 8, in_piece = 8 * rate;
    int state = 0;
    for (Index i = 0; i < C::kStateBits; ++i) {
      const Index bit = first + i;
      const std::uint8_t* from = bit < in_piece ? own : own + toNext(block);
      const Index at = bit < in_piece ? bit : bit - in_piece;
      state |= (from[at / 8] >> (at % 8) & 1) << i;
    }
    return state;
  }

 private:
  /// All bits of the states of numbers that exist, as far as they are the piece's own; those of states next to each
  /// other agree. Other bits are zero.
  template <class Code>
  static void packPiece(const TrellisTable& table, const Code* codes, Index stride, Index rows, Index cols,
                        std::uint8_t* piece) {
    std::uint8_t bits[8 * (kMostTrellisRate8 / 8) + 8] = {};
    for (Index row = 0; row < rows; ++row) {
      for (Index col = 0; col < cols; ++col) {
        const Index first = table.firstBit(kPieceColumns * row + col);
        std::uint32_t word;
        std::memcpy(&word, bits + first / 8, 4);
        word |= static_cast<std::uint32_t>(codes[row * stride + col]) << (first % 8);
        std::memcpy(bits + first / 8, &word, 4);
      }
    }
    std::memcpy(piece, bits, static_cast<std::size_t>(table.rate8()));
  }

  Index blockBytes() const { return codes_ == 0 ? 0 : 8 * ratesBefore(tiles() - 1) + tileBytes(tiles() - 1); }

  Index rows_, codes_;
  Index whole_rows_, first_block_ = 0;  ///< of the matrix that this is a part of
  const std::uint32_t* sums_;
  const TrellisDecoder* decoders_;  ///< the only one, or those of all rates
};

}  // namespace gosset::GOSSET_ABI::detail
