// SPDX-License-Identifier: Apache-2.0
// Values of other widths than keys, and values that are a part of the keys.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::value_dim_test {
namespace {

using testing::expectAttention;
using testing::expectThrows;
using testing::filled;
using testing::gaussian;

template <class Format>
class KvValueDim : public ::testing::Test {};
using Formats = ::testing::Types<Float16, Kivi<4, 32>, Gear<2, 32, 2, 40>, Incoherent<Kivi<4, 32>>>;
TYPED_TEST_SUITE(KvValueDim, Formats);

TYPED_TEST(KvValueDim, WiderAndNarrowerThanTheKeys) {
  for (const auto& [keys, values] : {std::pair<Index, Index>{72, 64}, {64, 1}, {7, 63}, {20, 65}}) {
    for (const Index tokens : {1, 63, 172}) {
      SCOPED_TRACE(::testing::Message() << keys << " and " << values << ", " << tokens << " tokens");
      const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = keys, .value_dim = values};
      const auto cache = filled<TypeParam>(shape, tokens);
      EXPECT_EQ(cache.keys().cols(), 2 * keys);
      EXPECT_EQ(cache.values().cols(), 2 * values);
      EXPECT_EQ(cache.attend(Eigen::VectorXf::Zero(4 * keys)).size(), 4 * values);
      expectAttention(cache);
    }
  }
}

TYPED_TEST(KvValueDim, OfTheKeysOwnWidthChangesNothing) {
  const auto named = filled<TypeParam>({4, 2, 20, 20}, 100), plain = filled<TypeParam>({4, 2, 20}, 100);
  EXPECT_EQ(named.keys(), plain.keys());
  EXPECT_EQ(named.values(), plain.values());
  EXPECT_EQ(named.bytes(), plain.bytes());
}

template <class Format>
KvCache<Format> latent(const KvShape& shape, Index tokens, KvOptions options = {.window = 32, .longest_block = 96}) {
  options.values_in_keys = true;
  KvCache<Format> cache(shape, options);
  cache.append(gaussian(tokens, shape.kvWidth(), 1));
  return cache;
}

TYPED_TEST(KvValueDim, ValuesInTheKeysAreStoredOnce) {
  for (const Index values : {64, 60, 1, 0}) {
    for (const bool merge : {false, true}) {
      const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 64, .value_dim = values};
      auto cache = latent<TypeParam>(shape, 150, {.window = 32, .longest_block = 96, .merge = merge, .keep_first = 3});
      for (Index t = 0; t < 20; ++t) cache.append(gaussian(1, 128, 9));
      EXPECT_EQ(cache.values().middleCols(shape.valueDim(), shape.valueDim()),
                cache.keys().middleCols(64, shape.valueDim()));
      expectAttention(cache, {.sliding_window = 150}, PlainScores{}, 9);
      expectAttention(cache, {}, SoftCap{20});
      KvOptions apart = cache.options();
      apart.values_in_keys = false;
      EXPECT_LT(cache.bytes(), filled<TypeParam>({4, 2, 64}, 170, apart).bytes() * 55 / 100);
    }
  }
}

TYPED_TEST(KvValueDim, ValuesInTheKeysAreTakenBackAndForgottenWithThem) {
  const KvShape shape{.heads = 4, .kv_heads = 2, .head_dim = 64, .value_dim = 60};
  auto cache = latent<TypeParam>(shape, 150);
  cache.truncate(140);
  EXPECT_EQ(cache, latent<TypeParam>(shape, 140));
  auto forgets = latent<TypeParam>(shape, 150, {.window = 32, .longest_block = 32, .forget_beyond = 40});
  forgets.append(gaussian(1, 128, 9));
  EXPECT_EQ(forgets.forgotten(), 96);
  EXPECT_EQ(forgets.keys().topRows(54),
            latent<TypeParam>(shape, 150, {.window = 32, .longest_block = 32}).keys().bottomRows(54));
  expectAttention(forgets, {.sliding_window = 41}, PlainScores{}, 1);
}

TEST(KvValueDim, BitsAreThoseOfTheKeys) {
  const auto cache = latent<Float16>({.heads = 2, .kv_heads = 1, .head_dim = 24, .value_dim = 16}, 100);
  EXPECT_EQ(cache.bytes(), 100 * 24 * 2);
  EXPECT_EQ(cache.bitsPerElement(), 16.0);
  const auto apart = filled<Float16>({.heads = 2, .kv_heads = 1, .head_dim = 24, .value_dim = 16}, 100);
  EXPECT_EQ(apart.bytes(), 100 * 40 * 2);
  EXPECT_EQ(apart.bitsPerElement(), 16.0);
}

TEST(KvValueDim, OneTokenAsAColumn) {
  KvCache<Float16> cache({.heads = 1, .kv_heads = 1, .head_dim = 4, .value_dim = 1});
  cache.append(Eigen::VectorXf::Ones(4), Eigen::VectorXf::Constant(1, 3.f));
  EXPECT_EQ(cache.attend(Eigen::VectorXf::Ones(4))[0], 3.f);
  KvCache<Float16> keys({.heads = 1, .kv_heads = 1, .head_dim = 4, .value_dim = 2}, {.values_in_keys = true});
  keys.append(Eigen::Vector4f(1, 2, 3, 4));
  EXPECT_EQ(keys.attend(Eigen::VectorXf::Ones(4)), Eigen::Vector2f(1, 2));
}

TEST(KvValueDimErrors, Options) {
  expectThrows([] { KvCache<Float16> cache({.heads = 1, .kv_heads = 1, .head_dim = 4, .value_dim = -1}); },
               "KvShape: expected a value_dim of 0 to 8192, got -1");
  expectThrows([] { KvCache<Float16> cache({.heads = 1, .kv_heads = 1, .head_dim = 4, .value_dim = 8193}); },
               "KvShape: expected a value_dim of 0 to 8192, got 8193");
  expectThrows(
      [] {
        KvCache<Float16> cache({1, 1, 4, 5}, {.values_in_keys = true});
      },
      "KvOptions: values_in_keys needs a value_dim of at most head_dim = 4, got 5");
  using Two = KvCache<Float16, BFloat16>;
  expectThrows(
      [] {
        Two cache({1, 1, 4}, {.values_in_keys = true});
      },
      "KvOptions: values_in_keys needs one format for both, got KvCache<Float16, BFloat16>");
}

TEST(KvValueDimErrors, KeysAloneOrWithValues) {
  const RowMatrixXf k = gaussian(3, 4), v = gaussian(3, 2);
  KvCache<Float16> alone({1, 1, 4, 2}, {.values_in_keys = true}), both({1, 1, 4, 2});
  expectThrows([&] { alone.append(k, v); }, "KvCache::append: with values_in_keys the cache takes keys alone");
  expectThrows([&] { both.append(k); }, "KvCache::append: keys without values need KvOptions::values_in_keys");
  expectThrows([&] { both.append(k, k); },
               "KvCache::append: expected values of kv_heads * value_dim = 2 columns, got 3 x 4");
  expectThrows([&] { alone.append(v); },
               "KvCache::append: expected keys of kv_heads * head_dim = 4 columns, got 3 x 2");
  EXPECT_EQ(alone.size() + both.size(), 0);
  alone.append(k.topRows(0));
  EXPECT_EQ(alone.size(), 0);
  both.append(k, v);
  Eigen::VectorXf wrong(4);
  expectThrows([&] { both.attendTo(Eigen::VectorXf::Ones(4), wrong); },
               "KvCache::attendTo: expected an output of heads * value_dim = 2 numbers, got 4");
  RowMatrixXf wide(2, 4);
  expectThrows([&] { both.attendTo(k.topRows(2), wide); }, "KvCache::attendTo: expected an output of 2 x 2, got 2 x 4");
}

}  // namespace
}  // namespace gosset::value_dim_test
