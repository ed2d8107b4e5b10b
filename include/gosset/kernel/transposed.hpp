// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kernel/product.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

// y += W^T x from packed codes, for a few columns of x. The 16 rows of a block stand in the lanes of a register, so
// scales go into x: with x'_i = scale_i x_i for the rows i of a group of columns,
//
//   sum_i scale_i (level_ij - zero_i) x_i  =  sum_i level_ij x'_i  -  sum_i zero_i x'_i,
//
// the last of which is the same for all columns of the group. A few columns of W at a time are decoded, down all rows,
// and meet all columns of x; what the lanes have summed up is added together once, at the end.
namespace gosset::detail {

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
    simd::unroll<kCount / 2>([&](auto i)
                                 __attribute__((always_inline)) { half[i] = pairSums<kBit>(v[2 * i], v[2 * i + 1]); });
    return sumsOfLanes<kCount / 2, 2 * kBit>(half);
  }
}

/// out[i]: the sum over the lanes of v[i].
template <int kCount>
[[gnu::always_inline]] inline void storeSums(const simd::Floats* v, float* out) {
  constexpr int kOnce = kCount < simd::kWordLanes ? kCount : simd::kWordLanes;
  simd::unroll<kCount / kOnce>([&](auto part) __attribute__((always_inline)) {
    float sums[simd::kWordLanes];
    simd::store(sums, sumsOfLanes<kOnce>(v + part * kOnce));
    std::copy_n(sums, kOnce, out + part * kOnce);
  });
}

/// The columns 4 kQuad + k of a tile whose code decodes all columns together. Not inlined, for it is much code, which
/// the compiler has to thin out each time.
template <TileCodebook C, int kQuad>
[[gnu::noinline]] void decodeQuad(const std::uint8_t* tile, simd::Floats* columns) {
  TileCode<C>::levels(
      tile, [&](int column, simd::Floats level) __attribute__((always_inline)) {
        if (column / 4 == kQuad) columns[column % 4] = level;
      });
}

/// Calls visit(k, Floats) for the four columns 4 quad + k of a tile; each k is a constant once inlined.
template <TileCodebook C, class Quad, class Visit>
[[gnu::always_inline]] inline void levelsOfQuad(const std::uint8_t* tile, Quad quad, const Visit& visit) {
  if constexpr (requires { TileCode<C>::columns(tile, quad, visit); }) {
    TileCode<C>::columns(tile, quad, visit);
  } else {
    simd::Floats columns[4];
    decodeQuad<C, quad>(tile, columns);
    simd::unroll<4>([&](auto k) __attribute__((always_inline)) { visit(k, columns[k]); });
  }
}

/// x' = scale * x for the rows of `count` blocks from `first` on and kTokens columns of x, whose rows begin there:
/// calls visit(block, token, part, x', zero) for each register of rows; rows that do not exist are 0.
template <int kTokens, Codebook C, class T, class Visit>
[[gnu::always_inline]] inline void forFoldedRows(const CodeView<C, T>& w, Index first, Index count, Index group,
                                                 const float* x, Index xStride, const Visit& visit) {
  // What is read next: the cache line with the next groups of a block, else the next blocks.
  constexpr Index kAhead = 64 / (kBlockRows * static_cast<Index>(sizeof(T))) + 1;
  const Index ahead = (group + kAhead < w.groups ? kAhead : count * w.groups) * kBlockRows;
  float last[kTokens][kBlockRows];
  for (Index b = 0; b < count; ++b) {
    BlockFloats scale, zero = {};
    const Index at = w.layout.scaleAt(first + b, group, w.groups) + ahead;
    loadGroup(w, w.scales, first + b, group, scale);
    simd::prefetch(w.scales + at);
    if (w.zeros != nullptr) {
      loadGroup(w, w.zeros, first + b, group, zero);
      simd::prefetch(w.zeros + at);
    }
    const float* from = x + b * kBlockRows;
    Index stride = xStride;
    if (const Index rows = w.layout.rowsOf(first + b); rows < kBlockRows) {
      for (int k = 0; k < kTokens; ++k) std::fill(std::copy_n(from + k * xStride, rows, last[k]), last[k + 1], 0.f);
      from = last[0];
      stride = kBlockRows;
    }
    simd::unroll<kTokens>([&](auto k) __attribute__((always_inline)) {
      simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
        visit(b, k, p, simd::load<simd::Floats>(from + k * stride + p * simd::kWordLanes) * scale[p], zero[p]);
      });
    });
  }
}

/// A chunk of blocks of rows and kTokens columns of x.
template <TileCodebook C, class T, int kTokens>
class TransposedChunk {
  using Layout = TileLayout<C>;
  static constexpr int kColumns = kSums / kTokens < 4 ? kSums / kTokens : 4;

 public:
  TransposedChunk(const CodeView<C, T>& w, Index first, const float* x, Index xStride)
      : w_(w),
        first_(first),
        blocks_(std::min(kChunkBlocks, w.layout.blocks() - first)),
        rows_(x + first * kBlockRows),
        xStride_(xStride) {}

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index yStride) {
    for (Index group = 0, tile = 0; group < w_.groups; ++group) {
      foldScales(group);
      for (const Index last = std::min(tile + w_.groupTiles, w_.layout.tiles()); tile < last; ++tile) {
        findTile(tile);
        const auto quad = [&](auto i) {
          simd::unroll<4 / kColumns>([&](auto part) {
            const Index column = tile * kTileColumns + 4 * i + part * kColumns;
            if (column < n) addColumns(i, part, std::min<Index>(kColumns, n - column), unit, y + column, yStride);
          });
        };
        if constexpr (requires { TileCode<C>::columns(at_[0], Index{}, [](int, simd::Floats) {}); }) {
          for (Index i = 0; i < 8; ++i) quad(i);
        } else {
          simd::unroll<8>(quad);
        }
      }
    }
  }

 private:
  /// x' and the sums of zero * x'.
  void foldScales(Index group) {
    BlockFloats zeros[kTokens] = {};
    forFoldedRows<kTokens>(
        w_, first_, blocks_, group, rows_,
        xStride_, [&](Index b, auto k, auto p, simd::Floats x, simd::Floats zero) __attribute__((always_inline)) {
          zeros[k][p] += x * zero;
          simd::store(x_[b * kParts + p][k], x);
        });
    for (int k = 0; k < kTokens; ++k) {
      simd::unroll<kParts - 1>([&](auto p) { zeros[k][0] += zeros[k][p + 1]; });
      storeSums<1>(&zeros[k][0], &zeros_[k]);
    }
  }

  /// Where the tile stands in each block; those at the edges of the matrix are copied and filled up.
  void findTile(Index tile) {
    for (Index b = 0; b < blocks_; ++b) {
      const Index block = first_ + b;
      if (w_.layout.rowsOf(block) == kBlockRows && tile < w_.layout.wholeTiles()) {
        at_[b] = w_.codes + w_.layout.at(block, tile);
      } else {
        w_.layout.copyTile(w_.codes, block, tile, copies_[b]);
        at_[b] = copies_[b];
      }
    }
  }

  template <class Quad, class Part>
  void addColumns(Quad quad, Part part, Index count, float unit, float* y, Index yStride) const {
    simd::Floats sums[kTokens * kColumns] = {};
    for (Index b = 0; b < blocks_; ++b) {
      simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
        simd::Floats x[kTokens];
        simd::unroll<kTokens>([&](auto k) __attribute__((always_inline)) {
          x[k] = simd::load<simd::Floats>(x_[b * kParts + p][k]);
        });
        levelsOfQuad<C>(
            at_[b] + p * simd::kByteLanes, quad, [&](int column, simd::Floats level) __attribute__((always_inline)) {
              if (column / kColumns != part) return;
              simd::unroll<kTokens>([&](auto k) __attribute__((always_inline)) {
                simd::Floats& sum = sums[k * kColumns + column % kColumns];
                sum = simd::multiplyAdd(level, x[k], sum);
              });
            });
      });
    }
    float out[kTokens * kColumns];
    storeSums<kTokens * kColumns>(sums, out);
    for (int k = 0; k < kTokens; ++k) {
      float* target = y + k * yStride;
      for (int c = 0; c < kColumns; ++c) {
        if (c < count) target[c] += unit * (out[k * kColumns + c] - zeros_[k]);
      }
    }
  }

  const CodeView<C, T>& w_;
  Index first_, blocks_;
  const float* rows_;
  Index xStride_;
  const std::uint8_t* at_[kChunkBlocks];
  float zeros_[kTokens];
  alignas(64) float x_[kChunkBlocks * kParts][kTokens][simd::kWordLanes];
  alignas(64) std::uint8_t copies_[kChunkBlocks][Layout::kTileBytes];
};

/// The same in integers: x' as fixed point, in units of about 2^-22 of the largest x' of the group and chunk, so as
/// exact as floats are. Its three bytes meet the codes' bytes in dot products of four rows. For these, lanes have to be
/// columns: each 4 x 4 of a tile's bytes is transposed, and then the parts of 16 bytes that hold the same four rows are
/// brought together. So a sum of a column is a lane's, and the four rows of x' are the same in all lanes.
template <TileCodebook C, class T, int kTokens>
class IntegerTransposedChunk {
  using Code = TileCode<C>;
  using Layout = TileLayout<C>;
  static constexpr int kDigits = 3;
  static constexpr Index kBlocks = 16;  ///< of rows; sums of up to 256 products of bytes are exact in floats
  static constexpr int kFours = kBlockRows / 4;
  static constexpr int kSixteens = simd::kByteLanes / 16;
  static constexpr int kRegisters = kTileColumns / simd::kWordLanes;  ///< for the columns of a tile
  static constexpr int kOnce = simd::kVectorRegisters / 16;           ///< of these registers at a time
  static constexpr bool kAtOnce = kOnce == kRegisters;
  static constexpr Index kAhead = 4;                                                    ///< tiles
  static constexpr bool kManyAhead = kBlocks * kAhead * Layout::kTileBytes > 16 << 10;  ///< for a small L1
  static constexpr float kLargest = 63 * 0x1p16f;
  using Decoded = simd::Bytes[kRegisters][kFours];  ///< a tile: lanes are columns, bytes rows

 public:
  static constexpr Index kChunk = kBlocks;

  IntegerTransposedChunk(const CodeView<C, T>& w, Index first, const float* x, Index xStride)
      : w_(w),
        first_(first),
        blocks_(std::min(kBlocks, w.layout.blocks() - first)),
        rows_(x + first * kBlockRows),
        xStride_(xStride) {}

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index yStride) {
    for (Index group = 0, tile = 0; group < w_.groups; ++group) {
      foldScales(group);
      for (const Index last = std::min(tile + w_.groupTiles, w_.layout.tiles()); tile < last; ++tile) {
        float sums[kTokens][kTileColumns];
        simd::unroll<Code::kTerms>([&](auto term) { addTile<term>(tile, sums); });
        const Index column = tile * kTileColumns, count = std::min(kTileColumns, n - column);
        for (int k = 0; k < kTokens; ++k) {
          float* target = y + k * yStride + column;
          const float step = step_[k] * unit, zero = zeros_[k];
          for (Index j = 0; j < count; ++j) target[j] += step * (sums[k][slotOf(j)] - zero);
        }
      }
    }
  }

 private:
  /// Where the sum of a tile's column j stands.
  static constexpr Index slotOf(Index j) { return Code::kTransposed ? j % 8 * 4 + j / 8 : j; }

  /// x' in fixed point, what one of its units is, and what zero points take away in such units.
  void foldScales(Index group) {
    alignas(64) float folded[kTokens][kBlocks * kBlockRows];
    BlockFloats zeros[kTokens] = {}, largest[kTokens] = {};
    forFoldedRows<kTokens>(
        w_, first_, blocks_, group, rows_,
        xStride_, [&](Index b, auto k, auto p, simd::Floats x, simd::Floats zero) __attribute__((always_inline)) {
          largest[k][p] = larger((simd::Floats)((simd::Ints)x & 0x7fffffff), largest[k][p]);
          zeros[k][p] += x * zero;
          simd::store(folded[k] + b * kBlockRows + p * simd::kWordLanes, x);
        });
    simd::unroll<kTokens>([&](auto k) {
      simd::Floats most = largest[k][0], zero = zeros[k][0];
      simd::unroll<kParts - 1>([&](auto p) {
        most = larger(most, largest[k][p + 1]);
        zero += zeros[k][p + 1];
      });
      fixPoint(k, folded[k], simd::overLanes(most, larger),
               simd::overLanes(zero, [](auto a, auto b) { return a + b; }));
    });
  }

  /// The three bytes of x' / unit, for the unit that goes with the largest of them.
  void fixPoint(int k, const float* folded, float most, float zero) {
    constexpr float kToInteger = 0x1.8p23f;              // adding it rounds to an integer, in the lowest bits
    constexpr std::int32_t kTop = 0x00808080;            // q + kTop has the digits, each more by 128
    const float lift = most < 0x1p-80f ? 0x1p80f : 1.f;  // so that the inverse is finite
    const float inverse = most == 0 ? 0.f : kLargest / (most * lift);
    simd::Ints total{};
    for (Index i = 0; i < blocks_ * kParts; ++i) {
      const simd::Floats x = simd::load<simd::Floats>(folded + i * simd::kWordLanes) * lift * inverse;
      const auto q = (simd::Ints)(x + kToInteger) - std::bit_cast<std::int32_t>(kToInteger);
      total += q;
      simd::store(&x_[k][i * simd::kWordLanes / 4][0], simd::transpose4((simd::Bytes)((q + kTop) ^ kTop)));
    }
    const auto sum = static_cast<double>(simd::overLanes(total, [](auto a, auto b) { return a + b; }));
    step_[k] = most / kLargest;
    zeros_[k] = most == 0 ? 0.f : zero * lift * inverse;
    simd::unroll<Code::kTerms>(
        [&](auto t) { zeros_[k] += Code::kTerm[t].unit * static_cast<float>(Code::kTerm[t].zero * sum); });
  }

  static simd::Floats larger(simd::Floats a, simd::Floats b) { return a > b ? a : b; }

  /// Where a tile of a block stands; one at the edge of the matrix is copied and filled up.
  const std::uint8_t* findTile(Index b, Index tile) {
    const Index block = first_ + b;
    const std::uint8_t* bytes = w_.codes + w_.layout.at(block, tile);
    // What is read next: a few tiles further in each block, else the same tiles of the next chunk.
    const Index chunkBytes = kBlocks * kBlockRows * w_.layout.rowBytes();
    const std::uint8_t* next = bytes + (tile + kAhead < w_.layout.tiles() ? kAhead * Layout::kTileBytes : chunkBytes);
    simd::unroll<Layout::kTileBundles>([&](auto i) __attribute__((always_inline)) {
      if constexpr (kManyAhead) {
        simd::prefetchToL2(next + i * kBundleBytes);
      } else {
        simd::prefetch(next + i * kBundleBytes);
      }
    });
    if (w_.layout.rowsOf(block) == kBlockRows && tile < w_.layout.wholeTiles()) return bytes;
    w_.layout.copyTile(w_.codes, block, tile, copy_);
    return copy_;
  }

  template <int term>
  [[gnu::always_inline]] static void decode(const std::uint8_t* tile, Decoded& out) {
    simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
      Tile bytes;
      Code::template bytes<term>(tile + p * simd::kByteLanes, bytes);
      simd::unroll<8>([&](auto i) __attribute__((always_inline)) { bytes[i] = simd::transpose4(bytes[i]); });
      simd::unroll<kRegisters>([&](auto r) __attribute__((always_inline)) {
        simd::transposeSixteens(bytes + r * kSixteens);
        simd::unroll<kSixteens>([&](auto i) __attribute__((always_inline)) {
          out[r][p * kSixteens + i] = bytes[r * kSixteens + i];
        });
      });
    });
  }

  /// The sums of a tile's columns, in fixed point.
  template <int term>
  void addTile(Index tile, float (&sums)[kTokens][kTileColumns]) {
    if constexpr (!kAtOnce) {
      for (Index b = 0; b < blocks_; ++b) decode<term>(findTile(b, tile), decoded_[b]);
    }
    for (int i = 0; i < kRegisters; i += kOnce) addRegisters<term>(i, tile, sums);
  }

  /// The sums of the columns in kOnce registers from i on.
  template <int term>
  [[gnu::always_inline]] void addRegisters(int i, Index tile, float (&sums)[kTokens][kTileColumns]) {
    constexpr bool kSmall = Code::kTerm[term].small;
    constexpr float kUnit = Code::kTerm[term].unit;
    simd::Ints dots[kOnce][kTokens][kDigits] = {};
    for (Index b = 0; b < blocks_; ++b) {
      Decoded one;
      if constexpr (kAtOnce) decode<term>(findTile(b, tile), one);
      const Decoded& decoded = kAtOnce ? one : decoded_[b];
      simd::unroll<kFours>([&](auto four) __attribute__((always_inline)) {
        simd::Bytes bytes[kOnce];
        simd::unroll<kOnce>([&](auto r) __attribute__((always_inline)) { bytes[r] = decoded[i + r][four]; });
        simd::unroll<kTokens * kDigits>([&](auto at) __attribute__((always_inline)) {
          constexpr int kToken = at / kDigits, kDigit = at % kDigits;
          const auto x = simd::inRegister(simd::splat<simd::Ints>(x_[kToken][b * kFours + four][kDigit]));
          simd::unroll<kOnce>([&](auto r) __attribute__((always_inline)) {
            dots[r][kToken][kDigit] = simd::dot<kSmall>(dots[r][kToken][kDigit], bytes[r], x);
          });
        });
      });
    }
    simd::unroll<kOnce * kTokens>([&](auto at) __attribute__((always_inline)) {
      constexpr int kToken = at % kTokens, kRegister = at / kTokens;
      const auto& digits = dots[kRegister][kToken];
      const auto whole =
          (simd::toFloats(digits[2]) * 256 + simd::toFloats(digits[1])) * 256 + simd::toFloats(digits[0]);
      float* target = sums[kToken] + (i + kRegister) * simd::kWordLanes;
      simd::store(target, term == 0 ? whole * kUnit : simd::load<simd::Floats>(target) + whole * kUnit);
    });
  }

  const CodeView<C, T>& w_;
  Index first_, blocks_;
  const float* rows_;
  Index xStride_;
  float step_[kTokens], zeros_[kTokens];
  alignas(64) std::int32_t x_[kTokens][kBlocks * kFours][4];  ///< four rows' bytes, from the lowest up; the last unused
  alignas(64) std::uint8_t copy_[Layout::kTileBytes];
  Decoded decoded_[kAtOnce ? 1 : kBlocks];  ///< where the columns do not go into registers all at once
};

/// y (n x t, column-major, columns yStride apart) += unit * W^T x in floats, x being m x t, its columns xStride apart.
template <TileCodebook C, class T>
void addTransposedFloat(const CodeView<C, T>& w, Index n, float unit, const float* x, Index tokens, Index xStride,
                        float* y, Index yStride) {
  for (Index first = 0; first < w.layout.blocks(); first += kChunkBlocks) {
    forTokens<kTogether>(0, tokens, [&](Index token, auto together) {
      TransposedChunk<C, T, together>(w, first, x + token * xStride, xStride)
          .add(n, unit, y + token * yStride, yStride);
    });
  }
}

/// The same in integers, for codebooks whose bytes are exact.
template <TileCodebook C, class T>
void addTransposedInteger(const CodeView<C, T>& w, Index n, float unit, const float* x, Index tokens, Index xStride,
                          float* y, Index yStride) {
  static_assert(TileCode<C>::kExact);
  forTokens<4>(0, tokens, [&](Index token, auto together) {
    using Chunk = IntegerTransposedChunk<C, T, together>;
    for (Index first = 0; first < w.layout.blocks(); first += Chunk::kChunk) {
      Chunk(w, first, x + token * xStride, xStride).add(n, unit, y + token * yStride, yStride);
    }
  });
}

/// y += unit * W^T x by the faster of the two. Allocates nothing.
template <TileCodebook C, class T>
void addTransposed(const CodeView<C, T>& w, Index n, float unit, const float* x, Index tokens, Index xStride, float* y,
                   Index yStride) {
  if constexpr (TileCode<C>::kExact && simd::kHasDot) {
    addTransposedInteger(w, n, unit, x, tokens, xStride, y, yStride);
  } else {
    addTransposedFloat(w, n, unit, x, tokens, xStride, y, yStride);
  }
}

}  // namespace gosset::detail
