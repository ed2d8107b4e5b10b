// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/trellis_search.hpp>

#include "same_bits.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

// Walks against all walks there are, in rings so short that their bits can be counted through, and against a search in
// double.
namespace gosset::trellis_search_test {
namespace {

using detail::ChainExtent;
using detail::TrellisSearch;
using detail::TrellisTable;
using testing::normal;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Index kColumns = 4;
constexpr ChainExtent kAll = {1 << 20, kColumns};

using States = std::vector<std::uint16_t>;

std::vector<float> gaussian(Index count, std::uint64_t seed) {
  std::vector<float> x(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(normal(seed, i));
  return x;
}

States walk(TrellisSearch& search, const std::vector<float>& x, ChainExtent extent = kAll) {
  States states(x.size(), 0xffff);
  search.nearest(x.data(), static_cast<Index>(x.size()), kColumns, extent, states.data());
  return states;
}
States walk(const TrellisTable& table, const std::vector<float>& x, ChainExtent extent = kAll) {
  TrellisSearch search(table, static_cast<Index>(x.size()));
  return walk(search, x, extent);
}

/// Whether each state goes on in the next one, the last in the first.
bool isRing(const TrellisTable& table, const States& states) {
  for (std::size_t n = 0; n < states.size(); ++n) {
    const int bits = table.newBits(static_cast<Index>(n));
    if (states[n] >= table.states()) return false;
    if (states[n] >> bits != (states[(n + 1) % states.size()] & ((table.states() >> bits) - 1))) return false;
  }
  return true;
}

double squared(double x) { return x * x; }

double errorOf(const TrellisTable& table, const std::vector<float>& x, const States& states,
               ChainExtent extent = kAll) {
  double sum = 0;
  for (std::size_t n = 0; n < x.size(); ++n) {
    if (!extent.counts(static_cast<Index>(n), kColumns)) continue;
    sum += squared(static_cast<double>(x[n]) - static_cast<double>(table.value(states[n])));
  }
  return sum;
}

/// The least error of all rings: every string of as many bits as the numbers take, 16 at most.
double leastOfAll(const TrellisTable& table, const std::vector<float>& x, ChainExtent extent = kAll) {
  const auto count = static_cast<Index>(x.size());
  const int bits = static_cast<int>(table.firstBit(count));
  double least = std::numeric_limits<double>::infinity();
  for (std::uint64_t string = 0; string < std::uint64_t{1} << bits; ++string) {
    const std::uint64_t twice = string | string << bits;
    double sum = 0;
    for (Index n = 0; n < count && sum < least; ++n) {
      if (!extent.counts(n, kColumns)) continue;
      const int state = static_cast<int>(twice >> table.firstBit(n)) & (table.states() - 1);
      sum += squared(static_cast<double>(x[static_cast<std::size_t>(n)]) - static_cast<double>(table.value(state)));
    }
    least = std::min(least, sum);
  }
  return least;
}

/// The least error, by its end, of the walks that begin before the last number in `seam`, or anywhere where it is
/// negative: Viterbi's algorithm in double.
std::vector<double> leastByEnd(const TrellisTable& table, const std::vector<float>& x, int seam,
                               ChainExtent extent = kAll) {
  constexpr double kNever = 1e300;
  std::vector<double> now(static_cast<std::size_t>(table.states()), seam < 0 ? 0 : kNever), next(now.size());
  if (seam >= 0) now[static_cast<std::size_t>(seam)] = 0;
  for (std::size_t n = x.size(); n-- > 0;) {
    const bool counts = extent.counts(static_cast<Index>(n), kColumns);
    const int bits = table.newBits(static_cast<Index>(n)), kept = table.states() >> bits;
    for (int k = 0; k < kept; ++k) {
      double least = kNever;
      for (int way = 0; way < 1 << bits; ++way) least = std::min(least, now[static_cast<std::size_t>(k + way * kept)]);
      for (int s = k << bits; s < (k + 1) << bits; ++s) {
        const double error = counts ? squared(static_cast<double>(x[n]) - static_cast<double>(table.value(s))) : 0;
        next[static_cast<std::size_t>(s)] = least + error;
      }
    }
    now.swap(next);
  }
  return now;
}

/// The same of the rings that pass the seam in a state.
double leastThrough(const TrellisTable& table, const std::vector<float>& x, int seam, ChainExtent extent = kAll) {
  return leastByEnd(table, x, seam, extent)[static_cast<std::size_t>(seam)];
}

/// The least error of all rings: states at the seam are tried from the most promising one on, until none is left of
/// which even walks that do not come back are as good.
double leastOfRings(const TrellisTable& table, const std::vector<float>& x) {
  const std::vector<double> open = leastByEnd(table, x, -1);
  std::vector<int> order(open.size());
  std::iota(order.begin(), order.end(), 0);
  const auto openTo = [&](int state) { return open[static_cast<std::size_t>(state)]; };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return openTo(a) < openTo(b); });
  double least = std::numeric_limits<double>::infinity();
  for (const int state : order) {
    if (openTo(state) >= least) break;
    least = std::min(least, leastThrough(table, x, state));
  }
  return least;
}

/// What rounding to integers and the low bits that say where a walk came from can cost: half a unit and up to 2^bits -
/// 1 units a number, twice, for what is chosen and what is not.
double roundingBound(const TrellisTable& table, std::size_t count) {
  const double unit = 1 / (130 * std::pow(4., table.rate8() / 8.));
  return static_cast<double>(count) * (1 + 2 * ((1 << ((table.rate8() + 7) / 8)) - 1)) * unit;
}

struct Ring {
  int rate8;
  Index count;
};

/// Rings so short are never encoded: nothing but what is true of each, and that the oracle below knows the best one.
TEST(TrellisSearch, ShortRingsAgainstEveryString) {
  for (const Ring ring : {Ring{8, 16}, Ring{12, 10}, Ring{16, 8}, Ring{16, 6}, Ring{20, 6}, Ring{24, 5}}) {
    const TrellisTable& table = detail::trellisTable<12>(ring.rate8);
    TrellisSearch search(table, 16);
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      const auto x = gaussian(ring.count, seed);
      const States states = walk(search, x);
      ASSERT_TRUE(isRing(table, states)) << ring.rate8 << ' ' << seed;
      const double least = leastOfAll(table, x), error = errorOf(table, x, states);
      EXPECT_GE(error, least - 1e-9) << ring.rate8;
      EXPECT_LE(error, leastThrough(table, x, states[0]) + roundingBound(table, x.size())) << ring.rate8;
      if (ring.rate8 >= 16 && seed == 0) {
        EXPECT_NEAR(leastOfRings(table, x), least, 1e-9) << ring.rate8;
      }
    }
  }
}

/// The shortest that are encoded, of 16 rows.
TEST(TrellisSearch, NearlyTheBestRingThereIs) {
  double ratios = 0;
  int rings = 0;
  for (const int rate8 : {20, 24}) {
    const TrellisTable& table = detail::trellisTable<12>(rate8);
    TrellisSearch search(table, 64);
    const std::uint64_t seeds = rate8 == 20 ? 2 : 8;
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      const auto x = gaussian(64, seed);
      const double error = errorOf(table, x, walk(search, x)), least = leastOfRings(table, x);
      EXPECT_GE(error, least - 1e-9);
      EXPECT_LE(error, 1.25 * least) << rate8 << ' ' << seed;
      ratios += error / least;
      ++rings;
    }
  }
  EXPECT_LE(ratios / rings, 1.05);
}

TEST(TrellisSearch, AsGoodAsInDoubleButForRounding) {
  for (const int rate8 : {8, 9, 12, 16, 20, 27, 32, 48}) {
    const TrellisTable& table = detail::trellisTable<14>(rate8);
    TrellisSearch search(table, 512);
    for (const Index count : {64, 192}) {
      const auto x = gaussian(count, 77);
      const States states = walk(search, x);
      ASSERT_TRUE(isRing(table, states)) << rate8;
      const double error = errorOf(table, x, states), least = leastThrough(table, x, states[0]);
      EXPECT_GE(error, least - 1e-9) << rate8;
      EXPECT_LE(error, least + roundingBound(table, x.size())) << rate8;
      EXPECT_LE(error, 1.005 * least) << rate8 << ": errors of rounding hardly ever add up";
    }
  }
}

TEST(TrellisSearch, NumbersThatDoNotCountMayBecomeAnything) {
  for (const int rate8 : {8, 16, 19, 32}) {
    const TrellisTable& table = detail::trellisTable<14>(rate8);
    TrellisSearch search(table, 64);
    const auto x = gaussian(64, 5);
    const double all = errorOf(table, x, walk(search, x));
    double before = all;
    for (const ChainExtent extent : {ChainExtent{16, 3}, ChainExtent{9, 3}, ChainExtent{9, 1}, ChainExtent{1, 1}}) {
      const States states = walk(search, x, extent);
      ASSERT_TRUE(isRing(table, states));
      auto other = x;
      for (std::size_t n = 0; n < x.size(); ++n) {
        const auto row = static_cast<Index>(n) / 4, col = static_cast<Index>(n) % 4;
        if (row >= extent.rows || col >= extent.cols) other[n] = n % 3 == 0 ? kInfinity : std::nanf("");
      }
      EXPECT_EQ(walk(search, other, extent), states) << rate8 << ' ' << extent.rows << ' ' << extent.cols;
      const double error = errorOf(table, x, states, extent);
      EXPECT_LE(error, leastThrough(table, x, states[0], extent) + roundingBound(table, x.size()));
      EXPECT_LT(error, before) << rate8 << ' ' << extent.rows << ' ' << extent.cols;
      before = error;
    }
    EXPECT_LT(before, 2e-3) << "a number alone finds a level next to it";
  }
}

/// Numbers far from all levels raise metrics beyond their range, and the walk must be a ring all the same.
TEST(TrellisSearch, ARingWhateverTheNumbersAre) {
  for (const int rate8 : {8, 13, 16, 32, 48}) {
    const TrellisTable& table = detail::trellisTable<14>(rate8);
    TrellisSearch search(table, 512);
    for (const Index count : {64, 128, 512}) {
      for (const float size : {0.f, 1e-45f, 1.f, 5.f, 27.f, 64.f, 1e30f, kInfinity}) {
        for (std::uint64_t seed = 0; seed < 4; ++seed) {
          std::vector<float> x(static_cast<std::size_t>(count));
          for (std::size_t i = 0; i < x.size(); ++i) {
            const std::uint64_t bits = randomBits(seed, i) >> 20;
            x[i] = seed == 0 || (seed > 1 && bits % seed == 0) ? size : seed == 1 && bits % 2 == 0 ? -size : -1.f;
          }
          ASSERT_TRUE(isRing(table, walk(search, x))) << rate8 << ' ' << count << ' ' << size << ' ' << seed;
        }
      }
    }
  }
}

/// One in a million such chains: eight loud numbers end it, and the best walk to the seam comes from states that
/// metrics cannot tell from closed ones.
TEST(TrellisSearch, ARingWhereMetricsEndAtTheSeam) {
  const TrellisTable& table = detail::trellisTable<12>(28);
  std::uint64_t draw = 15981437;
  const auto next = [&] { return randomBits(77, draw++) >> 11; };
  std::vector<float> x(128);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(static_cast<double>(next() % 20001) / 10000 - 1);
    if (i >= x.size() - 8) x[i] = next() % 2 != 0 ? 64.f : -64.f;
  }
  EXPECT_TRUE(isRing(table, walk(table, x)));
}

/// A column of outliers, as under one scale for all: costs end at a largest one, and yet the walk is as good as any, at
/// the seam too.
TEST(TrellisSearch, AColumnOfOutliers) {
  for (const int rate8 : {8, 16, 32}) {
    const TrellisTable& table = detail::trellisTable<14>(rate8);
    TrellisSearch search(table, 128);
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      auto x = gaussian(128, seed);
      for (std::size_t n = 0; n < x.size(); n += 4) x[n] *= 20;
      const States states = walk(search, x);
      ASSERT_TRUE(isRing(table, states));
      EXPECT_LE(errorOf(table, x, states), 1.0001 * leastThrough(table, x, states[0])) << rate8 << ' ' << seed;
    }
  }
}

/// Rings of numbers that are all loud, as a scale for the whole matrix leaves them.
TEST(TrellisSearch, RingsOfLoudNumbers) {
  for (const int rate8 : {8, 13, 16, 24, 32}) {
    const TrellisTable& table = detail::trellisTable<14>(rate8);
    TrellisSearch search(table, 128);
    for (const float size : {3.f, 5.f, 27.f}) {
      const std::vector<float> constant(64, size);
      auto x = gaussian(128, 5);
      for (float& number : x) number *= size;
      const States of_constant = walk(search, constant), states = walk(search, x);
      const double bound = rate8 == 32 ? 1.5 : 1.001;
      EXPECT_LE(errorOf(table, constant, of_constant), bound * leastThrough(table, constant, of_constant[0]))
          << rate8 << ' ' << size;
      EXPECT_LE(errorOf(table, x, states), bound * leastThrough(table, x, states[0])) << rate8 << ' ' << size;
    }
  }
}

TEST(TrellisSearch, NotANumberCountsAsZeroAndInfinityAsLarge) {
  const TrellisTable& table = detail::trellisTable<14>(16);
  auto x = gaussian(64, 9), y = x;
  x[5] = std::nanf("");
  y[5] = 0;
  EXPECT_EQ(walk(table, x), walk(table, y));
  x[5] = y[5] = 1;
  x[60] = kInfinity;
  y[60] = 64;
  x[3] = -1e30f;
  y[3] = -64;
  EXPECT_EQ(walk(table, x), walk(table, y));
  const std::vector<float> zeros(64), denormals(64, 1e-40f), none(64, std::nanf(""));
  EXPECT_EQ(walk(table, denormals), walk(table, zeros));
  EXPECT_EQ(walk(table, none), walk(table, zeros));
  EXPECT_LT(errorOf(table, zeros, walk(table, zeros)), 64 * 0.068 / 2);
}

TEST(TrellisSearch, WhatWasSearchedBeforeChangesNothing) {
  const TrellisTable& table = detail::trellisTable<14>(13);
  TrellisSearch used(table, 960);
  (void)walk(used, std::vector<float>(960, kInfinity));
  for (const Index count : {64, 512, 128, 960}) {
    const auto x = gaussian(count, static_cast<std::uint64_t>(count));
    EXPECT_EQ(walk(used, x), walk(table, x)) << count;
    EXPECT_EQ(walk(used, x), walk(table, x)) << count << ", again";
    (void)walk(used, x, {3, 2});
  }
}

/// Standard normal numbers in random order, their radii (Box and Muller's) one from each of as many parts of equal
/// probability: with the tail that they should have, and so half the error of the mean.
std::vector<float> evenGaussian(std::size_t count, std::uint64_t seed) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count / 2; ++i) {
    const double u = (static_cast<double>(i) + static_cast<double>(randomBits(seed, i) >> 11) * 0x1p-53) * 2;
    const double radius = std::sqrt(-2 * std::log1p(-u / static_cast<double>(count)));
    const double angle = static_cast<double>(randomBits(seed + 1, i) >> 11) * 0x1p-52 * std::numbers::pi;
    x[2 * i] = static_cast<float>(radius * std::cos(angle));
    x[2 * i + 1] = static_cast<float>(radius * std::sin(angle));
  }
  for (std::size_t i = count; i-- > 1;) std::swap(x[i], x[randomBits(seed + 2, i) % (i + 1)]);
  return x;
}

/// On fresh numbers.
TEST(TrellisSearch, DistortionOfTheFrozenCodes) {
  const auto all = evenGaussian(1 << 16, 1000);
  const std::map<int, double> most = {{8, .267}, {12, .136}, {16, .0685}, {20, .0348}, {24, .0176}, {32, .0046}};
  for (const auto& [rate8, wanted] : most) {
    const TrellisTable& table = detail::trellisTable<14>(rate8);
    TrellisSearch search(table, 512);
    double sum = 0;
    for (auto at = all.begin(); at != all.end(); at += 512) {
      const std::vector<float> x(at, at + 512);
      sum += errorOf(table, x, walk(search, x));
    }
    const double distortion = sum / static_cast<double>(all.size());
    const auto frozen = static_cast<double>(detail::kTrellis14[static_cast<std::size_t>(rate8 - 8)].distortion);
    EXPECT_NEAR(distortion, frozen, 0.01 * frozen) << rate8;
    EXPECT_LE(distortion, 1.005 * wanted) << rate8;
    EXPECT_LE(frozen, wanted) << rate8;
  }
}

/// The same walk on every machine.
TEST(TrellisSearch, SameBits) {
  testing::SameBits bits({{"14, 8", 0x7d23698e2c56e00bu},
                          {"14, 12", 0xde20cc3cf0fb672du},
                          {"14, 16", 0x82d580ae05364871u},
                          {"14, 19", 0xb70382819ea265dau},
                          {"14, 24", 0xafadefc1fbae93adu},
                          {"14, 31", 0xe2e493bb46249630u},
                          {"14, 32", 0xcdd7a0956ef72221u},
                          {"14, 40", 0x0b20ab64d51405c7u},
                          {"14, 48", 0x949e9049f53808adu},
                          {"14, 24, loud", 0x9e5c8013c15e8b94u}});
  const RowMatrixXf numbers = testing::sameNumbers(1, 512, 3);
  const std::vector<float> x(numbers.data(), numbers.data() + numbers.size());
  for (const int rate8 : {8, 12, 16, 19, 24, 31, 32, 40, 48}) {
    const States states = walk(detail::trellisTable<14>(rate8), x);
    bits.check("14, " + std::to_string(rate8), testing::hashBytes(states.data(), 2 * states.size()));
  }
  std::vector<float> loud = x;
  for (float& number : loud) number *= 7;
  const States states = walk(detail::trellisTable<14>(24), loud);
  bits.check("14, 24, loud", testing::hashBytes(states.data(), 2 * states.size()));
  bits.finish();
}

}  // namespace
}  // namespace gosset::trellis_search_test
