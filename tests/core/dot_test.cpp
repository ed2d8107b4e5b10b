// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/dot.hpp>

#include <gosset/kernel/definition.hpp>

#include "testing.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

namespace gosset::dot_test {
namespace {

std::uint8_t randomByte(std::uint64_t seed, int i) {
  return static_cast<std::uint8_t>(randomBits(seed, static_cast<std::uint64_t>(i)) >> 32);
}

template <bool kSmall>
void checkDot(const std::uint8_t* w, const std::int8_t* x) {
  std::int32_t four, start[simd::kWordLanes], result[simd::kWordLanes];
  std::memcpy(&four, x, 4);
  for (int lane = 0; lane < simd::kWordLanes; ++lane) start[lane] = 1000 * lane - 7;
  const auto sum = simd::dot<kSmall>(simd::load<simd::Ints>(start), simd::load<simd::Bytes>(w), four);
  simd::store(result, sum);
  for (int lane = 0; lane < simd::kWordLanes; ++lane) {
    ASSERT_EQ(result[lane], detail::dotDefinition(start[lane], w + 4 * lane, x)) << "lane " << lane;
  }
}

TEST(Dot, IsTheSumOfFourProductsInEachLane) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::uint8_t w[simd::kByteLanes], small[simd::kByteLanes];
    for (int i = 0; i < simd::kByteLanes; ++i) {
      w[i] = randomByte(seed, i);
      small[i] = w[i] & 0x7f;
    }
    std::int8_t x[4];
    for (int k = 0; k < 4; ++k) x[k] = static_cast<std::int8_t>(randomByte(seed, 1000 + k));
    checkDot<false>(w, x);
    checkDot<true>(small, x);
  }
}

TEST(Dot, DoesNotSaturate) {
  std::uint8_t w[simd::kByteLanes];
  for (const int byte : {127, 128, 255}) {
    std::fill_n(w, simd::kByteLanes, static_cast<std::uint8_t>(byte));
    for (const int number : {-128, -127, 127}) {
      const auto q = static_cast<std::int8_t>(number);
      const std::int8_t x[4] = {q, q, q, q};
      checkDot<false>(w, x);
      if (byte == 127) checkDot<true>(w, x);
    }
  }
}

TEST(Dot, CenteredIsTheSumOfWhatExceeds128) {
  std::uint8_t w[simd::kByteLanes];
  std::int8_t x[simd::kByteLanes];
  std::int32_t result[simd::kWordLanes];
  for (int w_byte = 0; w_byte < 256; ++w_byte) {
    for (const int first : {-127, -3, 0, 1, 100, 127}) {
      for (int i = 0; i < simd::kByteLanes; ++i) {
        w[i] = static_cast<std::uint8_t>(w_byte + (i & 4) * i);
        x[i] = static_cast<std::int8_t>(i % 5 < 3 ? first : -first);
      }
      const auto four = simd::load<simd::Ints>(reinterpret_cast<const std::int32_t*>(x));
      simd::store(result, simd::dotCentered(simd::splat<simd::Ints>(11), simd::load<simd::Bytes>(w), four));
      for (int lane = 0; lane < simd::kWordLanes; ++lane) {
        std::int32_t expected = 11;
        for (int k = 4 * lane; k < 4 * lane + 4; ++k) expected += (w[k] - 128) * x[k];
        ASSERT_EQ(result[lane], expected) << w_byte << ", " << first << ", lane " << lane;
      }
    }
  }
}

TEST(Dot, SelectTakesBitsByMask) {
  const auto mask = simd::splat<simd::Words>(0x0ff033ccu), a = simd::splat<simd::Words>(0x12345678u),
             b = simd::splat<simd::Words>(0xfedcba98u);
  const simd::Words result = simd::select(mask, a, b);
  for (int lane = 0; lane < simd::kWordLanes; ++lane) {
    EXPECT_EQ(result[lane], (0x12345678u & 0x0ff033ccu) | (0xfedcba98u & ~0x0ff033ccu));
  }
}

TEST(Dot, OverLanes) {
  simd::Ints v;
  int sum = 0;
  for (int lane = 0; lane < simd::kWordLanes; ++lane) sum += v[lane] = lane * lane - 7 * lane;
  EXPECT_EQ(simd::overLanes(v, [](auto a, auto b) { return a + b; }), sum);
  EXPECT_EQ(simd::overLanes(v, [](auto a, auto b) { return a > b ? a : b; }),
            std::max(0, (simd::kWordLanes - 1) * (simd::kWordLanes - 8)));
}

TEST(Dot, SmallerTakesBytesWithoutSign) {
  std::uint8_t a[simd::kByteLanes], b[simd::kByteLanes];
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    for (int i = 0; i < simd::kByteLanes; ++i) a[i] = randomByte(seed, i), b[i] = randomByte(seed + 1000, i);
    const simd::Bytes least = simd::smaller(simd::load<simd::Bytes>(a), simd::load<simd::Bytes>(b));
    for (int i = 0; i < simd::kByteLanes; ++i) ASSERT_EQ(least[i], std::min(a[i], b[i]));
  }
}

template <class T>
void checkWiden() {
  for (unsigned first = 0; first < 65536; first += simd::kWordLanes) {
    T stored[simd::kWordLanes];
    for (int i = 0; i < simd::kWordLanes; ++i) {
      stored[i] = std::bit_cast<T>(static_cast<std::uint16_t>(first + static_cast<unsigned>(i)));
    }
    const simd::Floats values = simd::widen(stored);
    for (int i = 0; i < simd::kWordLanes; ++i) {
      const auto expected = static_cast<float>(stored[i]);
      if (expected != expected) {
        ASSERT_NE(values[i], values[i]);
      } else {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(float{values[i]}), std::bit_cast<std::uint32_t>(expected));
      }
    }
  }
}

TEST(Dot, WidenTakesEveryHalf) {
  checkWiden<Float16>();
  checkWiden<BFloat16>();
}

TEST(SumInHalves, HasOneOrderWhateverARegisterHolds) {
  constexpr int kNumbers = 64;
  float numbers[kNumbers];
  for (int i = 0; i < kNumbers; ++i) numbers[i] = static_cast<float>(testing::normal(7, static_cast<std::uint64_t>(i)));
  simd::Floats registers[kNumbers / simd::kWordLanes];
  std::memcpy(registers, numbers, sizeof(numbers));
  const float sum = simd::sumInHalves<kNumbers / simd::kWordLanes>(registers);
  for (int half = kNumbers / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) numbers[i] += numbers[i + half];
  }
  EXPECT_EQ(sum, numbers[0]);
}

TEST(MultiplyAdd, RoundsTwiceUnlessFusedIsAskedFor) {
  const float a = simd::opaque(1 + 0x1p-12f), twice = 0x1p-11f, once = 0x1p-11f + 0x1p-24f;
  const simd::Floats v = simd::splat<simd::Floats>(a), minus_one = simd::splat<simd::Floats>(simd::opaque(-1.f));
  EXPECT_EQ(simd::multiplyAdd(v, v, minus_one)[0], twice);
  EXPECT_EQ(simd::fusedMultiplyAdd(v, v, minus_one)[simd::kWordLanes - 1], simd::kHasFma ? once : twice);
  EXPECT_EQ(simd::fusedMultiplyAdd(a, a, minus_one[0]), simd::kHasFma ? once : twice);
}

}  // namespace
}  // namespace gosset::dot_test
