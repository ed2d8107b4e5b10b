// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/trellis_table.hpp>

#include "testing.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace gosset::trellis_table_test {
namespace {

using detail::TrellisConstants;
using detail::TrellisTable;

/// 2^6 states, three index bits: levels -7, -1, -4, 3 and their mirror images; what the high bits turn.
TrellisTable small(int rate8 = 8) {
  static constexpr std::int8_t kHalf[] = {-7, -1, -4, 3};
  static constexpr std::uint8_t kMix[] = {0b101, 0b011, 0b111};
  return {6, rate8, 3, kHalf, kMix};
}

TEST(TrellisTable, SizesByHand) {
  const TrellisTable t = small(12);
  EXPECT_EQ(t.stateBits(), 6);
  EXPECT_EQ(t.states(), 64);
  EXPECT_EQ(t.rate8(), 12);
  EXPECT_EQ(t.indexBits(), 3);
  EXPECT_EQ(t.indices(), 8);
  EXPECT_EQ(TrellisTable::kLevelUnit, 1 / 32.f);
}

TEST(TrellisTable, LevelsByHand) {
  const TrellisTable t = small();
  const int expected[] = {-7, -1, -4, 3, -3, 4, 1, 7};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(t.levelOfIndex(i), expected[i]);
}

TEST(TrellisTable, IndicesAndValuesByHand) {
  const TrellisTable t = small();
  const int mixed[] = {0, 0b101, 0b011, 0b110, 0b111, 0b010, 0b100, 0b001};
  for (int high = 0; high < 8; ++high) {
    EXPECT_EQ(t.mixed(high), mixed[high]) << high;
    for (int low = 0; low < 8; ++low) EXPECT_EQ(t.index(high << 3 | low), low ^ mixed[high]);
  }
  EXPECT_EQ(t.index(0b001010), 0b111);
  EXPECT_EQ(t.level(0b001010), 7);
  EXPECT_EQ(t.value(0b001010), 7 / 32.f);
  EXPECT_EQ(t.value(0), -7 / 32.f);
  EXPECT_EQ(t.value(0b111011), -4 / 32.f);
}

TEST(TrellisTable, BitsOfNumbersByHand) {
  const TrellisTable one_and_a_half = small(12), last = small(47);
  const Index firsts[] = {0, 1, 3, 4, 6};
  const int news[] = {1, 2, 1, 2, 1};
  for (Index n = 0; n < 5; ++n) {
    EXPECT_EQ(one_and_a_half.firstBit(n), firsts[n]);
    EXPECT_EQ(one_and_a_half.newBits(n), news[n]);
  }
  EXPECT_EQ(last.firstBit(7), 41);
  EXPECT_EQ(last.firstBit(8), 47);
  EXPECT_EQ(last.newBits(0), 5);
  EXPECT_EQ(last.newBits(1), 6);
}

/// Every eight numbers take a whole number of bytes, whatever the rate.
TEST(TrellisTable, NewBitsAddUp) {
  for (int rate = detail::kLeastTrellisRate8; rate <= detail::kMostTrellisRate8; ++rate) {
    const TrellisTable t = small(rate);
    Index bits = 0;
    for (Index n = 0; n < 64; ++n) {
      EXPECT_EQ(t.firstBit(n), bits);
      EXPECT_TRUE(t.newBits(n) == rate / 8 || t.newBits(n) == (rate + 7) / 8) << rate << ' ' << n;
      bits += t.newBits(n);
    }
    EXPECT_EQ(bits, 8 * rate);
  }
}

/// The frozen codes: sizes, antisymmetry, levels that are all different and mixing that is of use.
template <int L>
void checkFrozen() {
  const auto& constants = detail::trellisConstants<L>();
  for (std::size_t i = 0; i < constants.size(); ++i) {
    const TrellisConstants& c = constants[i];
    const std::string name = "L = " + std::to_string(L) + ", rate " + std::to_string(c.rate8);
    EXPECT_EQ(c.rate8, static_cast<int>(i) + detail::kLeastTrellisRate8);
    EXPECT_TRUE(c.index_bits >= 6 && c.index_bits <= 8) << name;
    EXPECT_GE(8 * c.index_bits, c.rate8) << name << ": new bits reach no further than the index";
    if (i > 0) {
      EXPECT_GE(c.index_bits, constants[i - 1].index_bits) << name;
    }
    const TrellisTable& t = detail::trellisTable<L>(c.rate8);
    EXPECT_EQ(t.rate8(), c.rate8);
    EXPECT_EQ(t.states(), 1 << L);
    EXPECT_EQ(t.indexBits(), c.index_bits);
    std::set<int> levels;
    double sum_of_squares = 0;
    for (int index = 0; index < t.indices(); ++index) {
      const int level = t.levelOfIndex(index);
      EXPECT_EQ(t.levelOfIndex(t.indices() - 1 - index), -level) << name;
      EXPECT_GE(level, -127) << name;
      levels.insert(level);
      sum_of_squares += level * level;
    }
    EXPECT_GE(static_cast<int>(levels.size()), t.indices() * 2 / 5) << name << ": few levels repeat";
    EXPECT_NEAR(sum_of_squares / t.indices() / 1024, 1, 0.25) << name << ": the variance of what they stand for";
    for (int state = 0; state < t.states(); state += 77) {
      EXPECT_EQ(t.value(state), static_cast<float>(t.levelOfIndex(t.index(state))) / 32) << name;
    }
  }
}

TEST(TrellisTable, FrozenCodesAreWhatTheyShouldBe) {
  checkFrozen<12>();
  checkFrozen<14>();
  checkFrozen<16>();
}

/// The rank over GF(2) of what high bits turn.
int rankOf(const TrellisTable& t) {
  std::vector<int> basis;
  for (int bit = 0; bit < t.stateBits() - t.indexBits(); ++bit) {
    int v = t.mixed(1 << bit);
    for (const int b : basis) v = std::min(v, v ^ b);
    if (v != 0) basis.push_back(v);
  }
  return static_cast<int>(basis.size());
}

/// High bits choose among the sets of indices that the new bits leave: they can reach each of them.
TEST(TrellisTable, HighBitsReachEverySet) {
  for (const TrellisConstants& c : detail::kTrellis14) {
    const TrellisTable& t = detail::trellisTable<14>(c.rate8);
    EXPECT_GE(rankOf(t), t.indexBits() - c.rate8 / 8) << c.rate8;
    int zeros = 0;
    for (int bit = 0; bit < t.stateBits() - t.indexBits(); ++bit) zeros += t.mixed(1 << bit) == 0 ? 1 : 0;
    EXPECT_LE(zeros, 1) << c.rate8;
  }
}

TEST(TrellisTable, DistortionsFallWithTheRate) {
  for (std::size_t i = 1; i < detail::kTrellis14.size(); ++i) {
    const float before = detail::kTrellis14[i - 1].distortion, now = detail::kTrellis14[i].distortion;
    EXPECT_LT(now, before) << detail::kTrellis14[i].rate8;
    EXPECT_GT(now, 0.8f * before) << "an eighth of a bit divides by 2^(1/4) = 1.19: " << detail::kTrellis14[i].rate8;
  }
}

}  // namespace
}  // namespace gosset::trellis_table_test
