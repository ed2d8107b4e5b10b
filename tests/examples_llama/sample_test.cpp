// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/sample.hpp"

#include "testing.hpp"

#include <limits>
#include <set>

namespace llama::sample_test {
namespace {

using gosset::testing::expectThrows;

TEST(SampleToken, DrawsByTheProbabilities) {
  const Eigen::Vector4f logits(std::log(.1f), std::log(.2f), std::log(.3f), std::log(.4f));
  EXPECT_EQ(sampleToken(logits, {.temperature = 0}, 0.05), 3);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0), 0);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0.09), 0);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0.11), 1);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0.29), 1);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0.31), 2);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0.61), 3);
  EXPECT_EQ(sampleToken(logits, {.temperature = 1}, 0.9999999), 3);
  EXPECT_EQ(sampleToken(logits, {.temperature = 0.01}, 0.05), 3);  // cold: nearly always the likeliest
  // Temperature 0.5 squares the odds: 1 : 4 : 9 : 16.
  EXPECT_EQ(sampleToken(logits, {.temperature = 0.5}, 4.9 / 30), 1);
  EXPECT_EQ(sampleToken(logits, {.temperature = 0.5}, 5.1 / 30), 2);
}

/// The tokens that are drawn at all.
std::set<Token> drawn(const Eigen::VectorXf& logits, const Sampling& s) {
  std::set<Token> tokens;
  for (int i = 0; i < 1000; ++i) tokens.insert(sampleToken(logits, s, (i + 0.5) / 1000));
  return tokens;
}

TEST(SampleToken, KeepsTheLikeliest) {
  const Eigen::Vector4f logits(std::log(.1f), std::log(.4f), std::log(.2f), std::log(.3f));
  using Tokens = std::set<Token>;
  EXPECT_EQ(drawn(logits, {}), (Tokens{0, 1, 2, 3}));
  EXPECT_EQ(drawn(logits, {.topK = 1}), (Tokens{1}));
  EXPECT_EQ(drawn(logits, {.topK = 2}), (Tokens{1, 3}));
  EXPECT_EQ(drawn(logits, {.topK = 9}), (Tokens{0, 1, 2, 3}));
  EXPECT_EQ(drawn(logits, {.topP = 0}), (Tokens{1}));
  EXPECT_EQ(drawn(logits, {.topP = 0.39}), (Tokens{1}));
  EXPECT_EQ(drawn(logits, {.topP = 0.41}), (Tokens{1, 3}));
  EXPECT_EQ(drawn(logits, {.topP = 0.71}), (Tokens{1, 2, 3}));
  EXPECT_EQ(drawn(logits, {.topK = 2, .topP = 0.5}), (Tokens{1}));           // .4 of the .7 that topK left
  EXPECT_EQ(drawn(logits, {.temperature = 0.5, .topP = 0.5}), (Tokens{1}));  // 16 of 30
}

TEST(SampleToken, WhatIsKeptKeepsItsOdds) {
  const Eigen::Vector4f logits(std::log(.1f), std::log(.4f), std::log(.2f), std::log(.3f));
  EXPECT_EQ(sampleToken(logits, {.topK = 2}, 0.57), 1);  // .4 of .7 is .571
  EXPECT_EQ(sampleToken(logits, {.topK = 2}, 0.573), 3);
}

TEST(SampleToken, OfEquallyLikelyTokensTheFirstAreKept) {
  EXPECT_EQ(drawn(Eigen::Vector4f(1, 1, 1, 1), {.topK = 2}), (std::set<Token>{0, 1}));
}

TEST(SampleToken, LogitsMustBeFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    expectThrows([&] { sampleToken(Eigen::Vector2f(0, bad), {}, 0.5); }, "logits: finite numbers expected");
  }
}

}  // namespace
}  // namespace llama::sample_test
