// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

// What a codebook needs to have kernels: how its packed codes become bytes in registers. Products, decoding and
// products with W^T are written once, over this. Scalar codebooks whose levels the compiler knows have it already
// (scalar_tile.hpp), one of your own gets it by a specialization of TileCode, which must stand before its first use.
namespace gosset::GOSSET_ABI::GOSSET_SET {

/// 32 columns of as many rows as a register has lanes of 4 bytes: what products take at a time.
using Tile = simd::Bytes[8];

/// How the tiles of a codebook become bytes in registers; specialized for the codebooks that products have kernels for:
///   Order       one of the above, or one of your own
///   kTerms      a number is the sum of so many terms, each a byte with a zero and a unit
///   kTerm[t]    its map to numbers
///   kExact      whether the terms give the codebook's values exactly
///   bytes<t, s>(tile, out)   term t of slice s of a tile: byte k of lane r in out[i] belongs to row r and column
///                           Order::column(s, i, k)
///               Where a register has fewer than 16 lanes, tile points at the first byte of its first lane. It is a
///               TileAt of the codebook's TileLayout.
///   levels(tile, visit)   the codebook's values exactly: visit(column, Floats) for all columns, lane r: row r
///   columns<s>(tile, i, visit)   where it exists: the same for the columns of register i alone, as visit(k, Floats)
/// tileCodes() and levelsOfTerms() below do most of it.
template <Codebook C>
struct TileCode;

/// Whether products have a kernel for the codebook.
template <class C>
concept TileCodebook = Codebook<C> && requires {
  TileCode<C>::kTerms;
};

/// Whether products from this codebook's codes have a kernel. Without one blocks of rows are decoded first.
template <Codebook C>
constexpr bool hasKernel() {
  return TileCodebook<C>;
}

/// Undoes layout.hpp's planes: byte k of out[i], lane r, is code 4 i + k of row r.
template <Codebook C>
[[gnu::always_inline]] inline void tileCodes(const std::uint8_t* tile, Tile& out) {
  using simd::Words;
  using L = detail::TileLayout<C>;
  static_assert(L::kTileCodes == 32 && C::kBits <= 8);
  simd::unroll<L::kPlanes>([&](auto p) __attribute__((always_inline)) {
    constexpr detail::Plane kPlane = L::kPlane[p];
    constexpr int kFields = 8 / kPlane.bits;  // in a byte
    constexpr std::uint32_t kMask = ((1u << kPlane.bits) - 1) * 0x01010101u << kPlane.shift;
    simd::unroll<kPlane.bits>([&](int bundle) __attribute__((always_inline)) {
      // Planes before this one filled kPlane.shift bundles: one for each bit.
      const auto fields = simd::load<Words>(tile + detail::kBundleBytes * (kPlane.shift + bundle));
      simd::unroll<kFields>([&](auto f) __attribute__((always_inline)) {
        constexpr int kDown = f * kPlane.bits - kPlane.shift;
        Words code = kDown > 0 ? fields >> (kDown > 0 ? kDown : 0) : fields << (kDown > 0 ? 0 : -kDown);
        if constexpr (kPlane.bits < 8) code &= kMask;
        simd::Bytes& target = out[bundle * kFields + f];
        target = p == 0 ? (simd::Bytes)code : target | (simd::Bytes)code;
      });
    });
  });
}

/// levels() of a TileCode whose terms are exact.
template <class Code, class TileAt, class Visit>
[[gnu::always_inline]] inline void levelsOfTerms(const TileAt& tile, const Visit& visit) {
  simd::unroll<Code::Order::kSlices>([&](auto slice) __attribute__((always_inline)) {
    Tile terms[Code::kTerms];
    simd::unroll<Code::kTerms>([&](auto t)
                                   __attribute__((always_inline)) { Code::template bytes<t, slice>(tile, terms[t]); });
    simd::unroll<32>([&](auto j) __attribute__((always_inline)) {
      constexpr int kPlace = detail::kPlaces<typename Code::Order>[static_cast<std::size_t>(j())];
      constexpr int kRegister = kPlace / 4, kByte = kPlace % 4;
      simd::Floats level{};
      simd::unroll<Code::kTerms>([&](auto t) __attribute__((always_inline)) {
        constexpr float kUnit = Code::kTerm[t].unit, kShift = static_cast<float>(Code::kTerm[t].zero) * kUnit;
        const auto byte = (simd::Ints)(((simd::Words)terms[t][kRegister] >> (8 * kByte)) & 0xffu);
        level += simd::toFloats(byte) * kUnit - kShift;  // exact
      });
      visit(std::integral_constant<int, Code::Order::column(slice, kRegister, kByte)>{}, level);
    });
  });
}

namespace detail {

/// Into how many pieces, next to each other, kernels cut a tile so that each lies in one group of `width` columns: 1
/// where groups are whole tiles or rows; 2 or 4 where they are multiples of 16 or 8 and columns stand in order; else 0,
/// and groups end anywhere: activations meet numbers in floats, then.
template <TileCodebook C>
constexpr int piecesOf(Index width) {
  constexpr bool kInOrder = std::is_same_v<typename TileCode<C>::Order, InOrder> && C::kDim == 1;
  if (width % TileLayout<C>::kTileColumns == 0 || width >= kWholeRow) return 1;
  return !kInOrder ? 0 : width % 16 == 0 ? 2 : width % 8 == 0 ? 4 : 0;
}

/// Slices of 32 columns in a tile.
template <TileCodebook C>
inline constexpr int kSlices = TileCode<C>::Order::kSlices;

}  // namespace detail

/// Whether activations in 8 bits meet the codebook's codes in groups of `width` numbers.
template <Codebook C>
constexpr bool hasKernel(Index width) {
  if constexpr (TileCodebook<C>) return detail::piecesOf<C>(width) != 0;
  return false;
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET

#endif
