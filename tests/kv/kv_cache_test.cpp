// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/kv_cache.hpp>

#include <gosset/kv/formats.hpp>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::kv_cache_test {
namespace {

using testing::expectAttention;
using testing::filled;
using testing::gaussian;

template <class K, class V>
struct Pair {
  using Key = K;
  using Value = V;
};

template <class Formats>
class KvCacheOf : public ::testing::Test {};
using AllFormats =
    ::testing::Types<Pair<Float16, BFloat16>, Pair<Kivi<2, 32>, Kivi<3, 64>>, Pair<Gear<3, 32, 2, 40>, GearL<8, 64, 4>>,
                     Pair<Incoherent<Kivi<4, 32>>, Incoherent<Gear<2, 32, 1, 60>>>>;
TYPED_TEST_SUITE(KvCacheOf, AllFormats);

TYPED_TEST(KvCacheOf, AttendsToWhatItHolds) {
  for (const Index d : {1, 7, 64, 80, 96}) {
    for (const Index tokens : {1, 63, 65, 417}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << d << ", " << tokens << " tokens");
      const auto cache = filled<typename TypeParam::Key, typename TypeParam::Value>({4, 2, d}, tokens);
      EXPECT_EQ(cache.size(), tokens);
      expectAttention(cache);
    }
  }
}

/// What a format makes of a head's numbers: tokens, in blocks that end at these tokens and then in the window, each
/// block a matrix of its own. Rotation is left out, and how far off a Gaussian is does not change by it.
template <class Format, detail::KvSide kSide>
RowMatrixXf inBlocks(const RowMatrixXf& tokens, const std::vector<Index>& ends, Index head_dim) {
  using Stored = typename detail::KvStorage<Format>::Stored;
  RowMatrixXf result = tokens;
  if constexpr (StorageScalar<Format>) {
    result = tokens.cast<Format>().template cast<float>();
  } else {
    result = tokens.cast<Float16>().template cast<float>();
    Index begin = 0;
    for (const Index end : ends) {
      for (Index column = 0; column < tokens.cols(); column += head_dim) {
        auto block = result.block(begin, column, end - begin, head_dim);
        if constexpr (kSide == detail::KvSide::kKeys) {
          block = quantize<Stored>(block.transpose().eval()).dequantized().transpose().eval();
        } else {
          block = quantize<Stored>(block.eval()).dequantized().eval();
        }
      }
      begin = end;
    }
  }
  return result;
}

/// To the bit, or where the format rotates to 5% of the error.
template <class Format, detail::KvSide kSide>
void expectInBlocks(const RowMatrixXf& held, const RowMatrixXf& tokens, const std::vector<Index>& ends,
                    Index head_dim) {
  const RowMatrixXf expected = inBlocks<Format, kSide>(tokens, ends, head_dim);
  if constexpr (detail::KvStorage<Format>::kRotated) {
    EXPECT_NEAR((held - tokens).norm(), (expected - tokens).norm(), 0.05f * (expected - tokens).norm());
  } else {
    EXPECT_EQ(held, expected);
  }
}

TYPED_TEST(KvCacheOf, ATokenAtATimeAfterAPrompt) {
  using Cache = KvCache<typename TypeParam::Key, typename TypeParam::Value>;
  const KvShape shape{.heads = 6, .kv_heads = 2, .head_dim = 20};
  const RowMatrixXf k = gaussian(300, shape.kvWidth(), 1), v = gaussian(300, shape.kvWidth(), 2);
  Cache cache(shape, {.window = 32});
  cache.append(k.topRows(150), v.topRows(150));
  for (Index t = 150; t < 300; ++t) {
    cache.append(k.row(t), v.row(t));
    ASSERT_EQ(cache.size(), t + 1);
  }
  expectAttention(cache);
  const std::vector<Index> ends = {128, 160, 192, 224, 256, 288};
  expectInBlocks<typename TypeParam::Key, detail::KvSide::kKeys>(cache.keys(), k, ends, 20);
  expectInBlocks<typename TypeParam::Value, detail::KvSide::kValues>(cache.values(), v, ends, 20);
  const RowMatrixXf newest = cache.keys().bottomRows(300 % 32);
  EXPECT_LT((newest - k.bottomRows(300 % 32)).norm(), 1e-3f * newest.norm()) << "the window is in 16 bits";
}

TYPED_TEST(KvCacheOf, TruncationKeepsTheFirstTokensAsTheyAre) {
  const KvShape shape{.heads = 2, .kv_heads = 1, .head_dim = 20};
  const auto whole = filled<typename TypeParam::Key, typename TypeParam::Value>(shape, 417);
  for (const Index n : {417, 416, 385, 384, 383, 65, 1}) {
    auto cache = whole;
    cache.truncate(n);
    EXPECT_EQ(cache.size(), n);
    EXPECT_EQ(cache.keys(), whole.keys().topRows(n));
    EXPECT_EQ(cache.values(), whole.values().topRows(n));
    expectAttention(cache);
    cache.append(gaussian(100, 20, 5), gaussian(100, 20, 6));
    EXPECT_EQ(cache.size(), n + 100);
    EXPECT_EQ(cache.keys().topRows(std::min<Index>(n, 384)), whole.keys().topRows(std::min<Index>(n, 384)));
    expectAttention(cache);
  }
  EXPECT_EQ(whole.size(), 417) << "copies are independent";
}

TYPED_TEST(KvCacheOf, ConstantsAndZeros) {
  const KvShape shape{.heads = 2, .kv_heads = 2, .head_dim = 8};
  for (const float c : {0.f, -2.5f}) {
    KvCache<typename TypeParam::Key, typename TypeParam::Value> cache(shape, {.window = 32});
    const RowMatrixXf w = RowMatrixXf::Constant(100, 16, c);
    cache.append(w, w);
    // A constant comes back whole, but for what 16-bit floats lose of it in another basis.
    const auto limit = []<class Format>(std::type_identity<Format>) {
      return detail::KvStorage<Format>::kRotated ? 0x1p-11f : 0;
    };
    EXPECT_LE((cache.keys() - w).norm(), limit(std::type_identity<typename TypeParam::Key>()) * w.norm());
    EXPECT_LE((cache.values() - w).norm(), limit(std::type_identity<typename TypeParam::Value>()) * w.norm());
    const Eigen::VectorXf o = cache.attend(Eigen::VectorXf::Ones(16));
    EXPECT_TRUE(o.allFinite());
    EXPECT_LT((o.transpose() - cache.values().colwise().mean()).norm(), 1e-5f * (1 + w.row(0).norm()));
  }
}

using Two = Kivi<2, 32>;

TEST(KvCache, SixteenBitsAreExact) {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 7};
  const RowMatrixXf k = gaussian(300, 14, 1).cast<Float16>().cast<float>();
  const RowMatrixXf v = gaussian(300, 14, 2).cast<Float16>().cast<float>();
  KvCache<Float16> cache(shape);
  cache.append(k, v);
  EXPECT_EQ(cache.keys(), k);
  EXPECT_EQ(cache.values(), v);
  EXPECT_EQ(cache.bitsPerElement(), 16.0);
  KvCache<float> wide(shape, {.window = 100});
  wide.append(gaussian(300, 14, 1), gaussian(250, 14, 2).replicate(2, 1).topRows(300));
  EXPECT_EQ(wide.keys(), gaussian(300, 14, 1));
  EXPECT_EQ(wide.bitsPerElement(), 32.0);
}

TEST(KvCache, PromptsAndSingleTokensHoldTheSame) {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 24};
  const RowMatrixXf k = gaussian(417, 48, 1), v = gaussian(417, 48, 2);
  const KvOptions options{.window = 64};
  KvCache<Two> prompt(shape, options), single(shape, options), columns(shape, options);
  prompt.append(k, v);
  for (Index t = 0; t < 417; ++t) {
    single.append(k.row(t), v.row(t));
    columns.append(k.row(t).transpose(), Eigen::VectorXf(v.row(t)));
  }
  EXPECT_EQ(single, columns);
  // A block's unit is a power of two that fits its largest number; scales are 16-bit floats in units of it.
  EXPECT_LT((prompt.keys() - single.keys()).norm(), 1e-4f * k.norm());
  EXPECT_LT((prompt.values() - single.values()).norm(), 1e-4f * v.norm());
}

TEST(KvCache, AnyDenseExpressionIsTaken) {
  const KvShape shape{.heads = 2, .kv_heads = 1, .head_dim = 8};
  const Eigen::MatrixXf w = gaussian(80, 8);
  KvCache<Two> floats(shape), doubles(shape), halves(shape);
  floats.append(w.cast<Float16>(), w.cast<Float16>());
  doubles.append(w.cast<Float16>().cast<double>(), RowMatrixXf(w.cast<Float16>().cast<float>()));
  EXPECT_EQ(floats, doubles);
  const Eigen::VectorXd q = Eigen::VectorXd::Ones(16);
  EXPECT_EQ(floats.attend(q), doubles.attend(q.transpose()));
  EXPECT_EQ(floats.attend(q.cast<Float16>()), floats.attend(q.cast<float>()));
}

TEST(KvCache, GroupedQueriesShareTheirKeys) {
  for (const Index heads : {3, 6, 12}) {
    const auto cache = filled<Two>({heads, 3, 16}, 200);
    expectAttention(cache);
  }
}

TEST(KvCache, SlidingWindowScaleAndScores) {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 16};
  const auto cache = filled<Two>(shape, 417);
  for (const Index window : {1, 5, 33, 64, 100, 417, 1000}) {
    SCOPED_TRACE(window);
    expectAttention(cache, {.sliding_window = window});
  }
  expectAttention(cache, {.scale = 2.f});
  expectAttention(cache, {.scale = 0.f});
  expectAttention(cache, {.scale = 100.f});
  expectAttention(cache, {.scale = 3.f}, SoftCap{2.f});
  expectAttention(cache, {.sliding_window = 70}, Alibi(4));
  expectAttention(cache, {}, Alibi({0.f, 1.f, 3.f, 0.5f}));
}

TEST(KvCache, AScoreMayHideKeys) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 8};
  const auto cache = filled<Two>(shape, 150);
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const auto only = [](Index key) { return [key](float s, Index, Index, Index k) { return k == key ? s : kHidden; }; };
  const Eigen::VectorXf q = gaussian(8, 1);
  for (const Index key : {0, 70, 149}) {
    EXPECT_LT((cache.attend(q, {}, only(key)).transpose() - cache.values().row(key)).norm(), 1e-6f) << key;
  }
  EXPECT_TRUE(cache.attend(q, {}, only(150)).isZero(0)) << "nothing seen";
}

TEST(KvCache, NoTokensAndNoQueriesChangeNothing) {
  const KvShape shape{2, 1, 8};
  for (const bool merge : {false, true}) {
    auto cache = filled<Two>(shape, 70, {.window = 32, .merge = merge});
    const auto before = cache;
    cache.append(RowMatrixXf(0, 8), RowMatrixXf(0, 8));
    EXPECT_EQ(cache, before);
    EXPECT_EQ(cache.attend(RowMatrixXf(0, 16)).rows(), 0);
  }
  KvCache<Two> empty(shape);
  empty.append(RowMatrixXf(0, 8), RowMatrixXf(0, 8));
  EXPECT_EQ(empty.size(), 0);
}

TEST(KvCache, AWorkspaceServesCachesAndQueriesOfAnyKind) {
  AttendWorkspace workspace;
  const AttendOptions with{.workspace = &workspace};
  const auto expectTheSame = [&](const auto& cache, Index queries) {
    const RowMatrixXf q = gaussian(queries, cache.shape().queryWidth(), 3);
    EXPECT_EQ(cache.attend(q, with), cache.attend(q));
    EXPECT_EQ(cache.attend(q.row(0), with), cache.attend(q.row(0)));
  };
  const auto small = filled<Two>({2, 1, 8}, 70);
  const auto large = filled<Incoherent<Two>>({6, 3, 64}, 300);
  for (const Index queries : {1, 70, 3}) {
    expectTheSame(small, queries);
    expectTheSame(large, queries);
    expectTheSame(filled<Float16>({4, 4, 20}, 129), queries);
  }
}

TEST(KvCache, AttendsIntoAPartOfALargerMatrix) {
  const auto cache = filled<Incoherent<Two>>({4, 2, 16}, 100);
  const RowMatrixXf q = gaussian(3, 64, 3);
  RowMatrixXf all = RowMatrixXf::Constant(5, 70, 7.f);  // whose rows are not one behind the other
  cache.attendTo(q, all.block(1, 4, 3, 64));
  EXPECT_EQ(all.block(1, 4, 3, 64), cache.attend(q));
  all.block(1, 4, 3, 64).setConstant(7.f);
  EXPECT_TRUE((all.array() == 7.f).all()) << "and nothing beside it";
}

TEST(KvCache, ManyThreadsMayAttendAtOnce) {
  const auto cache = filled<Incoherent<Two>>({4, 2, 32}, 300);
  const RowMatrixXf q = gaussian(8, 128, 3);
  const RowMatrixXf expected = cache.attend(q);
  std::vector<std::thread> threads;
  std::vector<RowMatrixXf> outputs(8, RowMatrixXf(8, 128));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    threads.emplace_back([&, i] {
      AttendWorkspace workspace;
      for (int call = 0; call < 5; ++call) {
        cache.attendTo(q, outputs[i], {.workspace = i % 2 == 0 ? &workspace : nullptr});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const RowMatrixXf& output : outputs) EXPECT_EQ(output, expected);
}

TEST(KvCache, LargeScoresDoNotOverflow) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 8};
  KvCache<Float16> cache(shape, {.window = 16});
  RowMatrixXf k = RowMatrixXf::Zero(60, 8);
  for (Index t = 0; t < 60; ++t) k(t, 0) = static_cast<float>(t) * 100;
  const RowMatrixXf v = gaussian(60, 8).cast<Float16>().cast<float>();
  cache.append(k, v);
  Eigen::VectorXf q = Eigen::VectorXf::Zero(8);
  q[0] = 1000;
  EXPECT_LT((cache.attend(q).transpose() - v.row(59)).norm(), 1e-6f);
  q[0] = -1000;
  EXPECT_LT((cache.attend(q).transpose() - v.row(0)).norm(), 1e-6f);
}

TEST(KvCache, EveryBitIsCounted) {
  const KvShape shape{.heads = 2, .kv_heads = 2, .head_dim = 64};
  // Codes, and a 16-bit scale and zero point for 32 numbers; a 32-bit unit for each block and head.
  const double units = 2 * 2 * 32;
  const double numbers = 2 * 128 * 2 * 64;
  EXPECT_DOUBLE_EQ(filled<Two>(shape, 128).bitsPerElement(), 2 + 1 + units / numbers);
  // 20 tokens more wait in the window.
  EXPECT_DOUBLE_EQ((filled<Two>(shape, 148).bitsPerElement()),
                   (3 * numbers + units + 16 * 2 * 20 * 128) / (2 * 148 * 128));
  // Keys: lines of 128, 20 per mille: one at either end; values: lines of 64, one at either end; 24 bits each. Factors
  // of rank 3: 128 + 64 numbers, and a scale each.
  const double outliers = 2 * 24 * (2 * 64 + 2 * 128);
  const double factors = 2 * 2 * 16 * 3 * (128 + 64);
  EXPECT_DOUBLE_EQ((filled<Gear<2, 32, 3, 20>>(shape, 128).bitsPerElement()),
                   3 + (outliers + factors + (2 + 3) * units) / numbers);
  // A seed for either side.
  EXPECT_DOUBLE_EQ((filled<Incoherent<Two>>(shape, 128).bitsPerElement()), 3 + (units + 2 * 64) / numbers);
  auto cut = filled<Two>(shape, 128);
  cut.truncate(100);
  EXPECT_EQ(cut.bytes(), filled<Two>(shape, 128).bytes()) << "a cut block keeps its bytes";
  cut.truncate(0);
  EXPECT_EQ(cut.bytes(), 0);
  EXPECT_EQ(cut.bitsPerElement(), 0);
}

TEST(KvCache, AnOddNumberOfBytesIsCounted) {
  // A head of one number, three tokens: 3 bytes a side; a scale and a zero point for the channel of keys, for each of
  // the 3 tokens of values; two units.
  EXPECT_EQ((filled<Kivi<8, 32>>({1, 1, 1}, 3, {.window = 3}).bytes()), 2 * 3 + 4 + 3 * 4 + 2 * 4);
  std::vector<Index> blocks;
  filled<Kivi<8, 32>>({1, 1, 1}, 3, {.window = 3}).forBlocks([&](const void*, bool, Index bytes) {
    blocks.push_back(bytes);
  });
  EXPECT_EQ(blocks, (std::vector<Index>{3 + 4 + 4, 3 + 3 * 4 + 4}));
}

TEST(KvCache, BitsAreThoseOfTheNumbersHeld) {
  KvCache<Float16> cache({1, 1, 4}, {.window = 4, .longest_block = 4, .forget_beyond = 8});
  for (int i = 0; i < 40; ++i) cache.append(RowMatrixXf::Ones(1, 4), RowMatrixXf::Ones(1, 4));
  ASSERT_GT(cache.forgotten(), 20);
  EXPECT_EQ(cache.bitsPerElement(), 16.0) << "what is forgotten takes no bits and has no numbers";
}

TEST(KvCache, GearPaysOnKeysWithCoherentChannelsAndOutliers) {
  const KvShape shape{.heads = 2, .kv_heads = 1, .head_dim = 64};
  RowMatrixXf k = gaussian(512, 4, 3) * gaussian(4, 64, 4) + 0.3f * gaussian(512, 64, 5);
  k.col(9).array() += 20.f;
  for (Index t = 0; t < 512; t += 60) k(t, t % 64) += 30.f;
  const auto error = [&](auto cache) {
    cache.append(k, k);
    return (cache.keys() - k).norm() / k.norm();
  };
  const float kivi = error(KvCache<Kivi<2, 64>>(shape));
  const float low_rank = error(KvCache<GearL<2, 64, 4>>(shape));
  const float gear = error(KvCache<Gear<2, 64, 4, 20>>(shape));
  EXPECT_NEAR(low_rank / kivi, 0.875f, 0.02f);
  EXPECT_NEAR(gear / low_rank, 0.775f, 0.02f);
}

/// Most Hadamard matrices are symmetric and undo themselves; those of Williamson's orders, 92 and others, do not.
TEST(KvCache, RotatedHeadsOfAnyLengthComeBack) {
  for (Index d = 1; d <= 180; d += d < 64 ? 1 : 4) {
    KvCache<Incoherent<Two>> cache({.heads = 2, .kv_heads = 2, .head_dim = d});
    const RowMatrixXf k = gaussian(2, 2 * d, 1), v = gaussian(2, 2 * d, 2);
    cache.append(k, v);  // into the window
    EXPECT_LT((cache.keys() - k).norm(), 0x1p-10f * k.norm()) << d;
    EXPECT_LT((cache.values() - v).norm(), 0x1p-10f * v.norm()) << d;
  }
}

TEST(KvCache, RotationSpreadsChannelOutliersOfTheValues) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 64};
  RowMatrixXf v = gaussian(256, 64);
  v.col(3) *= 20.f;
  const auto error = [&](auto cache) {
    cache.append(v, v);
    return (cache.values() - v).norm() / v.norm();
  };
  EXPECT_NEAR(error(KvCache<Incoherent<Kivi<4, 64>>>(shape)) / error(KvCache<Kivi<4, 64>>(shape)), 0.392f, 0.01f);
}

TEST(KvCache, CopiesEqualityAndClear) {
  const KvShape shape{.heads = 2, .kv_heads = 2, .head_dim = 8};
  const auto a = filled<Two>(shape, 100);
  auto b = a;
  EXPECT_EQ(a, b);
  b.append(RowMatrixXf::Ones(1, 16), RowMatrixXf::Ones(1, 16));
  EXPECT_NE(a, b);
  EXPECT_EQ(a.size(), 100);
  b.truncate(100);
  EXPECT_EQ(a, b);
  b.truncate(60);
  EXPECT_NE(a, b);
  b.clear();
  EXPECT_EQ(b.size(), 0);
  EXPECT_EQ(b, KvCache<Two>(shape));
  EXPECT_EQ(b.keys().rows(), 0);
  EXPECT_NE((filled<Incoherent<Two>>(shape, 9, {.quantize = {.seed = 1}})),
            (filled<Incoherent<Two>>(shape, 9, {.quantize = {.seed = 2}})));
}

TEST(KvCache, BlocksThatAreCutElsewhereAreNotEqual) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 8};
  const RowMatrixXf w = gaussian(96, 8);
  // The same two blocks, of 64 and 32 tokens, of which 60 and 32 count, or 64 and 28.
  KvCache<Two> first(shape, {.window = 32}), second(shape, {.window = 32});
  first.append(w.topRows(64), w.topRows(64));
  first.truncate(60);
  first.append(w.bottomRows(32), w.bottomRows(32));
  second.append(w.topRows(64), w.topRows(64));
  second.append(w.bottomRows(32), w.bottomRows(32));
  EXPECT_EQ(second.bytes(), first.bytes());
  second.truncate(92);
  ASSERT_EQ(first.size(), 92);
  ASSERT_EQ(second.size(), 92);
  ASSERT_NE(first.keys(), second.keys());
  EXPECT_NE(first, second);
}

/// Every array of one cache into the arrays of another, whose lengths must be the same.
template <class Cache>
void copyArrays(const Cache& from, Cache& to) {
  std::vector<std::string> arrays;
  from.visitFields([&](std::string_view, auto values) {
    arrays.emplace_back(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  });
  std::size_t next = 0;
  to.visitFields([&](std::string_view name, auto values) {
    ASSERT_LT(next, arrays.size());
    ASSERT_EQ(values.size_bytes(), arrays[next].size()) << name;
    std::ranges::copy(arrays[next], reinterpret_cast<char*>(values.data()));
    ++next;
  });
  EXPECT_EQ(next, arrays.size());
}

TYPED_TEST(KvCacheOf, ContentsAndArraysAreTheWholeCache) {
  using Cache = KvCache<typename TypeParam::Key, typename TypeParam::Value>;
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 12};
  const auto expectWhole = [&](const Cache& cache) {
    Cache again = Cache::shaped(shape, cache.options(), cache.contents());
    copyArrays(cache, again);
    EXPECT_EQ(again, cache);
    EXPECT_EQ(again.keys(), cache.keys());
    EXPECT_EQ(again.values(), cache.values());
    EXPECT_EQ(again.bytes(), cache.bytes());
  };
  // A block of 96 tokens of which 70 count, one of 64, two tokens in front, 9 in the window.
  Cache cut(shape, {.window = 32, .longest_block = 96, .keep_first = 2});
  cut.append(gaussian(98, 24, 1), gaussian(98, 24, 2));
  cut.truncate(72);
  cut.append(gaussian(73, 24, 3), gaussian(73, 24, 4));
  ASSERT_EQ(cut.contents().stored, (std::vector<Index>{96, 64}));
  ASSERT_EQ(cut.contents().ends, (std::vector<Index>{72, 136}));
  expectWhole(cut);
  // Blocks that wait to be merged; blocks before which others are forgotten.
  expectWhole(filled<typename TypeParam::Key, typename TypeParam::Value>(
      shape, 200, {.window = 32, .longest_block = 128, .merge = true}));
  Cache forgets(shape, {.window = 32, .longest_block = 32, .forget_beyond = 40});
  for (std::uint64_t i = 0; i < 5; ++i) forgets.append(gaussian(50, 24, i), gaussian(50, 24, i + 9));
  ASSERT_GT(forgets.forgotten(), 0);
  expectWhole(forgets);
}

TEST(KvCache, LongPromptsAreCutIntoBlocksOfNearlyEqualLength) {
  const auto stored = [](Index tokens, const KvOptions& options) {
    return filled<Float16>({1, 1, 4}, tokens, options).contents().stored;
  };
  // 10 windows in blocks of at most 4.
  EXPECT_EQ(stored(1050, {.window = 100, .longest_block = 450}), (std::vector<Index>{300, 300, 400}));
  EXPECT_EQ(stored(1100, {.window = 100, .longest_block = 450}), (std::vector<Index>{300, 400, 400}));
  EXPECT_EQ(stored(399, {.window = 100, .longest_block = 100}), (std::vector<Index>{100, 100, 100}));
  EXPECT_EQ(stored(350, {.window = 100, .longest_block = 1}), (std::vector<Index>{100, 100, 100}))
      << "a window is the least";
}

TEST(KvCache, LongPromptsAreCutIntoBlocksOfWholeWindows) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 4};
  // 9 windows of 100 in blocks of at most 4: three of 3 windows, each with a unit a side.
  const auto cache = filled<Kivi<8, 100>>(shape, 950, {.window = 100, .longest_block = 450});
  const Index window = 2 * 50 * 4 * 2;
  const Index keys = 900 * 4 + 9 * 4 * 4, values = 900 * (4 + 4);
  EXPECT_EQ(cache.bytes(), keys + values + 3 * 2 * 4 + window);
  expectAttention(cache);
}

TEST(KvCache, AMillionTokensOneByOne) {
  const KvShape shape{.heads = 1, .kv_heads = 1, .head_dim = 8};
  KvCache<Kivi<4, 128>> cache(shape, {.window = 1000});
  const RowMatrixXf w = gaussian(1000, 8);
  constexpr Index kTokens = 1'000'123;
  // In a block 4 bits for each number; a scale and a zero point for 128 (104 of the last) numbers of a channel, and for
  // the 8 of a token; two units.
  const Index in_block = 2 * 8000 / 2 + 4 * 8 * 8 + 4 * 1000 + 2 * 4;
  for (Index t = 0; t < kTokens; ++t) {
    cache.append(w.row(t % 1000), w.row((t + 1) % 1000));
    if (t % 99'999 != 0) continue;
    ASSERT_EQ(cache.bytes(), (t + 1) / 1000 * in_block + (t + 1) % 1000 * 2 * 16) << t;
  }
  EXPECT_EQ(cache.size(), kTokens);
  EXPECT_EQ(cache.bytes(), 1000 * in_block + 123 * 2 * 16);
  const Eigen::VectorXf mean = w.colwise().mean();
  EXPECT_LT((cache.attend(Eigen::VectorXf::Zero(8)) - mean).norm(), 0.01f) << "the mean of all values";
}

}  // namespace
}  // namespace gosset::kv_cache_test
