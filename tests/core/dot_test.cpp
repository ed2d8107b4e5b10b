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

TEST(Dot, LookUpsReadTheirTables) {
  alignas(64) std::uint8_t table[256];
  float numbers[16];
  for (int i = 0; i < 256; ++i) table[i] = randomByte(3, i);
  for (int i = 0; i < 16; ++i) numbers[i] = static_cast<float>(randomByte(4, i));
  for (int base = 0; base < 256; ++base) {
    std::uint8_t index[simd::kByteLanes], nibble[simd::kByteLanes];
    for (int i = 0; i < simd::kByteLanes; ++i) {
      index[i] = static_cast<std::uint8_t>(base + 37 * i);
      nibble[i] = index[i] % 16;
    }
    const simd::Bytes found = simd::lookup16(table, simd::load<simd::Bytes>(nibble));
    for (int i = 0; i < simd::kByteLanes; ++i) ASSERT_EQ(found[i], table[nibble[i]]);
    simd::Words words;
    for (int i = 0; i < simd::kWordLanes; ++i) words[i] = nibble[i];
    const simd::Floats values = simd::lookup16(numbers, words);
    for (int i = 0; i < simd::kWordLanes; ++i) ASSERT_EQ(values[i], numbers[nibble[i]]);
    const simd::Bytes seven = simd::load<simd::Bytes>(index) & std::uint8_t{127};
    const simd::Bytes first = simd::lookup128(table, seven);
    const simd::Bytes least = simd::smaller(first, seven);
    for (int i = 0; i < simd::kByteLanes; ++i) {
      ASSERT_EQ(first[i], table[index[i] % 128]);
      ASSERT_EQ(least[i], std::min<int>(first[i], index[i] % 128));
    }
#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
    const simd::Bytes all = simd::lookup256(table, simd::load<simd::Bytes>(index));
    const simd::Bytes some = simd::lookup64(table, simd::load<simd::Bytes>(index));
    const simd::Bytes parity = simd::highParity<0x55>(simd::load<simd::Bytes>(index));
    for (int i = 0; i < simd::kByteLanes; ++i) {
      ASSERT_EQ(all[i], table[index[i]]);
      ASSERT_EQ(some[i], table[index[i] % 64]);
      ASSERT_EQ(parity[i], std::popcount(index[i] & 0x55u) % 2 != 0 ? 0x80 : 0);
    }
#endif
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
