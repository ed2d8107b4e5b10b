// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

// y += W^T x in integers for codes that are bytes themselves and stand in one plane (layout.hpp). Dot products of four
// rows want columns in lanes, and a byte holds the same field of 1 to 8 columns: so whole bytes are transposed, before
// fields are told apart. A field needs no shift then, only a mask: the sums of a field that stands higher are multiples
// of a power of two.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Whether codes have such products: uniform ones of 1, 2, 4 or 8 bits.
template <TileCodebook C>
inline constexpr bool kTransposesPlanes = [] {
  if constexpr (LevelsInBytes<C>) {
    return ByteLevels<C>::kUniform && TileLayout<C>::kPlanes == 1 && TileLayout<C>::kTileCodes == 32;
  }
  return false;
}();

/// Registers as rows of 16-byte parts, kCount of them: the parts of register 0, 1, 2 .. take turns, kUnit parts at a
/// time, doubled step by step until each register's turn is a part.
template <int kCount, int kUnit = 1, int kLength = 1>
[[gnu::always_inline]] inline void interleaveSixteens(simd::Floats* v) {
  // v: kCount sequences of kLength registers, in which kUnit parts belong together.
  if constexpr (kCount > 1) {
    constexpr int kParts16 = simd::kByteLanes / 16, kLanes = simd::kWordLanes;
    simd::Floats merged[kCount * kLength];
    simd::unroll<kCount / 2 * 2 * kLength>([&](auto at) __attribute__((always_inline)) {
      constexpr int kPair = at / (2 * kLength), r = at % (2 * kLength);
      const simd::Floats* a = v + 2 * kPair * kLength;
      const simd::Floats* b = a + kLength;
      if constexpr (kUnit >= kParts16) {  // whole registers
        constexpr int kRegisters = kUnit / kParts16, kTurn = r / kRegisters;
        constexpr int kFrom = kTurn / 2 * kRegisters + r % kRegisters;
        merged[at] = kTurn % 2 == 0 ? a[kFrom] : b[kFrom];
      } else {
        merged[at] = [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
          constexpr int kWidth = 4 * kUnit, kHalf = r % 2 * kLanes / 2;
          return __builtin_shufflevector(a[r / 2], b[r / 2],
                                         (I / kWidth % 2 * kLanes + kHalf + I / (2 * kWidth) * kWidth + I % kWidth)...);
        }
        (std::make_integer_sequence<int, kLanes>{});
      }
    });
    simd::unroll<kCount * kLength>([&](int i) __attribute__((always_inline)) { v[i] = merged[i]; });
    interleaveSixteens<kCount / 2, 2 * kUnit, 2 * kLength>(v);
  }
}

/// A chunk of blocks of rows and kTokens columns of x. Spans of columns lie in one group of them, or in kGroups, each
/// of which has its part of the lanes.
template <int kDigits, TileCodebook C, class T, int kTokens, int kGroups = 1>
class PlaneTransposedChunk {
  using Layout = TileLayout<C>;
  using Rows = FixedPointRows<kDigits, C, T, 1, kTokens>;
  static constexpr Index kBlocks = Rows::kBlocks;
  static constexpr int kFours = Rows::kFours;
  static constexpr int kBits = C::kBits, kFields = 8 / kBits;
  static constexpr int kSixteens = simd::kByteLanes / 16;
  /// Sets of kSixteens bundles, whose bytes change places with each other's: two at a time where one makes too few sums
  /// for all of them to be on their way.
  static constexpr int kSets = kFields == 1 ? 2 : 1;
  static constexpr int kWide = kSets * kFields;  ///< registers of columns
  static constexpr int kBundles = kSets * kSixteens;
  static constexpr Index kBundleColumns = 4 * kFields;
  static constexpr Index kTiles = ceilDiv(kBundles * kBundleColumns, Layout::kTileColumns);
  /// Tokens that meet codes at a time: as many as registers hold sums of.
  static constexpr int kOnce = [] {
    constexpr int kMost = simd::kVectorRegisters >= 32 ? 24 : 12;
    int once = kTokens;
    while (once > 1 && once * kDigits * kWide > kMost) once /= 2;
    return once;
  }();
  static constexpr Index kAhead = 4;                                                    ///< tiles
  static constexpr bool kManyAhead = kBlocks * kAhead * Layout::kTileBytes > 16 << 10;  ///< for a small L1

 public:
  static constexpr Index kChunk = kBlocks;
  static constexpr Index kSpan = kBundles * kBundleColumns;

  PlaneTransposedChunk(const CodeView<C, T, 1>& w, Index first, const float* x, Index x_stride)
      : w_(w), x_([&]<int... I>(std::integer_sequence<int, I...>) {
          return std::array<Rows, kGroups>{((void)I, Rows(w, first, x, x_stride))...};
        }(std::make_integer_sequence<int, kGroups>{})) {}

  /// y += unit * W^T x for the rows of the chunk; W has n columns.
  void add(Index n, float unit, float* y, Index y_stride) {
    for (Index group = 0; group < w_.groups; group += kGroups) {
      for (Index i = 0; i < kGroups; ++i) x_[static_cast<std::size_t>(i)].fold(std::min(group + i, w_.groups - 1));
      const Index end = std::min((group + kGroups) * w_.group_columns, n);
      for (Index column = group * w_.group_columns; column < end; column += kSpan) {
        const Span span = spanAt(column);
        simd::unroll<kTokens / kOnce>([&](auto part) {
          addSpan<part * kOnce>(span, std::min(end - column, kSpan), unit, y + part * kOnce * y_stride + column,
                                y_stride);
        });
      }
    }
  }

 private:
  /// A span as it stands in the blocks of the chunk: kBundles bundles, one after the other.
  struct Span {
    Index tile, bundle;         ///< the first, and the first of its bundles
    Index blocks;               ///< as many can be read where they stand
    const std::uint8_t* first;  ///< of the first of them
    Index stride, ahead;        ///< to the next block, and to what is read next
  };

  using Turned = simd::Bytes[kSets][kFours];  ///< lanes are columns, bytes rows

  template <int kFirst>
  void addSpan(const Span& span, Index count, float unit, float* y, Index y_stride) {
    simd::Ints dots[kOnce][kDigits][kWide] = {};
    for (Index b = 0; b < rows().blocks(); ++b) {
      if constexpr (kFirst == 0) turn(span, b, turned_[b]);
      simd::unroll<kFours>([&](int four) __attribute__((always_inline)) {
        simd::Bytes fields[kWide];
        simd::unroll<kWide>([&](auto i) __attribute__((always_inline)) {
          fields[i] = field<i % kFields>(turned_[b][i / kFields][four]);
        });
        simd::unroll<kOnce * kDigits>([&](auto at) __attribute__((always_inline)) {
          constexpr int kToken = at / kDigits, kDigit = at % kDigits;
          const simd::Ints x = fourOf(kFirst + kToken, b * kFours + four, kDigit);
          simd::unroll<kWide>([&](auto i) __attribute__((always_inline)) {
            dots[kToken][kDigit][i] = simd::dot<isSmall(i % kFields)>(dots[kToken][kDigit][i], fields[i], x);
          });
        });
      });
    }
    simd::unroll<kOnce>([&](int k) __attribute__((always_inline)) {
      simd::Floats sums[kWide];
      simd::unroll<kWide>([&](auto i) __attribute__((always_inline)) {
        constexpr int kDown = kShifts ? 0 : i % kFields * kBits;
        sums[i] = simd::toFloats(dots[k][kDigits - 1][i] >> kDown);
        simd::unroll<kDigits - 1>([&](int d) __attribute__((always_inline)) {
          sums[i] = sums[i] * 256 + simd::toFloats(dots[k][kDigits - 2 - d][i] >> kDown);  // the product is exact
        });
      });
      simd::unroll<kSets>([&](int s)
                              __attribute__((always_inline)) { interleaveSixteens<kFields>(sums + s * kFields); });
      addSums(sums, count, kFirst + k, unit, y + k * y_stride);
    });
  }

  const Rows& rows() const { return x_[0]; }

  /// Four rows' bytes for each lane: all the same, or those that its group has.
  [[gnu::always_inline]] simd::Ints fourOf(int token, Index four, int digit) const {
    auto x = simd::splat<simd::Ints>(x_[0].fourOf(token, four, digit));
    simd::unroll<kGroups - 1>([&](auto i) __attribute__((always_inline)) {
      constexpr int kFrom = (i + 1) * simd::kWordLanes / kGroups;
      const auto mask = simd::generate<std::int32_t, simd::kWordLanes>([](int lane) { return lane < kFrom ? 0 : -1; });
      x = simd::select(mask, simd::splat<simd::Ints>(x_[i + 1].fourOf(token, four, digit)), x);
    });
    return simd::inRegister(x);
  }

  [[gnu::always_inline]] void addSums(const simd::Floats* sums, Index count, int token, float unit, float* y) const {
    const auto add = [&](int i, float* target) __attribute__((always_inline)) {
      const Rows& of = x_[static_cast<std::size_t>(i * kGroups / kWide)];
      const auto step = simd::splat<simd::Floats>(of.step(token) * unit);
      simd::store(target, simd::multiplyAdd(sums[i] - of.zero(token), step, simd::load<simd::Floats>(target)));
    };
    if (count == kSpan) {
      simd::unroll<kWide>([&](int i) __attribute__((always_inline)) { add(i, y + i * simd::kWordLanes); });
      return;
    }
    float whole[kSpan];
    std::copy_n(y, count, whole);
    std::fill(whole + count, whole + kSpan, 0.f);
    for (int i = 0; i < kWide; ++i) add(i, whole + i * simd::kWordLanes);
    std::copy_n(whole, count, y);
  }

  /// A field of each byte; with the fields below it as zeros, unless it pays to shift them out.
  static constexpr bool kShifts = !simd::kDotsWholeBytes;
  template <int kField>
  [[gnu::always_inline]] static simd::Bytes field(simd::Bytes v) {
    constexpr std::uint32_t kMask = ((1u << kBits) - 1) * 0x01010101u;
    if constexpr (kBits == 8) return v;
    if constexpr (kShifts) return (simd::Bytes)(((simd::Words)v >> (kField * kBits)) & kMask);
    return (simd::Bytes)((simd::Words)v & (kMask << (kField * kBits)));
  }
  static constexpr bool isSmall(int field) {
    return kBits < 8 && (kShifts || (((1 << kBits) - 1) << (field * kBits)) < 128);
  }

  Span spanAt(Index column) const {
    const auto& layout = w_.layout;
    const Index tile = column / Layout::kTileColumns;
    const Index bundle = column % Layout::kTileColumns / kBundleColumns;
    const bool inside = tile + kTiles <= layout.wholeTiles();
    const bool all_whole = (rows().first() + rows().blocks()) * kBlockRows <= layout.rows();
    const Index stride = kBlockRows * layout.rowBytes();
    return {tile,
            bundle,
            inside ? rows().blocks() - (all_whole ? 0 : 1) : 0,
            w_.codes + layout.at(rows().first(), tile) + bundle * kBundleBytes,
            stride,
            tile + kAhead < layout.tiles() ? kAhead * Layout::kTileBytes : kBlocks * stride};
  }

  /// The bytes of a span in the rows of a block.
  [[gnu::always_inline]] void turn(const Span& span, Index b, Turned& out) {
    const std::uint8_t* from = span.first + b * span.stride;
    simd::unroll<kBundles>([&](int i) __attribute__((always_inline)) {
      if constexpr (kManyAhead) {
        simd::prefetchToL2(from + span.ahead + i * kBundleBytes);
      } else {
        simd::prefetch(from + span.ahead + i * kBundleBytes);
      }
    });
    if (b >= span.blocks) from = filledUp(span, rows().first() + b);
    constexpr int kHalves = 64 / simd::kByteLanes;  // registers in a bundle
    simd::unroll<kSets * kHalves>([&](auto at) __attribute__((always_inline)) {
      constexpr int s = at / kHalves, kHalf = at % kHalves;
      simd::Bytes bytes[kSixteens];
      simd::unroll<kSixteens>([&](int i) __attribute__((always_inline)) {
        bytes[i] = simd::transpose4(
            simd::load<simd::Bytes>(from + (s * kSixteens + i) * kBundleBytes + kHalf * simd::kByteLanes));
      });
      simd::transposeSixteens(bytes);
      simd::unroll<kSixteens>([&](int i) __attribute__((always_inline)) { out[s][kHalf * kSixteens + i] = bytes[i]; });
    });
  }

  /// A span at the edge of the matrix, copied; of tiles that do not exist any bytes will do.
  [[gnu::noinline]] const std::uint8_t* filledUp(const Span& span, Index block) {
    for (Index t = 0; t < kTiles && span.tile + t < w_.layout.tiles(); ++t) {
      w_.layout.copyTile(w_.codes, block, span.tile + t, copy_ + t * Layout::kTileBytes);
    }
    return copy_ + span.bundle * kBundleBytes;
  }

  const CodeView<C, T, 1>& w_;
  std::array<Rows, kGroups> x_;
  Turned turned_[kBlocks];
  alignas(64) std::uint8_t copy_[kTiles * Layout::kTileBytes] = {};
};

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
