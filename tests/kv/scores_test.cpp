// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/scores.hpp>

#include <gosset/kv/kv_cache.hpp>

#include <cmath>
#include <limits>

#include "testing.hpp"

namespace gosset::scores_test {
namespace {

using testing::expectThrows;

TEST(Scores, KnownAnswers) {
  EXPECT_EQ(PlainScores{}(3.f, 1, 9, 2), 3.f);
  EXPECT_FLOAT_EQ(SoftCap{2.f}(1.f, 0, 0, 0), 2 * std::tanh(0.5f));
  // Of 8 heads the slopes are 1/2, 1/4, ...
  EXPECT_EQ(Alibi(8)(3.f, 0, 9, 5), 3.f - 4 / 2.f);
  EXPECT_EQ(Alibi(8)(3.f, 7, 9, 5), 3.f - 4 / 256.f);
  EXPECT_EQ(Alibi(1)(0.f, 0, 256, 0), -1.f);
  EXPECT_EQ(Alibi({0.f, 5.f})(1.f, 1, 2, 0), -9.f);
}

TEST(Scores, ByHand) {
  EXPECT_FLOAT_EQ(SoftCap{2.f}(1.f, 0, 0, 0), 0.92423431f);  // 2 tanh 1/2
  EXPECT_FLOAT_EQ(SoftCap{2.f}(-1.f, 0, 0, 0), -0.92423431f);
  EXPECT_FLOAT_EQ(SoftCap{}(50.f, 0, 0, 0), 38.0797078f);  // 50 tanh 1
  EXPECT_FLOAT_EQ(SoftCap{30.f}(1e6f, 0, 0, 0), 30.f);
  EXPECT_EQ(Alibi(12)(0.f, 5, 7, 6), -1 / 16.f);  // 2^(-8 * 6 / 12)
  EXPECT_EQ(Alibi(12)(0.f, 11, 7, 6), -1 / 256.f);
  EXPECT_EQ(Alibi(4)(0.5f, 0, 7, 7), 0.5f) << "no distance, no penalty";
  EXPECT_EQ(Alibi({-2.f, 0.f})(0.f, 0, 3, 0), 6.f);
}

/// Two tokens with values 0 and 1, of which the newest query of each head gives the weight of the second.
TEST(Scores, WeighTokensAsByHand) {
  KvCache<Float16> cache(KvShape{2, 1, 2}, {.window = 64});
  RowMatrixXf k(2, 2), v(2, 2);
  k << 4, 0, 0, 0;
  v << 0, 0, 1, 1;
  cache.append(k, v);
  const Eigen::VectorXf blind = Eigen::VectorXf::Zero(4);
  const float two = std::log(2.f), three = std::log(3.f);
  // Distances 1 and 0: odds of 1 to 2, and of 3 to 1.
  const Eigen::VectorXf y = cache.attend(blind, {}, Alibi({two, -three}));
  EXPECT_NEAR(y[0], 2.f / 3, 1e-6f);
  EXPECT_NEAR(y[2], 1.f / 4, 1e-6f);
  // A score of 4 * 25 for the first, capped at ln 3: odds of 3 to 1.
  const Eigen::VectorXf q = Eigen::Vector4f(25, 0, -25, 0);
  const Eigen::VectorXf capped = cache.attend(q, {.scale = 1.f}, SoftCap{three});
  EXPECT_NEAR(capped[0], 1.f / 4, 1e-6f);
  EXPECT_NEAR(capped[2], 3.f / 4, 1e-6f);
}

TEST(Scores, OptionsAreChecked) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  validate(AttendOptions{.scale = -3.f, .sliding_window = 1});
  validate(AttendOptions{});
  expectThrows([] { validate(AttendOptions{.sliding_window = 0}); },
               "AttendOptions: sliding_window must be at least 1 token, got 0");
  for (const float scale : {kInfinity, -kInfinity}) {
    expectThrows([&] { validate(AttendOptions{.scale = scale}); }, "AttendOptions: expected a finite scale, got ");
  }
  SoftCap{0x1p-100f}.checkHeads(1);
  for (const float cap : {0.f, -1.f, kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    expectThrows([&] { SoftCap{cap}.checkHeads(1); }, "SoftCap: expected a positive finite cap, got ");
  }
}

TEST(Scores, AlibiNeedsASlopeForEachHead) {
  expectThrows([] { Alibi(0); }, "Alibi: expected at least one head, got 0");
  expectThrows([] { Alibi(-3); }, "Alibi: expected at least one head, got -3");
  expectThrows([] { Alibi(std::vector<float>{}); }, "Alibi: expected a slope for each query head, got none");
  expectThrows(
      [] {
        Alibi({1.f, std::numeric_limits<float>::infinity()});
      },
      "Alibi: expected finite slopes, got inf for head 1");
  Alibi(4).checkHeads(4);
  expectThrows([] { Alibi(2).checkHeads(4); }, "Alibi: expected a slope for each of the 4 query heads, got 2");
  expectThrows([] { Alibi(4).checkHeads(2); }, "Alibi: expected a slope for each of the 2 query heads, got 4");
  EXPECT_TRUE(std::isnan(Alibi(2)(1.f, 2, 5, 3)));
  EXPECT_TRUE(std::isnan(Alibi(2)(1.f, -1, 5, 3)));
}

}  // namespace
}  // namespace gosset::scores_test
