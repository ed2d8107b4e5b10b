// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/shuffle.hpp>

#include "testing.hpp"

#include <algorithm>
#include <memory>

namespace gosset::shuffle_test {
namespace {

using simd::Bytes;
using simd::Halves;
using simd::kByteLanes;

Bytes randomBytes(std::uint64_t seed) {
  Bytes bytes;
  for (int i = 0; i < kByteLanes; ++i) {
    bytes[i] = static_cast<std::uint8_t>(randomBits(seed, static_cast<std::uint64_t>(i)));
  }
  return bytes;
}

TEST(Shuffle, TakesBytesOfTheSameSixteen) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Bytes v = randomBytes(seed), index = randomBytes(seed + 1000) & std::uint8_t{15};
    const Bytes shuffled = simd::shuffle16(v, index);
    for (int i = 0; i < kByteLanes; ++i) ASSERT_EQ(shuffled[i], v[i / 16 * 16 + index[i]]) << seed << ' ' << i;
  }
}

/// From an array that ends with the last byte read, for the address sanitizer to watch.
TEST(Shuffle, LoadsSixteensFromWhereTheyBegin) {
  constexpr int kParts = kByteLanes / 16;
  const std::uint8_t begins[][4] = {{0, 0, 0, 0}, {0, 2, 4, 6}, {1, 17, 3, 255}, {36, 24, 12, 0}, {255, 254, 253, 252}};
  for (const auto& begin : begins) {
    const int most = *std::max_element(begin, begin + kParts);
    const auto memory = std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(most + 16));
    for (int i = 0; i < most + 16; ++i)
      memory[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(7 * i + i / 256);
    const Bytes loaded = simd::loadSixteens(memory.get(), begin);
    for (int i = 0; i < kByteLanes; ++i) ASSERT_EQ(loaded[i], memory[static_cast<std::size_t>(begin[i / 16] + i % 16)]);
  }
}

/// Powers of two from 2^0 to 2^15, over random bits, all of which are set in the first.
TEST(Shuffle, TakesBytesOfProducts) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Halves numbers[2], factors[2];
    for (int k = 0; k < 2; ++k) {
      for (int i = 0; i < kByteLanes / 2; ++i) {
        const auto at = static_cast<std::uint64_t>(2 * i + k);
        numbers[k][i] = static_cast<std::uint16_t>(seed == 0 ? ~std::uint64_t{0} : randomBits(seed, at));
        factors[k][i] = static_cast<std::uint16_t>(seed % 2 == 0 ? 1u << randomBits(seed + 99, at) % 16
                                                                 : randomBits(seed + 99, at));
      }
    }
    const Bytes bytes = simd::bytesOfProducts(numbers[0], factors[0], numbers[1], factors[1]);
    for (int i = 0; i < kByteLanes; ++i) {
      const std::uint32_t product = std::uint32_t{numbers[i % 2][i / 2]} * factors[i % 2][i / 2];
      ASSERT_EQ(bytes[i], (i % 2 == 0 ? product >> 16 : product >> 8) & 0xffu) << seed << ' ' << i;
    }
  }
}

TEST(Shuffle, SelectsByTheHighestBit) {
  for (int value = 0; value < 256; ++value) {
    const Bytes a = randomBytes(1), b = randomBytes(2);
    const Bytes top = simd::splat<Bytes>(static_cast<std::uint8_t>(value)) ^ (randomBytes(3) & std::uint8_t{0x80});
    const Bytes selected = simd::selectByTop(top, a, b);
    for (int i = 0; i < kByteLanes; ++i) ASSERT_EQ(selected[i], top[i] >= 128 ? a[i] : b[i]) << value << ' ' << i;
  }
}

template <int kCount>
void checkLookup() {
  const auto table = std::make_unique<std::uint8_t[]>(kCount);
  for (std::size_t i = 0; i < kCount; ++i) table[i] = static_cast<std::uint8_t>(randomBits(kCount, i));
  for (int first = 0; first < 256; first += kByteLanes) {
    Bytes index;
    for (int i = 0; i < kByteLanes; ++i) index[i] = static_cast<std::uint8_t>((first + i) * 37);
    const Bytes found = simd::lookupByShuffles<kCount>(table.get(), index);
    for (int i = 0; i < kByteLanes; ++i) {
      ASSERT_EQ(found[i], table[static_cast<std::size_t>(index[i] % kCount)]) << kCount << ' ' << int{index[i]};
    }
  }
}

TEST(Shuffle, LooksUpAnyIndexInTablesOfEachSize) {
  checkLookup<16>();
  checkLookup<32>();
  checkLookup<64>();
  checkLookup<128>();
}

/// x0 ^ 2 x1 ^ 4 x0 x1 by hand, then sums over the subsets of each index.
TEST(Shuffle, TakesPolynomialsOfBits) {
  const std::uint8_t by_hand[4] = {0, 1, 2, 4}, expected[4] = {0, 1, 2, 7};
  Bytes index;
  for (int i = 0; i < kByteLanes; ++i) index[i] = static_cast<std::uint8_t>(i % 4);
  const Bytes values = simd::polynomialOfBits<2>(by_hand, index);
  for (int i = 0; i < kByteLanes; ++i) ASSERT_EQ(values[i], expected[i % 4]);

  const Bytes random = randomBytes(7);
  std::uint8_t coefficients[16];
  for (int i = 0; i < 16; ++i) coefficients[i] = random[i % kByteLanes];
  for (int i = 0; i < kByteLanes; ++i) index[i] = static_cast<std::uint8_t>(i % 16);
  const Bytes sums = simd::polynomialOfBits<4>(coefficients, index);
  for (int i = 0; i < kByteLanes; ++i) {
    unsigned sum = 0;
    for (int c = 0; c < 16; ++c) sum ^= (c & i % 16) == c ? coefficients[c] : 0u;
    ASSERT_EQ(sums[i], sum) << i;
  }
}

}  // namespace
}  // namespace gosset::shuffle_test
