// SPDX-License-Identifier: Apache-2.0
// Queries, scales, keys and values of any magnitude, and score functions that fail.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace gosset::range_test {
namespace {

using testing::expectThrows;
using testing::filled;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 16};

/// What expectThrows() looks for, but the whole text.
template <class Action>
void expectWholeText(const Action& action, const std::string& text) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown; expected: " << text;
  } catch (const std::invalid_argument& error) {
    EXPECT_EQ(error.what(), text);
  }
}

template <class Format>
class KvRange : public ::testing::Test {};
using Formats = ::testing::Types<float, Float16, BFloat16, Kivi<8, 32>, Gear<4, 32, 2, 40>, Incoherent<Kivi<4, 32>>,
                                 Grouped<NormalFloat4, 32>>;
TYPED_TEST_SUITE(KvRange, Formats);

TYPED_TEST(KvRange, LargeQueriesSeeTheTokenOfTheLargestScore) {
  const auto cache = filled<TypeParam>(kShape, 150);
  const RowMatrixXf k = cache.keys(), v = cache.values();
  for (const float size : {1e12f, 1e20f, 1e37f}) {
    const RowMatrixXf q = gaussian(20, kShape.queryWidth(), 3) * size;
    const RowMatrixXf y = cache.attend(q);
    for (const Index i : {0, 19}) {
      const Eigen::VectorXd expected =
          testing::attentionByDefinition(kShape, k, v, q.row(i).transpose(), 130 + i, {}, PlainScores{});
      EXPECT_LT((y.row(i).transpose().template cast<double>() - expected).norm(), 1e-5 * expected.norm()) << size;
    }
  }
}

TYPED_TEST(KvRange, OnlyTheProductOfQueryAndScaleCounts) {
  const auto cache = filled<TypeParam>(kShape, 150);
  for (const Index count : {1, 70}) {
    const RowMatrixXf q = gaussian(count, kShape.queryWidth(), 3), y = cache.attend(q, {.scale = 0.5f});
    EXPECT_EQ(cache.attend(q * 0x1p110f, {.scale = 0x1p-111f}), y);
    EXPECT_EQ(cache.attend(q * 0x1p125f, {.scale = 0x1p-126f}), y) << "sums of the query's numbers are beyond float";
    EXPECT_EQ(cache.attend(q * 0x1p-60f, {.scale = 0x1p59f}), y);
    EXPECT_EQ(cache.attend(q * 0x1p-100f, {.scale = 0x1p99f}), y);
  }
}

TYPED_TEST(KvRange, ScoresBeyondFloatAreAnError) {
  KvCache<TypeParam> cache(kShape, {.window = 64});
  cache.append(gaussian(150, kShape.kvWidth(), 1) * 100, gaussian(150, kShape.kvWidth(), 2));
  const std::string text =
      "gosset: KvCache::attend: expected scores within the range of float, got one beyond it for head 0 and the query "
      "of "
      "token 149";
  const RowMatrixXf q = gaussian(1, kShape.queryWidth(), 3);
  expectWholeText([&] { (void)cache.attend(q * 1e38f, {.scale = 1.f}); }, text);
  expectWholeText([&] { (void)cache.attend(-q * 1e38f, {.scale = 1.f}, SoftCap{5}); }, text);
  expectWholeText([&] { (void)cache.attend(q, {.scale = 1e38f}); }, text);
  expectWholeText([&] { (void)cache.attend(q * 1e38f, {.scale = 1e38f}); }, text);
  EXPECT_TRUE(cache.attend(q).allFinite()) << "and then goes on";
}

TEST(KvRangeOfFloats, KeysAndValuesOfAnySize) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 2};
  KvCache<float> cache(shape, {.window = 64});
  RowMatrixXf k(3, 2), v(3, 2);
  k << 1e38f, 0, -1e38f, 0, 0, 1e38f;
  v << 1, 2, 3, 4, 5, 6;
  cache.append(k, v);
  EXPECT_EQ(cache.attend(Eigen::Vector2f(1, 0)), Eigen::Vector2f(1, 2));
  EXPECT_EQ(cache.attend(Eigen::Vector2f(-1, 0)), Eigen::Vector2f(3, 4));
  EXPECT_EQ(cache.attend(Eigen::Vector2f(0, 1e-38f), {.scale = 100.f}), Eigen::Vector2f(5, 6));
  expectWholeText(
      [&] { (void)cache.attend(Eigen::Vector2f(-10, 0), {.scale = 1.f}); },
      "gosset: KvCache::attend: expected scores within the range of float, got one beyond it for head 0 and "
      "the query of token 2");
  KvCache<float> large(shape, {.window = 64});
  large.append(RowMatrixXf::Zero(3, 2), RowMatrixXf::Constant(3, 2, 3e38f));
  expectWholeText(
      [&] { (void)large.attend(Eigen::Vector2f(1, 0)); },
      "gosset: KvCache::attend: expected values whose sums are within the range of float, got some beyond it "
      "for head 0 and the query of token 2");
}

/// Of the heads and queries the first that fails is named, on whichever thread; a workspace keeps nothing of it.
TEST(KvRangeOfFloats, TheHeadAndTheTokenThatFailAreNamed) {
  const KvShape shape{.heads = 2, .kv_heads = 2, .head_dim = 2};
  const AttendOptions unscaled{.scale = 1.f};
  AttendWorkspace workspace;
  KvCache<float> keys(shape, {.window = 64}), values(shape, {.window = 64});
  RowMatrixXf k = RowMatrixXf::Ones(5, 4), v = RowMatrixXf::Ones(5, 4);
  k(4, 2) = 1e38f;
  v.bottomRightCorner(2, 1).setConstant(3e38f);
  keys.append(k, RowMatrixXf::Ones(5, 4));
  values.append(RowMatrixXf::Zero(5, 4), v);
  const RowMatrixXf q = RowMatrixXf::Constant(3, 4, 10), small = RowMatrixXf::Constant(3, 4, 0.1f);
  const AttendOptions with{.scale = 1.f, .workspace = &workspace};
  for (const AttendOptions& options : {unscaled, with}) {
    expectThrows([&] { (void)keys.attend(q, options); }, "got one beyond it for head 1 and the query of token 4");
    EXPECT_TRUE(keys.attend(small, options).isOnes(1e-6f));
    expectThrows([&] { (void)values.attend(q, options); }, "got some beyond it for head 1 and the query of token 4");
  }
}

/// Units times 2^exponent, as a file may have them.
template <class Cache>
void enlarge(Cache& cache, std::string_view side, int exponent) {
  cache.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
    if constexpr (std::is_same_v<T, float>) {
      if (name.starts_with(side) && name.ends_with("unit")) values[0] = std::ldexp(values[0], exponent);
    }
  });
}

template <class Format>
class KvUnits : public ::testing::Test {};
using WithUnits =
    ::testing::Types<Kivi<8, 32>, Incoherent<Kivi<4, 32>>, Grouped<NormalFloat4, 32>, Outliers<Kivi<4, 32>, 40>>;
TYPED_TEST_SUITE(KvUnits, WithUnits);

TYPED_TEST(KvUnits, OfAnySizeGiveTheRightAnswerOrAnError) {
  const auto cache = filled<TypeParam>(kShape, 160, {.window = 32});
  const Eigen::MatrixXd k = cache.keys().template cast<double>(), v = cache.values().template cast<double>();
  int right = 0, refused = 0;
  for (const std::string_view side : {"keys.", "values."}) {
    for (const int exponent : {-120, -60, 60, 100, 122, 126, 127}) {
      auto large = cache;
      enlarge(large, side, exponent);
      ASSERT_EQ(large.fault(), "");
      const double factor = std::ldexp(1., exponent);
      for (const float size : {1e-20f, 1.f, 1e20f}) {
        for (const Index count : {1, 20}) {
          SCOPED_TRACE(::testing::Message() << side << exponent << " queries " << count << " x " << size);
          const RowMatrixXf q = gaussian(count, kShape.queryWidth(), 3) * size;
          RowMatrixXf y;
          try {
            y = large.attend(q);
          } catch (const std::invalid_argument&) {
            EXPECT_GE(exponent, 60);
            ++refused;
            continue;
          }
          ++right;
          for (Index head = 0; head < kShape.heads; ++head) {  // of the oldest query
            const Index at = head / 2 * 16, tokens = 161 - count;
            Eigen::VectorXd s =
                k.block(0, at, tokens, 16) * q.block(0, head * 16, 1, 16).transpose().cast<double>() / 4;
            if (side == "keys.") s *= factor;
            const Eigen::VectorXd weights = (s.array() - s.maxCoeff()).exp();
            Eigen::VectorXd expected = v.block(0, at, tokens, 16).transpose() * weights / weights.sum();
            if (side == "values.") expected *= factor;
            EXPECT_LT((y.block(0, head * 16, 1, 16).transpose().cast<double>() - expected).norm(),
                      1e-4 * expected.norm());
          }
        }
      }
    }
  }
  EXPECT_GE(right, 40);
  EXPECT_GE(refused, 10);
}

TEST(KvRangeOfUnits, AScoreOfMinusInfinityDoesNotHideItsToken) {
  KvCache<Kivi<8, 32>> cache({.heads = 1, .kv_heads = 1, .head_dim = 16}, {.window = 32});
  cache.append(RowMatrixXf::Ones(35, 16), RowMatrixXf::Ones(35, 16));
  enlarge(cache, "keys.", 127);
  EXPECT_EQ(cache.attend(Eigen::VectorXf::Constant(16, 0.125f)), Eigen::VectorXf::Ones(16));
  EXPECT_EQ(cache.attend(Eigen::VectorXf::Constant(16, -0.125f)), Eigen::VectorXf::Ones(16));
  expectWholeText(
      [&] { (void)cache.attend(Eigen::VectorXf::Constant(16, -1)); },
      "gosset: KvCache::attend: expected scores within the range of float, got one beyond it for head 0 and "
      "the query of token 34");
}

TEST(KvRangeOfUnits, AnOutputThatIsBeyondFloatOnceItIsRotatedBackIsAnError) {
  using Cache = KvCache<Float16, Incoherent<Kivi<8, 32>>>;
  Cache cache({.heads = 1, .kv_heads = 1, .head_dim = 16}, {.window = 2});
  cache.append(RowMatrixXf::Ones(2, 16), gaussian(2, 16));
  enlarge(cache, "values.", 126);
  const RowMatrixXf q = RowMatrixXf::Zero(1, 16);
  RowMatrixXf large = RowMatrixXf::Zero(2, 40);  // whose rows are not one behind the other
  EXPECT_THROW(cache.attendTo(q, large.block(1, 3, 1, 16)), std::invalid_argument);
  enlarge(cache, "values.", -20);
  cache.attendTo(q, large.block(1, 3, 1, 16));
  EXPECT_TRUE(large.allFinite());
}

TEST(ScoreFunctions, WhatTheyThrowComesOut) {
  auto cache = filled<Kivi<4, 32>>(kShape, 400);
  const RowMatrixXf q = gaussian(300, kShape.queryWidth(), 3), before = cache.attend(q);
  for (const Index count : {1, 300}) {
    const auto score = [&](float s, Index head, Index, Index key) {
      if (head >= 1 && key == 150) throw std::runtime_error("mine");
      return s;
    };
    EXPECT_THROW((void)cache.attend(q.bottomRows(count), {}, score), std::runtime_error);
    EXPECT_EQ(cache.attend(q), before);
  }
}

TEST(ScoreFunctions, SoftCapNeedsAPositiveCap) {
  const auto cache = filled<Float16>(kShape, 5);
  const Eigen::VectorXf q = Eigen::VectorXf::Ones(kShape.queryWidth());
  const auto attend = [&](float cap) { return cache.attend(q, {}, SoftCap{cap}); };
  EXPECT_TRUE(attend(1e-3f).allFinite());
  expectWholeText([&] { (void)attend(0); }, "gosset: SoftCap: expected a positive finite cap, got 0");
  expectWholeText([&] { (void)attend(-1); }, "gosset: SoftCap: expected a positive finite cap, got -1");
  expectWholeText([&] { (void)attend(NAN); }, "gosset: SoftCap: expected a positive finite cap, got nan");
  expectWholeText([&] { (void)attend(INFINITY); }, "gosset: SoftCap: expected a positive finite cap, got inf");
}

TYPED_TEST(KvRange, WhatWasMovedFromIsAnEmptyCache) {
  const auto cache = filled<TypeParam>(kShape, 150, {.window = 32, .merge = true});
  auto from = cache;
  auto to = std::move(from);
  EXPECT_TRUE(to == cache);
  EXPECT_EQ(from.size(), 0);
  EXPECT_TRUE(from.shape() == kShape);
  EXPECT_EQ(from.options().window, 32);
  EXPECT_TRUE(from == filled<TypeParam>(kShape, 0, {.window = 32, .merge = true}));
  from.append(gaussian(150, kShape.kvWidth(), 1), gaussian(150, kShape.kvWidth(), 2));
  EXPECT_TRUE(from == cache);
  auto& same = from;
  from = std::move(same);
  EXPECT_TRUE(from == cache);
  from = std::move(to);
  EXPECT_TRUE(from == cache);
  EXPECT_EQ(to.size(), 0);
  expectThrows([&] { (void)to.attend(gaussian(1, kShape.queryWidth())); }, "KvCache::attend: the cache is empty");
}

}  // namespace
}  // namespace gosset::range_test
