// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstdint>
#include <type_traits>

// y += W^T x in integers. What is left of floats has one order and is not fused: the same bits on every machine.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// A chunk of blocks of rows and kTokens columns of x. For dot products of four rows lanes have to be columns: each
/// 4 x 4 of a tile's bytes is transposed, and then the parts of 16 bytes that hold the same four rows are brought
/// together. So a sum of a column is a lane's, and the four rows of x' are the same in all lanes.
template <int kDigits, TileCodebook C, class T, int kPieces, int kTokens>
class IntegerTransposedChunk {
  using Code = TileCode<C>;
  using Layout = TileLayout<C>;
  using Rows = FixedPointRows<kDigits, C, T, kPieces, kTokens>;
  static constexpr Index kBlocks = Rows::kBlocks;
  static constexpr int kFours = Rows::kFours;
  static constexpr int kSixteens = simd::kByteLanes / 16;
  static constexpr int kRegisters = kSliceColumns / simd::kWordLanes;  ///< for the columns of a slice
  static constexpr int kOnce = simd::kVectorRegisters / 16;            ///< of these registers at a time
  static constexpr bool kAtOnce = kOnce == kRegisters;
  static constexpr Index kAhead = 4;                                                    ///< tiles
  static constexpr bool kManyAhead = kBlocks * kAhead * Layout::kTileBytes > 16 << 10;  ///< for a small L1
  using Decoded = simd::Bytes[kRegisters][kFours];  ///< a slice: lanes are columns, bytes rows

 public:
  static constexpr Index kChunk = kBlocks;

  IntegerTransposedChunk(const CodeView<C, T, kPieces>& w, Index first, const float* x, Index x_stride)
      : w_(w), x_(w, first, x, x_stride) {
    for (Index b = 0; b < x_.blocks(); ++b) at_[b] = w.layout.block(first + b);
  }

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index y_stride) {
    for (Index group = 0; group < w_.groups; ++group) {
      x_.fold(group);
      forTilesOfGroup(w_, group, n, [&](Index tile, Index from, Index to) {
        simd::unroll<kSlices<C> >([&](auto slice) {
          float sums[kTokens][kSliceColumns];
          simd::unroll<Code::kTerms>([&](auto term) { addTile<term, slice>(tile, sums); });
          for (int k = 0; k < kTokens; ++k) addSums<slice>(tile, k, from, to, sums[k], unit, y + k * y_stride);
        });
      });
    }
  }

 private:
  /// y += a token's sums of the columns [from, to) of a slice, register by register of the tile.
  template <int slice>
  [[gnu::always_inline]] void addSums(Index tile, int k, Index from, Index to, const float* sums, float unit,
                                      float* y) const {
    constexpr Index kColumns = Layout::kTileColumns;
    const float step = x_.step(k) * unit, zero = x_.zero(k);
    float* target = y + tile * kColumns;
    const auto columnOf = [](int j) { return Code::Order::column(slice, j / 4, j % 4); };
    if constexpr (kSlices<C> == 1) {  // by columns, so that the compiler sees whole registers
      float moved[kSliceColumns];
      if constexpr (kMoves<typename Code::Order>) {
        simd::unroll<kSliceColumns>([&](auto j) { moved[columnOf(j)] = sums[j]; });
      }
      const float* ordered = kMoves<typename Code::Order> ? moved : sums;
      Index j = from;
      for (; j + simd::kWordLanes <= to; j += simd::kWordLanes) {
        const auto sum = simd::load<simd::Floats>(ordered + j) - zero, before = simd::load<simd::Floats>(target + j);
        simd::store(target + j, simd::multiplyAdd(sum, simd::splat<simd::Floats>(step), before));
      }
      for (; j < to; ++j) target[j] += simd::unfused(step * (ordered[j] - zero));
    } else {
      for (int j = 0; j < kSliceColumns; ++j) {
        if (columnOf(j) >= from && columnOf(j) < to) target[columnOf(j)] += simd::unfused(step * (sums[j] - zero));
      }
    }
  }

  /// Where a tile of a block stands; one at the edge of the matrix is copied and filled up.
  [[gnu::always_inline]] typename Layout::TileAt findTile(Index b, Index tile) {
    const Index block = at_[b].block;
    const std::uint8_t* bytes = w_.codes + w_.layout.at(block, tile);
    // What is read next: a few tiles further in each block, else the same tiles of the next chunk.
    const Index chunk_bytes = kBlocks * kBlockRows * w_.layout.rowBytes();
    const std::uint8_t* next = bytes + (tile + kAhead < w_.layout.tiles() ? kAhead * Layout::kTileBytes : chunk_bytes);
    simd::unroll<Layout::kTileBundles>([&](auto i) __attribute__((always_inline)) {
      if constexpr (kManyAhead) {
        simd::prefetchToL2(next + i * kBundleBytes);
      } else {
        simd::prefetch(next + i * kBundleBytes);
      }
    });
    if (tile < at_[b].whole) return w_.layout.tile(w_.codes, at_[b], tile);
    return copy_.fill(w_.layout, w_.codes, block, tile);
  }

  template <int term, int slice>
  [[gnu::always_inline]] static void decode(typename Layout::TileAt tile, Decoded& out) {
    simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
      Tile bytes;
      Code::template bytes<term, slice>(tile + p * simd::kByteLanes, bytes);
      simd::unroll<8>([&](int i) __attribute__((always_inline)) { bytes[i] = simd::transpose4(bytes[i]); });
      simd::unroll<kRegisters>([&](int r) __attribute__((always_inline)) {
        simd::transposeSixteens(bytes + r * kSixteens);
        simd::unroll<kSixteens>([&](int i) __attribute__((always_inline)) {
          out[r][p * kSixteens + i] = bytes[r * kSixteens + i];
        });
      });
    });
  }

  /// The sums of a slice's columns, in fixed point.
  template <int term, int slice>
  void addTile(Index tile, float (&sums)[kTokens][kSliceColumns]) {
    if constexpr (!kAtOnce) {
      for (Index b = 0; b < x_.blocks(); ++b) decode<term, slice>(findTile(b, tile), decoded_[b]);
    }
    for (int i = 0; i < kRegisters; i += kOnce) addRegisters<term, slice>(i, tile, sums);
  }

  /// The sums of the columns in kOnce registers from i on.
  template <int term, int slice>
  [[gnu::always_inline]] void addRegisters(int i, Index tile, float (&sums)[kTokens][kSliceColumns]) {
    constexpr bool kSmall = Code::kTerm[term].small;
    constexpr float kUnit = Code::kTerm[term].unit;
    simd::Ints dots[kOnce][kTokens][kDigits] = {};
    for (Index b = 0; b < x_.blocks(); ++b) {
      Decoded one;
      if constexpr (kAtOnce) decode<term, slice>(findTile(b, tile), one);
      const Decoded& decoded = kAtOnce ? one : decoded_[b];
      simd::unroll<kFours>([&](int four) __attribute__((always_inline)) {
        simd::Bytes bytes[kOnce];
        simd::unroll<kOnce>([&](int r) __attribute__((always_inline)) { bytes[r] = decoded[i + r][four]; });
        simd::unroll<kTokens * kDigits>([&](auto at) __attribute__((always_inline)) {
          constexpr int kToken = at / kDigits, kDigit = at % kDigits;
          const auto x = simd::inRegister(simd::splat<simd::Ints>(x_.fourOf(kToken, b * kFours + four, kDigit)));
          simd::unroll<kOnce>([&](int r) __attribute__((always_inline)) {
            dots[r][kToken][kDigit] = simd::dot<kSmall>(dots[r][kToken][kDigit], bytes[r], x);
          });
        });
      });
    }
    simd::unroll<kOnce * kTokens>([&](auto at) __attribute__((always_inline)) {
      constexpr int kToken = at % kTokens, kRegister = at / kTokens;
      const auto& digits = dots[kRegister][kToken];
      auto whole = simd::toFloats(digits[kDigits - 1]);
      simd::unroll<kDigits - 1>([&](int d) __attribute__((always_inline)) {
        whole = whole * 256 + simd::toFloats(digits[kDigits - 2 - d]);  // the product is exact
      });
      float* target = sums[kToken] + (i + kRegister) * simd::kWordLanes;
      const auto sum = simd::unfused(whole * kUnit);
      simd::store(target, term == 0 ? sum : simd::load<simd::Floats>(target) + sum);
    });
  }

  const CodeView<C, T, kPieces>& w_;
  Rows x_;
  typename Layout::Block at_[kBlocks];
  TileCopy<C> copy_;
  Decoded decoded_[kAtOnce ? 1 : kBlocks];  ///< where the columns do not go into registers all at once
};

/// y += unit * W^T x in integers, for codebooks whose bytes are exact. Allocates nothing.
template <int kDigits = kExactDigits, TileCodebook C, class T, int kPieces>
void addTransposedInteger(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                          Index x_stride, float* y, Index y_stride) {
  static_assert(TileCode<C>::kExact);
  forTokens<4>(0, tokens, [&](Index token, auto together) {
    const auto addChunks = [&]<class Chunk>(std::type_identity<Chunk>) {
      for (Index first = 0; first < w.layout.blocks(); first += Chunk::kChunk) {
        Chunk(w, first, x + token * x_stride, x_stride).add(n, unit, y + token * y_stride, y_stride);
      }
    };
    if constexpr (kPieces == 1 && kTransposesPlanes<C>) {
      using Chunk = PlaneTransposedChunk<kDigits, C, T, together>;
      constexpr Index kHalf = Chunk::kSpan / 2;
      if constexpr (kHalf % TileLayout<C>::kTileColumns == 0) {  // else no group is that narrow
        using OfTwo = PlaneTransposedChunk<kDigits, C, T, together, 2>;
        if (w.groups > 1 && w.group_columns == kHalf) return addChunks(std::type_identity<OfTwo>{});
      }
      addChunks(std::type_identity<Chunk>{});
    } else {
      addChunks(std::type_identity<IntegerTransposedChunk<kDigits, C, T, kPieces, together> >{});
    }
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
