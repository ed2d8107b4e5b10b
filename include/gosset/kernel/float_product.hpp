// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

// y = W x from packed codes and floats as they are: sums in one order, products rounded before they are added, so that
// results are the same on every machine.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// What zero points take away, for each group: the sum of the group's activations, floats padded to whole tiles.
template <TileCodebook C, class T, int kPieces>
std::vector<float> groupSums(const CodeView<C, T, kPieces>& w, const float* x) {
  const Index padded = w.layout.tiles() * TileLayout<C>::kTileColumns;
  std::vector<float> sums;
  for (Index g = 0, j = 0; w.zeros != nullptr && g < w.groups; ++g) {
    float sum = 0;
    for (const Index last = std::min((g + 1) * w.group_columns, padded); j < last; ++j) sum += x[j];
    sums.push_back(sum);
  }
  return sums;
}

/// y (m) = W x for one token of floats: n numbers, padded with zeros to whole tiles.
template <TileCodebook C, class T>
void multiplyFloat(const CodeView<C, T, 1>& w, const float* x, float* y) {
  using Code = TileCode<C>;
  constexpr Index kColumns = TileLayout<C>::kTileColumns;
  const std::vector<float> sums = groupSums(w, x);
  const float* group_sums = w.zeros != nullptr ? sums.data() : nullptr;
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    const GroupReader scales(w, w.scales, block), zeros(w, w.zeros, block);
    BlockFloats total = {};
    for (Index g = 0, tile = 0; g < w.groups; ++g) {
      BlockFloats sum[4] = {};  // four chains, to hide the latency of additions
      for (const Index last = std::min(tile + w.groupTiles(), w.layout.tiles()); tile < last; ++tile) {
        const auto bytes = tiles[tile];
        const float* numbers = x + tile * kColumns;
        simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
          Code::levels(
              bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level) __attribute__((always_inline)) {
                sum[column % 4][p] =
                    simd::fusedMultiplyAdd(level, simd::splat<simd::Floats>(numbers[column]), sum[column % 4][p]);
              });
        });
      }
      simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
        sum[0][p] = (sum[0][p] + sum[1][p]) + (sum[2][p] + sum[3][p]);
      });
      closeGroup(scales, zeros, g, group_sums, sum[0], total);
    }
    storeBlock(total, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// Adds the products of `count` columns of levels with their activations to a block's sum.
[[gnu::always_inline]] inline void addColumnsTimes(const BlockFloats* levels, const float* x, Index count,
                                                   BlockFloats& sum) {
  BlockFloats chains[4] = {};  // to hide the latency of additions
  Index j = 0;
  const auto add = [&](Index column, int chain) __attribute__((always_inline)) {
    simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
      chains[chain][p] = simd::multiplyAdd(levels[column][p], simd::splat<simd::Floats>(x[column]), chains[chain][p]);
    });
  };
  for (; j + 4 <= count; j += 4) simd::unroll<4>([&](int k) __attribute__((always_inline)) { add(j + k, k); });
  for (; j < count; ++j) add(j, 0);
  simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
    sum[p] += (chains[0][p] + chains[1][p]) + (chains[2][p] + chains[3][p]);
  });
}

/// The same for groups that end within tiles: a tile's levels become floats, and a group takes its columns of them.
template <TileCodebook C, class T, int kPieces>
void multiplyFloat(const CodeView<C, T, kPieces>& w, const float* x, float* y) {
  constexpr Index kColumns = TileLayout<C>::kTileColumns;
  const std::vector<float> sums = groupSums(w, x);
  const float* group_sums = w.zeros != nullptr ? sums.data() : nullptr;
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    const GroupReader scales(w, w.scales, block), zeros(w, w.zeros, block);
    BlockFloats total = {}, sum = {}, levels[kColumns];
    Index group = 0, left = w.group_columns;
    for (Index tile = 0; tile < w.layout.tiles(); ++tile) {
      const auto bytes = tiles[tile];
      simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
        TileCode<C>::levels(
            bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level)
                                              __attribute__((always_inline)) { levels[column][p] = level; });
      });
      for (Index j = 0; j < kColumns && group < w.groups;) {
        const Index count = std::min(left, kColumns - j);
        addColumnsTimes(levels + j, x + tile * kColumns + j, count, sum);
        j += count;
        left -= count;
        if (left > 0) continue;
        closeGroup(scales, zeros, group++, group_sums, sum, total);
        left = w.group_columns;
      }
    }
    if (group < w.groups) closeGroup(scales, zeros, group, group_sums, sum, total);
    storeBlock(total, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// y (m x t, column-major, columns y_stride apart) = W x for many tokens of floats, each padded with zeros to whole
/// tiles and `stride` apart. Tiles become floats once.
template <TileCodebook C, class T, int kPieces>
void multiplyFloatMany(const CodeView<C, T, kPieces>& w, const float* x, Index tokens, Index stride, float* y,
                       Index y_stride) {
  constexpr Index kColumns = TileLayout<C>::kTileColumns, kTiles = std::max<Index>(1, 256 / kColumns);
  parallelFor(w.layout.blocks(), blockWork(w.layout) * tokens, [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    std::vector<BlockFloats> totals(static_cast<std::size_t>(tokens));
    BlockFloats columns[kTiles * kColumns];
    for (Index first = 0; first < w.layout.tiles(); first += kTiles) {
      const Index count = std::min(kTiles, w.layout.tiles() - first);
      for (Index i = 0; i < count; ++i) decodeTile(w, tiles, block, first + i, columns + i * kColumns);
      forTokens(
          0, tokens, [&](Index token, auto together) __attribute__((always_inline)) {
            BlockFloats* target = totals.data() + token;
            BlockFloats total[together];
            std::copy_n(target, int{together}, total);
            const float* numbers = x + token * stride + first * kColumns;
            for (Index j = 0; j < count * kColumns; ++j) {
              simd::unroll<together>([&](int k) __attribute__((always_inline)) {
                simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
                  total[k][p] += simd::unfused(columns[j][p] * numbers[k * stride + j]);
                });
              });
            }
            std::copy_n(total, int{together}, target);
          });
    }
    storeBlocks(totals, w.layout, block, y, y_stride);
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
