// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/tile_code.hpp>
#include <gosset/kernel/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

// y = W x from packed codes and floats as they are: sums in one order, products rounded before they are added, so that
// results are the same on every machine.
namespace gosset::detail {

/// y (m) = W x for one token of floats: n numbers, padded with zeros to whole tiles.
template <TileCodebook C, class T>
void multiplyFloat(const CodeView<C, T>& w, const float* x, float* y) {
  using Code = TileCode<C>;
  constexpr Index kColumns = TileLayout<C>::kTileColumns;
  std::vector<float> sums;
  for (Index g = 0, j = 0; w.zeros != nullptr && g < w.groups; ++g) {
    float sum = 0;
    for (const Index last = std::min((g + 1) * w.group_tiles, w.layout.tiles()) * kColumns; j < last; ++j) sum += x[j];
    sums.push_back(sum);
  }
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    BlockFloats total = {}, scale, zero;
    for (Index g = 0, tile = 0; g < w.groups; ++g) {
      loadGroup(w, w.scales, block, g, scale);
      BlockFloats sum[4] = {};  // four chains, to hide the latency of additions
      for (const Index last = std::min(tile + w.group_tiles, w.layout.tiles()); tile < last; ++tile) {
        const auto bytes = tiles[tile];
        const float* numbers = x + tile * kColumns;
        simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
          Code::levels(
              bytes + p * simd::kByteLanes, [&](auto column, simd::Floats level) __attribute__((always_inline)) {
                sum[column % 4][p] =
                    simd::fusedMultiplyAdd(level, simd::splat<simd::Floats>(numbers[column]), sum[column % 4][p]);
              });
        });
      }
      simd::unroll<kParts>([&](auto p) { sum[0][p] = (sum[0][p] + sum[1][p]) + (sum[2][p] + sum[3][p]); });
      if (w.zeros != nullptr) {
        loadGroup(w, w.zeros, block, g, zero);
        simd::unroll<kParts>([&](auto p) { sum[0][p] -= simd::unfused(zero[p] * sums[static_cast<std::size_t>(g)]); });
      }
      simd::unroll<kParts>([&](auto p) { total[p] += simd::unfused(sum[0][p] * scale[p]); });
    }
    storeBlock(total, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// y (m x t, column-major, columns y_stride apart) = W x for many tokens of floats, each padded with zeros to whole
/// tiles and `stride` apart. Tiles become floats once.
template <TileCodebook C, class T>
void multiplyFloatMany(const CodeView<C, T>& w, const float* x, Index tokens, Index stride, float* y, Index y_stride) {
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
              simd::unroll<together>([&](auto k) __attribute__((always_inline)) {
                simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
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

}  // namespace gosset::detail
