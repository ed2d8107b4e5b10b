// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/activations.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/kernel/activations.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/tile_code.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

// y = W x from packed codes. Within a group w = scale * unit * (byte - zero), so
//
//   sum_j w_j x_j  =  scale unit (sum_j byte_j x_j  -  zero sum_j x_j),
//
// and only the sums over bytes read the codes. With activations rounded to 8 bits they are sums of integers, exact; the
// scale of 32 activations and that of the weights come in once a tile.
namespace gosset::detail {

/// A packed matrix as kernels see it; the arrays are layout.hpp's.
template <Codebook C, class T>
struct CodeView {
  TileLayout<C> layout;
  const std::uint8_t* codes;
  const T* scales;
  const T* zeros;    ///< null for codebooks without zero points
  bool oneScale;     ///< one scale for the whole matrix, instead of one for each row and group
  Index groupTiles;  ///< tiles in a group
  Index groups;      ///< in a row
};

/// Whether there are kernels for groups of `width` numbers in rows of n, padded to whole codes.
template <Codebook C>
constexpr bool hasKernel(Index width, Index n) {
  return TileCodebook<C> && (width % kTileColumns == 0 || width >= n);
}

/// What a block takes, in multiply-adds for one token of floats.
template <Codebook C>
Index blockWork(const TileLayout<C>& layout) {
  return kBlockRows * kTileColumns * layout.tiles() / 8;
}

/// Registers that hold a number for each row of a block.
inline constexpr int kParts = static_cast<int>(kBlockRows) / simd::kWordLanes;
struct BlockFloats {
  simd::Floats part[kParts];
  [[gnu::always_inline]] simd::Floats& operator[](int p) { return part[p]; }
  [[gnu::always_inline]] const simd::Floats& operator[](int p) const { return part[p]; }
};

/// Tiles of a block one after the other, each whole: those at the edges of the matrix are copied and filled up.
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
        whole_(layout.rowsOf(block) == kBlockRows ? layout.wholeTiles() : 0),
        first_(codes + layout.at(block, 0)) {}

  [[gnu::always_inline]] const std::uint8_t* operator[](Index tile) {
    if (tile >= whole_) {
      layout_.copyTile(codes_, block_, tile, copy_);
      return copy_;
    }
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
  alignas(64) std::uint8_t copy_[TileLayout<C>::kTileBytes];
};

/// The scales (or zero points) of a group, one for each row of the block.
template <Codebook C, class T>
[[gnu::always_inline]] inline void loadGroup(const CodeView<C, T>& w, const T* stream, Index block, Index group,
                                             BlockFloats& out) {
  if (w.oneScale) {
    simd::unroll<kParts>([&](auto p) { out[p] = simd::splat<simd::Floats>(static_cast<float>(stream[group])); });
    return;
  }
  const Index rows = w.layout.rowsOf(block);
  const T* from = stream + w.layout.scaleAt(block, group, w.groups);
  T copy[kBlockRows] = {};
  if (rows < kBlockRows) from = std::copy(from, from + rows, copy) - rows;
  simd::unroll<kParts>([&](auto p) { out[p] = simd::widen(from + p * simd::kWordLanes); });
}

/// The numbers of a tile, scale * (level - zero), column by column: 32 of them.
template <TileCodebook C, class T>
void decodeTile(const CodeView<C, T>& w, TileReader<C>& tiles, Index block, Index tile, BlockFloats* columns) {
  BlockFloats scale, zero = {};
  loadGroup(w, w.scales, block, tile / w.groupTiles, scale);
  if (w.zeros != nullptr) loadGroup(w, w.zeros, block, tile / w.groupTiles, zero);
  const std::uint8_t* bytes = tiles[tile];
  simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
    TileCode<C>::levels(
        bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level) __attribute__((always_inline)) {
          columns[column][p] = scale[p] * (level - zero[p]);
        });
  });
}

/// Writes a number for each row of the block.
[[gnu::always_inline]] inline void storeBlock(const BlockFloats& sums, Index rows, float* y) {
  float all[kBlockRows];
  simd::unroll<kParts>([&](auto p) { simd::store(all + p * simd::kWordLanes, sums[p]); });
  std::copy(all, all + rows, y);
}

/// The dot products of a tile's bytes with 32 rounded activations, for the rows of a register.
template <bool kSmall>
[[gnu::always_inline]] inline simd::Ints tileDot(const Tile& bytes, const std::int8_t* numbers, std::int32_t start) {
  auto a = simd::splat<simd::Ints>(start);
  simd::Ints b{};
  simd::unroll<4>([&](auto i) __attribute__((always_inline)) {
    std::int32_t x, z;
    std::memcpy(&x, numbers + 8 * i, 4);
    std::memcpy(&z, numbers + 8 * i + 4, 4);
    a = simd::dot<kSmall>(a, bytes[2 * i], x);
    b = simd::dot<kSmall>(b, bytes[2 * i + 1], z);
  });
  return a + b;
}

/// What zero points take away: the sum of a group's activations.
inline float groupSum(const RoundedActivations& x, Index token, Index first, Index last) {
  float sum = 0;
  for (Index tile = first; tile < last; ++tile) sum += x.scale(token, tile) * static_cast<float>(x.sum(token, tile));
  return sum;
}

/// Adds to the results of a block, one for each token, what activations keep in extra parts.
template <TileCodebook C, class T>
void addExtras(const CodeView<C, T>& w, const RoundedActivations& x, Index block, TileReader<C>& tiles,
               BlockFloats* totals) {
  using Code = TileCode<C>;
  Tile decoded[Code::kTerms][kParts];
  BlockFloats scale, zero = {};
  Index tile = -1;
  for (const auto& extra : x.extras()) {
    if (extra.tile != tile) {
      tile = extra.tile;
      const std::uint8_t* bytes = tiles[tile];
      simd::unroll<Code::kTerms * kParts>([&](auto at) __attribute__((always_inline)) {
        constexpr int kTerm = at % Code::kTerms, kPart = at / Code::kTerms;
        Code::template bytes<kTerm>(bytes + kPart * simd::kByteLanes, decoded[kTerm][kPart]);
      });
      loadGroup(w, w.scales, block, tile / w.groupTiles, scale);
      if (w.zeros != nullptr) loadGroup(w, w.zeros, block, tile / w.groupTiles, zero);
    }
    simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
      simd::Floats sum = zero[p] * -static_cast<float>(extra.sum);
      simd::unroll<Code::kTerms>([&](auto t) __attribute__((always_inline)) {
        constexpr TileTerm kTerm = Code::kTerm[t];
        sum += simd::toFloats(tileDot<kTerm.small>(decoded[t][p], extra.numbers, -kTerm.zero * extra.sum)) * kTerm.unit;
      });
      totals[extra.token][p] += sum * (scale[p] * extra.scale);
    });
  }
}

/// y (m) = W x for one token of rounded activations.
template <TileCodebook C, class T>
void multiplyRounded(const CodeView<C, T>& w, const RoundedActivations& x, float* y) {
  using Code = TileCode<C>;
  std::vector<float> sums;
  if (w.zeros != nullptr) {
    for (Index g = 0; g < w.groups; ++g) {
      sums.push_back(groupSum(x, 0, g * w.groupTiles, std::min((g + 1) * w.groupTiles, x.tiles())));
    }
  }
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    BlockFloats total = {}, scale, zero;
    for (Index g = 0, tile = 0; g < w.groups; ++g) {
      loadGroup(w, w.scales, block, g, scale);
      BlockFloats sum = {};
      for (const Index last = std::min(tile + w.groupTiles, x.tiles()); tile < last; ++tile) {
        const std::uint8_t* bytes = tiles[tile];
        const auto tileScale = simd::splat<simd::Floats>(x.scale(0, tile));
        simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
          simd::unroll<Code::kTerms>([&](auto t) __attribute__((always_inline)) {
            Tile decoded;
            Code::template bytes<t>(bytes + p * simd::kByteLanes, decoded);
            const auto dots =
                tileDot<Code::kTerm[t].small>(decoded, x.numbers(0, tile), -Code::kTerm[t].zero * x.sum(0, tile));
            sum[p] += simd::toFloats(dots) * (tileScale * Code::kTerm[t].unit);
          });
        });
      }
      if (w.zeros != nullptr) {
        loadGroup(w, w.zeros, block, g, zero);
        simd::unroll<kParts>([&](auto p) { sum[p] -= zero[p] * sums[static_cast<std::size_t>(g)]; });
      }
      simd::unroll<kParts>([&](auto p) { total[p] += sum[p] * scale[p]; });
    }
    addExtras(w, x, block, tiles, &total);
    storeBlock(total, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// y (m) = W x for one token of floats: n numbers, padded with zeros to whole tiles.
template <TileCodebook C, class T>
void multiplyFloat(const CodeView<C, T>& w, const float* x, float* y) {
  using Code = TileCode<C>;
  const Index tileCount = w.layout.tiles();
  std::vector<float> sums;
  if (w.zeros != nullptr) {
    for (Index g = 0; g < w.groups; ++g) {
      float sum = 0;
      const Index last = std::min((g + 1) * w.groupTiles, tileCount) * kTileColumns;
      for (Index j = g * w.groupTiles * kTileColumns; j < last; ++j) sum += x[j];
      sums.push_back(sum);
    }
  }
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    BlockFloats total = {}, scale, zero;
    for (Index g = 0, tile = 0; g < w.groups; ++g) {
      loadGroup(w, w.scales, block, g, scale);
      BlockFloats sum[4] = {};  // four chains, to hide the latency of additions
      for (const Index last = std::min(tile + w.groupTiles, tileCount); tile < last; ++tile) {
        const std::uint8_t* bytes = tiles[tile];
        const float* numbers = x + tile * kTileColumns;
        simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
          Code::levels(
              bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level) __attribute__((always_inline)) {
                sum[column % 4][p] += level * numbers[column];
              });
        });
      }
      simd::unroll<kParts>([&](auto p) { sum[0][p] = (sum[0][p] + sum[1][p]) + (sum[2][p] + sum[3][p]); });
      if (w.zeros != nullptr) {
        loadGroup(w, w.zeros, block, g, zero);
        simd::unroll<kParts>([&](auto p) { sum[0][p] -= zero[p] * sums[static_cast<std::size_t>(g)]; });
      }
      simd::unroll<kParts>([&](auto p) { total[p] += sum[0][p] * scale[p]; });
    }
    storeBlock(total, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// Tokens that a register of weights meets before the next is loaded, and tiles that are decoded before tokens meet
/// them.
inline constexpr int kTokens = simd::kVectorRegisters >= 32 ? 8 : 4;
inline constexpr Index kRoundedTiles = 16, kFloatTiles = 8;

/// Calls visit(first, count) for all tokens, count a compile-time constant: kTokens at a time, then 4, 2 and 1.
template <int kCount = kTokens, class Visit>
[[gnu::always_inline]] inline void forTokens(Index first, Index tokens, const Visit& visit) {
  for (; first + kCount <= tokens; first += kCount) visit(first, std::integral_constant<int, kCount>{});
  if constexpr (kCount > 1) forTokens<kCount / 2>(first, tokens, visit);
}

/// y (m x t, column-major, columns yStride apart) = W x for many tokens of rounded activations. Tiles are decoded once.
template <TileCodebook C, class T>
void multiplyRoundedMany(const CodeView<C, T>& w, const RoundedActivations& x, float* y, Index yStride) {
  using Code = TileCode<C>;
  constexpr int kTerms = Code::kTerms;
  const Index tokens = x.tokens();
  std::vector<float> sums(static_cast<std::size_t>(w.zeros != nullptr ? w.groups * tokens : 0));
  if (w.zeros != nullptr) {
    parallelFor(tokens, x.tiles(), [&](Index token) {
      for (Index g = 0; g < w.groups; ++g) {
        const Index last = std::min((g + 1) * w.groupTiles, x.tiles());
        sums[static_cast<std::size_t>(g * tokens + token)] = groupSum(x, token, g * w.groupTiles, last);
      }
    });
  }
  parallelFor(w.layout.blocks(), blockWork(w.layout) * tokens, [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    std::vector<BlockFloats> totals(static_cast<std::size_t>(tokens));
    Tile decoded[kRoundedTiles][kTerms][kParts];
    BlockFloats scales[kRoundedTiles];
    for (Index first = 0; first < x.tiles(); first += kRoundedTiles) {
      const Index count = std::min(kRoundedTiles, x.tiles() - first);
      for (Index i = 0; i < count; ++i) {
        const std::uint8_t* bytes = tiles[first + i];
        simd::unroll<kTerms * kParts>([&](auto at) __attribute__((always_inline)) {
          constexpr int kTerm = at % kTerms, kPart = at / kTerms;
          Code::template bytes<kTerm>(bytes + kPart * simd::kByteLanes, decoded[i][kTerm][kPart]);
        });
        loadGroup(w, w.scales, block, (first + i) / w.groupTiles, scales[i]);
      }
      forTokens(
          0, tokens, [&](Index token, auto together) __attribute__((always_inline)) {
            BlockFloats* target = totals.data() + token;
            BlockFloats total[together];
            std::copy_n(target, int{together}, total);
            for (Index i = 0; i < count; ++i) {
              simd::unroll<kTerms * kParts>([&](auto at) __attribute__((always_inline)) {
                constexpr int kTerm = at % kTerms, kPart = at / kTerms;
                const Tile& bytes = decoded[i][kTerm][kPart];
                const simd::Floats scale = scales[i][kPart] * Code::kTerm[kTerm].unit;
                simd::unroll<together>([&](auto k) __attribute__((always_inline)) {
                  const Index tile = first + i;
                  const auto dots = tileDot<Code::kTerm[kTerm].small>(
                      bytes, x.numbers(token + k, tile), -Code::kTerm[kTerm].zero * x.sum(token + k, tile));
                  total[k][kPart] += simd::toFloats(dots) * (scale * x.scale(token + k, tile));
                });
              });
            }
            std::copy_n(total, int{together}, target);
          });
    }
    for (Index g = 0; w.zeros != nullptr && g < w.groups; ++g) {
      BlockFloats scale, zero;
      loadGroup(w, w.scales, block, g, scale);
      loadGroup(w, w.zeros, block, g, zero);
      for (Index token = 0; token < tokens; ++token) {
        const float sum = sums[static_cast<std::size_t>(g * tokens + token)];
        simd::unroll<kParts>([&](auto p) { totals[static_cast<std::size_t>(token)][p] -= scale[p] * zero[p] * sum; });
      }
    }
    addExtras(w, x, block, tiles, totals.data());
    for (Index token = 0; token < tokens; ++token) {
      storeBlock(totals[static_cast<std::size_t>(token)], w.layout.rowsOf(block),
                 y + token * yStride + block * kBlockRows);
    }
  });
}

/// y (m x t, column-major, columns yStride apart) = W x for many tokens of floats, each padded with zeros to whole
/// tiles and `stride` apart. Tiles become floats once.
template <TileCodebook C, class T>
void multiplyFloatMany(const CodeView<C, T>& w, const float* x, Index tokens, Index stride, float* y, Index yStride) {
  const Index tileCount = w.layout.tiles();
  parallelFor(w.layout.blocks(), blockWork(w.layout) * tokens, [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    std::vector<BlockFloats> totals(static_cast<std::size_t>(tokens));
    BlockFloats columns[kFloatTiles * kTileColumns];
    for (Index first = 0; first < tileCount; first += kFloatTiles) {
      const Index count = std::min(kFloatTiles, tileCount - first);
      for (Index i = 0; i < count; ++i) decodeTile(w, tiles, block, first + i, columns + i * kTileColumns);
      forTokens(
          0, tokens, [&](Index token, auto together) __attribute__((always_inline)) {
            BlockFloats* target = totals.data() + token;
            BlockFloats total[together];
            std::copy_n(target, int{together}, total);
            const float* numbers = x + token * stride + first * kTileColumns;
            for (Index j = 0; j < count * kTileColumns; ++j) {
              simd::unroll<together>([&](auto k) __attribute__((always_inline)) {
                simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
                  total[k][p] += columns[j][p] * numbers[k * stride + j];
                });
              });
            }
            std::copy_n(total, int{together}, target);
          });
    }
    for (Index token = 0; token < tokens; ++token) {
      storeBlock(totals[static_cast<std::size_t>(token)], w.layout.rowsOf(block),
                 y + token * yStride + block * kBlockRows);
    }
  });
}

/// y (m x t, columns yStride apart) = W x, x being n x t, its columns xStride apart.
template <TileCodebook C, class T>
void multiplyCodes(const CodeView<C, T>& w, Activations activations, const float* x, Index n, Index tokens,
                   Index xStride, float* y, Index yStride) {
  const bool worthIt = w.layout.rows() >= kBlockRows && n >= kTileColumns;  // rounding comes first and is done once
  const bool per_token = activations == Activations::kRoundedPerToken;
  if (per_token || (activations == Activations::kRounded && worthIt)) {
    const RoundedActivations rounded(x, n, tokens, xStride, TileCode<C>::kTransposed,
                                     per_token ? ScaleReach::kToken : ScaleReach::kTile);
    if (tokens == 1) return multiplyRounded(w, rounded, y);
    return multiplyRoundedMany(w, rounded, y, yStride);
  }
  const Index padded = w.layout.tiles() * kTileColumns;
  AlignedVector<float> copy;
  if (padded != n) {
    copy.assign(static_cast<std::size_t>(padded * tokens), 0.f);
    for (Index token = 0; token < tokens; ++token) std::copy_n(x + token * xStride, n, copy.data() + token * padded);
    x = copy.data();
    xStride = padded;
  }
  if (tokens == 1) return multiplyFloat(w, x, y);
  multiplyFloatMany(w, x, tokens, xStride, y, yStride);
}

/// The numbers of a block, rows `stride` apart: rowsOf(block) rows of n.
template <TileCodebook C, class T>
void decodeBlock(const CodeView<C, T>& w, Index block, Index n, float* out, Index stride) {
  TileReader<C> tiles(w.layout, w.codes, block);
  BlockFloats columns[kTileColumns];
  float rows[kBlockRows][kTileColumns];
  for (Index tile = 0; tile < w.layout.tiles(); ++tile) {
    decodeTile(w, tiles, block, tile, columns);
    simd::unroll<kParts>([&](auto p) {
      for (int j = 0; j < kTileColumns; j += simd::kWordLanes) {
        simd::Floats square[simd::kWordLanes];
        for (int i = 0; i < simd::kWordLanes; ++i) square[i] = columns[j + i][p];
        simd::transpose(square);
        for (int i = 0; i < simd::kWordLanes; ++i) simd::store(&rows[p * simd::kWordLanes + i][j], square[i]);
      }
    });
    const Index first = tile * kTileColumns, count = std::min(kTileColumns, n - first);
    for (Index row = 0; row < w.layout.rowsOf(block); ++row) {
      std::memcpy(out + row * stride + first, rows[row], static_cast<std::size_t>(count) * sizeof(float));
    }
  }
}

}  // namespace gosset::detail
