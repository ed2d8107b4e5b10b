// SPDX-License-Identifier: Apache-2.0
// Attention with rounded queries and weights.
#include <gosset/codebook.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>
#include <gosset/kv/presets.hpp>

#include "kv/reference.hpp"
#include "testing.hpp"

namespace gosset::rounded_test {
namespace {

using testing::expectThrows;
using testing::filled;
using testing::gaussian;

constexpr AttendOptions kRounded{.activations = Activations::kRounded};

/// Where codes have up to 2 bits a number or are points of E8 one byte stands for queries and weights, else two.
template <class Format>
constexpr float tolerance() {
  if constexpr (requires { typename Format::Inner; }) {
    return tolerance<typename Format::Inner>();
  } else {
    return bitsOfCodes<typename Format::Codebook>() <= 2 || Format::Codebook::kDim == 8 ? 5e-2f : 5e-4f;
  }
}

template <class Format>
class KvRounded : public ::testing::Test {};
using Formats = ::testing::Types<Kivi<2, 32>, Kivi<4, 64>, Kivi<8, 32>, Gear<2, 32, 2, 40>, Incoherent<Kivi<4, 32>>,
                                 KvRotated<E8P, 2>, KvRotated<E8PRvq3, 2>>;
TYPED_TEST_SUITE(KvRounded, Formats);

TYPED_TEST(KvRounded, IsNearTheAttentionThatIsNot) {
  for (const bool merge : {false, true}) {
    const auto cache = filled<TypeParam>({4, 2, 64}, 417, {.window = 64, .longest_block = 128, .merge = merge});
    for (const Index queries : {1, 2, 8, 70}) {
      const RowMatrixXf q = 3 * gaussian(queries, 256, 5), exact = cache.attend(q), y = cache.attend(q, kRounded);
      EXPECT_LT((y - exact).norm(), tolerance<TypeParam>() * exact.norm()) << queries << " queries";
      EXPECT_EQ(y, cache.attend(q, kRounded));
      const RowMatrixXf one = cache.attend(q.bottomRows(1), kRounded);
      EXPECT_LT((y.bottomRows(1) - one).norm(), tolerance<TypeParam>() * one.norm());
    }
  }
}

TYPED_TEST(KvRounded, WithEveryOtherOption) {
  const auto cache = filled<TypeParam>({4, 2, 64}, 300, {.window = 64, .keep_first = 3});
  const std::vector<float> sinks = {1.f, 2.f, -1.f, 0.f};
  AttendOptions options{.scale = 0.3f, .sliding_window = 100, .sinks = sinks};
  const RowMatrixXf q = gaussian(3, 256, 5), exact = cache.attend(q, options, SoftCap{20});
  options.activations = Activations::kRounded;
  EXPECT_LT((cache.attend(q, options, SoftCap{20}) - exact).norm(), tolerance<TypeParam>() * exact.norm());
}

/// Queries and weights stay floats unless they are asked to be rounded.
TYPED_TEST(KvRounded, OnlyWhereItIsAskedFor) {
  const auto cache = filled<TypeParam>({4, 2, 64}, 200);
  testing::expectAttention(cache, {}, PlainScores{}, 30);
  testing::expectAttention(cache, {.activations = Activations::kFloat}, PlainScores{}, 1);
  const RowMatrixXf q = gaussian(3, 256, 5);
  EXPECT_NE(cache.attend(q, kRounded), cache.attend(q));
}

/// One byte adds little to what 2 bits have lost already.
TEST(KvRounded, AddsLittleToTheErrorOfTwoBits) {
  const KvShape shape{4, 2, 64};
  const auto packed = filled<Kivi<2, 64>>(shape, 1024);
  const auto exact = filled<float>(shape, 1024);
  const RowMatrixXf q = gaussian(8, 256, 5), expected = exact.attend(q), y = packed.attend(q);
  EXPECT_LT((packed.attend(q, kRounded) - expected).norm(), 1.01f * (y - expected).norm());
}

TEST(KvRounded, FloatsStayAsTheyAre) {
  const auto cache = filled<Float16>({4, 2, 64}, 300);
  const RowMatrixXf q = gaussian(3, 256, 5);
  EXPECT_EQ(cache.attend(q, kRounded), cache.attend(q));
}

TEST(KvRoundedErrors, PerToken) {
  const auto cache = filled<Float16>({4, 2, 64}, 30);
  expectThrows([&] { (void)cache.attend(gaussian(3, 256), {.activations = Activations::kRoundedPerToken}); },
               "AttendOptions: activations must be kFloat or kRounded, got kRoundedPerToken");
}

}  // namespace
}  // namespace gosset::rounded_test
