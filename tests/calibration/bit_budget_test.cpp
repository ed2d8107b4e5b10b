// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/bit_budget.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::bit_budget_test {
namespace {

using Layers = std::vector<std::vector<LayerChoice>>;
using testing::expectThrows;

TEST(BitBudget, KnownAnswers) {
  const Layers layers = {{{10, 1.0}, {20, 0.25}}, {{10, 4.0}, {20, 1.0}}};
  EXPECT_THAT(planBitBudget(layers, 20).choice, ::testing::ElementsAre(0, 0));
  EXPECT_THAT(planBitBudget(layers, 30).choice, ::testing::ElementsAre(0, 1)) << "the second layer gains more";
  EXPECT_THAT(planBitBudget(layers, 39).choice, ::testing::ElementsAre(0, 1));
  EXPECT_THAT(planBitBudget(layers, 40).choice, ::testing::ElementsAre(1, 1));
  EXPECT_EQ(planBitBudget(layers, 30).bytes, 30);
  EXPECT_EQ(planBitBudget(layers, 30).loss, 2);
}

TEST(BitBudget, LeavesUnusedWhatBuysNothing) {
  const Layers layers = {{{30, 2.0}, {10, 1.0}, {20, 1.0}}};
  EXPECT_EQ(planBitBudget(layers, 100).choice[0], 1u);
}

/// Against all assignments, where greedy steps by gain per byte go wrong too.
TEST(BitBudget, IsTheBestOfAllAssignments) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Layers layers(5);
    std::uint64_t draw = 0;
    for (auto& layer : layers) {
      for (int c = 0; c < 4; ++c) {
        const auto bytes = static_cast<Index>(1 + randomBits(seed, draw++) % 20);
        layer.push_back({bytes, static_cast<double>(randomBits(seed, draw++) % 100)});
      }
    }
    for (const Index budget : {30, 45, 60, 100}) {
      double best = std::numeric_limits<double>::infinity();
      for (int code = 0; code < 1024; ++code) {
        Index bytes = 0;
        double loss = 0;
        for (int l = 0; l < 5; ++l) {
          const LayerChoice& c = layers[static_cast<std::size_t>(l)][static_cast<std::size_t>(code >> (2 * l) & 3)];
          bytes += c.bytes;
          loss += c.loss;
        }
        if (bytes <= budget) best = std::min(best, loss);
      }
      if (std::isinf(best)) {
        EXPECT_THROW(planBitBudget(layers, budget), std::invalid_argument);
        continue;
      }
      const BitBudgetPlan plan = planBitBudget(layers, budget);
      EXPECT_EQ(plan.loss, best);
      EXPECT_LE(plan.bytes, budget);
      Index bytes = 0;
      double loss = 0;
      for (std::size_t l = 0; l < 5; ++l)
        bytes += layers[l][plan.choice[l]].bytes, loss += layers[l][plan.choice[l]].loss;
      EXPECT_EQ(bytes, plan.bytes);
      EXPECT_EQ(loss, plan.loss);
    }
  }
}

/// The way back through the sums: here the last is the fourth of its layer, and comes from the fifth of the one before.
TEST(BitBudget, APlanMayComeFromALaterSumOfTheLayerBefore) {
  const Layers layers = {
      {{7, 7}, {0, 28}, {5, 28}, {6, 11}}, {{3, 22}, {4, 28}, {8, 27}, {6, 4}}, {{5, 13}, {5, 12}, {5, 12}, {1, 29}}};
  const BitBudgetPlan plan = planBitBudget(layers, 15);
  EXPECT_THAT(plan.choice, ::testing::ElementsAre(0, 3, 3)) << "14 bytes that lose 40";
  EXPECT_EQ(plan.bytes, 14);
  EXPECT_EQ(plan.loss, 40);
}

TEST(BitBudget, ManyLayersOfFewShapesAreQuick) {
  Layers layers(224);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const Index size = l % 7 < 4 ? 4096 : 11008;
    for (const int bits : {2, 3, 4, 8}) {
      layers[l].push_back({size * bits, std::ldexp(1 + randomUniform(1, l), -2 * bits)});
    }
  }
  Index weights = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) weights += l % 7 < 4 ? 4096 : 11008;
  const BitBudgetPlan plan = planBitBudget(layers, weights * 5 / 2);
  EXPECT_LE(plan.bytes, weights * 5 / 2);
  EXPECT_GT(plan.bytes, weights * 5 / 2 - 11008);
}

TEST(BitBudget, BetweenTwoSizesTheLogarithmIsLinear) {
  const LayerChoice small{100, 0.64}, large{300, 0.01};
  EXPECT_DOUBLE_EQ(lossBetween(small, large, 100), 0.64);
  EXPECT_DOUBLE_EQ(lossBetween(small, large, 300), 0.01);
  EXPECT_DOUBLE_EQ(lossBetween(small, large, 200), 0.08);
  EXPECT_DOUBLE_EQ(lossBetween(small, large, 150), 0.64 / std::sqrt(8.));
  EXPECT_DOUBLE_EQ(lossBetween({100, 0.5}, {300, 0}, 250), 0.125) << "0 has no logarithm";
  EXPECT_DOUBLE_EQ(lossBetween({100, 0}, {300, 0.5}, 250), 0.375);
  expectThrows([&] { (void)lossBetween(small, large, 99); }, "lossBetween: expected bytes from 100 to 300, got 99");
  expectThrows([&] { (void)lossBetween(small, large, 301); }, "lossBetween: expected bytes from 100 to 300, got 301");
  expectThrows([&] { (void)lossBetween(small, small, 100); }, "lossBetween: expected bytes from 100 to 100, got 100");
  expectThrows([&] { (void)lossBetween({1, -0.5}, large, 100); }, "expected finite losses >= 0, got -0.5");
  expectThrows([&] { (void)lossBetween(small, {300, std::nan("")}, 100); }, "expected finite losses >= 0, got nan");
}

TEST(BitBudget, RefusesWhatHasNoAnswer) {
  expectThrows([] { planBitBudget(Layers{}, 1); }, "planBitBudget: expected at least one layer");
  expectThrows([] { planBitBudget(Layers{{{1, 0}}, {}}, 1); }, "planBitBudget: layer 1 has no choice");
  expectThrows(
      [] {
        planBitBudget(Layers{{{5, 0}}, {{6, 0}}}, 10);
      },
      "planBitBudget: the smallest choices take 11 bytes, the budget is 10");
  expectThrows([] { planBitBudget(Layers{{{-1, 0}}}, 10); }, "expected bytes >= 0 and a finite loss, got -1 and 0");
  expectThrows([] { planBitBudget(Layers{{{1, std::nan("")}}}, 10); }, "a finite loss, got 1 and nan");
}

TEST(BitBudget, AChoiceMayTakeNothing) {
  const std::vector<std::vector<LayerChoice>> layers = {{{0, 2.}, {7, 1.}}, {{0, 3.}}};
  EXPECT_EQ(planBitBudget(layers, 0).bytes, 0);
  EXPECT_EQ(planBitBudget(layers, 7).bytes, 7);
}

}  // namespace
}  // namespace gosset::bit_budget_test
