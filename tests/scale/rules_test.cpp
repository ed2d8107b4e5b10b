// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/rules.hpp>

#include "scalar_codebooks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace gosset::rules_test {
namespace {

using Group = std::vector<float>;

/// Numbers of magnitude c with these signs, by turns.
Group alternating(const std::vector<float>& signs, float c, Index size) {
  Group x;
  for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) x.push_back(signs[i * 7 % signs.size()] * c);
  return x;
}

template <ScalarCodebook C>
void expectExact(const Group& x, Affine a) {
  for (const float value : x) {
    float y;
    decode<C>(encode<C>(&value, a), a, &y);
    ASSERT_EQ(y, value) << "of " << x.size() << ": scale " << a.scale << ", zero " << a.zero;
  }
}

template <ScalarCodebook C, class T>
void expectExactUnderEachRule(const Group& x) {
  expectExact<C>(x, fitAffine<C, T>(PublishedRule{}, x));
  expectExact<C>(x, fitAffine<C, T>(Percentile{100}, x));
}

/// -4 .. 3, the lowest level without a match.
struct Lopsided {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 3, kLevels = 8;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;
  static Code encode(float x) { return static_cast<Code>(std::clamp(std::nearbyint(x), -4.f, 3.f) + 4); }
  static constexpr float level(Code q) { return static_cast<float>(q) - 4; }
  static std::string name() { return "Lopsided"; }
};

/// Of eleven numbers the one at 90% is the last but one, 3, and the one at 10% is 0.
TEST(Rules, APercentileOfZeroAtOneEndClipsTheOther) {
  const float x[] = {0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 100};
  EXPECT_EQ((fitAffine<Asymmetric<2>, float>(Percentile{90}, x)), (Affine{1, 0}));
  const float negative[] = {0, 0, 0, 0, 0, 0, -1, -2, -3, -3, -100};
  EXPECT_EQ((fitAffine<Asymmetric<2>, float>(Percentile{90}, negative)), (Affine{1, 3}));
}

TEST(Rules, LevelsThatGoFartherDownThanUp) {
  static_assert(detail::largestLevel<Lopsided>() == 4);
  const float rising[] = {-1, 0.5f, 2};
  EXPECT_EQ((fitAffine<Lopsided, float>(PublishedRule{}, rising)), (Affine{0.5f, 0}));
  // One magnitude: the lowest level alone takes -2 but not 2.
  for (const Group& x : {Group{-2, -2}, Group{2}, Group{-2, 2}, Group{-2, 0, 2}})
    expectExactUnderEachRule<Lopsided, float>(x);
}

template <class C>
class Rules : public ::testing::Test {};
TYPED_TEST_SUITE(Rules, testing::ScalarCodebooks, testing::CodebookName);

TYPED_TEST(Rules, NumbersOfOneMagnitudeComeBackExactly) {
  const auto levels = testing::levelsOf<TypeParam>();
  const bool holds_zero = std::count(levels.begin(), levels.end(), 0.0) > 0;
  const bool holds_three = TypeParam::kHasZero ? TypeParam::kLevels > 2 : holds_zero;
  for (const float c : {1.f, 0.75f, 0.0234375f, 0x1p-14f, 1234.f}) {
    for (const Index size : testing::kOddSizes) {
      for (const float sign : {1.f, -1.f}) {
        expectExactUnderEachRule<TypeParam, Float16>(alternating({sign}, c, size));
        if (holds_three) expectExactUnderEachRule<TypeParam, Float16>(alternating({sign, 0, -0.f}, c, size));
      }
      expectExactUnderEachRule<TypeParam, Float16>(alternating({1, -1}, c, size));
      if (holds_three) expectExactUnderEachRule<TypeParam, Float16>(alternating({1, -1, 0}, c, size));
    }
  }
  for (const float c : {0.1f, 1e30f, 3e-39f, 0x1p-149f}) {  // in floats anything but the largest
    expectExactUnderEachRule<TypeParam, float>(alternating({1}, c, 9));
    if (holds_three) expectExactUnderEachRule<TypeParam, float>(alternating({1, -1, 0}, c, 65));
  }
}

TYPED_TEST(Rules, AnotherMagnitudeEndsTheException) {
  Group x = alternating({1, -1}, 1, 64);
  x[63] = 0.5f;
  const Affine a = fitAffine<TypeParam, float>(PublishedRule{}, x);
  if constexpr (TypeParam::kRule == ScaleRule::kMeanMagnitude) {
    EXPECT_EQ(a.scale, 63.5f / 64);
  } else if constexpr (TypeParam::kRule == ScaleRule::kAbsMax) {
    EXPECT_GE(a.scale, 1 / detail::largestLevel<TypeParam>());
    EXPECT_LE(a.scale, 1.0001f / detail::largestLevel<TypeParam>());
  } else if constexpr (TypeParam::kRule == ScaleRule::kRootMeanSquare) {
    EXPECT_FLOAT_EQ(a.scale, std::sqrt(63.25f / 64) * TypeParam::kGaussianScale);
  } else {
    EXPECT_NEAR(a.scale, 2.f / static_cast<float>(TypeParam::kLevels - 1), 1e-6);
  }
}

TEST(Rules, TernaryScalesByHand) {
  const Group ternary = {0.5f, 0, -0.5f, 0, -0.f, 0, 0.5f}, signs = {-3, 3, 3};
  EXPECT_EQ((fitAffine<Ternary, Float16>(PublishedRule{}, ternary)), (Affine{0.5f, 0}));
  EXPECT_EQ((fitAffine<Trits5, Float16>(PublishedRule{}, ternary)), (Affine{0.5f, 0}));
  EXPECT_EQ((fitAffine<Asymmetric<2>, Float16>(PublishedRule{}, ternary)), (Affine{0.5f, 1}));
  EXPECT_EQ((fitAffine<NormalFloat4, Float16>(PublishedRule{}, ternary)), (Affine{0.5f, 0}));
  EXPECT_EQ((fitAffine<Binary, Float16>(PublishedRule{}, signs)), (Affine{3, 0}));
  EXPECT_EQ((fitAffine<LloydMax<2>, Float16>(PublishedRule{}, signs)), (Affine{3, 0}));
  // Binary has no 0: the mean magnitude stays.
  EXPECT_EQ((fitAffine<Binary, float>(PublishedRule{}, ternary)).scale, static_cast<float>(1.5 / 7));
}

TEST(Rules, OtherLatticesAreNotLookedFor) {
  const Group x = {-3, 1, 2, 0, 3};
  EXPECT_NEAR((fitAffine<Symmetric<4>, float>(PublishedRule{}, x)).scale, 3.f / 7, 1e-6);
}

TEST(Rules, ATernaryGroupOutOfStorageRangeStaysFinite) {
  const Group x = {1e30f, 0, -1e30f};
  const Affine a = fitAffine<Ternary, Float16>(PublishedRule{}, x);
  EXPECT_EQ(a.scale, 65504.f);
  EXPECT_EQ((fitAffine<Ternary, Float16>(PublishedRule{}, Group{1e-30f, 0})), Affine{});
}

TEST(Rules, NumbersFarBelowTheLeastScaleBecomeZero) {
  const Group x = {-0x1p-27f, 0x1.8p-28f, 0x1p-30f, -0x1p-29f};  // 2^-24 is the least scale
  EXPECT_EQ((fitAffine<Asymmetric<4>, Float16>(PublishedRule{}, x)), (Affine{0x1p-24f, 8}));
  EXPECT_EQ((fitAffine<Asymmetric<1>, Float16>(PublishedRule{}, x)), (Affine{0x1p-24f, 1}));
  for (const float value : x) {
    EXPECT_EQ((detail::decoded<Asymmetric<4>>(value, {0x1p-24f, 8})), 0);
    EXPECT_EQ((detail::decoded<Asymmetric<1>>(value, {0x1p-24f, 1})), 0);
  }
}

TYPED_TEST(Rules, WhatComesBackIsNoMoreWrongThanLarge) {
  for (int exponent = -40; exponent < -10; ++exponent) {
    Group x;
    for (const float value : {-1.f, 0.3f, 0.7f, -0.2f, 0.9f}) x.push_back(std::ldexp(value, exponent));
    const Affine a = fitAffine<TypeParam, Float16>(PublishedRule{}, x);
    for (const float value : x) {
      EXPECT_LE(std::abs(detail::decoded<TypeParam>(value, a) - value), std::ldexp(1.f, exponent)) << exponent;
    }
  }
}

TEST(Rules, Trits5TakesTheScalesOfTernary) {
  for (const Index n : testing::kOddSizes) {
    const RowMatrixXf w = testing::gaussian(1, n);
    const Group x(w.data(), w.data() + n);
    EXPECT_EQ((fitAffine<Trits5, Float16>(PublishedRule{}, x)), (fitAffine<Ternary, Float16>(PublishedRule{}, x)));
    EXPECT_EQ((fitAffine<Trits5, float>(Percentile{90}, x)), (fitAffine<Ternary, float>(Percentile{90}, x)));
  }
}

}  // namespace
}  // namespace gosset::rules_test
