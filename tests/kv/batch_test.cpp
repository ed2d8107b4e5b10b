// SPDX-License-Identifier: Apache-2.0
// Sequences with a prefix in common.
#include <gosset/codebook.hpp>
#include <gosset/kv/batch.hpp>
#include <gosset/kv/formats.hpp>

#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::batch_test {
namespace {

using testing::expectAttention;
using testing::expectThrows;
using testing::filled;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 16};

template <class Format>
class KvBatch : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<3, 32>, Gear<2, 32, 2, 40>, Incoherent<Kivi<4, 32>>>;
TYPED_TEST_SUITE(KvBatch, Formats);

TYPED_TEST(KvBatch, CopiesShareTheirBlocks) {
  const KvOptions options{.window = 32, .longest_block = 64};
  auto prompt = filled<TypeParam>(kShape, 200, options);
  EXPECT_EQ(prompt.sharedBytes(), 0);
  const Index window = 8 * 2 * 32 * 2, blocks = prompt.bytes() - window;
  const Index seeds = detail::KvStorage<TypeParam>::kRotated ? 16 : 0;
  std::vector sequences(5, prompt);
  EXPECT_EQ(prompt.sharedBytes(), blocks - seeds);
  EXPECT_EQ(bytesTogether(sequences), blocks - seeds + 5 * (window + seeds));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].append(gaussian(40, 32, 10 + i), gaussian(40, 32, 20 + i));
    EXPECT_EQ(sequences[i].sharedBytes(), blocks - seeds) << "blocks to come are its own";
    expectAttention(sequences[i]);
    auto alone = filled<TypeParam>(kShape, 200, options);
    alone.append(gaussian(40, 32, 10 + i), gaussian(40, 32, 20 + i));
    EXPECT_EQ(sequences[i], alone);
  }
  EXPECT_EQ(prompt, filled<TypeParam>(kShape, 200, options));
  prompt = KvCache<TypeParam>(kShape);
  sequences.erase(sequences.begin() + 1, sequences.end());
  EXPECT_EQ(sequences[0].sharedBytes(), 0);
}

TYPED_TEST(KvBatch, CopiesAreTakenBackAndForgetAlone) {
  const KvOptions options{.window = 32, .longest_block = 32, .forget_beyond = 100};
  const auto prompt = filled<TypeParam>(kShape, 200, options);
  auto cut = prompt, forgets = prompt;
  cut.truncate(70);
  forgets.append(gaussian(1, 32, 3), gaussian(1, 32, 4));
  EXPECT_EQ(forgets.forgotten(), 96);
  EXPECT_EQ(prompt, filled<TypeParam>(kShape, 200, options));
  EXPECT_EQ(cut.keys(), prompt.keys().topRows(70));
  cut.append(gaussian(60, 32, 3), gaussian(60, 32, 4));
  EXPECT_EQ(prompt, filled<TypeParam>(kShape, 200, options));
  expectAttention(cut);
}

TYPED_TEST(KvBatch, WhoWritesToABlockGetsHisOwn) {
  const auto prompt = filled<TypeParam>(kShape, 70, {.window = 32});
  auto copy = prompt;
  copy.visitFields([](std::string_view, auto values) {
    if (!values.empty()) std::memset(static_cast<void*>(values.data()), 0, values.size_bytes());
  });
  EXPECT_EQ(prompt, filled<TypeParam>(kShape, 70, {.window = 32}));
  EXPECT_EQ(copy.sharedBytes(), 0);
}

TYPED_TEST(KvBatch, AQueryForEach) {
  const auto prompt = filled<TypeParam>(kShape, 100, {.window = 32});
  std::vector sequences(3, prompt);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto count = static_cast<Index>(20 * i + 1);
    sequences[i].append(gaussian(count, 32, i), gaussian(count, 32, i + 9));
  }
  const RowMatrixXf q = gaussian(3, kShape.queryWidth(), 5);
  const AttendOptions options{.sliding_window = 90};
  const RowMatrixXf y = attendEach(sequences, q, options, SoftCap{3});
  for (Index i = 0; i < 3; ++i) {
    EXPECT_EQ(y.row(i).transpose(), sequences[static_cast<std::size_t>(i)].attend(q.row(i), options, SoftCap{3}));
  }
  AttendWorkspace workspace;
  EXPECT_EQ(attendEach(sequences, q, {.sliding_window = 90, .workspace = &workspace}, SoftCap{3}), y);
  EXPECT_EQ(attendEach(std::vector<KvCache<TypeParam>>(), q.topRows(0)).size(), 0);
}

/// That attendEach() gives, bit for bit, what each cache gives alone.
template <class Cache, class Score = PlainScores>
void expectEach(const std::vector<Cache>& caches, const AttendOptions& options = {}, const Score& score = {}) {
  const RowMatrixXf q = gaussian(static_cast<Index>(caches.size()), caches.front().shape().queryWidth(), 77);
  const RowMatrixXf y = attendEach(caches, q, options, score);
  for (Index i = 0; i < q.rows(); ++i) {
    const auto& cache = caches[static_cast<std::size_t>(i)];
    ASSERT_EQ(y.row(i).transpose(), cache.attend(q.row(i), options, score)) << i << " of " << q.rows();
  }
}

/// Copies of a cache that go on apart: one as it is, one behind another's prompt, some cut within blocks and behind
/// them.
template <class Cache>
std::vector<Cache> family(const Cache& prompt, std::size_t count) {
  std::vector<Cache> sequences(count, prompt);
  for (std::size_t i = 1; i < count; ++i) {
    Cache& one = sequences[i];
    if (i % 4 == 3) one.truncate(one.size() - static_cast<Index>(13 * i));
    const auto more = static_cast<Index>(7 * i + 1);
    one.append(gaussian(more, one.shape().kvWidth(), i), gaussian(more, one.shape().valueWidth(), i + 100));
  }
  return sequences;
}

TYPED_TEST(KvBatch, SharedBlocksAreReadOnceAndGiveTheSameBits) {
  const KvOptions options{.window = 32, .longest_block = 64};
  for (const KvShape& shape : {kShape, KvShape{3, 3, 16}, KvShape{40, 2, 8}}) {
    const auto prompt = filled<TypeParam>(shape, 300, options);
    for (const std::size_t count : {1u, 2u, 11u, 19u}) {
      auto sequences = family(prompt, count);
      expectEach(sequences);
      expectEach(sequences, {.activations = Activations::kRounded});
      sequences.insert(sequences.begin() + 1, filled<TypeParam>(shape, 90, options));
      sequences.insert(sequences.begin(), filled<TypeParam>(shape, 20, options));
      expectEach(sequences, {}, SoftCap{3});
      expectEach(sequences, {.sliding_window = 150});
      expectEach(sequences, {.sliding_window = 330});
    }
  }
}

TYPED_TEST(KvBatch, LongSequencesWithFirstTokensAndSinks) {
  const auto prompt = filled<TypeParam>(kShape, 9000, {.window = 32, .longest_block = 1024, .keep_first = 5});
  auto sequences = family(prompt, 6);
  sequences[2].truncate(4000);
  std::swap(sequences[2], sequences[5]);
  const std::vector<float> sinks = {0.5f, -1, 2, 0};
  expectEach(sequences, {.sinks = sinks});
}

TEST(KvBatch, WhoIsAttendedTogether) {
  using Stream = detail::KvStream<Float16, detail::KvSide::kKeys>;
  using Batch = detail::KvBatchAttention<Stream, detail::KvStream<Float16, detail::KvSide::kValues>>;
  const KvOptions options{.window = 32, .longest_block = 64};
  const auto together = [](const auto& caches, Index first, const AttendOptions& how = {}) {
    return Batch(caches, first, how).sequences();
  };
  const auto sequences = family(filled<Float16>(kShape, 300, options), 11);
  EXPECT_EQ(together(sequences, 0), 8) << "which have 16 query heads on a KV head";
  EXPECT_EQ(together(sequences, 8), 3);
  EXPECT_EQ(together(sequences, 10), 1);
  EXPECT_EQ(together(family(filled<Float16>({40, 2, 8}, 300, options), 3), 0), 1) << "20 query heads on a KV head";
  EXPECT_EQ(together(family(filled<Float16>({3, 3, 8}, 300, options), 20), 0), 16);
  EXPECT_EQ(together(sequences, 0, {.sliding_window = 299}), 1) << "of 300 tokens";
  EXPECT_EQ(together(sequences, 0, {.sliding_window = 310}), 2) << "of 300, 308 and 315 tokens";
  auto others = sequences;
  others[2] = filled<Float16>(kShape, 300, options);
  EXPECT_EQ(together(others, 0), 2) << "the third has blocks of its own";
  others[1].truncate(10);
  EXPECT_EQ(together(others, 0), 1) << "the second has no whole block";
}

TEST(KvBatch, OneOfManyThatIsTooLargeIsTold) {
  const auto prompt = filled<Float16>(kShape, 100, {.window = 32});
  const std::vector sequences(3, prompt);
  RowMatrixXf q = gaussian(3, 64);
  q.row(1).setConstant(3e38f);
  expectThrows([&] { (void)attendEach(sequences, q); }, "KvCache::attend: expected scores within the range of float");
  q(1, 3) = std::numeric_limits<float>::quiet_NaN();
  expectThrows([&] { (void)attendEach(sequences, q); }, "KvCache::attend");
  const auto score = [](float s, Index head, Index, Index key) {
    return head == 2 && key == 7 ? std::numeric_limits<float>::infinity() : s;
  };
  expectThrows(
      [&] { (void)attendEach(sequences, gaussian(3, 64), {}, score); },
      "KvCache::attend: expected scores that are numbers or -infinity, got NaN or +infinity for head 2 and the "
      "query of token 99");
  expectThrows([&] { (void)attendEach(sequences, gaussian(3, 63)); },
               "attendEach: expected queries of heads * head_dim = 64 columns, got 3 x 63");
}

TEST(KvBatch, ValuesInKeys) {
  using Cache = KvCache<Incoherent<Kivi<4, 32>>>;
  Cache prompt({8, 1, 24, 16}, {.window = 32, .longest_block = 64, .values_in_keys = true});
  prompt.append(gaussian(200, 24, 1));
  std::vector<Cache> sequences(5, prompt);
  for (std::size_t i = 0; i < 5; ++i) sequences[i].append(gaussian(static_cast<Index>(9 * i + 1), 24, i + 5));
  expectEach(sequences);
}

TEST(KvBatchErrors, RowsAndShapes) {
  std::vector<KvCache<Float16>> caches(2, filled<Float16>(kShape, 10));
  expectThrows([&] { (void)attendEach(caches, gaussian(3, 64)); },
               "attendEach: expected a query for each of the 2 caches, got 3");
  caches[1] = filled<Float16>({2, 2, 32}, 10);
  expectThrows([&] { (void)attendEach(caches, gaussian(2, 64)); },
               "attendEach: expected caches of one shape, got another of sequence 1");
  caches[1] = KvCache<Float16>(kShape);
  expectThrows([&] { (void)attendEach(caches, gaussian(2, 64)); }, "KvCache::attend: the cache is empty");
}

}  // namespace
}  // namespace gosset::batch_test
