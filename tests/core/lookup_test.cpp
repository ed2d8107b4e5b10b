// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/lookup.hpp>

#include "testing.hpp"

#include <bit>
#include <cstdint>

namespace gosset::lookup_test {
namespace {

std::uint8_t randomByte(std::uint64_t seed, int i) {
  return static_cast<std::uint8_t>(randomBits(seed, static_cast<std::uint64_t>(i)) >> 32);
}

TEST(Lookup, ReadsItsTable) {
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
    for (int i = 0; i < simd::kByteLanes; ++i) ASSERT_EQ(first[i], table[index[i] % 128]);
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

}  // namespace
}  // namespace gosset::lookup_test
