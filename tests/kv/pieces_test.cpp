// SPDX-License-Identifier: Apache-2.0
// Long caches, which threads attend to in pieces.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>

#include <limits>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::pieces_test {
namespace {

using testing::expectAttention;
using testing::expectThrows;
using testing::filled;
using testing::gaussian;

constexpr KvShape kShape{.heads = 2, .kv_heads = 1, .head_dim = 8};

TEST(KvPieces, ByTheDefinition) {
  for (const Index tokens : {4095, 4096, 4097, 9000}) {
    const auto cache = filled<Kivi<4, 32>>(kShape, tokens, {.keep_first = 5});
    for (const Index queries : {1, 8, 9}) {
      SCOPED_TRACE(::testing::Message() << tokens << " tokens, " << queries << " queries");
      expectAttention(cache, {}, PlainScores{}, queries);
      expectAttention(cache, {.sliding_window = 5000}, Alibi(2), queries);
      expectAttention(cache, {.sliding_window = 4500}, PlainScores{}, queries);  // over two pieces, not the first
      expectAttention(cache, {.sliding_window = 100}, PlainScores{}, queries);
    }
    const std::vector<float> sinks = {3.f, 9.f};
    expectAttention(cache, {.sinks = sinks}, PlainScores{}, 1);
  }
}

TEST(KvPieces, TheSameBitsForAnyNumberOfThreads) {
  const auto cache = filled<Incoherent<Kivi<4, 32>>>({4, 2, 16}, 13000);
  const int before = Eigen::nbThreads();
  for (const Index queries : {1, 3, 20}) {
    const RowMatrixXf q = gaussian(queries, 64, 5);
    Eigen::setNbThreads(1);
    const RowMatrixXf y = cache.attend(q), seen = cache.attend(q, {.sliding_window = 9000});
    for (const int threads : {2, 3, 7}) {
      Eigen::setNbThreads(threads);
      EXPECT_EQ(cache.attend(q), y) << threads;
      EXPECT_EQ(cache.attend(q, {.sliding_window = 9000}), seen) << threads;
    }
  }
  Eigen::setNbThreads(before);
}

TEST(KvPieces, WhatIsForgottenChangesNothing) {
  KvCache<Kivi<4, 32>> keeps(kShape), forgets(kShape, {.forget_beyond = 5000});
  for (std::uint64_t i = 0; i < 14; ++i) {
    const RowMatrixXf k = gaussian(1000, 8, i), v = gaussian(1000, 8, i + 50);
    keeps.append(k, v);
    forgets.append(k, v);
  }
  ASSERT_GT(forgets.forgotten(), 7000);
  const RowMatrixXf q = gaussian(1, 16, 5);
  EXPECT_EQ(forgets.attend(q, {.sliding_window = 5000}), keeps.attend(q, {.sliding_window = 5000}));
}

TEST(KvPiecesErrors, ScoresWithoutASoftmaxInAnyPiece) {
  const auto cache = filled<Kivi<4, 32>>(kShape, 9000);
  const RowMatrixXf q = gaussian(2, 16, 5);
  for (const Index key : {0, 4095, 4096, 8998}) {
    const auto nan = [&](float s, Index head, Index, Index k) {
      return head == 1 && k == key ? std::numeric_limits<float>::quiet_NaN() : s;
    };
    expectThrows(
        [&] { (void)cache.attend(q, {}, nan); },
        "expected scores that are numbers or -infinity, got NaN or +infinity for head 1 and the query of token "
        "8998");
  }
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const auto only = [](float s, Index, Index, Index k) { return k == 4099 ? s : kHidden; };
  EXPECT_LT((cache.attend(q.row(0), {}, only).head(8).transpose() - cache.values().row(4099)).norm(), 1e-6f);
  EXPECT_TRUE(cache.attend(q, {}, [](float, Index, Index, Index) { return kHidden; }).isZero(0));
}

}  // namespace
}  // namespace gosset::pieces_test
