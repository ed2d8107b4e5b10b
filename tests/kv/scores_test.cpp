// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/scores.hpp>

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
  EXPECT_TRUE(std::isnan(Alibi(2)(1.f, 2, 5, 3)));
  EXPECT_TRUE(std::isnan(Alibi(2)(1.f, -1, 5, 3)));
}

}  // namespace
}  // namespace gosset::scores_test
