// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/trellis_table.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>

// Trellis codes: the numbers of a matrix are walks through a graph whose 2^L states each stand for a value. A state is
// L bits of a string of bits, and the next number's state is the same window R bits further on, so a number costs R
// bits and yet is chosen from 2^L values, together with its neighbours: at L = 14 a Gaussian has the squared error of
// .0682 at 2 bits, where E8P has .0913, the best scalar quantizer .1175, and no code below .0625.
//
//   bits     b0 b1 b2 b3 b4 b5 b6 ...                           one string for each chain, joined to a ring
//   number 0 [---- state, L bits ----]
//   number 1       [---- state, L bits ----]                    2 bits further on, at R = 2
//   number 2             [---- state, L bits ----]
//
// R is any number of eighths: the state of number n begins at bit floor(R n). Numbers stand in a band of 128 rows, four
// columns wide:
//
//   row 0     n = 0    1    2    3
//   row 1         4    5    6    7            a ring of 512 numbers, 64 R bytes
//   ...
//   row 127     508  509  510  511
//
// Rows are taken in blocks of 16; a band has 8 of these, the last band of a matrix up to 15, so that no ring is short
// where a matrix has 128 rows. (Rings of 64 numbers cost .3 dB at 2 bits, of 256 .03 dB.) Numbers of a ring that the
// matrix has not, at its edges, may become anything, which helps the others.
//
// Sources: bitshift trellises and rings of them for weights: Tseng et al., "QTIP", NeurIPS 2024, section 3; trellis
// coded quantization: Marcellin and Fischer, IEEE Transactions on Communications 38, 1990. Which value a state stands
// for is gosset's own: see trellis_table.hpp.
namespace gosset::GOSSET_ABI {

namespace detail {

/// Bands of blocks of 16 rows.
class TrellisBands {
 public:
  static constexpr Index kBlocks = 8;

  explicit TrellisBands(Index blocks) : blocks_(blocks), count_(std::max<Index>(1, blocks / kBlocks)) {}

  Index count() const { return count_; }
  Index of(Index block) const { return std::min(block / kBlocks, count_ - 1); }
  Index begin(Index band) const { return band * kBlocks; }
  Index end(Index band) const { return band + 1 < count_ ? begin(band + 1) : blocks_; }

 private:
  Index blocks_, count_;
};

inline std::string trellisName(int numerator, int denominator, int state_bits) {
  std::string name = "Trellis<" + std::to_string(numerator);
  if (denominator != 1 || state_bits != 14) name += ", " + std::to_string(denominator);
  if (state_bits != 14) name += ", " + std::to_string(state_bits);
  return name + ">";
}

/// What all trellis codebooks have in common.
template <int L>
struct TrellisBase {
  static_assert(L == 12 || L == 14 || L == 16, "Trellis<n, d, L>: L is 12, 14 or 16");

  using Code = std::uint16_t;  ///< a state
  static constexpr int kDim = 1, kBits = L, kStateBits = L;
  static constexpr int kChainColumns = 4;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 1.f;

  static const TrellisTable& table(int rate8) { return trellisTable<L>(rate8); }
};

}  // namespace detail

/// n / d bits a number, a multiple of 1/8 from 1 to 6, with 2^L states: L = 12 encodes three times as fast as 14 and
/// has 2% more squared error, 16 takes four times as long and has 1.5% less. Decoding is the same.
template <int n, int d = 1, int L = 14>
struct Trellis : detail::TrellisBase<L> {
  static_assert(n >= 1 && d >= 1 && 8 * n % d == 0, "Trellis<n, d>: n / d is a multiple of 1/8");
  static_assert(8 * n / d >= detail::kLeastTrellisRate8 && 8 * n / d <= detail::kMostTrellisRate8,
                "Trellis<n, d>: n / d is from 1 to 6 bits");
  static constexpr int kRate8 = 8 * n / d;
  static constexpr bool kMixedRates = false;

  static std::string name() { return detail::trellisName(n / std::gcd(n, d), d / std::gcd(n, d), L); }
};

/// A rate of its own for each tile of 32 columns. A rounding that knows what errors in each column weigh chooses the
/// rates, such as Ldlq by its mean_bits; else all are 2 bits.
struct TrellisMixed : detail::TrellisBase<14> {
  static constexpr int kRate8 = 16;
  static constexpr bool kMixedRates = true;

  static std::string name() { return "TrellisMixed"; }
};

static_assert(TrellisCodebook<Trellis<2>> && TrellisCodebook<TrellisMixed>);

}  // namespace gosset::GOSSET_ABI
