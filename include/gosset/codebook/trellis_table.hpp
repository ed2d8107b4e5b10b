// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/trellis_constants.hpp>
#include <gosset/codebook/trellis_constants_12.hpp>
#include <gosset/codebook/trellis_constants_14.hpp>
#include <gosset/codebook/trellis_constants_16.hpp>
#include <gosset/core/types.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

// The values of the states of a trellis code, as tables.
//
//   state       L bits          [ high bits ............... | low g bits ]
//   index       g bits          low bits XOR (sum over the high bits i that are set of mix[i])
//   value       levels[index] / 32
//
// Moving from one state to the next brings new bits in from below: with r of them there are 2^r next states, which have
// all high bits in common, so their indices differ in the lowest bits alone, whatever mix is. Levels that rise with the
// bits of the index reversed make these 2^r values spread over the whole range; the high bits then choose which of
// 2^(g - r) such sets it is. levels[2^g - 1 - i] = -levels[i].
namespace gosset::GOSSET_ABI::detail {

/// A trellis code of some rate, L and g.
class TrellisTable {
 public:
  static constexpr int kLevelBits = 5;  ///< a level is a multiple of 2^-5
  static constexpr float kLevelUnit = 1.f / (1 << kLevelBits);

  TrellisTable(int state_bits, int rate8, int index_bits, const std::int8_t* half_levels, const std::uint8_t* mix)
      : state_bits_(state_bits), rate8_(rate8), index_bits_(index_bits) {
    const int count = 1 << index_bits;
    for (int i = 0; i < count / 2; ++i) {
      levels_[static_cast<std::size_t>(i)] = half_levels[i];
      levels_[static_cast<std::size_t>(count - 1 - i)] = static_cast<std::int8_t>(-half_levels[i]);
    }
    mixed_.resize(std::size_t{1} << (state_bits - index_bits));
    for (std::size_t high = 1; high < mixed_.size(); ++high) {
      const std::size_t rest = high & (high - 1);
      int bit = 0;
      while ((high >> bit & 1) == 0) ++bit;
      mixed_[high] = static_cast<std::uint8_t>(mixed_[rest] ^ mix[bit]);
    }
  }

  int stateBits() const { return state_bits_; }
  int states() const { return 1 << state_bits_; }
  /// Eighths of a bit that each number adds to the stored bits.
  int rate8() const { return rate8_; }
  int indexBits() const { return index_bits_; }
  int indices() const { return 1 << index_bits_; }

  /// The first stored bit of number n of a chain, and how many more come with number n than without.
  Index firstBit(Index n) const { return rate8_ * n / 8; }
  int newBits(Index n) const { return static_cast<int>(firstBit(n + 1) - firstBit(n)); }

  /// What the high bits of a state turn in the index.
  int mixed(int high) const { return mixed_[static_cast<std::size_t>(high)]; }
  int index(int state) const { return (state & (indices() - 1)) ^ mixed(state >> index_bits_); }
  /// In units of 1/32.
  int levelOfIndex(int index) const { return levels_[static_cast<std::size_t>(index)]; }
  int level(int state) const { return levelOfIndex(index(state)); }
  float value(int state) const { return static_cast<float>(level(state)) * kLevelUnit; }

 private:
  int state_bits_, rate8_, index_bits_;
  std::array<std::int8_t, 256> levels_ = {};
  std::vector<std::uint8_t> mixed_;  ///< for all high bits
};

/// The frozen codes with 2^L states, by rate, from kLeastTrellisRate8 on.
template <int L>
constexpr const std::array<TrellisConstants, kTrellisRates>& trellisConstants() {
  if constexpr (L == 12) {
    return kTrellis12;
  } else if constexpr (L == 14) {
    return kTrellis14;
  } else {
    return kTrellis16;
  }
}

/// The frozen code with 2^L states at a rate, kLeastTrellisRate8 .. kMostTrellisRate8 eighths of a bit.
template <int L>
const TrellisTable& trellisTable(int rate8) {
  static const auto tables = [] {
    std::vector<TrellisTable> all;
    for (const TrellisConstants& c : trellisConstants<L>()) {
      all.emplace_back(L, c.rate8, c.index_bits, c.half_levels, c.mix);
    }
    return all;
  }();
  return tables[static_cast<std::size_t>(rate8 - kLeastTrellisRate8)];
}

}  // namespace gosset::GOSSET_ABI::detail
