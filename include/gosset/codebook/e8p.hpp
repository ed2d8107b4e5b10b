// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/block_lanes.hpp>
#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/e8p_exact.hpp>
#include <gosset/codebook/e8p_table.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>

// E8P: encoding, the nearest of the 2^16 points that e8p_table.hpp describes, and the codebook itself.
namespace gosset::GOSSET_ABI {
namespace detail {

/// The fast search, W blocks at a time; a_i, gains and shifts are those of e8p_exact.hpp. It works in float, keeps the
/// runner-up's value too, and gives no answer where the lead is not larger than all rounding errors together; so its
/// answers never depend on rounding.
template <int W>
struct E8PSearch {
  using Lanes = BlockLanes<W>;
  using F = typename Lanes::F;
  using I = typename Lanes::I;

  static F splat(float x) { return Lanes::splat(x); }
  static F min(F x, F y) { return Lanes::min(x, y); }
  static F max(F x, F y) { return Lanes::max(x, y); }

  /// The best of what was offered, and how far ahead it is.
  struct Best {
    F value = splat(-std::numeric_limits<float>::infinity());
    F rival = value;           ///< a bound on all values but the best
    F gap = value;             ///< what the best loses at least when its large magnitudes stand elsewhere
    F ones_low = value;        ///< |v_i| = 1/2 where a_i is not larger than this, i = 0 .. 3
    F ones_high = value;       ///< and the same for i = 4 .. 7
    I five = I{}, turn = I{};  ///< whether there is a 5/2, whether a sign must turn

    [[gnu::always_inline]] void offer(F v, F ones_low_v, F ones_high_v, F gap_v, I five_v, I turn_v) {
      const I better = v > value;
      rival = max(rival, min(value, v));
      value = max(value, v);
      gap = better ? gap_v : gap;
      ones_low = better ? ones_low_v : ones_low;
      ones_high = better ? ones_high_v : ones_high;
      five = Lanes::pick(better, five_v, five);
      turn = Lanes::pick(better, turn_v, turn);
    }
  };

  struct Side {
    Best best;
    F top, least, turn_gap;
    I ones = I{};  ///< mask of the 1/2's, where whole norm 12 was searched and is the best
  };

  /// What is known of y = x - shift before any pattern is tried.
  struct Magnitudes {
    F a[8];                 ///< |y_i|
    F low[4], high[4];      ///< the first four and the last four, in falling order
    F sorted[8];            ///< all, in falling order
    F sum, sum_x;           ///< of the a_i and of the x_i
    I odd;                  ///< whether an odd number of y_i are negative
    F odd_loss, even_loss;  ///< what turning a sign costs patterns with odd and even numbers of 3/2's
  };

  [[gnu::always_inline]] static Magnitudes magnitudes(const F (&x)[8], float shift) {
    Magnitudes m;
    I signs{};
    m.sum = m.sum_x = F{};
    for (int i = 0; i < 8; ++i) {
      const F y = x[i] - splat(shift);
      signs ^= reinterpret_cast<I>(y);
      m.sorted[i] = m.a[i] = Lanes::abs(y);
      m.sum += m.a[i];
      m.sum_x += x[i];
    }
    Lanes::sort4(m.sorted);
    Lanes::sort4(m.sorted + 4);
    for (int i = 0; i < 4; ++i) {
      m.low[i] = m.sorted[i];
      m.high[i] = m.sorted[i + 4];
    }
    Lanes::merge8(m.sorted);
    m.odd = signs < 0;
    m.odd_loss = Lanes::keep(~m.odd, m.sorted[7]);
    m.even_loss = Lanes::keep(m.odd, m.sorted[7]);
    return m;
  }

  /// The patterns whose places follow from the order of the a_i alone: all but those of norm 12.
  [[gnu::always_inline]] static void offerSorted(const Magnitudes& m, Best& best) {
    const F(&d)[8] = m.sorted;
    const I odd = m.odd, even = ~odd, no{};
    const F one = splat(1.f), infinity = splat(std::numeric_limits<float>::infinity());
    const F g1 = d[0] - one, g2 = g1 + (d[1] - one), g3 = g2 + (d[2] - one), g4 = g3 + (d[3] - one);
    const F f0 = g1 + g1 - one, f1 = f0 + (d[1] - one);
    best.offer(-m.even_loss, d[0], d[0], infinity, no, odd);
    best.offer(g1 - m.odd_loss, d[1], d[1], d[0] - d[1], no, even);
    best.offer(g2 - m.even_loss, d[2], d[2], d[1] - d[2], no, odd);
    best.offer(g3 - m.odd_loss, d[3], d[3], d[2] - d[3], no, even);
    best.offer(g4 - m.even_loss, d[4], d[4], d[3] - d[4], no, odd);
    best.offer(f0 - m.even_loss, d[1], d[1], d[0] - d[1], ~no, odd);
    best.offer(f1 - m.odd_loss, d[2], d[2], min(d[0] - d[1], d[1] - d[2]), ~no, even);
  }

  /// Norm 12: the places of the three 1/2's, where the sum of a_i should be least. Two families are answered here where
  /// no sign must turn: three among the first four places; one there and two among the last four. The rest only bounds.
  [[gnu::always_inline]] static void offerNorm12(const Magnitudes& m, Best& best) {
    const F(&a)[8] = m.a;
    const F l0 = m.low[3], l1 = m.low[2], l2 = m.low[1], l3 = m.low[0];  // in rising order
    const F r0 = m.high[3], r1 = m.high[2], r2 = m.high[1];
    const I odd = m.odd, no{};
    const F all = m.sum - splat(5.f);
    const F in3 = l0 + l1 + l2, in1 = l0 + r0 + r1;
    const F extra = min(a[0] + a[1] + a[4], a[2] + a[3] + a[7]);
    // (GCC 12 would work such masks out lane by lane.)
    const I missing = simd::inRegister<I>((a[1] <= l0) & (max(a[4], a[5]) <= r1));
    const I three = simd::inRegister<I>(in3 < in1);
    const F inside = min(in3, in1);
    const I open = odd & (three | ~missing);
    const F none = splat(-std::numeric_limits<float>::infinity());
    best.rival = max(best.rival, all - extra - m.odd_loss);
    best.rival = max(best.rival, all - max(in3, in1) - m.odd_loss);
    best.rival = max(best.rival, open ? none : all - inside - m.odd_loss);
    best.offer(open ? all - inside : none, three ? l2 : l0, three ? splat(-1.f) : r1,
               three ? l3 - l2 : min(l1 - l0, r2 - r1), no, no);
  }

  /// The 29 patterns of norm 12, by the sums of the a_i at the places of their 1/2's. Where a sign must turn, it is
  /// taken to cost the smallest a_i of all. That bounds patterns with a 3/2 there, which are never the best: with 1/2
  /// there they are patterns of norm 10 that need no turn, and better by 1.
  [[gnu::always_inline]] static void offerWholeNorm12(const Magnitudes& m, Side& side) {
    const F infinity = splat(std::numeric_limits<float>::infinity());
    F least = infinity, second = infinity;
    I ones{};
    for (const auto& places : kNorm12) {
      const F sum = m.a[places[0]] + m.a[places[1]] + m.a[places[2]];
      ones = Lanes::pick(sum < least, simd::splat<I>(1 << places[0] | 1 << places[1] | 1 << places[2]), ones);
      second = min(second, max(least, sum));
      least = min(least, sum);
    }
    const F all = m.sum - splat(5.f) - m.odd_loss;
    Best& best = side.best;
    side.ones = ones & (all - least > best.value);
    best.rival = max(best.rival, all - second);
    best.offer(all - least, infinity, infinity, infinity, I{}, ~m.odd);
  }

  template <bool kWhole>
  [[gnu::always_inline]] static Side search(const F (&x)[8], float shift) {
    const Magnitudes m = magnitudes(x, shift);
    Side side{{}, m.sorted[0], m.sorted[7], m.sorted[6] - m.sorted[7]};
    offerSorted(m, side.best);
    if constexpr (kWhole) {
      offerWholeNorm12(m, side);
    } else {
      offerNorm12(m, side.best);
    }
    const F base = splat(0.5f) * m.sum + splat(shift) * m.sum_x;  // both products are exact
    side.best.value += base;
    side.best.rival += base;
    return side;
  }

  /// answers[b] becomes the packed answer for block b, negative where the lead is too small; at_least[b] then bounds
  /// the best value from below. Without kWhole some patterns of norm 12 are only bounded, so that one block in a
  /// hundred of Gaussian numbers at their scale has no answer, and one in ten at twice the scale; with it hardly any.
  template <bool kWhole>
  static void encode(const float* input, std::int32_t* answers, float* at_least) {
    F x[8];
    Lanes::transpose(input, x);
    const Side minus = search<kWhole>(x, -0.25f), plus = search<kWhole>(x, 0.25f);
    const I is_plus = plus.best.value > minus.best.value;
    const auto pick = [&](F p, F m) { return is_plus ? p : m; };
    const F value = max(plus.best.value, minus.best.value);
    const F rival = max(max(plus.best.rival, minus.best.rival), min(plus.best.value, minus.best.value));
    const F gap = min(pick(plus.best.gap, minus.best.gap), pick(plus.turn_gap, minus.turn_gap));
    const F ones_low = pick(plus.best.ones_low, minus.best.ones_low),
            ones_high = pick(plus.best.ones_high, minus.best.ones_high);
    const F top = pick(plus.top, minus.top), least = pick(plus.least, minus.least);
    const I five = Lanes::pick(is_plus, plus.best.five, minus.best.five);
    const I turn = Lanes::pick(is_plus, plus.best.turn, minus.best.turn);
    const F shift = pick(splat(0.25f), splat(-0.25f));

    const I ones = Lanes::pick(is_plus, plus.ones, minus.ones);

    I large{}, fives{}, signs{};
    F sum{};
    simd::unroll<8>([&](int i) __attribute__((always_inline)) {
      const F y = x[i] - shift, a = Lanes::abs(y);
      const I bit = simd::splat<I>(1 << i);
      sum += a;
      large |= (a > (i < 4 ? ones_low : ones_high)) & bit;
      fives |= (a >= top) & bit;
      signs |= ((y < F{}) ^ ((a <= least) & turn)) & bit;
    });
    if constexpr (kWhole) large = Lanes::pick(ones == 0, large, ~ones & 0xff);
    signs ^= signs << 1;
    signs ^= signs << 2;
    signs ^= signs << 4;
    const I where = fives & five, three = large ^ (where & ~(large == where));
    const I pattern = Lanes::pick(where == 0, large, 256 + 8 * Lanes::placeOf(where) + Lanes::placeOf(three));
    const I packed = (signs & 0x7f) | (is_plus & 0x80) | (pattern << 8);

    // Every value is a sum of at most 20 terms c a_i or c x_i, c <= 3.5, and constants below 16 in all; so each is
    // wrong by less than 2^-24 (32 sum_i a_i + 128).
    const F margin = splat(0x1p-18f) * (sum + splat(4.f));
    const I sure = (value - rival > margin) & (gap > margin);
    simd::store(answers, packed | ~sure);
    simd::store(at_least, value - splat(1.f) - margin);
  }

  /// The code of a packed answer: signs, shift, and 8 bits more for the large magnitudes or 256 + 8 i + j for a 5/2 at
  /// place i and a 3/2 at j, or at none where that is i.
  static unsigned unpack(unsigned answer) {
    return static_cast<unsigned>(kPatterns[answer >> 8]) << 8 | (answer & 0xffu);
  }

 private:
  /// The places of the 1/2's of each pattern of norm 12.
  static constexpr std::array<std::array<int, 3>, 29> kNorm12 = [] {
    std::array<std::array<int, 3>, 29> all{};
    std::size_t count = 0;
    for (unsigned ones = 0; ones < 256; ++ones) {
      if (std::popcount(ones) != 3 || !e8pHasNorm12(ones)) continue;
      std::size_t found = 0;
      for (int i = 0; i < 8; ++i) {
        if ((ones >> i & 1) != 0) all[count][found++] = i;
      }
      ++count;
    }
    return all;
  }();

  static constexpr std::array<std::uint8_t, 256 + 64> kPatterns = [] {
    std::array<std::uint8_t, 256 + 64> patterns{};
    for (std::size_t large = 0; large < 256; ++large) patterns[large] = kE8P.pattern_of_threes[large];
    for (std::size_t places = 0; places < 64; ++places)
      patterns[256 + places] = static_cast<std::uint8_t>(192 + places);
    return patterns;
  }();
};

}  // namespace detail

/// The 2-bit codebook of QuIP#; points, layout of a code and source stand at the top of
/// e8p_table.hpp.
///
/// encode and encodeBlocks give the code that encodeExhaustive defines, on every compiler and instruction set. A NaN
/// counts as 0, an infinity as the largest float.
struct E8P {
  using Code = std::uint16_t;
  static constexpr int kDim = 8;
  static constexpr int kBits = 16;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 0.964f;

  static std::string name() { return "E8P"; }

  static Code encode(const float* x) {
    Code code;
    encodeInLanes<4>(x, 1, &code);
    return code;
  }

  static void decode(Code code, float* y) { decodeBlocks(&code, 1, y); }

  /// x: count blocks of 8 numbers.
  static void encodeBlocks(const float* x, Index count, Code* codes) {
    encodeInLanes<simd::kLanes<float>>(x, count, codes);
  }

  /// y: count blocks of 8 numbers.
  static void decodeBlocks(const Code* codes, Index count, float* y) {
    constexpr int kWidth = std::min(8, simd::kLanes<float>);
    using F = simd::Vec<float, kWidth>;
    using I = simd::Vec<std::int32_t, kWidth>;
    for (Index b = 0; b < count; ++b) {
      const unsigned code = codes[b];
      const float shift = (code & 0x80u) != 0 ? 0.25f : -0.25f;
      const I signs = simd::splat<I>(static_cast<std::int32_t>(detail::e8pSigns(code)));
      for (int i = 0; i < 8; i += kWidth) {
        const I bit = simd::generate<std::int32_t, kWidth>([](int lane) { return 1 << lane; }) << i;
        const I minus = ((signs & bit) == bit) & std::numeric_limits<std::int32_t>::min();
        const F magnitude = simd::load<F>(detail::kE8P.magnitudes[code >> 8] + i);
        const F v = reinterpret_cast<F>(reinterpret_cast<I>(magnitude) ^ minus);
        simd::store(y + 8 * b + i, v + simd::splat<F>(shift));
      }
    }
  }

  /// The definition: the code with the largest score, the smallest of several.
  static Code encodeExhaustive(const float* x) {
    const std::array<double, 8> z = detail::e8pInput(x);
    unsigned best = 0;
    double best_score = detail::e8pScore(z, 0);
    for (unsigned code = 1; code < 65536; ++code) {
      const double score = detail::e8pScore(z, code);
      if (score > best_score) {
        best = code;
        best_score = score;
      }
    }
    return static_cast<Code>(best);
  }

 private:
  /// The fast search for W blocks at a time, the whole one for W at a time of those that it leaves open, and the exact
  /// one for what these do.
  template <int W>
  static void encodeInLanes(const float* x, Index count, Code* codes) {
    using Search = detail::E8PSearch<W>;
    alignas(64) std::int32_t answers[W];
    alignas(64) float at_least[W], blocks[8 * W];
    Index open[2 * W];
    int waiting = 0;
    const auto settle = [&] {
      const int here = std::min(waiting, W);
      waiting -= here;
      std::fill_n(blocks, 8 * W, 0.f);
      for (int k = 0; k < here; ++k) std::copy_n(x + 8 * open[waiting + k], 8, blocks + 8 * k);
      Search::template encode<true>(blocks, answers, at_least);
      for (int k = 0; k < here; ++k) {
        codes[open[waiting + k]] = static_cast<Code>(answers[k] >= 0 ? Search::unpack(static_cast<unsigned>(answers[k]))
                                                                     : encodeExact(blocks + 8 * k, at_least[k]));
      }
    };
    for (Index first = 0; first < count; first += W) {
      const int here = static_cast<int>(std::min<Index>(W, count - first));
      const float* from = x + 8 * first;
      if (here < W) {
        std::fill(std::copy(from, from + 8 * here, blocks), blocks + 8 * W, 0.f);
        from = blocks;
      }
      Search::template encode<false>(from, answers, at_least);
      for (int b = 0; b < here; ++b) {  // without branches, for nothing foretells them
        codes[first + b] = static_cast<Code>(Search::unpack(static_cast<unsigned>(std::max(answers[b], 0))));
        open[waiting] = first + b;
        waiting += answers[b] < 0 ? 1 : 0;
      }
      if (waiting >= W) settle();
    }
    while (waiting > 0) settle();
  }

  static unsigned encodeExact(const float* x, float at_least) {
    const bool finite = at_least - at_least == 0.f;
    const double bound = finite ? static_cast<double>(at_least) : -std::numeric_limits<double>::infinity();
    return detail::E8PExactSearch(x, bound).code();
  }
};

static_assert(VectorCodebook<E8P>);

}  // namespace gosset::GOSSET_ABI
