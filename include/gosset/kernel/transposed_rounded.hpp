// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// y += W^T x with x rounded: what attention may do where keys and values are far less exact than floats.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// y += W^T x for the rows of up to 16 blocks and kTokens columns of x. As IntegerTransposedChunk has it
/// (kernel/transposed_integer.hpp), but x' = scale * x is an integer of two bytes: the largest x' of a group and chunk
/// is 32639 of its units. (One byte would take as long: what bounds these products then is the decoding.) Sums of
/// integers are exact, and what is left of floats has one order: the same bits on every machine that has a dot product
/// of bytes.
template <TileCodebook C, class T, int kPieces, int kTokens>
class RoundedTransposedChunk {
  using Code = TileCode<C>;
  using Layout = TileLayout<C>;
  static constexpr Index kBlocks = 16;
  static constexpr int kDigits = 2;
  static constexpr int kFours = kBlockRows / 4;
  static constexpr int kSixteens = simd::kByteLanes / 16;
  static constexpr int kRegisters = kSliceColumns / simd::kWordLanes;                   ///< for the columns of a slice
  static constexpr Index kAhead = 4;                                                    ///< tiles
  static constexpr bool kManyAhead = kBlocks * kAhead * Layout::kTileBytes > 16 << 10;  ///< for a small L1
  static constexpr float kLargest = 127 * 256 + 127;
  using Decoded = simd::Bytes[kRegisters][kFours];  ///< a slice: lanes are columns, bytes rows

 public:
  static constexpr Index kChunk = kBlocks;

  RoundedTransposedChunk(const CodeView<C, T, kPieces>& w, Index first, const float* x, Index x_stride)
      : w_(w),
        first_(first),
        blocks_(std::min(kBlocks, w.layout.blocks() - first)),
        rows_(x + first * kBlockRows),
        x_stride_(x_stride) {}

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index y_stride) {
    for (Index group = 0; group < w_.groups; ++group) {
      roundFolded(group);
      forTilesOfGroup(w_, group, n, [&](Index tile, Index from, Index to) {
        simd::unroll<kSlices<C> >([&](auto slice) {
          float sums[kTokens][kSliceColumns];
          simd::unroll<Code::kTerms>([&](auto term) { addTile<term, slice>(tile, sums); });
          for (int k = 0; k < kTokens; ++k) {
            addSums<slice>(from, to, sums[k], step_[k] * unit, shift_[k],
                           y + k * y_stride + tile * Layout::kTileColumns);
          }
        });
      });
    }
  }

 private:
  /// target += step * (sums + shift) for the columns [from, to) of a slice.
  template <int slice>
  [[gnu::always_inline]] static void addSums(Index from, Index to, const float* sums, float step, float shift,
                                             float* target) {
    const auto columnOf = [](int j) { return Code::Order::column(slice, j / 4, j % 4); };
    if constexpr (kSlices<C> == 1) {  // by columns, so that the compiler sees whole registers
      float moved[kSliceColumns];
      if constexpr (kMoves<typename Code::Order>) {
        simd::unroll<kSliceColumns>([&](auto j) { moved[columnOf(j)] = sums[j]; });
      }
      const float* ordered = kMoves<typename Code::Order> ? moved : sums;
      Index j = from;
      for (; j + simd::kWordLanes <= to; j += simd::kWordLanes) {
        const auto sum = simd::load<simd::Floats>(ordered + j) + shift, before = simd::load<simd::Floats>(target + j);
        simd::store(target + j, before + simd::unfused(sum * step));
      }
      for (; j < to; ++j) target[j] += simd::unfused(step * (ordered[j] + shift));
    } else {
      for (int j = 0; j < kSliceColumns; ++j) {
        if (columnOf(j) >= from && columnOf(j) < to) target[columnOf(j)] += simd::unfused(step * (sums[j] + shift));
      }
    }
  }

  /// x' of a group in integers, what one of their units is, and what is the same for all columns.
  void roundFolded(Index group) {
    alignas(64) float folded[kTokens][kBlocks * kBlockRows];
    BlockFloats zeros[kTokens] = {};
    simd::Ints largest[kTokens][kParts] = {};  // magnitudes as bits, which put infinity and NaN above all others
    forFoldedRows<kTokens>(
        w_, first_, blocks_, group, rows_,
        x_stride_, [&](Index b, auto k, auto p, simd::Floats x, simd::Floats zero) __attribute__((always_inline)) {
          const auto bits = (simd::Ints)x & 0x7fffffff;
          largest[k][p] = bits > largest[k][p] ? bits : largest[k][p];
          zeros[k][p] += simd::unfused(x * zero);
          simd::store(folded[k] + b * kBlockRows + p * simd::kWordLanes, x);
        });
    const auto larger = [](auto a, auto b) { return a > b ? a : b; };
    simd::unroll<kTokens>([&](auto k) {
      simd::Ints most = largest[k][0];
      simd::unroll<kParts - 1>([&](auto p) { most = larger(most, largest[k][p + 1]); });
      roundOne(k, folded[k], std::bit_cast<float>(simd::overLanes(most, larger)),
               simd::sumInHalves<kParts>(zeros[k].part));
    });
  }

  /// The bytes of x' / unit, for the unit that goes with the largest of them; NaN is the unit where that is not finite.
  void roundOne(int k, const float* folded, float most, float zero) {
    if (!std::isfinite(most) || most == 0) {
      std::fill_n(&x_[k][0][0], blocks_ * kFours * 4, 0);
      step_[k] = most == 0 ? 0.f : std::numeric_limits<float>::quiet_NaN();
      shift_[k] = 0;
      return;
    }
    constexpr float kToInteger = 0x1.8p23f;              // adding it rounds to an integer, in the lowest bits
    constexpr std::int32_t kTop = 0x8080;                // q + kTop has the digits, each more by 128
    const float lift = most < 0x1p-80f ? 0x1p80f : 1.f;  // so that the inverse is finite
    const float inverse = kLargest / (most * lift);
    simd::Ints sums{};
    for (Index i = 0; i < blocks_ * kParts; ++i) {
      const auto x = simd::unfused(simd::load<simd::Floats>(folded + i * simd::kWordLanes) * lift * inverse);
      const auto q = (simd::Ints)(x + kToInteger) - std::bit_cast<std::int32_t>(kToInteger);
      sums += q;
      simd::store(&x_[k][i * simd::kWordLanes / 4][0], simd::transpose4((simd::Bytes)((q + kTop) ^ kTop)));
    }
    const auto sum = static_cast<float>(simd::overLanes(sums, [](auto a, auto b) { return a + b; }));
    step_[k] = most / kLargest;
    shift_[k] = -simd::unfused(zero * lift * inverse);
    simd::unroll<Code::kTerms>([&](auto t) {
      shift_[k] -= simd::unfused(Code::kTerm[t].unit * static_cast<float>(Code::kTerm[t].zero) * sum);
    });
  }

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

  /// The sums of a slice's columns, in units.
  template <int term, int slice>
  void addTile(Index tile, float (&sums)[kTokens][kSliceColumns]) {
    constexpr bool kSmall = Code::kTerm[term].small;
    simd::Ints dots[kRegisters][kTokens][kDigits] = {};
    for (Index b = 0; b < blocks_; ++b) {
      Decoded decoded;
      decode<term, slice>(findTile(b, tile), decoded);
      simd::unroll<kFours>([&](auto four) __attribute__((always_inline)) {
        simd::unroll<kTokens * kDigits>([&](auto at) __attribute__((always_inline)) {
          constexpr int kToken = at / kDigits, kDigit = at % kDigits;
          const auto x = simd::inRegister(simd::splat<simd::Ints>(x_[kToken][b * kFours + four][kDigit]));
          simd::unroll<kRegisters>([&](auto r) __attribute__((always_inline)) {
            dots[r][kToken][kDigit] = simd::dot<kSmall>(dots[r][kToken][kDigit], decoded[r][four], x);
          });
        });
      });
    }
    simd::unroll<kRegisters * kTokens>([&](auto at) __attribute__((always_inline)) {
      constexpr int kToken = at % kTokens, kRegister = at / kTokens;
      const auto& digits = dots[kRegister][kToken];
      const auto whole = simd::toFloats(digits[1]) * 256 + simd::toFloats(digits[0]);  // the product is exact
      float* target = sums[kToken] + kRegister * simd::kWordLanes;
      const auto sum = simd::unfused(whole * Code::kTerm[term].unit);
      simd::store(target, term == 0 ? sum : simd::load<simd::Floats>(target) + sum);
    });
  }

  const CodeView<C, T, kPieces>& w_;
  Index first_, blocks_;
  const float* rows_;
  Index x_stride_;
  float step_[kTokens], shift_[kTokens];
  alignas(64) std::int32_t x_[kTokens][kBlocks * kFours][4];  ///< four rows' low bytes, then their high ones
  TileCopy<C> copy_;
};

/// Whether codes have such products.
template <TileCodebook C>
inline constexpr bool kTransposesRounded = TileCode<C>::kExact&& simd::kHasDot;

/// y += unit * W^T x, every x' rounded to two bytes, where codes have such products, and whether they do. Allocates
/// nothing.
template <TileCodebook C, class T, int kPieces>
bool addTransposedRoundedInSet(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                               Index x_stride, float* y, Index y_stride) {
  if constexpr (kTransposesRounded<C>) {
    forTokens<4>(0, tokens, [&](Index token, auto together) {
      using Chunk = RoundedTransposedChunk<C, T, kPieces, together>;
      for (Index first = 0; first < w.layout.blocks(); first += Chunk::kChunk) {
        Chunk(w, first, x + token * x_stride, x_stride).add(n, unit, y + token * y_stride, y_stride);
      }
    });
  }
  return kTransposesRounded<C>;
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
