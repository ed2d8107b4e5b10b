// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/exact_sum.hpp>

#include "testing.hpp"

#include <vector>

namespace gosset::exact_sum_test {
namespace {

TEST(ExactSum, SmallIntegersAddUpExactlyAtAnyLength) {
  for (Index count = 0; count <= 40; ++count) {
    const double n = static_cast<double>(count);
    const auto number = [](Index i) { return static_cast<float>(i + 1); };
    EXPECT_EQ(sumOf(count, number), n * (n + 1) / 2);
    EXPECT_EQ(sumOfSquares(count, number), n * (n + 1) * (2 * n + 1) / 6);
    EXPECT_EQ(sumOfProducts(count, [&](Index i) { return std::array<float, 2>{number(i), -2.f}; }), -n * (n + 1));
  }
}

/// Numbers 1 and 9 share a lane, where they make 2^-52; beside the 1 of number 0 each alone would be lost.
TEST(ExactSum, LanesGoOnBehindTheLastWholeEight) {
  const auto number = [](Index i) { return i == 0 ? 1.f : i % 8 == 1 ? 0x1p-53f : 0.f; };
  EXPECT_EQ(sumOf(10, number), 1 + 0x1p-52);
  EXPECT_EQ(sumOf(16, number), 1 + 0x1p-52);
}

/// Lanes 4 apart are added first, then those 2 apart: 1 and -1 leave everything of what is added later, and take away
/// what was added to one of them before.
TEST(ExactSum, LanesAreAddedInThePromisedOrder) {
  for (Index lane = 0; lane < 8; ++lane) {
    const auto opposite = [&](Index other, Index i) { return i == lane ? 1.f : i == other ? -1.f : 0x1p-60f; };
    EXPECT_EQ(sumOf(8, [&](Index i) { return opposite(lane ^ 4, i); }), 6 * 0x1p-60) << lane;
    const auto alone = [&](Index i) { return i == (lane ^ 4) || i == (lane ^ 6) ? 0.f : opposite(lane ^ 2, i); };
    EXPECT_EQ(sumOf(8, alone), 4 * 0x1p-60) << lane;
  }
}

TEST(ExactSum, NoProductOverflowsOrVanishes) {
  EXPECT_EQ(sumOfSquares(1, [](Index) { return 0x1p127f; }), 0x1p254);
  EXPECT_EQ(sumOfSquares(1, [](Index) { return 0x1p-149f; }), 0x1p-298);
  EXPECT_EQ(sumOf(4, [](Index i) { return i % 2 == 0 ? 1e30f : -1e30f; }), 0);
}

TEST(ExactSum, TheSameBitsEverywhere) {
  std::vector<double> sums;
  for (const Index count : testing::kOddSizes) {
    const auto x = [](Index i) { return randomUniform(1, static_cast<std::uint64_t>(i)) - 0.3f; };
    const auto y = [](Index i) { return randomUniform(2, static_cast<std::uint64_t>(i)) * 0x1p-20f; };
    sums.push_back(sumOf(count, x));
    sums.push_back(sumOfSquares(count, x));
    sums.push_back(sumOfProducts(count, [&](Index i) { return std::array<float, 2>{x(i), y(i)}; }));
  }
  EXPECT_EQ(testing::hashBytes(sums.data(), sums.size() * sizeof(double)), 1886403877341385u);
}

}  // namespace
}  // namespace gosset::exact_sum_test
