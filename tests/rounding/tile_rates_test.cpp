// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/tile_rates.hpp>

#include "testing.hpp"

#include <limits>
#include <numeric>
#include <string>
#include <vector>

namespace gosset::tile_rates_test {
namespace {

using detail::kLeastTrellisRate8;
using detail::kMostTrellisRate8;
using detail::tileRates;
using detail::trellisGains;
using testing::expectThrows;

using Rates = std::vector<std::uint8_t>;

TEST(TrellisGains, FallAndAddUpToTheDistortions) {
  const auto& gains = trellisGains<14>();
  ASSERT_EQ(gains.size(), 40u);
  for (std::size_t i = 1; i < gains.size(); ++i) EXPECT_LE(gains[i], gains[i - 1]) << i;
  EXPECT_GT(gains.back(), 0);
  const auto distortion = [](std::size_t i) { return static_cast<double>(detail::kTrellis14[i].distortion); };
  EXPECT_NEAR(std::accumulate(gains.begin(), gains.end(), 0.), distortion(0) - distortion(40), 1e-9);
  // The hull never lies above the codes, and not far below.
  double hull = distortion(0);
  for (std::size_t i = 0; i < gains.size(); ++i) {
    hull -= gains[i];
    EXPECT_LE(hull, distortion(i + 1) + 1e-9) << i;
    EXPECT_GE(hull, 0.93 * distortion(i + 1)) << i;
  }
}

/// What the hull says that tiles lose at some rates.
double loss(const std::vector<double>& weights, const std::vector<Index>& columns, const Rates& rates) {
  const auto& gains = trellisGains<14>();
  double sum = 0;
  for (std::size_t i = 0; i < rates.size(); ++i) {
    const double won = std::accumulate(gains.begin(), gains.begin() + (rates[i] - kLeastTrellisRate8), 0.);
    sum += weights[i] * static_cast<double>(columns[i]) * (1 - won);
  }
  return sum;
}

Index eighths(const std::vector<Index>& columns, const Rates& rates) {
  Index sum = 0;
  for (std::size_t i = 0; i < rates.size(); ++i) sum += columns[i] * rates[i];
  return sum;
}

/// The least loss of all rates with at most so many eighths.
double leastLoss(const std::vector<double>& weights, const std::vector<Index>& columns, Index most) {
  double least = std::numeric_limits<double>::infinity();
  Rates rates(weights.size(), kLeastTrellisRate8);
  for (;;) {
    if (eighths(columns, rates) <= most) least = std::min(least, loss(weights, columns, rates));
    std::size_t i = 0;
    while (i < rates.size() && rates[i] == kMostTrellisRate8) rates[i++] = kLeastTrellisRate8;
    if (i == rates.size()) return least;
    ++rates[i];
  }
}

TEST(TileRates, TheBestOfAllForTilesOfOneWidth) {
  const std::vector<Index> columns = {32, 32, 32};
  const std::vector<std::vector<double>> cases = {{1, 1, 1}, {1, 2, 3}, {5, 0.01, 1}, {1e6, 1, 1e-6}, {0, 0, 1}};
  for (const auto& weights : cases) {
    for (const double mean : {1., 1.125, 1.5, 2., 2.7, 3.5, 5., 6.}) {
      const Rates rates = tileRates<14>(weights, columns, mean);
      const auto most = static_cast<Index>(std::floor(96 * 8 * mean + 1e-6));
      EXPECT_LE(eighths(columns, rates), most) << mean;
      EXPECT_GT(eighths(columns, rates), most - 32) << mean << ": nothing is left that a tile could take";
      const double least = leastLoss(weights, columns, most);
      EXPECT_NEAR(loss(weights, columns, rates), least, 1e-9 * least + 1e-12) << mean;
    }
  }
}

TEST(TileRates, MeansThatDivideAreHeldExactly) {
  std::vector<double> weights;
  for (std::uint64_t i = 0; i < 64; ++i) weights.push_back(std::exp(testing::normal(1, i)));
  const std::vector<Index> columns(64, 32);
  for (const double mean : {1., 1.5, 2., 2.25, 3., 3.125, 4., 6.}) {
    EXPECT_EQ(eighths(columns, tileRates<14>(weights, columns, mean)), static_cast<Index>(64 * 32 * 8 * mean)) << mean;
  }
}

TEST(TileRates, ByHand) {
  const std::vector<Index> columns = {32, 32};
  EXPECT_EQ(tileRates<14>({1, 1}, columns, 1), (Rates{8, 8}));
  EXPECT_EQ(tileRates<14>({1, 1}, columns, 2), (Rates{16, 16}));
  EXPECT_EQ(tileRates<14>({1, 1}, columns, 6), (Rates{48, 48}));
  EXPECT_EQ(tileRates<14>({0, 1}, columns, 3), (Rates{8, 40}));
  EXPECT_EQ(tileRates<14>({1, 0}, columns, 4), (Rates{48, 16})) << "what nobody needs is spent all the same";
  EXPECT_EQ(tileRates<14>({1}, {4}, 2.9), Rates{23}) << "rounded down";
  EXPECT_EQ(tileRates<14>({}, {}, 2), Rates{});
  EXPECT_EQ(tileRates<14>({1, 1, 1}, {32, 32, 32}, 2 + 1 / 24.), (Rates{17, 16, 16})) << "the first of equal gains";
  EXPECT_EQ(tileRates<14>({0, 0}, columns, 1.0625), (Rates{9, 8}));
}

TEST(TileRates, ASpreadKeepsThemNearTheMean) {
  const std::vector<Index> columns = {32, 32, 32, 32};
  const std::vector<double> weights = {1e-6, 1, 1, 1e6};
  EXPECT_EQ(tileRates<14>(weights, columns, 2.5, 0), (Rates{20, 20, 20, 20}));
  EXPECT_EQ(tileRates<14>(weights, columns, 2.5, 0.5), (Rates{16, 20, 20, 24}));
  EXPECT_EQ(tileRates<14>(weights, columns, 2.5, 0.45), (Rates{16, 20, 20, 24})) << "rounded up to eighths";
  EXPECT_EQ(tileRates<14>(weights, columns, 1.25, 1), (Rates{8, 8, 8, 16})) << "no rate is below 1";
  EXPECT_EQ(tileRates<14>({1, 1, 1, 1}, columns, 5.75, 1), (Rates{46, 46, 46, 46}));
  EXPECT_EQ(tileRates<14>({1, 2, 4, 8}, columns, 2.03125, 0), (Rates{16, 16, 16, 17})) << "the eighths about the mean";
  EXPECT_EQ(tileRates<14>({1, 2, 4, 8}, columns, 2, 9), tileRates<14>({1, 2, 4, 8}, columns, 2));
}

/// Four times the error of a tile is worth a bit more: distortions fall by 4 a bit, or nearly so.
TEST(TileRates, ABitForEachFactorOfFour) {
  const Rates rates = tileRates<14>({1, 4, 16}, {32, 32, 32}, 3);
  EXPECT_NEAR(rates[1] - rates[0], 8, 1);
  EXPECT_NEAR(rates[2] - rates[1], 8, 1);
}

/// A last tile of fewer columns takes what is left when it is too little for a whole one.
TEST(TileRates, ANarrowTile) {
  const std::vector<Index> columns = {32, 32, 4};
  for (const double mean : {1.1, 1.5, 2., 3.3}) {
    const Rates rates = tileRates<14>({1, 2, 0.5}, columns, mean);
    const auto most = static_cast<Index>(std::floor(68 * 8 * mean + 1e-6));
    EXPECT_LE(eighths(columns, rates), most) << mean;
    if (rates[2] < kMostTrellisRate8) {
      EXPECT_GT(eighths(columns, rates), most - 4) << mean;
    }
  }
}

TEST(TileRates, RefusesMeansThatNoRatesHave) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto run = [](double mean) { (void)tileRates<14>({1}, {32}, mean); };
  expectThrows([&] { run(0.99); }, "Ldlq: mean_bits: expected 1 to 6, got 0.99");
  expectThrows([&] { run(6.01); }, "Ldlq: mean_bits: expected 1 to 6, got 6.01");
  expectThrows([&] { run(-2); }, "Ldlq: mean_bits: expected 1 to 6, got -2");
  expectThrows([&] { run(kNan); }, "Ldlq: mean_bits: expected 1 to 6, got ");
  expectThrows([&] { (void)tileRates<14>({1}, {32}, 2, -0.5); }, "Ldlq: rate_spread: expected a number >= 0, got -0.5");
  expectThrows([&] { (void)tileRates<14>({1}, {32}, 2, kNan); }, "Ldlq: rate_spread: expected a number >= 0, got ");
}

}  // namespace
}  // namespace gosset::tile_rates_test
