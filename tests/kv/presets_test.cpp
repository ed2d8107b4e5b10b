// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/presets.hpp>

#include "preset_bits.hpp"
#include "testing.hpp"

namespace gosset::presets_test {
namespace {

using testing::bitsOfBlock;
using testing::bitsOfSide;
using testing::gaussian;

template <class Formats>
class KvPresets : public ::testing::Test {};
using Presets = ::testing::Types<KvPreset2, KvPreset3, KvPreset4>;
TYPED_TEST_SUITE(KvPresets, Presets);

/// Rank 2 and a channel with a mean, plus noise.
RowMatrixXf tokens(Index count, Index width, std::uint64_t seed) {
  RowMatrixXf w = gaussian(count, 2, seed) * gaussian(2, width, seed + 1) + 0.3f * gaussian(count, width, seed + 2);
  w.col(width / 2).array() += 5.f;
  return w;
}

template <class Cache>
Cache filled(const KvShape& shape, Index count, const KvOptions& options = {.window = 32, .longest_block = 96}) {
  Cache cache(shape, options);
  cache.append(tokens(count, shape.kvWidth(), 1), tokens(count, shape.kvWidth(), 5));
  return cache;
}

/// Attention against that over floats of what the cache says it holds.
template <class Cache>
void expectAttention(const Cache& cache) {
  KvCache<float> floats(cache.shape());
  floats.append(cache.keys(), cache.values());
  const RowMatrixXf q = gaussian(std::min<Index>(cache.size(), 3), cache.shape().queryWidth(), 77);
  const RowMatrixXf expected = floats.attend(q);
  EXPECT_LT((cache.attend(q) - expected).norm(), 2e-5f * (1 + expected.norm()));
  const Eigen::VectorXf last = cache.attend(q.row(q.rows() - 1));
  EXPECT_LT((last.transpose() - expected.row(q.rows() - 1)).norm(), 2e-5f * (1 + last.norm()));
}

TYPED_TEST(KvPresets, AttendToWhatTheyHold) {
  for (const Index d : {1, 7, 8, 63, 64, 80, 128}) {
    for (const Index count : {1, 33, 172}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << d << ", " << count << " tokens");
      const auto cache = filled<typename TypeParam::Cache>({4, 2, d}, count);
      EXPECT_EQ(cache.size(), count);
      expectAttention(cache);
    }
  }
}

TYPED_TEST(KvPresets, TokensOneByOneHoldWhatAPromptInTheSameBlocksHolds) {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 24};
  const KvOptions options{.window = 40, .longest_block = 40};
  const auto prompt = filled<typename TypeParam::Cache>(shape, 130, options);
  const RowMatrixXf k = tokens(130, 48, 1), v = tokens(130, 48, 5);
  typename TypeParam::Cache single(shape, options);
  for (Index t = 0; t < 130; ++t) single.append(k.row(t), v.row(t));
  EXPECT_EQ(single, prompt);
}

TYPED_TEST(KvPresets, KeepWhatTheyAreGiven) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 128};
  const RowMatrixXf k = tokens(256, 128, 1), v = tokens(256, 128, 5);
  const auto cache = filled<typename TypeParam::Cache>(shape, 256, {.window = 256});
  // What is left of the noise, a fifth of the whole: the codebooks' .3, .17 and .09 of it.
  EXPECT_LT((cache.keys() - k).norm(), 0.07f * k.norm());
  EXPECT_LT((cache.values() - v).norm(), 0.07f * v.norm());
}

TYPED_TEST(KvPresets, TruncationAndCopies) {
  const KvShape shape{.heads = 2, .kv_heads = 1, .head_dim = 20};
  const auto whole = filled<typename TypeParam::Cache>(shape, 172);
  for (const Index n : {172, 161, 160, 97, 96, 40, 1}) {
    auto cache = whole;
    cache.truncate(n);
    EXPECT_EQ(cache.keys(), whole.keys().topRows(n));
    EXPECT_EQ(cache.values(), whole.values().topRows(n));
    cache.append(tokens(50, 20, 9), tokens(50, 20, 13));
    EXPECT_EQ(cache.size(), n + 50);
    expectAttention(cache);
  }
  EXPECT_EQ(whole, filled<typename TypeParam::Cache>(shape, 172)) << "copies are independent";
}

TYPED_TEST(KvPresets, ConstantsAndZeros) {
  const KvShape shape{.heads = 2, .kv_heads = 2, .head_dim = 8};
  for (const float c : {0.f, -2.5f, 1000.f}) {
    typename TypeParam::Cache cache(shape, {.window = 32});
    const RowMatrixXf w = RowMatrixXf::Constant(96, 16, c);
    cache.append(w, w);
    EXPECT_LT((cache.keys() - w).norm(), 0.01f * w.norm() + 1e-9f);
    EXPECT_LT((cache.values() - w).norm(), 0.01f * w.norm() + 1e-9f);
    expectAttention(cache);
  }
}

TEST(KvPresetBits, StayWithinTheirBudgets) {
  EXPECT_LE(bitsOfBlock<KvPreset2>(128, 1024), 2.5);
  EXPECT_LE(bitsOfBlock<KvPreset3>(128, 1024), 3.0);
  EXPECT_LE(bitsOfBlock<KvPreset4>(128, 1024), 4.0);
  EXPECT_LE(bitsOfBlock<KvPreset2Heads64>(64, 1024), 2.5);
  EXPECT_LE(bitsOfBlock<KvPreset3Heads64>(64, 1024), 3.0);
  EXPECT_LE(bitsOfBlock<KvPreset4Heads64>(64, 1024), 4.0);
}

TEST(KvPresetBits, FollowTheFormula) {
  const double seeds = 2 * 64;
  for (const double n : {128., 1024.}) {
    for (const double d : {64., 128., 256.}) {
      const auto head_dim = static_cast<Index>(d), count = static_cast<Index>(n);
      EXPECT_NEAR(bitsOfBlock<KvPreset3>(head_dim, count),
                  (bitsOfSide(2, n, 8, d, n) + bitsOfSide(3, d, 4, d, n)) / 2 + seeds / (2 * 8 * n * d), 1e-9);
      EXPECT_NEAR(bitsOfBlock<KvPreset4Heads64>(head_dim, count),
                  (bitsOfSide(3, n, 3, d, n) + bitsOfSide(4, d, 2, d, n)) / 2 + seeds / (2 * 8 * n * d), 1e-9);
    }
  }
}

}  // namespace
}  // namespace gosset::presets_test
