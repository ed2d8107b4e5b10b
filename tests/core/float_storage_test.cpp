// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/float_storage.hpp>

#include "testing.hpp"

namespace gosset::float_storage_test {
namespace {

template <class T>
class FloatStorage : public ::testing::Test {};
using SixteenBits = ::testing::Types<Float16, BFloat16>;
TYPED_TEST_SUITE(FloatStorage, SixteenBits);

template <class T>
float fromBits(std::uint32_t bits) {
  return static_cast<float>(std::bit_cast<T>(static_cast<std::uint16_t>(bits)));
}

template <class T>
std::uint32_t bitsOf(T x) {
  return std::bit_cast<std::uint16_t>(x);
}

/// Calls check(bits, x) for every positive finite T and 0, in rising order.
template <class T, class Check>
void forEach(const Check& check) {
  for (std::uint32_t bits = 0; bits < 0x8000; ++bits) {
    const float x = fromBits<T>(bits);
    if (x > StorageTraits<T>::kMax) break;
    check(bits, x);
  }
}

TYPED_TEST(FloatStorage, WhatItHoldsComesBack) {
  forEach<TypeParam>([](std::uint32_t bits, float x) {
    ASSERT_EQ(bitsOf(storeNearest<TypeParam>(x)), bits) << x;
    ASSERT_EQ(bitsOf(storeNearest<TypeParam>(-x)), bits | 0x8000) << x;
    ASSERT_EQ(bitsOf(storeUp<TypeParam>(x)), bits) << x;
  });
}

TYPED_TEST(FloatStorage, BetweenTwoNeighboursTheNearestAndTheUpper) {
  forEach<TypeParam>([](std::uint32_t bits, float x) {
    const float next = fromBits<TypeParam>(bits + 1);
    if (!(next <= StorageTraits<TypeParam>::kMax)) return;
    const float middle = x + (next - x) / 2;  // exact: T has fewer bits than float
    ASSERT_EQ(bitsOf(storeNearest<TypeParam>(middle)), bits + bits % 2) << "a tie goes to the even neighbour, " << x;
    ASSERT_EQ(bitsOf(storeNearest<TypeParam>(std::nextafter(middle, 0.f))), bits) << x;
    ASSERT_EQ(bitsOf(storeNearest<TypeParam>(std::nextafter(middle, next))), bits + 1) << x;
    for (const float above : {std::nextafter(x, next), middle, std::nextafter(next, 0.f)}) {
      ASSERT_EQ(bitsOf(storeUp<TypeParam>(above)), bits + 1) << x;
    }
  });
}

TYPED_TEST(FloatStorage, BeyondTheEndsTheLargest) {
  const float largest = StorageTraits<TypeParam>::kMax;
  for (const float x : {std::nextafter(largest, std::numeric_limits<float>::max()), largest * 1.0001f,
                        std::numeric_limits<float>::max()}) {
    EXPECT_EQ(static_cast<float>(storeNearest<TypeParam>(x)), largest);
    EXPECT_EQ(static_cast<float>(storeNearest<TypeParam>(-x)), -largest);
    EXPECT_EQ(static_cast<float>(storeUp<TypeParam>(x)), largest);
  }
}

TYPED_TEST(FloatStorage, TheLeastPositiveFloatIsCovered) {
  EXPECT_EQ(bitsOf(storeNearest<TypeParam>(0x1p-149f)), 0u);
  EXPECT_EQ(bitsOf(storeUp<TypeParam>(0x1p-149f)), 1u);
  EXPECT_EQ(static_cast<float>(storeUp<TypeParam>(-0.f)), 0.f);
}

TEST(FloatStorage32, FloatsStayThemselves) {
  for (const float x : {0.f, 0x1p-149f, 0x1.fffffep-127f, 1.1f, std::numeric_limits<float>::max()}) {
    EXPECT_EQ(storeNearest<float>(x), x);
    EXPECT_EQ(storeNearest<float>(-x), -x);
    EXPECT_EQ(storeUp<float>(x), x);
  }
}

TEST(FloatStorage32, TheConstantsAreRight) {
  EXPECT_EQ(StorageTraits<Float16>::kMax, 65504.f);
  EXPECT_EQ(StorageTraits<Float16>::kMax, fromBits<Float16>(0x7bff));
  EXPECT_EQ(StorageTraits<BFloat16>::kMax, fromBits<BFloat16>(0x7f7f));
  EXPECT_EQ(StorageTraits<Float16>::name(), "Float16");
  EXPECT_EQ(StorageTraits<BFloat16>::name(), "BFloat16");
  EXPECT_EQ(StorageTraits<float>::name(), "float");
}

}  // namespace
}  // namespace gosset::float_storage_test
