// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// y += W^T x in integers. What is left of floats has one order and is not fused: the same bits on every machine.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Bytes of x' that are as exact as floats, in units of about 2^-22 of the largest x' of a group and chunk; and that
/// attention may do with where keys and values are far less exact: 1 / 32639. (One byte would take as long: what bounds
/// products then is the decoding.)
inline constexpr int kExactDigits = 3, kRoundedDigits = 2;

/// The same in integers: x' as fixed point, in units that kDigits bytes hold the largest x' of the group and chunk in.
/// Its bytes meet the codes' bytes in dot products of four rows. For these, lanes have to be columns: each 4 x 4 of a
/// tile's bytes is transposed, and then the parts of 16 bytes that hold the same four rows are brought together. So a
/// sum of a column is a lane's, and the four rows of x' are the same in all lanes.
template <int kDigits, TileCodebook C, class T, int kPieces, int kTokens>
class IntegerTransposedChunk {
  using Code = TileCode<C>;
  using Layout = TileLayout<C>;
  static constexpr Index kBlocks = 16;  ///< of rows; sums of up to 256 products of bytes are exact in floats
  static constexpr int kFours = kBlockRows / 4;
  static constexpr int kSixteens = simd::kByteLanes / 16;
  static constexpr int kRegisters = kSliceColumns / simd::kWordLanes;  ///< for the columns of a slice
  static constexpr int kOnce = simd::kVectorRegisters / 16;            ///< of these registers at a time
  static constexpr bool kAtOnce = kOnce == kRegisters;
  static constexpr Index kAhead = 4;                                                    ///< tiles
  static constexpr bool kManyAhead = kBlocks * kAhead * Layout::kTileBytes > 16 << 10;  ///< for a small L1
  static constexpr float kLargest = kDigits == kExactDigits ? 63 * 0x1p16f : 127 * 256 + 127;
  using Decoded = simd::Bytes[kRegisters][kFours];  ///< a slice: lanes are columns, bytes rows

 public:
  static constexpr Index kChunk = kBlocks;

  IntegerTransposedChunk(const CodeView<C, T, kPieces>& w, Index first, const float* x, Index x_stride)
      : w_(w),
        first_(first),
        blocks_(std::min(kBlocks, w.layout.blocks() - first)),
        rows_(x + first * kBlockRows),
        x_stride_(x_stride) {}

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index y_stride) {
    for (Index group = 0; group < w_.groups; ++group) {
      foldScales(group);
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
    const float step = step_[k] * unit, zero = zeros_[k];
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

  /// x' in fixed point, what one of its units is, and what zero points take away in such units.
  void foldScales(Index group) {
    alignas(64) float folded[kTokens][kBlocks * kBlockRows];
    BlockFloats zeros[kTokens] = {};
    simd::Ints largest[kTokens][kParts] = {};  // magnitudes as bits, which put infinity and NaN above all others
    forFoldedRows<kTokens>(
        w_, first_, blocks_, group, rows_,
        x_stride_, [&](Index b, auto k, auto p, simd::Floats x, simd::Floats zero) __attribute__((always_inline)) {
          largest[k][p] = larger((simd::Ints)x & 0x7fffffff, largest[k][p]);
          zeros[k][p] = simd::multiplyAdd(x, zero, zeros[k][p]);
          simd::store(folded[k] + b * kBlockRows + p * simd::kWordLanes, x);
        });
    simd::unroll<kTokens>([&](auto k) {
      simd::Ints most = largest[k][0];
      simd::unroll<kParts - 1>([&](auto p) { most = larger(most, largest[k][p + 1]); });
      fixPoint(k, folded[k], std::bit_cast<float>(simd::overLanes(most, larger)),
               simd::sumInHalves<kParts>(zeros[k].part));
    });
  }

  /// The bytes of x' / unit, for the unit that goes with the largest of them; NaN is the unit where that is not
  /// finite.
  void fixPoint(int k, const float* folded, float most, float zero) {
    if (!std::isfinite(most)) {
      std::fill_n(&x_[k][0][0], blocks_ * kFours * 4, 0);
      step_[k] = std::numeric_limits<float>::quiet_NaN();
      zeros_[k] = 0;
      return;
    }
    constexpr float kToInteger = 0x1.8p23f;  // adding it rounds to an integer, in the lowest bits
    constexpr std::int32_t kTop = 0x00808080 >> (8 * (kExactDigits - kDigits));  // q + it has digits, each more by 128
    const float lift = most < 0x1p-80f ? 0x1p80f : 1.f;                          // so that the inverse is finite
    const float inverse = most == 0 ? 0.f : kLargest / (most * lift);
    simd::Ints total{};
    for (Index i = 0; i < blocks_ * kParts; ++i) {
      const auto x = simd::unfused(simd::load<simd::Floats>(folded + i * simd::kWordLanes) * lift * inverse);
      const auto q = (simd::Ints)(x + kToInteger) - std::bit_cast<std::int32_t>(kToInteger);
      total += q;
      simd::store(&x_[k][i * simd::kWordLanes / 4][0], simd::transpose4((simd::Bytes)((q + kTop) ^ kTop)));
    }
    const auto sum = static_cast<double>(simd::overLanes(total, [](auto a, auto b) { return a + b; }));
    step_[k] = most / kLargest;
    zeros_[k] = most == 0 ? 0.f : simd::unfused(zero * lift * inverse);
    simd::unroll<Code::kTerms>([&](auto t) {
      zeros_[k] += simd::unfused(Code::kTerm[t].unit * static_cast<float>(Code::kTerm[t].zero * sum));
    });
  }

  static simd::Ints larger(simd::Ints a, simd::Ints b) { return a > b ? a : b; }

  /// Where a tile of a block stands; one at the edge of the matrix is copied and filled up.
  [[gnu::always_inline]] typename Layout::TileAt findTile(Index b, Index tile) {
    const Index block = first_ + b;
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
    if (tile < w_.layout.wholeTiles(block)) return w_.layout.tile(w_.codes, block, tile);
    return copy_.fill(w_.layout, w_.codes, block, tile);
  }

  template <int term, int slice>
  [[gnu::always_inline]] static void decode(typename Layout::TileAt tile, Decoded& out) {
    simd::unroll<kParts>([&](auto p) __attribute__((always_inline)) {
      Tile bytes;
      Code::template bytes<term, slice>(tile + p * simd::kByteLanes, bytes);
      simd::unroll<8>([&](auto i) __attribute__((always_inline)) { bytes[i] = simd::transpose4(bytes[i]); });
      simd::unroll<kRegisters>([&](auto r) __attribute__((always_inline)) {
        simd::transposeSixteens(bytes + r * kSixteens);
        simd::unroll<kSixteens>([&](auto i) __attribute__((always_inline)) {
          out[r][p * kSixteens + i] = bytes[r * kSixteens + i];
        });
      });
    });
  }

  /// The sums of a slice's columns, in fixed point.
  template <int term, int slice>
  void addTile(Index tile, float (&sums)[kTokens][kSliceColumns]) {
    if constexpr (!kAtOnce) {
      for (Index b = 0; b < blocks_; ++b) decode<term, slice>(findTile(b, tile), decoded_[b]);
    }
    for (int i = 0; i < kRegisters; i += kOnce) addRegisters<term, slice>(i, tile, sums);
  }

  /// The sums of the columns in kOnce registers from i on.
  template <int term, int slice>
  [[gnu::always_inline]] void addRegisters(int i, Index tile, float (&sums)[kTokens][kSliceColumns]) {
    constexpr bool kSmall = Code::kTerm[term].small;
    constexpr float kUnit = Code::kTerm[term].unit;
    simd::Ints dots[kOnce][kTokens][kDigits] = {};
    for (Index b = 0; b < blocks_; ++b) {
      Decoded one;
      if constexpr (kAtOnce) decode<term, slice>(findTile(b, tile), one);
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
      auto whole = simd::toFloats(digits[kDigits - 1]);
      simd::unroll<kDigits - 1>([&](auto d) __attribute__((always_inline)) {
        whole = whole * 256 + simd::toFloats(digits[kDigits - 2 - d]);  // the product is exact
      });
      float* target = sums[kToken] + (i + kRegister) * simd::kWordLanes;
      const auto sum = simd::unfused(whole * kUnit);
      simd::store(target, term == 0 ? sum : simd::load<simd::Floats>(target) + sum);
    });
  }

  const CodeView<C, T, kPieces>& w_;
  Index first_, blocks_;
  const float* rows_;
  Index x_stride_;
  float step_[kTokens], zeros_[kTokens];
  alignas(64) std::int32_t x_[kTokens][kBlocks * kFours][4];  ///< four rows' bytes, from the lowest up
  TileCopy<C> copy_;
  Decoded decoded_[kAtOnce ? 1 : kBlocks];  ///< where the columns do not go into registers all at once
};

/// y += unit * W^T x in integers, for codebooks whose bytes are exact. Allocates nothing.
template <int kDigits = kExactDigits, TileCodebook C, class T, int kPieces>
void addTransposedInteger(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                          Index x_stride, float* y, Index y_stride) {
  static_assert(TileCode<C>::kExact);
  forTokens<4>(0, tokens, [&](Index token, auto together) {
    using Chunk = IntegerTransposedChunk<kDigits, C, T, kPieces, together>;
    for (Index first = 0; first < w.layout.blocks(); first += Chunk::kChunk) {
      Chunk(w, first, x + token * x_stride, x_stride).add(n, unit, y + token * y_stride, y_stride);
    }
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
