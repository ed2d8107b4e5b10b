// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

// What products y += W^T x in integers have in common: x' = scale * x as fixed point, whose bytes meet the codes' bytes
// in dot products of four rows.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Bytes of x' that are as exact as floats, in units of about 2^-22 of the largest x' of a group and chunk.
inline constexpr int kExactDigits = 3;
/// Bytes of x' that attention may do with where keys and values are far less exact: in units of 1 / 32639 of the
/// largest, and for codes of up to 2 bits and points of E8, of which matrices are made that are rotated, of 1 / 127.
template <Codebook C>
inline constexpr int kRoundedDigits = bitsOfCodes<C>() <= 2 || C::kDim == 8 ? 1 : 2;

/// The middle of a term's bytes. Errors of x' cost least where bytes are counted from there.
template <Codebook C>
constexpr float middleOfBytes(int term) {
  if constexpr (LevelsInBytes<C>) return static_cast<float>(ByteLevels<C>::kLargest) / 2;
  return static_cast<float>(TileCode<C>::kTerm[term].zero);
}

/// x' of a chunk of 16 blocks of rows and of kTokens columns of x, group by group of W's columns: in units that kDigits
/// bytes hold the largest x' of the group and chunk in.
template <int kDigits, TileCodebook C, class T, int kPieces, int kTokens>
class FixedPointRows {
  using Code = TileCode<C>;
  static constexpr float kLargest = kDigits == 3 ? 63 * 0x1p16f : kDigits == 2 ? 127 * 256 + 127 : 127;

 public:
  static constexpr Index kBlocks = 16;  ///< of rows; sums of up to 256 products of bytes are exact in floats
  static constexpr int kFours = kBlockRows / 4;

  FixedPointRows(const CodeView<C, T, kPieces>& w, Index first, const float* x, Index x_stride)
      : w_(w),
        first_(first),
        blocks_(std::min(kBlocks, w.layout.blocks() - first)),
        rows_(x + first * kBlockRows),
        x_stride_(x_stride) {}

  Index first() const { return first_; }
  Index blocks() const { return blocks_; }

  /// A digit, from the lowest up, of the four rows from 4 * four on, as a token has them.
  std::int32_t fourOf(int token, Index four, int digit) const { return x_[token][four][digit]; }
  /// What a unit is, and what zero points take away in such units.
  float step(int token) const { return step_[token]; }
  float zero(int token) const { return zeros_[token]; }

  /// Turns to the columns of a group.
  void fold(Index group) {
    alignas(64) float folded[kTokens][kBlocks * kBlockRows];
    BlockFloats zeros[kTokens] = {};
    simd::Ints largest[kTokens][kParts] = {};  // magnitudes as bits, which put infinity and NaN above all others
    forFoldedRows<kTokens>(
        w_, first_, blocks_, group, rows_,
        x_stride_, [&](Index b, auto k, auto p, simd::Floats x, simd::Floats zero) __attribute__((always_inline)) {
          largest[k][p] = larger((simd::Ints)x & 0x7fffffff, largest[k][p]);
          zeros[k][p] = simd::multiplyAdd(x, kMiddle == 0 ? zero : zero - kMiddle, zeros[k][p]);
          simd::store(folded[k] + b * kBlockRows + p * simd::kWordLanes, x);
        });
    simd::Ints most[kTokens];
    simd::Floats zero[kTokens];
    simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
      most[k] = simd::inHalves<kParts>(largest[k], larger);
      zero[k] = simd::inHalves<kParts>(zeros[k].part, [](auto a, auto b) { return a + b; });
    });
    fixPoints(folded, simd::eachOverLanes(most, larger),
              simd::eachOverLanes(zero, [](auto a, auto b) { return a + b; }));
  }

 private:
  /// Where bytes of a term are counted from.
  static constexpr float originOf(int term) {
    return kDigits == 1 ? middleOfBytes<C>(term) : static_cast<float>(Code::kTerm[term].zero);
  }
  /// The level there: what of W is left to floats, which round x' less.
  static constexpr float kMiddle = [] {
    float level = 0;
    for (int t = 0; t < Code::kTerms; ++t) {
      level += Code::kTerm[t].unit * (originOf(t) - static_cast<float>(Code::kTerm[t].zero));
    }
    return level;
  }();
  static constexpr bool kNeedsTotal = [] {
    bool needs = false;
    for (int t = 0; t < Code::kTerms; ++t) needs = needs || originOf(t) != 0;
    return needs;
  }();

  using Lanes = std::array<float, kTokens>;

  /// The bytes of x' / unit, for the unit that goes with the largest of them; NaN is the unit where that is not
  /// finite.
  void fixPoints(const float (&folded)[kTokens][kBlocks * kBlockRows], const std::array<std::int32_t, kTokens>& largest,
                 const Lanes& zeros) {
    Lanes inverse;
    bool ordinary = true;
    for (std::size_t k = 0; k < kTokens; ++k) {
      const auto most = std::bit_cast<float>(largest[k]);
      ordinary = ordinary && most >= 0x1p-80f && most <= std::numeric_limits<float>::max();
      inverse[k] = kLargest / most;
      step_[k] = most / kLargest;
      zeros_[k] = simd::unfused(zeros[k] * inverse[k]);
    }
    if (!ordinary) [[unlikely]]
      return fixOthers(folded, largest, zeros);
    simd::Ints totals[kTokens];
    for (int k = 0; k < kTokens; ++k) totals[k] = storeDigits(k, folded[k], 1, inverse[static_cast<std::size_t>(k)]);
    countFromOrigins(totals);
  }

  /// The same where a largest number is so small that its inverse would not be finite, 0, or not finite itself.
  [[gnu::noinline]] void fixOthers(const float (&folded)[kTokens][kBlocks * kBlockRows],
                                   const std::array<std::int32_t, kTokens>& largest, const Lanes& zeros) {
    simd::Ints totals[kTokens];
    for (int k = 0; k < kTokens; ++k) {
      const auto at = static_cast<std::size_t>(k);
      const auto most = std::bit_cast<float>(largest[at]);
      const bool is_number = most > 0 && std::isfinite(most);
      const float lift = most < 0x1p-80f ? 0x1p80f : 1.f, inverse = is_number ? kLargest / (most * lift) : 0.f;
      if (!std::isfinite(most)) {
        std::fill_n(&x_[k][0][0], blocks_ * kFours * 4, 0);
        totals[k] = simd::Ints{};
        step_[k] = std::numeric_limits<float>::quiet_NaN();
      } else {
        totals[k] = storeDigits(k, folded[k], lift, inverse);
      }
      zeros_[k] = is_number ? simd::unfused(zeros[at] * lift * inverse) : 0.f;
    }
    countFromOrigins(totals);
  }

  /// Takes away what bytes are more than from where they are counted.
  [[gnu::always_inline]] void countFromOrigins([[maybe_unused]] const simd::Ints (&totals)[kTokens]) {
    if constexpr (kNeedsTotal) {
      const auto sums = simd::eachOverLanes(totals, [](auto a, auto b) { return a + b; });
      for (int k = 0; k < kTokens; ++k) {
        const auto sum = static_cast<double>(sums[static_cast<std::size_t>(k)]);
        simd::unroll<Code::kTerms>([&](auto t) {
          zeros_[k] += simd::unfused(Code::kTerm[t].unit * static_cast<float>(static_cast<double>(originOf(t)) * sum));
        });
      }
    }
  }

  /// Returns the sums of all numbers, lane by lane, where they are asked for.
  [[gnu::always_inline]] simd::Ints storeDigits(int k, const float* folded, float lift, float inverse) {
    constexpr float kToInteger = 0x1.8p23f;    // adding it rounds to an integer, in the lowest bits
    constexpr std::int32_t kTop = 0x00808080;  // q + it has digits, each more by 128
    simd::Ints totals{};
    for (Index i = 0; i < blocks_ * kParts; ++i) {
      const auto from = simd::load<simd::Floats>(folded + i * simd::kWordLanes);
      const auto x = simd::unfused(from * lift * inverse);
      const auto q = (simd::Ints)(x + kToInteger) - std::bit_cast<std::int32_t>(kToInteger);
      if constexpr (kNeedsTotal) totals += q;
      simd::store(&x_[k][i * simd::kWordLanes / 4][0], simd::transpose4((simd::Bytes)((q + kTop) ^ kTop)));
    }
    return totals;
  }

  static simd::Ints larger(simd::Ints a, simd::Ints b) { return a > b ? a : b; }

  const CodeView<C, T, kPieces>& w_;
  Index first_, blocks_;
  const float* rows_;
  Index x_stride_;
  float step_[kTokens], zeros_[kTokens];
  alignas(64) std::int32_t x_[kTokens][kBlocks * kFours][4];  ///< four rows' bytes, from the lowest up
};

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
