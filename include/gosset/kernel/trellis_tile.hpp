// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

// Tiles of trellis codes: piece i of a tile is register i, for its numbers stand as products want bytes, four columns
// of a row in a lane.
namespace gosset::GOSSET_ABI::GOSSET_SET {

namespace detail {

/// Calls visit with the number of index bits and whether there are many high bits, as compile-time constants.
template <TrellisCodebook C, class Visit>
[[gnu::always_inline]] inline void withKind(const TrellisDecoder& d, const Visit& visit) {
  const auto call = [&](auto index_bits) __attribute__((always_inline)) {
    visit(index_bits, std::bool_constant<(C::kStateBits - index_bits > 8)>{});
  };
  if constexpr (!C::kMixedRates) {
    call(std::integral_constant<int, trellisConstants<C::kStateBits>()[C::kRate8 - kLeastTrellisRate8].index_bits>{});
  } else if (d.index_bits == 6) {
    call(std::integral_constant<int, 6>{});
  } else if (d.index_bits == 7) {
    call(std::integral_constant<int, 7>{});
  } else {
    call(std::integral_constant<int, 8>{});
  }
}

/// The highest rate of the frozen codes with so many index bits.
constexpr int mostRate8(int index_bits) {
  int most = 0;
  for (const TrellisConstants& c : kTrellis14) {
    if (c.index_bits == index_bits) most = c.rate8;
  }
  return most;
}

/// A tile at the edge of the matrix or of its bytes, copied and filled up: pieces and what goes on of each.
template <TrellisCodebook C>
class TileCopy<C> {
 public:
  TrellisTile fill(const TileLayout<C>& layout, const std::uint8_t* codes, Index block, Index tile) {
    const TrellisTile from = layout.tile(codes, block, tile);
    const auto size = static_cast<std::size_t>(layout.tileBytes(tile));
    std::memset(pieces_, 0, sizeof(pieces_));
    std::memset(next_, 0, sizeof(next_));
    std::memcpy(pieces_, from.pieces, size);
    std::memcpy(next_, from.next, size);
    return {pieces_, next_, from.decoder};
  }

 private:
  static constexpr Index kMost = 8 * kMostTrellisRate8;
  alignas(64) std::uint8_t pieces_[kMost + TileLayout<C>::kSlack], next_[kMost + TileLayout<C>::kSlack];
};

/// Tiles of a block one after the other, each whole.
template <TrellisCodebook C>
class TileReader<C> {
 public:
  static constexpr Index kAhead = 128 * kBundleBytes;

  TileReader(const TileLayout<C>& layout, const std::uint8_t* codes, Index block)
      : layout_(layout),
        codes_(codes),
        block_(block),
        whole_(layout.wholeTiles(block)),
        first_(codes + layout.at(block, 0)),
        to_next_(layout.toNext(block)),
        ahead_((to_next_ > 0 ? to_next_ : layout.rowBytes() * kBlockRows) + kAhead) {}

  [[gnu::always_inline]] TrellisTile operator[](Index tile) {
    if (tile >= whole_) return copy_.fill(layout_, codes_, block_, tile);
    const std::uint8_t* p = first_ + 8 * layout_.ratesBefore(tile);
    simd::unroll<TileLayout<C>::kTileBundles>([&](int i) __attribute__((always_inline)) {
      simd::prefetchToL2(p + ahead_ + i * kBundleBytes);
    });
    return {p, p + to_next_, &layout_.decoder(tile)};
  }

 private:
  const TileLayout<C>& layout_;
  const std::uint8_t* codes_;
  Index block_, whole_;
  const std::uint8_t* first_;
  Index to_next_;
  Index
      ahead_;  ///< to what is asked for: always a block further on, so that a block comes from memory once and in time
  TileCopy<C> copy_;
};

}  // namespace detail

template <TrellisCodebook C>
struct TileCode<C> {
  using Order = InOrder;
  static constexpr int kTerms = 1;
  static constexpr TileTerm kTerm[kTerms] = {
      {detail::TrellisDecoder::kOffset, detail::TrellisTable::kLevelUnit, false}};
  static constexpr bool kExact = true;

  template <int, int>
  [[gnu::always_inline]] static void bytes(const detail::TrellisTile& tile, Tile& out) {
    const detail::TrellisDecoder& d = *tile.decoder;
    detail::withKind<C>(
        d, [&](auto index_bits, auto many) __attribute__((always_inline)) {
          constexpr int kTogether = detail::piecesTogether(C::kMixedRates ? detail::mostRate8(index_bits) : C::kRate8);
          detail::decodePieces<index_bits, many, kTogether>(d, tile.pieces, tile.next, tile.lane, out);
        });
  }
  template <class Visit>
  [[gnu::always_inline]] static void levels(const detail::TrellisTile& tile, const Visit& visit) {
    levelsOfTerms<TileCode>(tile, visit);
  }
  template <int, class Visit>
  [[gnu::always_inline]] static void columns(const detail::TrellisTile& tile, Index i, const Visit& visit) {
    const detail::TrellisDecoder& d = *tile.decoder;
    const Index at = i * d.rate8;
    simd::Words four;
    detail::withKind<C>(
        d, [&](auto index_bits, auto many) __attribute__((always_inline)) {
          four = (simd::Words)detail::decodePiece<index_bits, many>(d, tile.pieces + at, tile.next + at, tile.lane);
        });
    simd::unroll<4>([&](auto k) __attribute__((always_inline)) {
      const auto byte = (simd::Ints)((four >> (8 * k)) & 0xffu) - detail::TrellisDecoder::kOffset;
      visit(k, simd::toFloats(byte) * detail::TrellisTable::kLevelUnit);
    });
  }
};

}  // namespace gosset::GOSSET_ABI::GOSSET_SET

#endif
