// SPDX-License-Identifier: Apache-2.0
// What a cache refuses, and in which words.
#include <gosset/kv/kv_cache.hpp>

#include <gosset/kv/formats.hpp>

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::kv_cache_errors_test {
namespace {

using testing::filled;
using testing::gaussian;

using Two = Kivi<2, 32>;

TEST(KvCacheErrors, Shapes) {
  testing::expectThrows(
      [] {
        KvCache<Two> cache({0, 1, 8});
      },
      "KvShape: expected positive sizes, got heads = 0, kv_heads = 1, head_dim = 8");
  testing::expectThrows([] { KvCache<Two> cache({4, 0, 8}); }, "got heads = 4, kv_heads = 0");
  testing::expectThrows([] { KvCache<Two> cache({4, 2, 0}); }, "head_dim = 0");
  testing::expectThrows(
      [] {
        KvCache<Two> cache({4, 3, 8});
      },
      "KvShape: heads must be a multiple of kv_heads, got 4 and 3");
  testing::expectThrows([] { KvCache<Two> cache({65537, 1, 8}); }, "KvShape: expected at most 65536 heads, got 65537");
  testing::expectThrows(
      [] {
        KvCache<Two> cache({1, 1, 8193});
      },
      "KvShape: expected a head_dim of at most 8192, got 8193");
  validate(KvShape{.heads = 65536, .kv_heads = 65536, .head_dim = 8192});  // and up to these none is
}

TEST(KvCacheErrors, Options) {
  const KvShape shape{2, 1, 8};
  testing::expectThrows([&] { KvCache<Two> cache(shape, {.window = 1}); },
                        "KvOptions: window must be at least 2 tokens, got 1");
  testing::expectThrows([&] { KvCache<Two> cache(shape, {.longest_block = 0}); },
                        "KvOptions: longest_block must be at least 1 token, got 0");
  testing::expectThrows([&] { KvCache<Two> cache(shape, {.quantize = {.low_rank_iterations = -1}}); },
                        "KvOptions: low_rank_iterations must not be negative, got -1");
  testing::expectThrows([&] { KvCache<Two> cache(shape, {.quantize = {.low_rank_iterations = 1001}}); },
                        "KvOptions: low_rank_iterations must be at most 1000, got 1001");
  testing::expectThrows([&] { KvCache<Two> cache(shape, {.quantize = {.fit = Percentile{5}}}); }, "Percentile");
  validate(KvOptions{.window = 2, .longest_block = 1, .quantize = {.low_rank_iterations = 1000}});
}

TEST(KvCacheErrors, AppendLeavesTheCacheAsItWas) {
  const KvShape shape{2, 1, 8};
  auto cache = filled<Two>(shape, 70);
  const auto before = cache;
  const RowMatrixXf w = gaussian(3, 8);
  testing::expectThrows([&] { cache.append(gaussian(3, 7), w); },
                        "KvCache::append: expected keys of kv_heads * head_dim = 8 columns, got 3 x 7");
  testing::expectThrows([&] { cache.append(w, gaussian(3, 9)); },
                        "KvCache::append: expected values of kv_heads * head_dim = 8 columns, got 3 x 9");
  testing::expectThrows([&] { cache.append(w, gaussian(2, 8)); },
                        "KvCache::append: expected as many keys as values, got 3 and 2 tokens");
  testing::expectThrows([&] { cache.append(gaussian(3, 7).topRows(0), w.topRows(0)); },
                        "KvCache::append: expected keys of kv_heads * head_dim = 8 columns, got 0 x 7");
  testing::expectThrows([&] { cache.append(w.topRows(0), w); },
                        "KvCache::append: expected as many keys as values, got 0 and 3 tokens");
  RowMatrixXf bad = w;
  bad(1, 2) = std::numeric_limits<float>::quiet_NaN();
  testing::expectThrows([&] { cache.append(bad, w); },
                        "KvCache::append, keys: expected numbers that are finite in float, got nan at (1, 2)");
  bad(1, 2) = std::numeric_limits<float>::infinity();
  testing::expectThrows([&] { cache.append(w, bad); }, "KvCache::append, values: expected numbers that are finite");
  bad(1, 2) = 70000;
  testing::expectThrows([&] { cache.append(w, bad); },
                        "KvCache::append, values: a magnitude of 70000 is beyond the 65504 that Float16 can hold");
  EXPECT_EQ(cache, before);
  bad(1, 2) = 65504;
  cache.append(w, bad);
  EXPECT_EQ(cache.values()(71, 2), 65504) << "which is the largest";
  KvCache<Incoherent<Two>> rotated(shape);
  testing::expectThrows([&] { rotated.append(RowMatrixXf::Constant(1, 8, 60000.f), w.topRows(1)); }, "after rotation");
}

TEST(KvCacheErrors, Attend) {
  const KvShape shape{2, 1, 8};
  const Eigen::VectorXf q = Eigen::VectorXf::Ones(16);
  testing::expectThrows([&] { (void)KvCache<Two>(shape).attend(q); }, "KvCache::attend: the cache is empty");
  const auto cache = filled<Two>(shape, 3);
  testing::expectThrows([&] { (void)cache.attend(q.head(15)); },
                        "KvCache::attend: expected a query of heads * head_dim = 16 numbers, got 15");
  testing::expectThrows([&] { (void)cache.attend(gaussian(2, 15)); },
                        "KvCache::attend: expected queries of heads * head_dim = 16 columns, got 2 x 15");
  testing::expectThrows([&] { (void)cache.attend(gaussian(4, 16)); },
                        "KvCache::attend: expected at most one query a token held, 3, got 4");
  testing::expectThrows([&] { (void)cache.attend(Eigen::VectorXf(q * std::numeric_limits<float>::infinity())); },
                        "KvCache::attend: expected numbers that are finite in float, got inf");
  testing::expectThrows([&] { (void)cache.attend(q, {.sliding_window = 0}); },
                        "AttendOptions: sliding_window must be at least 1 token, got 0");
  testing::expectThrows([&] { (void)cache.attend(q, {.scale = std::numeric_limits<float>::infinity()}); },
                        "AttendOptions: expected a finite scale, got inf");
}

TEST(KvCacheErrors, ScoresThatHaveNoSoftmax) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const auto cache = filled<Two>({4, 2, 8}, 150);
  const RowMatrixXf q = gaussian(80, 32);
  for (const float bad : {kInfinity, kNaN}) {
    for (const Index key : {0, 5, 63, 64, 149}) {
      const auto score = [&](float s, Index head, Index, Index k) { return head == 2 && k == key ? bad : s; };
      testing::expectThrows(
          [&] { (void)cache.attend(q, {}, score); },
          "KvCache::attend: expected scores that are numbers or -infinity, got NaN or +infinity for head 2 "
          "and the query of token " +
              std::to_string(std::max<Index>(key, 70)));
    }
    const auto everywhere = [&](float, Index, Index, Index) { return bad; };
    testing::expectThrows([&] { (void)cache.attend(q.row(0), {}, everywhere); },
                          "for head 0 and the query of token 149");
    const auto beside = [&](float, Index, Index, Index k) { return k == 149 ? bad : -kInfinity; };
    testing::expectThrows([&] { (void)cache.attend(q.row(0), {}, beside); }, "for head 0 and the query of token 149");
  }
  testing::expectThrows(
      [&] { (void)cache.attend(RowMatrixXf::Constant(1, 32, 3e38f), {.scale = 100.f}); },
      "gosset: KvCache::attend: expected scores within the range of float, got one beyond it for head "
      "0 and the query of token 149");
  EXPECT_TRUE(cache.attend(q).allFinite()) << "and then goes on";
}

TEST(KvCacheErrors, AlibiOfOtherHeads) {
  const auto cache = filled<Two>({4, 2, 8}, 10);
  const Eigen::VectorXf q = Eigen::VectorXf::Ones(32);
  testing::expectThrows([&] { (void)cache.attend(q, {}, Alibi(2)); },
                        "Alibi: expected a slope for each of the 4 query heads, got 2");
  testing::expectThrows([&] { (void)cache.attend(q, {}, Alibi({1.f, 2.f, 3.f, 4.f, 5.f})); }, "query heads, got 5");
  const Alibi few(2);
  const auto within = [&](float s, Index head, Index query, Index key) { return few(s, head, query, key); };
  testing::expectThrows([&] { (void)cache.attend(q, {}, within); }, "got NaN or +infinity for head 2");
}

/// What a file may get wrong: the first float of an array becomes NaN.
template <class Cache>
std::string faultWithoutANumber(Cache cache, std::string_view array) {
  int found = 0;
  cache.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Float16>) {
      if (name == array && !values.empty() && found++ == 0) values[0] = T(std::numeric_limits<float>::quiet_NaN());
    }
  });
  EXPECT_GT(found, 0) << array;
  return cache.fault();
}

TEST(KvCacheErrors, FaultsNameTheArray) {
  // One token in front, blocks of 96 and 32 tokens, of which the second waits, and 7 tokens in the window.
  auto cache =
      filled<Two>({2, 1, 8}, 1 + 96 + 32 + 7, {.window = 32, .longest_block = 96, .merge = true, .keep_first = 1});
  ASSERT_EQ(cache.contents().stored, (std::vector<Index>{96, 32}));
  ASSERT_EQ(cache.contents().staged, 1);
  EXPECT_EQ(cache.fault(), "");
  for (const std::string side : {"keys.", "values."}) {
    for (const std::string array : {"unit", "staged.unit"}) {
      EXPECT_THAT(faultWithoutANumber(cache, side + array), ::testing::StartsWith(side + array + ":"));
    }
    for (const std::string array : {"first", "window"}) {
      EXPECT_EQ(faultWithoutANumber(cache, side + array), side + array + ": expected finite numbers");
    }
  }
}

TEST(KvCacheErrors, Truncate) {
  auto cache = filled<Two>({2, 1, 8}, 70);
  testing::expectThrows([&] { cache.truncate(71); }, "KvCache::truncate: expected a size between 0 and 70, got 71");
  testing::expectThrows([&] { cache.truncate(-1); }, "KvCache::truncate: expected a size between 0 and 70, got -1");
  EXPECT_EQ(cache.size(), 70);
}

}  // namespace
}  // namespace gosset::kv_cache_errors_test
