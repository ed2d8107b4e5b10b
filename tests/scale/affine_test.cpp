// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/affine.hpp>

#include "scalar_codebooks.hpp"

#include <algorithm>
#include <vector>

namespace gosset::affine_test {
namespace {

TEST(Affine, ValueIsScaleTimesLevelMinusZero) {
  float y;
  decode<Asymmetric<4>>(9, {0.5f, 3.25f}, &y);
  EXPECT_EQ(y, 0.5f * (9 - 3.25f));
  decode<Symmetric<4>>(9, {0.5f, 0}, &y);
  EXPECT_EQ(y, 1.f);
  const float x = 2.8f;
  EXPECT_EQ((encode<Asymmetric<4>>(&x, {0.5f, 3.25f})), 9);  // 5.6 + 3.25 = 8.85
  EXPECT_EQ((encode<Symmetric<4>>(&x, {0.5f, 0})), 13);      // 5.6 -> 6, + 7
}

template <class C>
class AffineTest : public ::testing::Test {};
TYPED_TEST_SUITE(AffineTest, testing::ScalarCodebooks, testing::CodebookName);

TYPED_TEST(AffineTest, AScaleOfZeroMakesEverythingZero) {
  for (const float x : {0.f, -0.f, 1.f, -3e38f, 0x1p-149f}) {
    float y = 1;
    const Affine nothing{0, 2.5f};
    decode<TypeParam>(encode<TypeParam>(&x, nothing), nothing, &y);
    EXPECT_EQ(y, 0.f);
    EXPECT_EQ(encode<TypeParam>(&x, {}), TypeParam::encode(x)) << "the code is that of the number itself: " << x;
  }
}

TEST(Affine, CodesOfZerosUnderAScaleOfZero) {
  const float zeros[8] = {};
  EXPECT_EQ(encode<Symmetric<4>>(zeros, {}), 7);
  EXPECT_EQ((encode<Asymmetric<4>>(zeros, {0, 5})), 5);
  EXPECT_EQ(encode<Ternary>(zeros, {}), 1);
}

TYPED_TEST(AffineTest, RunsAreTheSameAsOneByOne) {
  const Affine a{0.37f, TypeParam::kHasZero ? 1.125f : 0.f};
  for (const Index count : testing::kOddSizes) {
    const RowMatrixXf x = testing::gaussian(1, count);
    std::vector<typename TypeParam::Code> codes(static_cast<std::size_t>(count));
    std::vector<float> values(codes.size());
    encodeRun<TypeParam>(x.data(), count, a, codes.data());
    decodeRun<TypeParam>(codes.data(), count, a, values.data());
    for (std::size_t i = 0; i < codes.size(); ++i) {
      float value;
      ASSERT_EQ(codes[i], encode<TypeParam>(x.data() + i, a));
      decode<TypeParam>(codes[i], a, &value);
      ASSERT_EQ(values[i], value);
    }
  }
}

/// Codebooks that encode many blocks at a time do so in pieces.
TEST(Affine, RunsOfBlocksAreTheSameAsOneByOne) {
  const auto check = []<VectorCodebook C>(C) {
    const Affine a{0.37f, 0};
    for (const Index count : {1, 64, 65, 150}) {
      const RowMatrixXf x = testing::gaussian(1, count * C::kDim);
      std::vector<typename C::Code> codes(static_cast<std::size_t>(count));
      std::vector<float> values(static_cast<std::size_t>(x.size()));
      encodeRun<C>(x.data(), count, a, codes.data());
      decodeRun<C>(codes.data(), count, a, values.data());
      for (Index i = 0; i < count; ++i) {
        const auto code = codes[static_cast<std::size_t>(i)];
        EXPECT_EQ(code, encode<C>(x.data() + i * C::kDim, a)) << C::name() << ", " << i << " of " << count;
        float block[C::kDim];
        decode<C>(code, a, block);
        EXPECT_TRUE(std::equal(block, block + C::kDim, values.data() + i * C::kDim)) << C::name() << ", " << i;
      }
    }
  };
  check(E8P{});
  check(E81B{});
  check(Trits5{});
}

}  // namespace
}  // namespace gosset::affine_test
