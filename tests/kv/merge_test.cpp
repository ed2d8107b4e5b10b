// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::merge_test {
namespace {

using testing::expectAttention;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 64};
constexpr KvOptions kMerged{.window = 64, .longest_block = 256, .merge = true};

template <class Cache>
void appendOneByOne(Cache& cache, const RowMatrixXf& k, const RowMatrixXf& v) {
  for (Index t = 0; t < k.rows(); ++t) cache.append(k.row(t), v.row(t));
}

/// The tokens that each block keeps, those that wait to be merged, and the window.
template <class Cache>
std::vector<Index> lengths(const Cache& cache) {
  const KvContents contents = cache.contents();
  std::vector<Index> lengths = contents.stored;
  lengths.push_back(contents.staged);
  lengths.push_back(contents.window);
  return lengths;
}

template <class Format>
class KvMerge : public ::testing::Test {};
using Formats = ::testing::Types<Kivi<3, 32>, GearL<3, 64, 4>, Incoherent<LowRankFirst<Kivi<2, 32>, 4, std::int8_t>>>;
TYPED_TEST_SUITE(KvMerge, Formats);

TYPED_TEST(KvMerge, AStreamHasThePromptsBitsAtItsError) {
  const RowMatrixXf k = gaussian(1024, kShape.kvWidth(), 1), v = gaussian(1024, kShape.kvWidth(), 2);
  KvCache<TypeParam> stream(kShape, kMerged), prompt(kShape, kMerged);
  appendOneByOne(stream, k, v);
  prompt.append(k, v);
  EXPECT_EQ(stream.bytes(), prompt.bytes());
  EXPECT_EQ(lengths(stream), lengths(prompt));
  EXPECT_NEAR((stream.keys() - k).norm(), (prompt.keys() - k).norm(), 0.005f * (prompt.keys() - k).norm());
  EXPECT_NEAR((stream.values() - v).norm(), (prompt.values() - v).norm(), 0.005f * (prompt.values() - v).norm());
  expectAttention(stream);
}

TYPED_TEST(KvMerge, WhatWaitsIsNearlyExactAndAttendedTo) {
  KvCache<TypeParam> cache(kShape, kMerged);
  const RowMatrixXf k = gaussian(600, kShape.kvWidth(), 1), v = gaussian(600, kShape.kvWidth(), 2);
  Index done = 0;
  for (const Index tokens : {1, 62, 1, 1, 63, 128, 30, 2, 300}) {
    cache.append(k.middleRows(done, tokens), v.middleRows(done, tokens));
    done += tokens;
    ASSERT_EQ(cache.size(), done);
    const Index waiting = done % 256;
    const RowMatrixXf keys = k.middleRows(done - waiting, waiting), values = v.middleRows(done - waiting, waiting);
    const float most = waiting < 64 ? 0x1p-11f : 0.0056f;  // in 16-bit floats, or in steps of a 255th of the range
    EXPECT_LE((cache.keys().bottomRows(waiting) - keys).norm(), most * keys.norm());
    EXPECT_LE((cache.values().bottomRows(waiting) - values).norm(), most * values.norm());
    expectAttention(cache);
  }
}

TYPED_TEST(KvMerge, TruncationKeepsTheFirstTokensAsTheyAre) {
  KvCache<TypeParam> whole(kShape, kMerged);
  const RowMatrixXf w = gaussian(490, kShape.kvWidth(), 1);
  appendOneByOne(whole, w, w);
  ASSERT_EQ(lengths(whole), (std::vector<Index>{256, 64, 64, 64, 3, 42}));
  const auto share = [](const RowMatrixXf& held, const RowMatrixXf& tokens) {
    return (held - tokens).norm() / tokens.norm();
  };
  const float most = share(whole.keys().topRows(256), w.topRows(256));  // of what is merged; all else is more exact
  for (const Index n : {489, 448, 447, 400, 384, 300, 256, 200, 1, 0}) {
    SCOPED_TRACE(n);
    auto cache = whole;
    cache.truncate(n);
    EXPECT_EQ(cache.keys(), whole.keys().topRows(n));
    EXPECT_EQ(cache.values(), whole.values().topRows(n));
    appendOneByOne(cache, w.topRows(300), w.topRows(300));
    EXPECT_EQ(cache.size(), n + 300);
    EXPECT_LT(share(cache.keys().bottomRows(300), w.topRows(300)), 1.02f * most);
    expectAttention(cache);
  }
}

TEST(KvMerge, BlocksWhereTheyAreFull) {
  const auto after = [](std::initializer_list<Index> appended) {
    KvCache<Kivi<2, 32>> cache(kShape, kMerged);
    for (const Index tokens : appended) cache.append(gaussian(tokens, 128, 1), gaussian(tokens, 128, 2));
    return lengths(cache);
  };
  EXPECT_EQ(after({63}), (std::vector<Index>{0, 63}));
  EXPECT_EQ(after({64}), (std::vector<Index>{64, 1, 0}));
  EXPECT_EQ(after({150}), (std::vector<Index>{128, 1, 22})) << "what comes together waits together";
  EXPECT_EQ(after({150, 106}), (std::vector<Index>{256, 0, 0}));
  EXPECT_EQ(after({64, 64, 63, 64}), (std::vector<Index>{64, 64, 64, 3, 63}));
  EXPECT_EQ(after({64, 64, 63, 65}), (std::vector<Index>{256, 0, 0}));
  EXPECT_EQ(after({100, 700}), (std::vector<Index>{256, 256, 256, 0, 32}));
  EXPECT_EQ(after({100, 701, 40}), (std::vector<Index>{256, 256, 256, 64, 1, 9}));
}

TEST(KvMerge, EveryBitIsCounted) {
  KvCache<Kivi<2, 32>> cache(kShape, kMerged);
  cache.append(gaussian(100, 128, 1), gaussian(100, 128, 2));
  // 64 tokens in 8 bits, with a scale and a zero point in floats for each channel of the keys and each 32 numbers of
  // the values, and a 32-bit unit for each head; 36 in the window.
  EXPECT_EQ(cache.bytes(), 2 * (64 * 128 + 2 * 4 + 36 * 128 * 2) + 8 * 128 + 8 * 64 * 4);
  std::vector<Index> blocks;  // of keys, then of values
  cache.forBlocks([&](const void*, bool, Index bytes) { blocks.push_back(bytes); });
  EXPECT_EQ(blocks, (std::vector<Index>{64 * 128 + 2 * 4 + 8 * 128, 64 * 128 + 2 * 4 + 8 * 64 * 4}));
  KvCache<Kivi<2, 64>> wide(kShape, kMerged);
  wide.append(gaussian(64, 128, 1), gaussian(64, 128, 2));
  EXPECT_EQ(wide.bytes(), 2 * (64 * 128 + 2 * 4) + 8 * 128 + 8 * 64 * 2);
}

TEST(KvMerge, BlocksEndBehindTheirTokens) {
  KvCache<Kivi<2, 32>> cache(kShape, kMerged);
  cache.append(gaussian(100, 128, 1), gaussian(100, 128, 2));
  EXPECT_EQ(cache.contents().ends, (std::vector<Index>{64}));
  cache.append(gaussian(201, 128, 3), gaussian(201, 128, 4));
  EXPECT_EQ(cache.contents().ends, (std::vector<Index>{256})) << "64 that waited and 192 from the window";
  cache.truncate(250);
  cache.append(gaussian(64, 128, 3), gaussian(64, 128, 4));
  EXPECT_EQ(cache.contents().ends, (std::vector<Index>{250, 314}));
  // 64 wait: 192 fill them up, then there are 300 of a block's own 256 and no whole window.
  const RowMatrixXf k = gaussian(492, 128, 5);
  cache.append(k, k);
  EXPECT_EQ(cache.contents().ends, (std::vector<Index>{250, 506, 762}));
  // Of the last, 16-bit floats are exact and 2 bits are not; each token stands where it came.
  EXPECT_EQ(cache.keys().bottomRows(44), k.bottomRows(44).cast<Float16>().cast<float>());
  expectAttention(cache);
}

/// A stream's keys and values against those of a prompt that is packed at once, in what the window makes of them.
template <class Format>
void expectThePromptsError(const RowMatrixXf& k, const RowMatrixXf& v, float most, const KvShape& shape) {
  KvCache<Format> stream(shape, kMerged), prompt(shape, kMerged);
  appendOneByOne(stream, k, v);
  prompt.append(k, v);
  ASSERT_EQ(lengths(stream), lengths(prompt));
  const RowMatrixXf keys = k.cast<Float16>().cast<float>(), values = v.cast<Float16>().cast<float>();
  EXPECT_LE((stream.keys() - keys).norm(), most * (prompt.keys() - keys).norm());
  EXPECT_LE((stream.values() - values).norm(), most * (prompt.values() - values).norm());
}

TEST(KvMerge, ChannelsFarFromZeroStayAsExactAsAPromptsAre) {
  const RowMatrixXf k = gaussian(512, 128, 1), v = gaussian(512, 128, 2);
  for (const float bias : {0.f, 50.f, 100.f, 300.f, 600.f, -600.f, 20000.f}) {
    SCOPED_TRACE(bias);
    RowMatrixXf loud_k = k, loud_v = v;
    for (const Index channel : {3, 40, 77, 100}) loud_k.col(channel).array() += bias;
    loud_v.col(5).array() += bias;
    expectThePromptsError<Kivi<4, 64>>(loud_k, loud_v, 1.01f, kShape);
    expectThePromptsError<Kivi<2, 32>>(loud_k, loud_v, 1.01f, kShape);
    // All of them.
    expectThePromptsError<Kivi<4, 64>>(k.array() + bias, v.array() + bias, 1.01f, kShape);
  }
}

TEST(KvMerge, QuietChannelsAndTokensBesideLoudOnes) {
  const RowMatrixXf k = gaussian(512, 128, 1), v = gaussian(512, 128, 2);
  RowMatrixXf loud = v;
  for (Index t = 0; t < 512; t += 37) loud.row(t) *= 50.f;
  loud.col(9) *= 20.f;
  expectThePromptsError<Kivi<4, 64>>(loud, loud, 1.01f, kShape);
  expectThePromptsError<GearL<3, 32, 2>>(loud, loud, 1.01f, kShape);
}

TEST(KvMerge, ManyBitsWaitInSixteen) {
  const RowMatrixXf k = gaussian(300, 128, 1).array() + 100, v = gaussian(300, 128, 2);
  expectThePromptsError<Kivi<8, 64>>(k, v, 1.0001f, kShape);
  expectThePromptsError<Kivi<5, 64>>(k, v, 1.01f, kShape);
}

TEST(KvStaging, KnowsTheBitsAndGroupsOfFormats) {
  using namespace detail;
  static_assert(codeBits<float>() == 32 && codeBits<BFloat16>() == 16);
  static_assert(codeBits<Gear<3, 64, 2, 20>>() == 3 && codeBits<Incoherent<PerChannel<E8P>>>() == 2);
  static_assert(codeBits<NormalFloat4>() == 4);
  static_assert(stagedTogether<Kivi<2, 16>>() == 32 && stagedTogether<Gear<2, 32, 1, 20>>() == 32);
  static_assert(stagedTogether<Kivi<2, 48>>() == 32 && stagedTogether<Kivi<2, 128>>() == 64);
  static_assert(stagedTogether<PerChannel<E8P>>() == 64 && stagedTogether<NormalFloat4>() == 64);
}

TEST(KvMerge, SixteenBitsStayExact) {
  KvCache<Float16, Kivi<4, 32>> cache(kShape, kMerged);
  const RowMatrixXf k = gaussian(400, 128, 1).cast<Float16>().cast<float>();
  appendOneByOne(cache, k, k);
  EXPECT_EQ(cache.keys(), k);
  EXPECT_EQ(lengths(cache), (std::vector<Index>{256, 64, 64, 2, 16}));
}

TEST(KvMerge, WindowsThatDoNotDivideABlock) {
  KvCache<Kivi<4, 32>> cache(kShape, {.window = 50, .longest_block = 170, .merge = true});
  const RowMatrixXf w = gaussian(333, 128, 1);
  appendOneByOne(cache, w, w);
  EXPECT_EQ(lengths(cache), (std::vector<Index>{150, 150, 0, 33}));
  cache.truncate(140);  // a block that is cut is left alone
  appendOneByOne(cache, w.topRows(199), w.topRows(199));
  EXPECT_EQ(lengths(cache), (std::vector<Index>{150, 150, 0, 49}));
  expectAttention(cache);
}

}  // namespace
}  // namespace gosset::merge_test
