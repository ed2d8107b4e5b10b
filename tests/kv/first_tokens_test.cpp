// SPDX-License-Identifier: Apache-2.0
// First tokens that stay in 16 bits.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::first_tokens_test {
namespace {

using testing::expectAttention;
using testing::expectThrows;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 20};

RowMatrixXf keys(Index count) {
  RowMatrixXf k = gaussian(count, 40, 1);
  if (count > 0) k.row(0) *= 100;
  return k;
}

template <class Format>
class KvFirstTokens : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<3, 32>, Gear<2, 32, 2, 40>, Incoherent<Kivi<4, 32>>>;
TYPED_TEST_SUITE(KvFirstTokens, Formats);

TYPED_TEST(KvFirstTokens, AreAsTheyCameAndSeen) {
  for (const Index kept : {1, 4, 33}) {
    for (const bool merge : {false, true}) {
      const KvOptions options{.window = 32, .longest_block = 96, .merge = merge, .keep_first = kept};
      for (const Index at_once : {1, 3, 7, 250}) {
        SCOPED_TRACE(::testing::Message() << kept << " kept, " << at_once << " at once");
        KvCache<TypeParam> cache(kShape, options);
        const RowMatrixXf k = keys(250), v = gaussian(250, 40, 2);
        for (Index t = 0; t < 250;) {
          const Index count = std::min(at_once, 250 - t);
          cache.append(k.middleRows(t, count), v.middleRows(t, count));
          t += count;
          ASSERT_EQ(cache.size(), t);
          EXPECT_EQ(cache.contents().first, std::min(t, kept));
        }
        const float most = 0x1p-10f;  // 16-bit floats, in the basis of the format
        EXPECT_LE((cache.keys() - k).topRows(kept).norm(), most * k.topRows(kept).norm());
        EXPECT_LE((cache.values() - v).topRows(kept).norm(), most * v.topRows(kept).norm());
        EXPECT_EQ(cache.contents().window, (250 - kept) % 32);
        expectAttention(cache, {.scale = 0.02f});
        expectAttention(cache, {.scale = 0.02f, .sliding_window = 100});
      }
    }
  }
}

TYPED_TEST(KvFirstTokens, AMassiveOneSpoilsNoOther) {
  const RowMatrixXf k = keys(200), v = gaussian(200, 40, 2);
  const auto error = [&](Index kept) {
    KvCache<TypeParam> cache(kShape, {.window = 32, .keep_first = kept});
    cache.append(k, v);
    return (cache.keys() - k).bottomRows(199).norm();
  };
  if (std::is_same_v<TypeParam, Float16>) {
    EXPECT_EQ(error(0), error(1));
  } else if (std::is_same_v<TypeParam, Gear<2, 32, 2, 40>>) {
    EXPECT_LT(error(1), error(0)) << "which are outliers of their lines";
  } else {
    EXPECT_LT(error(1), 0.5f * error(0));
  }
}

TYPED_TEST(KvFirstTokens, AreTakenBackAndComeAgain) {
  KvCache<TypeParam> whole(kShape, {.window = 32, .keep_first = 5});
  whole.append(keys(150), gaussian(150, 40, 2));
  for (const Index n : {150, 149, 100, 6, 5, 4, 1, 0}) {
    SCOPED_TRACE(n);
    auto cache = whole;
    cache.truncate(n);
    EXPECT_EQ(cache.size(), n);
    EXPECT_EQ(cache.keys(), whole.keys().topRows(n));
    EXPECT_EQ(cache.values(), whole.values().topRows(n));
    cache.append(gaussian(90, 40, 3), gaussian(90, 40, 4));
    EXPECT_EQ(cache.size(), n + 90);
    EXPECT_EQ(cache.contents().first, 5);
    expectAttention(cache, {.scale = 0.02f});
  }
  EXPECT_EQ(whole.size(), 150);
}

TYPED_TEST(KvFirstTokens, MoreThanThereAre) {
  KvCache<TypeParam> cache(kShape, {.window = 2, .keep_first = 1000});
  cache.append(keys(150), gaussian(150, 40, 2));
  EXPECT_TRUE(cache.contents().ends.empty());
  EXPECT_EQ(cache.contents().first, 150);
  const Index seeds = detail::KvStorage<TypeParam>::kRotated ? 16 : 0;
  EXPECT_EQ(cache.bytes(), 150 * 2 * 40 * 2 + seeds);
  expectAttention(cache, {.scale = 0.02f});
}

TEST(KvFirstTokens, CachesThatKeepOtherNumbersDiffer) {
  const RowMatrixXf w = RowMatrixXf::Zero(4, 40);
  KvCache<Float16> a(kShape, {.keep_first = 2}), b(kShape, {.keep_first = 3});
  a.append(w, w);
  b.append(w, w);
  EXPECT_FALSE(a == b);
  EXPECT_EQ(a.keys(), b.keys());
}

TEST(KvFirstTokensErrors, Options) {
  expectThrows([] { KvCache<Float16> cache(kShape, {.keep_first = -1}); },
               "KvOptions: keep_first must not be negative, got -1");
  expectThrows([] { KvCache<Float16> cache(kShape, {.keep_first = 4, .forget_beyond = 100}); },
               "KvOptions: keep_first = 4 keeps tokens that forget_beyond = 100 forgets; one of them must be 0");
}

}  // namespace
}  // namespace gosset::first_tokens_test
