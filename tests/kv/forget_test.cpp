// SPDX-License-Identifier: Apache-2.0
// Layers with a sliding window, whose caches forget.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::forget_test {
namespace {

using testing::expectAttention;
using testing::expectThrows;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 16};

template <class Cache>
void addTokens(Cache& cache, Index count, std::uint64_t seed) {
  cache.append(gaussian(count, 32, seed), gaussian(count, 32, seed + 1000));
}

template <class Format>
class KvForget : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<3, 32>, Gear<2, 32, 2, 40>, Incoherent<Kivi<4, 32>>>;
TYPED_TEST_SUITE(KvForget, Formats);

TYPED_TEST(KvForget, ASlidingWindowSeesWhatItWouldHaveSeen) {
  for (const Index at_once : {1, 5, 40, 200}) {
    SCOPED_TRACE(at_once);
    KvCache<TypeParam> forgets(kShape, {.window = 32, .longest_block = 64, .forget_beyond = 70});
    KvCache<TypeParam> keeps(kShape, {.window = 32, .longest_block = 64});
    std::uint64_t seed = 1;
    while (forgets.size() < 400) {
      addTokens(forgets, at_once, seed);
      addTokens(keeps, at_once, seed++);
      ASSERT_EQ(forgets.size(), keeps.size());
      ASSERT_LE(forgets.size() - forgets.forgotten(), 70 + 64 + 32 + at_once);
      ASSERT_LE(forgets.forgotten(), std::max<Index>(forgets.size() - at_once - 70, 0));
    }
    EXPECT_GT(forgets.forgotten(), 100);
    const Index held = forgets.size() - forgets.forgotten();
    EXPECT_EQ(forgets.keys(), keeps.keys().bottomRows(held));
    EXPECT_EQ(forgets.values(), keeps.values().bottomRows(held));
    // The tokens of one append see all of their windows.
    const AttendOptions options{.sliding_window = 71};
    const RowMatrixXf q = gaussian(at_once, kShape.queryWidth(), 7);
    EXPECT_EQ(forgets.attend(q, options), keeps.attend(q, options));
    EXPECT_EQ(forgets.attend(q, options, Alibi(4)), keeps.attend(q, options, Alibi(4)));
    expectAttention(forgets, options, PlainScores{}, at_once);
  }
}

TYPED_TEST(KvForget, MemoryIsBounded) {
  KvCache<TypeParam> cache(kShape, {.window = 16, .longest_block = 32, .forget_beyond = 64});
  Index most = 0;
  addTokens(cache, 300, 1);
  addTokens(cache, 1, 2);
  for (std::uint64_t i = 0; i < 300; ++i) {
    addTokens(cache, 1 + static_cast<Index>(i % 3), i);
    most = std::max(most, cache.bytes());
    ASSERT_LE(cache.size() - cache.forgotten(), 64 + 32 + 16 + 3);
  }
  EXPECT_GT(cache.size(), 800);
  EXPECT_LE(most, (64 + 32 + 16 + 3) * 2 * 32 * 2 + 16);
}

TYPED_TEST(KvForget, MergesToo) {
  KvCache<TypeParam> cache(kShape, {.window = 16, .longest_block = 64, .merge = true, .forget_beyond = 40});
  for (std::uint64_t i = 0; i < 250; ++i) {
    addTokens(cache, 1, i);
    ASSERT_LE(cache.size() - cache.forgotten(), 40 + 64 + 16);
  }
  EXPECT_GT(cache.forgotten(), 130);
  expectAttention(cache, {.sliding_window = 38}, PlainScores{}, 3);
}

TYPED_TEST(KvForget, TakesBackWhatItHolds) {
  KvCache<TypeParam> whole(kShape, {.window = 32, .longest_block = 32, .forget_beyond = 100});
  for (std::uint64_t i = 0; i < 20; ++i) addTokens(whole, 20, i);
  const Index forgotten = whole.forgotten();
  ASSERT_EQ(forgotten, 256);
  for (const Index n : {399, 384, 383, 300, 257}) {
    auto cache = whole;
    cache.truncate(n);
    EXPECT_EQ(cache.size(), n);
    EXPECT_EQ(cache.forgotten(), forgotten);
    EXPECT_EQ(cache.keys(), whole.keys().topRows(n - forgotten));
    addTokens(cache, 1, 77);
    expectAttention(cache, {.sliding_window = std::min<Index>(n - forgotten, 100)}, PlainScores{}, 1);
  }
  expectThrows([&] { whole.truncate(256); },
               "KvCache::truncate: expected 0 or more than the 256 tokens that are forgotten (forget_beyond = 100), "
               "got 256");
  EXPECT_EQ(whole.size(), 400);
  whole.clear();
  EXPECT_EQ(whole.size(), 0);
  EXPECT_EQ(whole.forgotten(), 0);
  EXPECT_EQ(whole, (KvCache<TypeParam>(kShape, {.window = 32})));
  addTokens(whole, 50, 3);
  expectAttention(whole);
}

TEST(KvForgetErrors, WindowsThatReachWhatIsForgotten) {
  KvCache<Float16> cache(kShape, {.window = 32, .longest_block = 32, .forget_beyond = 100});
  for (std::uint64_t i = 0; i < 20; ++i) addTokens(cache, 20, i);
  const RowMatrixXf q = gaussian(3, kShape.queryWidth(), 7);
  expectThrows(
      [&] { (void)cache.attend(q.row(0)); },
      "KvCache::attend: expected a sliding_window of at most 144 tokens for 1 queries, for the first 256 tokens "
      "are forgotten (forget_beyond = 100), got ");
  expectThrows([&] { (void)cache.attend(q, {.sliding_window = 143}); },
               "a sliding_window of at most 142 tokens for 3 queries");
  (void)cache.attend(q, {.sliding_window = 142});
  expectThrows([&] { (void)cache.attend(gaussian(145, kShape.queryWidth(), 7), {.sliding_window = 1}); },
               "KvCache::attend: expected at most one query a token held, 144, got 145");
  expectThrows([] { KvCache<Float16> bad(kShape, {.forget_beyond = -1}); },
               "KvOptions: forget_beyond must not be negative, got -1");
}

TEST(KvForget, AnAppendThatFailsForgetsNothing) {
  KvCache<Kivi<4, 32>> cache(kShape, {.window = 16, .longest_block = 16, .forget_beyond = 20});
  addTokens(cache, 100, 1);
  const auto before = cache;
  const RowMatrixXf bad = RowMatrixXf::Constant(1, 32, 1e6f);
  expectThrows([&] { cache.append(bad, bad); }, "is beyond the 65504");
  EXPECT_EQ(cache, before);
  EXPECT_EQ(cache.forgotten(), 0);
  addTokens(cache, 1, 2);
  EXPECT_EQ(cache.forgotten(), 80);
}

}  // namespace
}  // namespace gosset::forget_test
