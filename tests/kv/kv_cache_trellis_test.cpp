// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/kv_cache.hpp>

#include <gosset/codebook/trellis.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/incoherent.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

#include <type_traits>

// Trellis codes in caches, where blocks are as many tokens long as the window: chains run along channels of keys and
// along tokens of values.
namespace gosset::kv_cache_trellis_test {
namespace {

using testing::expectAttention;
using testing::filled;
using testing::gaussian;

using Keys = Incoherent<Grouped<Trellis<2, 1, 12>, 64>>;
using Values = Grouped<Trellis<3, 1, 12>, 32>;

TEST(KvCacheTrellis, AttendsToWhatItHolds) {
  for (const Index d : {1, 7, 64, 80}) {
    for (const Index tokens : {1, 63, 65, 417}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << d << ", " << tokens << " tokens");
      const auto cache = filled<Keys, Values>({4, 2, d}, tokens);
      EXPECT_EQ(cache.size(), tokens);
      expectAttention(cache);
    }
  }
}

TEST(KvCacheTrellis, ATokenAtATimeAfterAPrompt) {
  const KvShape shape{.heads = 6, .kv_heads = 2, .head_dim = 20};
  const RowMatrixXf k = gaussian(300, shape.kvWidth(), 1), v = gaussian(300, shape.kvWidth(), 2);
  KvCache<Keys, Values> cache(shape, {.window = 32});
  cache.append(k.topRows(150), v.topRows(150));
  for (Index t = 150; t < 300; ++t) cache.append(k.row(t), v.row(t));
  ASSERT_EQ(cache.size(), 300);
  expectAttention(cache);
  EXPECT_LT((cache.keys() - k).norm(), 0.4f * k.norm());
  EXPECT_LT((cache.values() - v).norm(), 0.25f * v.norm());
  cache.truncate(200);
  cache.append(gaussian(100, shape.kvWidth(), 5), gaussian(100, shape.kvWidth(), 6));
  EXPECT_EQ(cache.size(), 300);
  expectAttention(cache);
}

/// A state of many bits is not what a number takes.
TEST(KvCacheTrellis, WaitsInEightBits) {
  static_assert(detail::codeBits<Values>() == 3 && detail::codeBits<Keys>() == 2);
  static_assert(!std::is_same_v<detail::KvStage<Keys, detail::KvSide::kKeys>::type, Float16>);
  static_assert(std::is_same_v<detail::KvStage<Grouped<Trellis<6>, 32>, detail::KvSide::kKeys>::type, Float16>);
}

}  // namespace
}  // namespace gosset::kv_cache_trellis_test
