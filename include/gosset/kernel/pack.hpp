// SPDX-License-Identifier: Apache-2.0
// Packing of codes of one byte, in a namespace for each instruction set (core/instruction_set.hpp), and calls of those
// that run.
#ifdef GOSSET_SET

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Four codes next to each other as a word: words of kTiles tiles of 16 rows, transposed, so that those of one place
/// of all rows stand next to each other.
template <int kTiles>
[[gnu::always_inline]] inline void gatherWords(const std::uint8_t* codes, Index stride, std::uint32_t (*words)[16]) {
  constexpr int kLanes = simd::kWordLanes, kWords = 8 * kTiles;
  for (int row = 0; row < 16; row += kLanes) {
    for (int first = 0; first < kWords; first += kLanes) {
      simd::Words v[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const std::uint8_t* from = codes + (row + i) * stride + 4 * first;
        if constexpr (kWords < kLanes) {
          v[i] = simd::Words{};
          std::memcpy(&v[i], from, 4 * kWords);
        } else {
          v[i] = simd::load<simd::Words>(from);
        }
      }
      simd::transpose(v);
      for (int i = 0; i < kLanes && first + i < kWords; ++i) simd::store(words[first + i] + row, v[i]);
    }
  }
}

/// The words of a tile as its planes: what TileLayout::putCode says.
[[gnu::always_inline]] inline void packPlanes(const std::uint32_t (*words)[16], const Plane* planes, int count,
                                              std::uint8_t* bytes) {
  for (int k = 0; k < count; ++k) {
    const int bits = planes[k].bits, shift = planes[k].shift;
    const std::uint32_t mask = ((1u << bits) - 1) * 0x01010101u;
    for (int first = 0; first < 8; first += 8 / bits) {
      for (int row = 0; row < 16; row += simd::kWordLanes, bytes += 4 * simd::kWordLanes) {
        simd::Words fields{};
        for (int f = 0; f < 8 / bits; ++f) {
          fields |= (simd::load<simd::Words>(words[first + f] + row) >> shift & mask) << (bits * f);
        }
        simd::store(bytes, fields);
      }
    }
  }
}

inline void packTilesInSet(const std::uint8_t* codes, Index stride, Index tiles, const Plane* planes, int count,
                           Index tile_bytes, std::uint8_t* bytes) {
  constexpr int kTilesAtOnce = simd::kWordLanes == 16 ? 2 : 1;
  std::uint32_t words[8 * kTilesAtOnce][16];
  Index tile = 0;
  for (; tile + kTilesAtOnce <= tiles; tile += kTilesAtOnce) {
    gatherWords<kTilesAtOnce>(codes + 32 * tile, stride, words);
    for (int i = 0; i < kTilesAtOnce; ++i) packPlanes(words + 8 * i, planes, count, bytes + (tile + i) * tile_bytes);
  }
  if (tile < tiles) {
    gatherWords<1>(codes + 32 * tile, stride, words);
    packPlanes(words, planes, count, bytes + tile * tile_bytes);
  }
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_KERNEL_PACK)
#define GOSSET_KERNEL_PACK

#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/kernel/layout.hpp>

#include <cstdint>
#include <cstring>

#define GOSSET_FRAGMENTS <gosset/kernel/pack.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

inline void packTiles(const std::uint8_t* codes, Index stride, Index tiles, const Plane* planes, int count,
                      Index tile_bytes, std::uint8_t* bytes) {
  GOSSET_CALL_RUNNING(packTilesInSet(codes, stride, tiles, planes, count, tile_bytes, bytes))
}

/// layout.packBlock(), by vectors where codes are bytes.
template <class Layout, class Code>
void packBlock(const Layout& layout, const Code* codes, Index stride, Index block, std::uint8_t* bytes) {
  if constexpr (sizeof(Code) == 1 && requires { requires Layout::kTileCodes == 32 && Layout::kPlanes > 0; }) {
    const Index tiles = layout.wholeTiles(block);
    if (tiles > 0) {
      packTiles(codes, stride, tiles, Layout::kPlane.data(), Layout::kPlanes, Layout::kTileBytes,
                bytes + layout.at(block, 0));
    }
    layout.packBlock(codes, stride, block, bytes, tiles);
  } else {
    layout.packBlock(codes, stride, block, bytes);
  }
}

}  // namespace gosset::GOSSET_ABI::detail

#endif
