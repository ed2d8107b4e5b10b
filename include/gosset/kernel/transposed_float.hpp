// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

// y += W^T x in floats. The 16 rows of a block stand in the lanes of a register. A few columns of W at a time are
// decoded, down all rows, and meet all columns of x; what the lanes have summed up is added together once, at the end,
// in one order whatever a register holds. Products are fused with sums where the machine can (kHasFma).
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Columns of x that share the decoding, and sums kept in registers.
inline constexpr int kSums = simd::kVectorRegisters >= 32 ? 16 : 8;
inline constexpr int kTogether = kSums / 2;
/// Blocks of rows whose x' is kept at a time: half of a small L1 cache.
inline constexpr Index kChunkBlocks = 32;

/// Lanes of a and b summed in pairs a bit of the lane's number apart: those of a where the bit is 0, of b where it
/// is 1.
template <int kBit>
[[gnu::always_inline]] inline simd::Floats pairSums(simd::Floats a, simd::Floats b) {
  constexpr int kLanes = simd::kWordLanes;
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, ((I & kBit) != 0 ? kLanes + I : I)...) +
           __builtin_shufflevector(a, b, ((I & kBit) != 0 ? kLanes + (I ^ kBit) : (I ^ kBit))...);
  }
  (std::make_integer_sequence<int, kLanes>{});
}

/// The sums over the lanes of kCount <= kWordLanes registers, a power of two, in as many lanes.
template <int kCount, int kBit = 1>
[[gnu::always_inline]] inline simd::Floats sumsOfLanes(const simd::Floats* v) {
  if constexpr (kBit == simd::kWordLanes) {
    return v[0];
  } else if constexpr (kCount == 1) {
    const simd::Floats sum = v[0] + simd::exchange<kBit, float, simd::kWordLanes>(v[0]);
    return sumsOfLanes<1, 2 * kBit>(&sum);
  } else {
    simd::Floats half[kCount / 2];
    simd::unroll<kCount / 2>([&](int i)
                                 __attribute__((always_inline)) { half[i] = pairSums<kBit>(v[2 * i], v[2 * i + 1]); });
    return sumsOfLanes<kCount / 2, 2 * kBit>(half);
  }
}

/// out[i]: the sum over the lanes of v[i].
template <int kCount>
[[gnu::always_inline]] inline void storeSums(const simd::Floats* v, float* out) {
  constexpr int kOnce = kCount < simd::kWordLanes ? kCount : simd::kWordLanes;
  simd::unroll<kCount / kOnce>([&](int part) __attribute__((always_inline)) {
    float sums[simd::kWordLanes];
    simd::store(sums, sumsOfLanes<kOnce>(v + part * kOnce));
    std::copy_n(sums, kOnce, out + part * kOnce);
  });
}

/// The columns of register i of a slice, where the code decodes all columns together. Not inlined, for it is much code,
/// which the compiler has to thin out each time.
template <TileCodebook C, int slice, int i>
[[gnu::noinline]] void decodeQuad(typename TileLayout<C>::TileAt tile, simd::Floats* columns) {
  TileCode<C>::levels(
      tile, [&](int column, simd::Floats level) __attribute__((always_inline)) {
        simd::unroll<4>([&](int k) __attribute__((always_inline)) {
          if (column == TileCode<C>::Order::column(slice, i, k)) columns[k] = level;
        });
      });
}

/// Whether a register's columns can be decoded alone.
template <TileCodebook C>
inline constexpr bool kDecodesColumns = requires(typename TileLayout<C>::TileAt tile) {
  TileCode<C>::template columns<0>(tile, Index{}, [](int, simd::Floats) {});
};

/// Calls visit(k, Floats) for the four columns of register i of a slice; each k is a constant once inlined.
template <TileCodebook C, int slice, class Register, class Visit>
[[gnu::always_inline]] inline void levelsOfQuad(typename TileLayout<C>::TileAt tile, Register i, const Visit& visit) {
  if constexpr (kDecodesColumns<C>) {
    TileCode<C>::template columns<slice>(tile, i, visit);
  } else {
    simd::Floats columns[4];
    decodeQuad<C, slice, i>(tile, columns);
    simd::unroll<4>([&](auto k) __attribute__((always_inline)) { visit(k, columns[k]); });
  }
}

/// A chunk of blocks of rows and kTokens columns of x.
template <TileCodebook C, class T, int kPieces, int kTokens>
class TransposedChunk {
  using Layout = TileLayout<C>;
  static constexpr int kColumns = kSums / kTokens < 4 ? kSums / kTokens : 4;

 public:
  TransposedChunk(const CodeView<C, T, kPieces>& w, Index first, const float* x, Index x_stride)
      : w_(w),
        first_(first),
        blocks_(std::min(kChunkBlocks, w.layout.blocks() - first)),
        rows_(x + first * kBlockRows),
        x_stride_(x_stride) {}

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index y_stride) {
    for (Index group = 0; group < w_.groups; ++group) {
      foldScales(group);
      forTilesOfGroup(w_, group, n, [&](Index tile, Index from, Index to) {
        findTile(tile);
        float* target = y + tile * Layout::kTileColumns;
        simd::unroll<kSlices<C> >([&](auto slice) { addSlice<slice>(from, to, unit, target, y_stride); });
      });
    }
  }

 private:
  /// x' and the sums of zero * x'.
  void foldScales(Index group) {
    BlockFloats zeros[kTokens] = {};
    forFoldedRows<kTokens>(
        w_, first_, blocks_, group, rows_,
        x_stride_, [&](Index b, auto k, auto p, simd::Floats x, simd::Floats zero) __attribute__((always_inline)) {
          zeros[k][p] = simd::multiplyAdd(x, zero, zeros[k][p]);
          simd::store(x_[b * kParts + p][k], x);
        });
    for (int k = 0; k < kTokens; ++k) {
      zeros_[k] = simd::sumInHalves<kParts>(zeros[k].part);
    }
  }

  /// Where the tile stands in each block; those at the edges of the matrix are copied and filled up.
  void findTile(Index tile) {
    for (Index b = 0; b < blocks_; ++b) {
      const Index block = first_ + b;
      const bool whole = tile < w_.layout.wholeTiles(block);
      at_[b] = whole ? w_.layout.tile(w_.codes, block, tile) : copies_[b].fill(w_.layout, w_.codes, block, tile);
    }
  }

  /// Those columns of a slice of the tile that are in [from, to); y begins where the tile does.
  template <int slice>
  void addSlice(Index from, Index to, float unit, float* y, Index y_stride) const {
    const auto quad = [&](auto i) {
      simd::unroll<4 / kColumns>([&](int part) __attribute__((always_inline)) {
        addColumns<slice>(i, part, from, to, unit, y, y_stride);
      });
    };
    if constexpr (kDecodesColumns<C>) {
      for (int i = 0; i < 8; ++i) quad(i);
    } else {
      simd::unroll<8>(quad);
    }
  }

  template <int slice, class Register, class Part>
  void addColumns(Register i, Part part, Index from, Index to, float unit, float* y, Index y_stride) const {
    Index columns[kColumns];
    for (int c = 0; c < kColumns; ++c) columns[c] = TileCode<C>::Order::column(slice, i, part * kColumns + c);
    const auto isAsked = [&](Index column) { return column >= from && column < to; };
    if (std::none_of(columns, columns + kColumns, isAsked)) return;
    float parts[kParts][kTokens * kColumns];
    simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
      simd::Floats sums[kTokens * kColumns] = {};
      for (Index b = 0; b < blocks_; ++b) {
        simd::Floats x[kTokens];
        simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
          x[k] = simd::load<simd::Floats>(x_[b * kParts + p][k]);
        });
        levelsOfQuad<C, slice>(
            at_[b] + p * simd::kByteLanes, i, [&](int column, simd::Floats level) __attribute__((always_inline)) {
              if (column / kColumns != part) return;
              simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
                simd::Floats& sum = sums[k * kColumns + column % kColumns];
                sum = simd::fusedMultiplyAdd(level, x[k], sum);
              });
            });
      }
      storeSums<kTokens * kColumns>(sums, parts[p]);
    });
    for (int k = 0; k < kTokens; ++k) {
      for (int c = 0; c < kColumns; ++c) {
        const float sum = sumOfParts(parts, k * kColumns + c) - zeros_[k];
        if (isAsked(columns[c])) y[k * y_stride + columns[c]] += simd::unfused(unit * sum);
      }
    }
  }

  /// As the lanes of a register that holds all 16 rows would be summed up.
  template <std::size_t kWidth>
  static float sumOfParts(const float (&parts)[kParts][kWidth], int i) {
    if constexpr (kParts == 1) return parts[0][i];
    if constexpr (kParts == 2) return parts[0][i] + parts[1][i];
    if constexpr (kParts == 4) return (parts[0][i] + parts[1][i]) + (parts[2][i] + parts[3][i]);
  }

  const CodeView<C, T, kPieces>& w_;
  Index first_, blocks_;
  const float* rows_;
  Index x_stride_;
  typename Layout::TileAt at_[kChunkBlocks];
  float zeros_[kTokens];
  alignas(64) float x_[kChunkBlocks * kParts][kTokens][simd::kWordLanes];
  TileCopy<C> copies_[kChunkBlocks];
};

/// y (n x t, column-major, columns y_stride apart) += unit * W^T x in floats, x being m x t, its columns
/// x_stride apart.
template <TileCodebook C, class T, int kPieces>
void addTransposedFloat(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                        Index x_stride, float* y, Index y_stride) {
  for (Index first = 0; first < w.layout.blocks(); first += kChunkBlocks) {
    forTokens<kTogether>(0, tokens, [&](Index token, auto together) {
      TransposedChunk<C, T, kPieces, together>(w, first, x + token * x_stride, x_stride)
          .add(n, unit, y + token * y_stride, y_stride);
    });
  }
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
