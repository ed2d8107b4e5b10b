// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

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
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// The dot products of a piece's bytes, as far as they exceed `zero`, with the rounded activations of its slice, whose
/// sum is given: for the rows of a register.
template <bool kSmall, int kPiece = 0, int kPieces = 1>
[[gnu::always_inline]] inline simd::Ints tileDot(const Tile& bytes, int zero, const std::int8_t* numbers,
                                                 std::int32_t sum) {
  constexpr int kFirst = 8 * kPiece / kPieces;
  constexpr bool kCentered = !kSmall && simd::kDotsCentered;
  auto a = simd::splat<simd::Ints>(((kCentered ? 128 : 0) - zero) * sum);
  simd::Ints b{};
  const auto add = [&](simd::Ints & to, int i) __attribute__((always_inline)) {
    std::int32_t four;
    std::memcpy(&four, numbers + 4 * i, 4);
    if constexpr (kCentered) {
      to = simd::dotCentered(to, bytes[i], simd::splat<simd::Ints>(four));
    } else {
      to = simd::dot<kSmall>(to, bytes[i], four);
    }
  };
  simd::unroll<4 / kPieces>([&](int i) __attribute__((always_inline)) {
    add(a, kFirst + 2 * i);
    add(b, kFirst + 2 * i + 1);
  });
  return a + b;
}

/// The sum of eight numbers: as bytes without a sign, each more by 128, in pairs of 16 bits.
inline std::int32_t sumOfEight(const std::int8_t* numbers) {
  constexpr std::uint64_t kEven = 0x00ff00ff00ff00ffu;
  std::uint64_t bytes;
  std::memcpy(&bytes, numbers, 8);
  bytes ^= 0x8080808080808080u;
  const std::uint64_t pairs = (bytes & kEven) + (bytes >> 8 & kEven);
  return static_cast<std::int32_t>(pairs * 0x0001000100010001u >> 48) - 8 * 128;
}

/// The sum of the numbers of a piece of a slice.
template <int kPieces>
std::int32_t pieceSum(const std::int8_t* numbers, int piece) {
  constexpr int kWidth = static_cast<int>(kSliceColumns) / kPieces;
  std::int32_t sum = 0;
  for (int i = 0; i < kWidth; i += 8) sum += sumOfEight(numbers + piece * kWidth + i);
  return sum;
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

/// Pieces of slices in a group.
template <TileCodebook C, class T, int kPieces>
Index piecesOfGroup(const CodeView<C, T, kPieces>& w) {
  return w.group_columns * kPieces * kSlices<C> / kTileColumns<C>;
}

/// The sums of the numbers of all slices, piece by piece, token after token.
template <int kPieces>
class PieceSums {
 public:
  explicit PieceSums(const RoundedActivations& x) : x_(x) {
    if constexpr (kPieces > 1) {
      sums_.resize(static_cast<std::size_t>(x.tokens() * x.slices() * kPieces));
      parallelFor(x.tokens(), x.slices() * kSliceColumns, [&](Index token) {
        for (Index slice = 0; slice < x.slices(); ++slice) {
          for (int i = 0; i < kPieces; ++i) {
            sums_[at(token, slice, i)] = pieceSum<kPieces>(x.numbers(token, slice), i);
          }
        }
      });
    }
  }

  [[gnu::always_inline]] std::int32_t operator()(Index token, Index slice, int piece) const {
    if constexpr (kPieces == 1) return x_.sum(token, slice);
    return sums_[at(token, slice, piece)];
  }

 private:
  std::size_t at(Index token, Index slice, int piece) const {
    return static_cast<std::size_t>((token * x_.slices() + slice) * kPieces + piece);
  }

  const RoundedActivations& x_;
  std::vector<std::int32_t> sums_;
};

/// What zero points take away, for each group and token: the sum of the group's activations.
template <TileCodebook C, class T, int kPieces>
std::vector<float> groupSums(const CodeView<C, T, kPieces>& w, const RoundedActivations& x,
                             const PieceSums<kPieces>& pieces) {
  if (w.zeros == nullptr) return {};
  std::vector<float> sums(static_cast<std::size_t>(w.groups * x.tokens()));
  const Index group_pieces = piecesOfGroup(w), all = x.slices() * kPieces;
  parallelFor(x.tokens(), x.slices(), [&](Index token) {
    for (Index group = 0, piece = 0; group < w.groups; ++group) {
      float& sum = sums[static_cast<std::size_t>(group * x.tokens() + token)];
      for (const Index last = std::min(piece + group_pieces, all); piece < last; ++piece) {
        const Index slice = piece / kPieces;
        const std::int32_t of_piece = pieces(token, slice, static_cast<int>(piece % kPieces));
        sum += simd::unfused(x.scale(token, slice) * static_cast<float>(of_piece));
      }
    }
  });
  return sums;
}

/// Adds to the results of a block, one for each token, what activations keep in extra parts.
template <TileCodebook C, class T, int kPieces>
void addExtras(const CodeView<C, T, kPieces>& w, const RoundedActivations& x, Index block, BlockFloats* totals) {
  using Code = TileCode<C>;
  TileReader<C> tiles(w.layout, w.codes, block);
  DecodedSlice<C> decoded = {};
  TileScales<C, kPieces> of_tile(w, block, 0);
  Index slice = -1;
  for (const auto& extra : x.extras()) {
    if (extra.slice != slice) {
      slice = extra.slice;
      const Index tile = slice / kSlices<C>;
      const auto bytes = tiles[tile];
      simd::unroll<kSlices<C> >([&](auto s) {
        if (s == slice % kSlices<C>) decodeSlice<C, s>(bytes, decoded);
      });
      of_tile = TileScales<C, kPieces>(w, block, tile);
    }
    simd::unroll<kParts * kPieces>([&](auto at) __attribute__((always_inline)) {
      constexpr int p = at / kPieces, kPiece = at % kPieces;
      const std::int32_t numbers = kPieces == 1 ? extra.sum : pieceSum<kPieces>(extra.numbers, kPiece);
      simd::Floats sum = simd::unfused(of_tile.zeros[kPiece][p] * -static_cast<float>(numbers));
      simd::unroll<Code::kTerms>([&](auto t) __attribute__((always_inline)) {
        constexpr TileTerm kTerm = Code::kTerm[t];
        const auto dots = tileDot<kTerm.small, kPiece, kPieces>(decoded[t][p], kTerm.zero, extra.numbers, numbers);
        sum += simd::unfused(simd::toFloats(dots) * kTerm.unit);
      });
      totals[extra.token][p] += simd::unfused(sum * (of_tile.scales[kPiece][p] * extra.scale));
    });
  }
}

/// y (m) = W x for one token of rounded activations.
template <TileCodebook C, class T, int kPieces>
void multiplyRounded(const CodeView<C, T, kPieces>& w, const RoundedActivations& x, float* y) {
  using Code = TileCode<C>;
  const PieceSums<kPieces> pieces(x);
  const std::vector<float> sums = groupSums(w, x, pieces);
  const Index group_pieces = piecesOfGroup(w);
  parallelFor(w.layout.blocks(), blockWork(w.layout), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    const RoundedActivations::Token token = x.token(0);
    BlockFloats total = {}, sum = {};
    const GroupReader scales(w, w.scales, block), zeros(w, w.zeros, block);
    const float* group_sums = w.zeros != nullptr ? sums.data() : nullptr;
    const Index groups = w.groups;
    Index group = 0, left = group_pieces;
    for (Index tile = 0; tile < w.layout.tiles(); ++tile) {
      const auto bytes = tiles[tile];
      simd::unroll<kSlices<C> >([&](auto of_tile) __attribute__((always_inline)) {
        const Index slice = tile * kSlices<C> + of_tile;
        DecodedSlice<C> decoded;  // a part at a time, which registers hold, unless several groups take of each
        if constexpr (kPieces > 1) decodeSlice<C, of_tile>(bytes, decoded);
        simd::unroll<kPieces>([&](auto piece) __attribute__((always_inline)) {
          simd::unroll<kParts * Code::kTerms>([&](auto at) __attribute__((always_inline)) {
            constexpr int kTerm = at % Code::kTerms, kPart = at / Code::kTerms;
            Tile& part = decoded[kTerm][kPart];
            if constexpr (kPieces == 1) Code::template bytes<kTerm, of_tile>(bytes + kPart * simd::kByteLanes, part);
            const auto dots = tileDot<Code::kTerm[kTerm].small, piece, kPieces>(
                part, Code::kTerm[kTerm].zero, token.numbers + slice * kSliceColumns, pieces(0, slice, piece));
            const simd::Floats unit = simd::splat<simd::Floats>(token.scales[slice]) * Code::kTerm[kTerm].unit;
            sum[kPart] = simd::multiplyAdd(simd::toFloats(dots), unit, sum[kPart]);
          });
          if (--left == 0) {
            closeGroup(scales, zeros, group++, group_sums, sum, total);
            left = group < groups ? group_pieces : -1;
          }
        });
      });
    }
    if (group < groups) closeGroup(scales, zeros, group, group_sums, sum, total);
    BlockFloats all = total;  // which may be in memory, where the sums of the loop need not be
    if (!x.extras().empty()) addExtras(w, x, block, &all);
    storeBlock(all, w.layout.rowsOf(block), y + block * kBlockRows);
  });
}

/// Tiles of a block decoded before tokens meet them, with the scale of each piece of a slice.
template <TileCodebook C, int kPieces>
struct DecodedTiles {
  static constexpr Index kTiles = std::max(1, 16 / kSlices<C>);
  DecodedSlice<C> slices[kTiles * kSlices<C>];
  BlockFloats scales[kTiles * kSlices<C>][kPieces];

  template <class T>
  void decode(const CodeView<C, T, kPieces>& w, TileReader<C>& tiles, Index block, Index first, Index count) {
    for (Index i = 0; i < count; ++i) {
      const auto bytes = tiles[first + i];
      const TileScales<C, kPieces> of_tile(w, block, first + i);
      simd::unroll<kSlices<C> >([&](auto s) __attribute__((always_inline)) {
        decodeSlice<C, s>(bytes, slices[i * kSlices<C> + s]);
        std::copy_n(of_tile.scales, kPieces, scales[i * kSlices<C> + s]);
      });
    }
  }

  /// Adds the products of `count` slices, the activations' from `first` on, to the results of some tokens.
  template <int kTogether>
  [[gnu::always_inline]] void addTo(BlockFloats* totals, const RoundedActivations& x, const PieceSums<kPieces>& sums,
                                    Index token, Index first, Index count) const {
    using Code = TileCode<C>;
    BlockFloats total[kTogether];
    std::copy_n(totals + token, kTogether, total);
    for (Index i = 0; i < count; ++i) {
      simd::unroll<kPieces * Code::kTerms * kParts>([&](auto at) __attribute__((always_inline)) {
        constexpr int kTerm = at % Code::kTerms, kPart = at / Code::kTerms % kParts;
        constexpr int kPiece = at / (Code::kTerms * kParts);
        const Tile& bytes = slices[i][kTerm][kPart];
        const simd::Floats scale = scales[i][kPiece][kPart] * Code::kTerm[kTerm].unit;
        simd::unroll<kTogether>([&](int k) __attribute__((always_inline)) {
          const Index slice = first + i;
          const auto dots = tileDot<Code::kTerm[kTerm].small, kPiece, kPieces>(
              bytes, Code::kTerm[kTerm].zero, x.numbers(token + k, slice), sums(token + k, slice, kPiece));
          total[k][kPart] += simd::unfused(simd::toFloats(dots) * (scale * x.scale(token + k, slice)));
        });
      });
    }
    std::copy_n(total, kTogether, totals + token);
  }
};

/// Takes away from the results of a block, one for each token, what zero points stand for.
template <TileCodebook C, class T, int kPieces>
void takeZeros(const CodeView<C, T, kPieces>& w, Index block, const std::vector<float>& sums,
               std::vector<BlockFloats>& totals) {
  for (Index g = 0; w.zeros != nullptr && g < w.groups; ++g) {
    BlockFloats scale, zero;
    loadGroup(w, w.scales, block, g, scale);
    loadGroup(w, w.zeros, block, g, zero);
    const float* of_group = sums.data() + g * static_cast<Index>(totals.size());
    for (BlockFloats& total : totals) {
      const float sum = *of_group++;
      simd::unroll<kParts>([&](int p)
                               __attribute__((always_inline)) { total[p] -= simd::unfused(scale[p] * zero[p] * sum); });
    }
  }
}

/// y (m x t, column-major, columns y_stride apart) = W x for many tokens of rounded activations. Tiles are
/// decoded once.
template <TileCodebook C, class T, int kPieces>
void multiplyRoundedMany(const CodeView<C, T, kPieces>& w, const RoundedActivations& x, float* y, Index y_stride) {
  const Index tokens = x.tokens();
  const PieceSums<kPieces> pieces(x);
  const std::vector<float> sums = groupSums(w, x, pieces);
  parallelFor(w.layout.blocks(), blockWork(w.layout) * tokens, [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    std::vector<BlockFloats> totals(static_cast<std::size_t>(tokens));
    DecodedTiles<C, kPieces> decoded;
    for (Index first = 0; first < w.layout.tiles(); first += decoded.kTiles) {
      const Index count = std::min(decoded.kTiles, w.layout.tiles() - first);
      decoded.decode(w, tiles, block, first, count);
      forTokens(
          0, tokens, [&](Index token, auto together) __attribute__((always_inline)) {
            decoded.template addTo<together>(totals.data(), x, pieces, token, first * kSlices<C>, count * kSlices<C>);
          });
    }
    takeZeros(w, block, sums, totals);
    if (!x.extras().empty()) addExtras(w, x, block, totals.data());
    storeBlocks(totals, w.layout, block, y, y_stride);
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
