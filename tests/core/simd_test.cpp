// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/simd.hpp>

#include <testing.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

namespace gosset::simd_test {
namespace {

template <class T>
class Simd : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, std::int32_t>;
TYPED_TEST_SUITE(Simd, Scalars);

TYPED_TEST(Simd, ARegisterIsFull) {
  using T = TypeParam;
  EXPECT_EQ(sizeof(simd::Vec<T>), static_cast<std::size_t>(simd::kVectorBytes));
  EXPECT_EQ(simd::kLanes<T> * static_cast<int>(sizeof(T)), simd::kVectorBytes);
  EXPECT_TRUE((std::is_same_v<simd::Vec<T, 1>, T>));
}

TYPED_TEST(Simd, LoadsAndStoresAtAnyAddress) {
  using T = TypeParam;
  constexpr int kN = simd::kLanes<T>;
  std::array<T, 3 * static_cast<std::size_t>(kN)> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<T>(i + 1);
  for (int offset = 0; offset < kN; ++offset) {
    std::array<T, 3 * static_cast<std::size_t>(kN)> copy{};
    simd::store(copy.data() + offset, simd::load<simd::Vec<T>>(numbers.data() + offset));
    for (int i = 0; i < 3 * kN; ++i) {
      const bool isInside = i >= offset && i < offset + kN;
      EXPECT_EQ(copy[static_cast<std::size_t>(i)], isInside ? static_cast<T>(i + 1) : T{0});
    }
  }
}

TYPED_TEST(Simd, SplatsAndOpaqueKeepTheNumber) {
  using T = TypeParam;
  const auto v = simd::splat<simd::Vec<T>>(T{7});
  for (int i = 0; i < simd::kLanes<T>; ++i) EXPECT_EQ(v[i], T{7});
  EXPECT_EQ(simd::opaque(T{5}), T{5});
}

TYPED_TEST(Simd, ExchangesLanes) {
  using T = TypeParam;
  constexpr int kN = simd::kLanes<T>;
  const auto v = simd::generate<T, kN>([](int i) { return static_cast<T>(10 * i); });
  const auto neighbours = simd::exchange<1, T, kN>(v);
  const auto halves = simd::exchange<kN / 2, T, kN>(v);
  for (int i = 0; i < kN; ++i) {
    EXPECT_EQ(v[i], static_cast<T>(10 * i));
    EXPECT_EQ(neighbours[i], static_cast<T>(10 * (i ^ 1)));
    EXPECT_EQ(halves[i], static_cast<T>(10 * ((i + kN / 2) % kN)));
  }
}

TYPED_TEST(Simd, Transposes) {
  using T = TypeParam;
  constexpr int kN = simd::kLanes<T>;
  simd::Vec<T> rows[kN];
  for (int i = 0; i < kN; ++i) {
    for (int j = 0; j < kN; ++j) rows[i][j] = static_cast<T>(100 * i + j);
  }
  simd::transpose(rows);
  for (int i = 0; i < kN; ++i) {
    for (int j = 0; j < kN; ++j) EXPECT_EQ(rows[i][j], static_cast<T>(100 * j + i));
  }
}

TEST(SimdFloat, SplatKeepsMinusZeroAndNan) {
  const auto zeros = simd::splat<simd::Vec<float>>(-0.f);
  const auto nans = simd::splat<simd::Vec<float>>(std::numeric_limits<float>::quiet_NaN());
  for (int i = 0; i < simd::kLanes<float>; ++i) {
    EXPECT_TRUE(std::signbit(zeros[i]));
    EXPECT_TRUE(std::isnan(nans[i]));
  }
}

TEST(SimdFloat, AnUnfusedProductIsRoundedBeforeItIsAdded) {
  const float x = simd::opaque(1 + 0x1p-12f);  // x^2 = 1 + 2^-11 + 2^-24, of which the last is rounded off
  EXPECT_EQ(simd::unfused(x * x) - (1 + 0x1p-11f), 0.f);
  const double y = simd::opaque(1 + 0x1p-27);
  EXPECT_EQ(simd::unfused(y * y) - (1 + 0x1p-26), 0.);
  const auto lanes = simd::splat<simd::Vec<float>>(x);
  const simd::Vec<float> rest = simd::unfused(lanes * lanes) - (1 + 0x1p-11f);
  for (int i = 0; i < simd::kLanes<float>; ++i) EXPECT_EQ(rest[i], 0.f);
}

TEST(SimdUnroll, CallsInOrder) {
  std::vector<int> calls;
  simd::unroll<5>([&](auto i) {
    static_assert(i >= 0 && i < 5);
    calls.push_back(i);
  });
  EXPECT_THAT(calls, ::testing::ElementsAre(0, 1, 2, 3, 4));
}

}  // namespace
}  // namespace gosset::simd_test
