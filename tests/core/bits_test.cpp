// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/bits.hpp>

#include "testing.hpp"

#include <memory>
#include <vector>

namespace gosset::bits_test {
namespace {

using Bytes = std::vector<std::uint8_t>;

template <int kBits, class Code>
Bytes packed(const std::vector<Code>& codes) {
  const auto count = static_cast<Index>(codes.size());
  Bytes bytes(static_cast<std::size_t>(packedBytes(count, kBits)), 0xaa);
  packBits<kBits>(codes.data(), count, bytes.data());
  return bytes;
}

TEST(Bits, KnownBytes) {
  using Codes = std::vector<std::uint8_t>;
  EXPECT_EQ(packed<1>(Codes{1, 0, 1, 1, 0, 0, 0, 1, 1}), (Bytes{0b10001101, 1}));
  EXPECT_EQ(packed<2>(Codes{1, 2, 3, 0, 3}), (Bytes{0b00111001, 3}));
  EXPECT_EQ(packed<3>(Codes{1, 2, 7}), (Bytes{0b11010001, 0b00000001}));
  EXPECT_EQ(packed<4>(Codes{0x1, 0xf, 0xa}), (Bytes{0xf1, 0x0a}));
  EXPECT_EQ(packed<5>(Codes{31, 0, 31}), (Bytes{0x1f, 0x7c}));
  EXPECT_EQ(packed<8>(Codes{1, 255, 7}), (Bytes{1, 255, 7}));
  EXPECT_EQ(packed<16>(std::vector<std::uint16_t>{0x1234, 0xabcd}), (Bytes{0x34, 0x12, 0xcd, 0xab}));
  EXPECT_EQ(packed<24>(std::vector<std::uint32_t>{0x123456}), (Bytes{0x56, 0x34, 0x12}));
  EXPECT_EQ(packed<32>(std::vector<std::uint32_t>{0x12345678}), (Bytes{0x78, 0x56, 0x34, 0x12}));
}

TEST(Bits, BitsAboveTheCodeAreIgnored) {
  EXPECT_EQ(packed<3>(std::vector<std::uint8_t>{0xf9, 0xfa, 0xff}), (Bytes{0b11010001, 0b00000001}));
}

TEST(Bits, PackedBytesRoundsUp) {
  EXPECT_EQ(packedBytes(0, 3), 0);
  EXPECT_EQ(packedBytes(1, 1), 1);
  EXPECT_EQ(packedBytes(8, 3), 3);
  EXPECT_EQ(packedBytes(9, 3), 4);
  EXPECT_EQ(packedBytes(Index{1} << 40, 32), Index{1} << 42);
}

/// Random codes there and back, in buffers of exactly the size they may touch (the address sanitizer sees any step
/// beyond), each bit of the stream held to the definition.
template <int kBits, class Code>
void roundTrip(Index count) {
  const auto codes = std::make_unique<Code[]>(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) {
    codes[static_cast<std::size_t>(i)] = static_cast<Code>(randomBits(kBits, static_cast<std::uint64_t>(i)));
  }
  const Index size = packedBytes(count, kBits);
  const auto bytes = std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(size));
  std::fill_n(bytes.get(), size, std::uint8_t{0xff});
  packBits<kBits>(codes.get(), count, bytes.get());
  for (Index bit = 0; bit < 8 * size; ++bit) {
    const bool stored = (bytes[static_cast<std::size_t>(bit / 8)] >> (bit % 8) & 1) != 0;
    const bool expected =
        bit < count * kBits && (codes[static_cast<std::size_t>(bit / kBits)] >> (bit % kBits) & 1) != 0;
    ASSERT_EQ(stored, expected) << kBits << " bits, bit " << bit << " of " << count << " codes";
  }
  const auto back = std::make_unique<Code[]>(static_cast<std::size_t>(count));
  unpackBits<kBits>(bytes.get(), count, back.get());
  const auto mask = static_cast<Code>((std::uint64_t{1} << kBits) - 1);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) ASSERT_EQ(back[i], codes[i] & mask) << i;
}

template <int kBits, class Code>
void roundTrips() {
  roundTrip<kBits, Code>(0);
  for (const Index count : testing::kOddSizes) roundTrip<kBits, Code>(count);
}

TEST(Bits, OneToEightBitsComeBack) {
  roundTrips<1, std::uint8_t>();
  roundTrips<2, std::uint8_t>();
  roundTrips<3, std::uint8_t>();
  roundTrips<4, std::uint8_t>();
  roundTrips<5, std::uint8_t>();
  roundTrips<6, std::uint8_t>();
  roundTrips<7, std::uint8_t>();
  roundTrips<8, std::uint8_t>();
}

TEST(Bits, WiderCodesComeBack) {
  roundTrips<3, std::uint32_t>();
  roundTrips<11, std::uint16_t>();
  roundTrips<16, std::uint16_t>();
  roundTrips<24, std::uint32_t>();
  roundTrips<29, std::uint32_t>();
  roundTrips<32, std::uint32_t>();
}

}  // namespace
}  // namespace gosset::bits_test
