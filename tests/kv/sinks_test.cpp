// SPDX-License-Identifier: Apache-2.0
// Learned logits that take a part of the softmax and have no value.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include <limits>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::sinks_test {
namespace {

using testing::expectAttention;
using testing::expectThrows;
using testing::filled;
using testing::gaussian;

constexpr KvShape kShape{.heads = 4, .kv_heads = 2, .head_dim = 16};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(KvSinks, TakeTheirShare) {
  // One token: its weight is 1 / (1 + e^(sink - score)).
  KvCache<Float16> cache({.heads = 2, .kv_heads = 1, .head_dim = 2});
  cache.append(Eigen::RowVector2f(1, 0), Eigen::RowVector2f(8, -4));
  const Eigen::Vector2f sinks(2.f, 3.f + std::log(3.f));
  const Eigen::VectorXf q = Eigen::Vector4f(2, 7, 3, 7);
  const Eigen::VectorXf y = cache.attend(q, {.scale = 1.f, .sinks = sinks});
  EXPECT_LT((y - Eigen::Vector4f(4, -2, 2, -1)).norm(), 1e-5f);
}

TEST(KvSinks, ByTheDefinition) {
  const auto cache = filled<Kivi<4, 32>>(kShape, 200);
  const std::vector<float> sinks = {0.f, 5.f, -3.f, 60.f};
  expectAttention(cache, {.sinks = sinks});
  expectAttention(cache, {.scale = 3.f, .sliding_window = 70, .sinks = sinks}, SoftCap{5});
  expectAttention(filled<Incoherent<Kivi<4, 32>>>(kShape, 200), {.sinks = sinks}, Alibi(4));
  expectAttention(filled<Float16>(kShape, 20), {.sinks = sinks});
}

TEST(KvSinks, OfAnyMagnitude) {
  const auto cache = filled<Float16>(kShape, 100);
  const Eigen::VectorXf q = gaussian(64, 1, 3);
  const Eigen::VectorXf none = cache.attend(q);
  EXPECT_EQ(cache.attend(q, {.sinks = Eigen::VectorXf(Eigen::VectorXf::Constant(4, -kInfinity))}), none);
  EXPECT_EQ(cache.attend(q, {.sinks = Eigen::VectorXf(Eigen::VectorXf::Constant(4, -3e38f))}), none);
  EXPECT_TRUE(cache.attend(q, {.sinks = Eigen::VectorXf(Eigen::VectorXf::Constant(4, 3e38f))}).isZero(0));
  // Scores that are larger still, once they have their exponent.
  const Eigen::VectorXf large = Eigen::VectorXf::Constant(4, 1e30f);
  EXPECT_EQ(cache.attend(q * 1e32f, {.sinks = large}), cache.attend(q * 1e32f));
}

TEST(KvSinks, AQueryThatSeesNothingIsZero) {
  const auto cache = filled<Float16>(kShape, 100);
  const Eigen::VectorXf sinks = Eigen::VectorXf::Zero(4);
  const auto hidden = [](float, Index, Index, Index) { return -kInfinity; };
  EXPECT_TRUE(cache.attend(gaussian(1, 64), {.sinks = sinks}, hidden).isZero(0));
}

TEST(KvSinksErrors, NumbersAndSizes) {
  const auto cache = filled<Float16>(kShape, 10);
  const Eigen::VectorXf q = Eigen::VectorXf::Ones(64);
  Eigen::VectorXf sinks = Eigen::VectorXf::Zero(3);
  expectThrows([&] { (void)cache.attend(q, {.sinks = sinks}); },
               "AttendOptions: expected sinks for the 4 query heads, got 3");
  sinks.setZero(4);
  for (const float bad : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    sinks[2] = bad;
    expectThrows([&] { (void)cache.attend(q, {.sinks = sinks}); },
                 "AttendOptions: expected sinks that are finite or -infinity, got ");
    expectThrows([&] { (void)cache.attend(q, {.sinks = sinks}); }, " for head 2");
  }
  sinks.setZero(4);
  const auto nan = [](float, Index, Index, Index) { return std::numeric_limits<float>::quiet_NaN(); };
  expectThrows([&] { (void)cache.attend(q, {.sinks = sinks}, nan); }, "got NaN or +infinity for head 0");
}

}  // namespace
}  // namespace gosset::sinks_test
