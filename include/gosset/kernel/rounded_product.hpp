// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/activations.hpp>
#include <gosset/kernel/tile_code.hpp>
#include <gosset/kernel/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

// y = W x from packed codes. Within a group w = scale * unit * (byte - zero), so
//
//   sum_j w_j x_j  =  scale unit (sum_j byte_j x_j  -  zero sum_j x_j),
//
// and only the sums over bytes read the codes. With activations rounded to 8 bits they are sums of integers, exact; the
// scale of 32 activations and that of the weights come in once a slice. Those sums of floats have one order and are not
// fused with products, so results are the same on every machine.
namespace gosset::detail {

/// The dot products of a slice's bytes with 32 rounded activations, for the rows of a register.
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

/// A slice's bytes, term by term and part by part.
template <TileCodebook C>
using DecodedSlice = Tile[TileCode<C>::kTerms][kParts];

/// Decodes a slice.
template <TileCodebook C, int slice>
[[gnu::always_inline]] inline void decodeSlice(typename TileLayout<C>::TileAt tile, DecodedSlice<C>& out) {
  simd::unroll<TileCode<C>::kTerms * kParts>([&](auto at) __attribute__((always_inline)) {
    constexpr int kTerm = at % TileCode<C>::kTerms, kPart = at / TileCode<C>::kTerms;
    TileCode<C>::template bytes<kTerm, slice>(tile + kPart * simd::kByteLanes, out[kTerm][kPart]);
  });
}

/// What zero points take away, for each group and token: the sum of the group's activations.
template <TileCodebook C, class T>
std::vector<float> groupSums(const CodeView<C, T>& w, const RoundedActivations& x) {
  if (w.zeros == nullptr) return {};
  std::vector<float> sums(static_cast<std::size_t>(w.groups * x.tokens()));
  parallelFor(x.tokens(), x.slices(), [&](Index token) {
    for (Index group = 0, slice = 0; group < w.groups; ++group) {
      float& sum = sums[static_cast<std::size_t>(group * x.tokens() + token)];
      for (const Index last = std::min(slice + w.group_tiles * kSlices<C>, x.slices()); slice < last; ++slice) {
        sum += simd::unfused(x.scale(token, slice) * static_cast<float>(x.sum(token, slice)));
      }
    }
  });
  return sums;
}

/// Adds to the results of a block, one for each token, what activations keep in extra parts.
template <TileCodebook C, class T>
void addExtras(const CodeView<C, T>& w, const RoundedActivations& x, Index block, BlockFloats* totals) {
  using Code = TileCode<C>;
  TileReader<C> tiles(w.layout, w.codes, block);
  DecodedSlice<C> decoded = {};
  BlockFloats scale = {}, zero = {};
  Index slice = -1;
  for (const auto& extra : x.extras()) {
    if (extra.slice != slice) {
      slice = extra.slice;
      const Index tile = slice / kSlices<C>;
      const auto bytes = tiles[tile];
      simd::unroll<kSlices<C>>([&](auto s) {
        if (s == slice % kSlices<C>) decodeSlice<C, s>(bytes, decoded);
      });
      loadGroup(w, w.scales, block, tile / w.group_tiles, scale);
      if (w.zeros != nullptr) loadGroup(w, w.zeros, block, tile / w.group_tiles, zero);
    }
    simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
      simd::Floats sum = simd::unfused(zero[p] * -static_cast<float>(extra.sum));
      simd::unroll<Code::kTerms>([&](auto t) __attribute__((always_inline)) {
        constexpr TileTerm kTerm = Code::kTerm[t];
        const auto dots = tileDot<kTerm.small>(decoded[t][p], extra.numbers, -kTerm.zero * extra.sum);
        sum += simd::unfused(simd::toFloats(dots) * kTerm.unit);
      });
      totals[extra.token][p] += simd::unfused(sum * (scale[p] * extra.scale));
    });
  }
}

/// y (m) = W x for one token of rounded activations.
template <TileCodebook C, class T>
void multiplyRounded(const CodeView<C, T>& w, const RoundedActivations& x, float* y) {
  using Code = TileCode<C>;
  const std::vector<float> sums = groupSums(w, x);
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    const RoundedActivations::Token token = x.token(0);
    BlockFloats total = {}, scale, zero;
    for (Index g = 0, tile = 0; g < w.groups; ++g) {
      loadGroup(w, w.scales, block, g, scale);
      BlockFloats sum = {};
      for (const Index last = std::min(tile + w.group_tiles, w.layout.tiles()); tile < last; ++tile) {
        const auto bytes = tiles[tile];
        simd::unroll<kParts * kSlices<C> * Code::kTerms>([&](auto at) __attribute__((always_inline)) {
          constexpr int kTerm = at % Code::kTerms, kSlice = at / Code::kTerms % kSlices<C>;
          constexpr int kPart = at / (Code::kTerms * kSlices<C>);
          Tile decoded;
          Code::template bytes<kTerm, kSlice>(bytes + kPart * simd::kByteLanes, decoded);
          const Index slice = tile * kSlices<C> + kSlice;
          const auto dots = tileDot<Code::kTerm[kTerm].small>(decoded, token.numbers + slice * kSliceColumns,
                                                              -Code::kTerm[kTerm].zero * token.sums[slice]);
          const simd::Floats unit = simd::splat<simd::Floats>(token.scales[slice]) * Code::kTerm[kTerm].unit;
          sum[kPart] = simd::multiplyAdd(simd::toFloats(dots), unit, sum[kPart]);
        });
      }
      if (w.zeros != nullptr) {
        loadGroup(w, w.zeros, block, g, zero);
        simd::unroll<kParts>([&](auto p) { sum[p] -= simd::unfused(zero[p] * sums[static_cast<std::size_t>(g)]); });
      }
      simd::unroll<kParts>([&](auto p) { total[p] += simd::unfused(sum[p] * scale[p]); });
    }
    BlockFloats all = total;  // which may be in memory, where the sums of the loop need not be
    if (!x.extras().empty()) addExtras(w, x, block, &all);
    storeBlock(all, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// Tiles of a block decoded before tokens meet them, with the scale of each slice.
template <TileCodebook C>
struct DecodedTiles {
  static constexpr Index kTiles = std::max(1, 16 / kSlices<C>);
  DecodedSlice<C> slices[kTiles * kSlices<C>];
  BlockFloats scales[kTiles * kSlices<C>];

  template <class T>
  void decode(const CodeView<C, T>& w, TileReader<C>& tiles, Index block, Index first, Index count) {
    for (Index i = 0; i < count; ++i) {
      const auto bytes = tiles[first + i];
      simd::unroll<kSlices<C>>([&](auto s) __attribute__((always_inline)) {
        decodeSlice<C, s>(bytes, slices[i * kSlices<C> + s]);
        loadGroup(w, w.scales, block, (first + i) / w.group_tiles, scales[i * kSlices<C> + s]);
      });
    }
  }

  /// Adds the products of `count` slices, the activations' from `first` on, to the results of some tokens.
  template <int kTogether>
  [[gnu::always_inline]] void addTo(BlockFloats* totals, const RoundedActivations& x, Index token, Index first,
                                    Index count) const {
    using Code = TileCode<C>;
    BlockFloats total[kTogether];
    std::copy_n(totals + token, kTogether, total);
    for (Index i = 0; i < count; ++i) {
      simd::unroll<Code::kTerms * kParts>([&](auto at) __attribute__((always_inline)) {
        constexpr int kTerm = at % Code::kTerms, kPart = at / Code::kTerms;
        const Tile& bytes = slices[i][kTerm][kPart];
        const simd::Floats scale = scales[i][kPart] * Code::kTerm[kTerm].unit;
        simd::unroll<kTogether>([&](auto k) __attribute__((always_inline)) {
          const Index slice = first + i;
          const auto dots = tileDot<Code::kTerm[kTerm].small>(bytes, x.numbers(token + k, slice),
                                                              -Code::kTerm[kTerm].zero * x.sum(token + k, slice));
          total[k][kPart] += simd::unfused(simd::toFloats(dots) * (scale * x.scale(token + k, slice)));
        });
      });
    }
    std::copy_n(total, kTogether, totals + token);
  }
};

/// Takes away from the results of a block, one for each token, what zero points stand for.
template <TileCodebook C, class T>
void takeZeros(const CodeView<C, T>& w, Index block, const std::vector<float>& sums, std::vector<BlockFloats>& totals) {
  for (Index g = 0; w.zeros != nullptr && g < w.groups; ++g) {
    BlockFloats scale, zero;
    loadGroup(w, w.scales, block, g, scale);
    loadGroup(w, w.zeros, block, g, zero);
    const float* of_group = sums.data() + g * static_cast<Index>(totals.size());
    for (BlockFloats& total : totals) {
      const float sum = *of_group++;
      simd::unroll<kParts>([&](auto p) { total[p] -= simd::unfused(scale[p] * zero[p] * sum); });
    }
  }
}

/// y (m x t, column-major, columns y_stride apart) = W x for many tokens of rounded activations. Tiles are
/// decoded once.
template <TileCodebook C, class T>
void multiplyRoundedMany(const CodeView<C, T>& w, const RoundedActivations& x, float* y, Index y_stride) {
  const Index tokens = x.tokens();
  const std::vector<float> sums = groupSums(w, x);
  parallelFor(w.layout.blocks(), blockWork(w.layout) * tokens, [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    std::vector<BlockFloats> totals(static_cast<std::size_t>(tokens));
    DecodedTiles<C> decoded;
    for (Index first = 0; first < w.layout.tiles(); first += decoded.kTiles) {
      const Index count = std::min(decoded.kTiles, w.layout.tiles() - first);
      decoded.decode(w, tiles, block, first, count);
      forTokens(
          0, tokens, [&](Index token, auto together) __attribute__((always_inline)) {
            decoded.template addTo<together>(totals.data(), x, token, first * kSlices<C>, count * kSlices<C>);
          });
    }
    takeZeros(w, block, sums, totals);
    if (!x.extras().empty()) addExtras(w, x, block, totals.data());
    storeBlocks(totals, w.layout, block, y, y_stride);
  });
}

}  // namespace gosset::detail
