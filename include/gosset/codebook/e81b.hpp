// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/block_lanes.hpp>
#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/e8.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>

namespace gosset::GOSSET_ABI {
namespace detail {

struct E81BTables {
  alignas(64) std::int8_t halves[256][8] = {};  ///< 2 p_i
  alignas(64) float points[256][8] = {};
  std::uint8_t pair_of_mask[256] = {};  ///< the first code whose point is +-1 at the two places of the mask
};

constexpr E81BTables makeE81BTables() {
  E81BTables t;
  const auto roots = E8::twiceMinimalVectors();
  for (unsigned code = 0; code < 256; ++code) {
    for (unsigned i = 0; i < 8; ++i) {
      int twice = 0;
      if (code < 240) twice = roots[code][i];
      if (code > 240 && (code - 241) % 8 == i) twice = code < 249 ? 4 : -4;
      t.halves[code][i] = static_cast<std::int8_t>(twice);
      t.points[code][i] = 0.5f * static_cast<float>(twice);
    }
  }
  unsigned code = 128;
  for (unsigned i = 0; i < 8; ++i) {
    for (unsigned j = i + 1; j < 8; ++j, code += 4)
      t.pair_of_mask[(1u << i) | (1u << j)] = static_cast<std::uint8_t>(code);
  }
  return t;
}

inline constexpr E81BTables kE81B = makeE81BTables();

/// The fast search, W blocks at a time, in float: no answer where the lead does not cover the rounding errors. With a_i
/// = |x_i|, the values <x, p> - |p|^2 / 2 are
///   1/2 everywhere:  (sum_i a_i) / 2 - 1, less the smallest a_i where a sign must turn;
///   two of 1:        the largest two a_i - 1;     zero: 0;     one of 2: twice the largest a_i - 2.
template <int W>
struct E81BSearch {
  using Lanes = BlockLanes<W>;
  using F = typename Lanes::F;
  using I = typename Lanes::I;

  static constexpr int kHalves = 0, kPair = 1, kZero = 2, kTwo = 3;

  /// answers[b]: bits 0 .. 8 the code, 9 .. 16 the places of a pair, whose first code is to be added; negative: unsure.
  static void encode(const float* input, std::int32_t* answers) {
    F x[8], d[8];
    Lanes::transpose(input, x);
    const F none{};
    F sum{};
    I turn{};  // whether an odd number of x_i are negative
    simd::unroll<8>([&](int i) __attribute__((always_inline)) {
      d[i] = Lanes::abs(x[i]);
      sum += d[i];
      turn ^= x[i] < none;
    });
    Lanes::sort4(d);
    Lanes::sort4(d + 4);
    Lanes::merge8(d);
    const F one = Lanes::splat(1.f), half = Lanes::splat(0.5f);
    const F margin = Lanes::splat(0x1p-20f) * (sum + Lanes::splat(4.f));

    F value = sum * half - (one + Lanes::keep(turn, d[7])),
      rival = Lanes::splat(-std::numeric_limits<float>::infinity());
    F gap = d[6] - d[7], places = d[7];  // p_i is not zero where a_i >= places
    I kind{};
    const auto offer = [&](F v, F gap_v, F places_v, int kind_v) {
      const I better = v > value;
      rival = Lanes::max(rival, Lanes::min(value, v));
      value = Lanes::max(value, v);
      gap = better ? gap_v : gap;
      places = better ? places_v : places;
      kind = Lanes::pick(better, simd::splat<I>(kind_v), kind);
    };
    offer(d[0] + d[1] - one, Lanes::min(d[1] - d[2], d[1]), d[1], kPair);
    offer(none, Lanes::splat(std::numeric_limits<float>::infinity()), d[0], kZero);
    offer(d[0] + d[0] - (one + one), d[0] - d[1], d[0], kTwo);

    I minus{}, set{};
    const I turned = turn & (kind == kHalves);
    simd::unroll<8>([&](int i) __attribute__((always_inline)) {
      const I bit = simd::splat<I>(1 << i);
      const F a = Lanes::abs(x[i]);
      minus |= ((x[i] < none) ^ ((a <= d[7]) & turned)) & bit;
      set |= (a >= places) & bit;
    });
    const I sure = (value - rival > margin) & (gap > margin);
    // No branch on the kind, which nothing foretells.
    const I first = set & -set, first_minus = ((minus & first) != I{}) & 1,
            last_minus = ((minus & set & ~first) != I{}) & 2;
    const I one_or_none = Lanes::pick(kind == kTwo, 241 + Lanes::placeOf(first) + 8 * first_minus, simd::splat<I>(240));
    const I half_or_pair = Lanes::pick(kind == kHalves, minus & 0x7f, first_minus | last_minus);
    const I code = Lanes::pick(kind <= kPair, half_or_pair, one_or_none);
    simd::store(answers, (code | ((set & (kind == kPair)) << 9)) | ~sure);
  }

  /// The code of an answer, 256 for the one point of norm 4 that is missing.
  static unsigned unpack(unsigned answer) { return kE81B.pair_of_mask[answer >> 9] + (answer & 0x1ffu); }
};

}  // namespace detail

/// E81B, the 1-bit codebook of QuIP# for what E8P leaves over (Tseng et al., ICML 2024, section 4.3): 256 points of E8.
///
///   code         point                                  norm
///     0 .. 127   +-1/2 everywhere, an even number of -    2     bits 0 .. 6: minus signs of places 0 .. 6
///   128 .. 239   +-1 at places i < j, by rising (i, j)    2     bits 0, 1: minus signs at i and at j
///   240          0                                        0
///   241 .. 248   2 at place code - 241                    4
///   249 .. 255   -2 at place code - 249                   4     (-2 at place 7 is not in it)
///
/// 8 bits / 8 numbers = 1 bit a number. Mean squared error on N(0,1) at the best scale: 0.318. Twice a point is eight
/// integers from -4 to 4.
struct E81B {
  using Code = std::uint8_t;
  static constexpr int kDim = 8;
  static constexpr int kBits = 8;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 1.645f;

  static std::string name() { return "E81B"; }

  static Code encode(const float* x) {
    Code code;
    encodeBlocks(x, 1, &code);
    return code;
  }

  static void decode(Code code, float* y) { std::copy(detail::kE81B.points[code], detail::kE81B.points[code] + 8, y); }

  /// x: count blocks of 8 numbers.
  static void encodeBlocks(const float* x, Index count, Code* codes) {
    constexpr int kWidth = simd::kLanes<float>;
    using Search = detail::E81BSearch<kWidth>;
    for (Index first = 0; first < count; first += kWidth) {
      const int here = static_cast<int>(std::min<Index>(kWidth, count - first));
      const float* blocks = x + 8 * first;
      float padded[8 * kWidth];
      if (here < kWidth) {
        std::fill(std::copy(blocks, blocks + 8 * here, padded), padded + 8 * kWidth, 0.f);
        blocks = padded;
      }
      alignas(64) std::int32_t answers[kWidth];
      Search::encode(blocks, answers);
      for (int b = 0; b < here; ++b) {
        const unsigned code = answers[b] >= 0 ? Search::unpack(static_cast<unsigned>(answers[b])) : 256u;
        codes[first + b] = code < 256 ? static_cast<Code>(code) : encodeExhaustive(blocks + 8 * b);
      }
    }
  }

  static void decodeBlocks(const Code* codes, Index count, float* y) {
    for (Index b = 0; b < count; ++b) decode(codes[b], y + 8 * b);
  }

  /// The definition: the code with the largest 4 <x, p> - 2 |p|^2, summed in double place by place, the smallest of
  /// several. A NaN counts as 0, an infinity as the largest float.
  static Code encodeExhaustive(const float* x) {
    constexpr float kMax = std::numeric_limits<float>::max();
    double z[8], best_score = -std::numeric_limits<double>::infinity();
    for (int i = 0; i < 8; ++i) z[i] = x[i] != x[i] ? 0. : static_cast<double>(std::clamp(x[i], -kMax, kMax));
    unsigned best = 0;
    for (unsigned code = 0; code < 256; ++code) {
      const std::int8_t* halves = detail::kE81B.halves[code];
      double score = 0;
      int norm = 0;
      for (int i = 0; i < 8; ++i) {
        score += z[i] * static_cast<double>(2 * halves[i]);
        norm += halves[i] * halves[i];
      }
      score -= 0.5 * static_cast<double>(norm);
      if (score > best_score) {
        best_score = score;
        best = code;
      }
    }
    return static_cast<Code>(best);
  }
};

static_assert(VectorCodebook<E81B>);

}  // namespace gosset::GOSSET_ABI
