// SPDX-License-Identifier: Apache-2.0
// Where memory runs out in a cache, it is as it was.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "failing_allocation.hpp"
#include "testing.hpp"

#include <memory>

namespace gosset::failing_allocation_test {
namespace {

using testing::failEachAllocation;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 16};

const RowMatrixXf& keys() {
  static const RowMatrixXf k = gaussian(200, kShape.kvWidth(), 1);
  return k;
}
const RowMatrixXf& values() {
  static const RowMatrixXf v = gaussian(200, kShape.kvWidth(), 2);
  return v;
}

template <class Cache>
void addTokens(Cache& cache, Index count) {
  cache.append(keys().middleRows(cache.size(), count), values().middleRows(cache.size(), count));
}

/// A cache of `before` tokens gets `count` more: all of them or none, and then goes on as if nothing had happened.
template <class Format>
void failAppend(Index before, Index count, bool merge, Index longest = 48) {
  const KvOptions options{.window = 16, .longest_block = longest, .merge = merge};
  KvCache<Format> start(kShape, options);
  if (before > 0) addTokens(start, before);
  KvCache<Format> end = start;
  addTokens(end, count);
  failEachAllocation([&] { return start; }, [&](KvCache<Format>& cache) { addTokens(cache, count); },
                     [&](KvCache<Format>& cache, bool done) {
                       EXPECT_TRUE(cache == (done ? end : start));
                       if (!done) addTokens(cache, count);
                       EXPECT_TRUE(cache == end);
                     });
}

template <class Format>
class FailingAllocation : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<4, 16>, Gear<2, 16, 2, 100>, Incoherent<Kivi<4, 16>>>;
TYPED_TEST_SUITE(FailingAllocation, Formats);

TYPED_TEST(FailingAllocation, AppendsToAnEmptyCache) { failAppend<TypeParam>(0, 1, false); }
TYPED_TEST(FailingAllocation, AppendsATokenThatFillsTheWindow) { failAppend<TypeParam>(31, 1, false); }
TYPED_TEST(FailingAllocation, AppendsAPrompt) { failAppend<TypeParam>(10, 75, false); }
TYPED_TEST(FailingAllocation, StagesABlock) { failAppend<TypeParam>(31, 1, true); }
TYPED_TEST(FailingAllocation, MergesBlocks) { failAppend<TypeParam>(47, 1, true); }
TYPED_TEST(FailingAllocation, MergesAndPacksAndStages) { failAppend<TypeParam>(35, 90, true); }

TYPED_TEST(FailingAllocation, Attends) {
  KvCache<TypeParam> cache(kShape, {.window = 16, .longest_block = 48});
  addTokens(cache, 150);
  for (const Index count : {1, 40}) {
    const RowMatrixXf q = gaussian(count, kShape.queryWidth(), 3), expected = cache.attend(q);
    failEachAllocation([] { return RowMatrixXf(); }, [&](RowMatrixXf& y) { y = cache.attend(q); },
                       [&](const RowMatrixXf& y, bool done) { EXPECT_EQ(y, done ? expected : RowMatrixXf()); });
    failEachAllocation(
        [] { return std::make_unique<AttendWorkspace>(); },
        [&](auto& workspace) { (void)cache.attend(q, {.workspace = workspace.get()}); },
        [&](auto& workspace, bool) { EXPECT_EQ(cache.attend(q, {.workspace = workspace.get()}), expected); });
  }
}

TYPED_TEST(FailingAllocation, Copies) {
  KvCache<TypeParam> cache(kShape, {.window = 16, .longest_block = 48}), other(kShape, {.window = 16});
  addTokens(cache, 150);
  addTokens(other, 25);
  failEachAllocation([&] { return other; }, [&](KvCache<TypeParam>& copy) { copy = cache; },
                     [&](const KvCache<TypeParam>& copy, bool done) { EXPECT_TRUE(copy == (done ? cache : other)); });
}

TYPED_TEST(FailingAllocation, Dequantizes) {
  KvCache<TypeParam> cache(kShape, {.window = 16, .longest_block = 48});
  addTokens(cache, 150);
  const RowMatrixXf expected = cache.keys();
  failEachAllocation([] { return RowMatrixXf(); }, [&](RowMatrixXf& k) { k = cache.keys(); },
                     [&](const RowMatrixXf& k, bool done) { EXPECT_EQ(k, done ? expected : RowMatrixXf()); });
}

TEST(FailingAllocationInThreads, Packs) { failAppend<Kivi<4, 16>>(8, 190, false, 192); }

}  // namespace
}  // namespace gosset::failing_allocation_test
