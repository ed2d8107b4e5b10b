// SPDX-License-Identifier: Apache-2.0
// Sequences with a prefix in common.
#include <gosset/codebook.hpp>
#include <gosset/kv/batch.hpp>
#include <gosset/kv/formats.hpp>

#include <cstring>

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
