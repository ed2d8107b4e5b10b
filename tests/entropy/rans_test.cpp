// SPDX-License-Identifier: Apache-2.0
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/entropy/rans.hpp>

#include "testing.hpp"

#include <algorithm>
#include <array>

namespace gosset::rans_test {
namespace {

using Bytes = std::vector<std::uint8_t>;
using testing::expectThrows;

Bytes decoded(const Bytes& archive, std::size_t count) {
  Bytes bytes(count, 0xee);
  decodeBytes(archive, bytes);
  return bytes;
}

/// Numbers of a discretized Gaussian of that deviation.
Bytes gaussianBytes(std::size_t count, double deviation) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::uint8_t>(std::lround(testing::normal(1, i) * deviation) & 255);
  }
  return bytes;
}

Bytes uniformBytes(std::size_t count, std::uint64_t below) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(randomBits(2, i) % below);
  return bytes;
}

TEST(Rans, BytesComeBack) {
  for (const std::size_t count : {0u, 1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 63u, 65u, 172u, 417u, 5000u}) {
    for (const Bytes& bytes : {Bytes(count, 7), uniformBytes(count, 2), uniformBytes(count, 3),
                               uniformBytes(count, 256), gaussianBytes(count, 0.3), gaussianBytes(count, 20)}) {
      EXPECT_EQ(decoded(encodeBytes(bytes), count), bytes) << count;
    }
  }
}

TEST(Rans, AdversarialBytesComeBack) {
  Bytes one_rare(100000, 0);
  one_rare[77777] = 255;
  EXPECT_EQ(decoded(encodeBytes(one_rare), one_rare.size()), one_rare);
  Bytes all_rare(100000, 128);  // every other symbol once
  for (std::size_t s = 0; s < 256; ++s) all_rare[390 * s] = static_cast<std::uint8_t>(s);
  EXPECT_EQ(decoded(encodeBytes(all_rare), all_rare.size()), all_rare);
  Bytes sorted = uniformBytes(30000, 256);
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(decoded(encodeBytes(sorted), sorted.size()), sorted);
  Bytes fibonacci;  // frequencies that halve
  for (int s = 0; s < 16; ++s) fibonacci.insert(fibonacci.end(), std::size_t{1} << s, static_cast<std::uint8_t>(s));
  EXPECT_EQ(decoded(encodeBytes(fibonacci), fibonacci.size()), fibonacci);
}

TEST(Rans, ComesWithinOnePercentOfTheEntropy) {
  constexpr std::size_t kCount = 400000;
  for (const Bytes& bytes :
       {uniformBytes(kCount, 2), uniformBytes(kCount, 3), uniformBytes(kCount, 81), uniformBytes(kCount, 255),
        gaussianBytes(kCount, 0.3), gaussianBytes(kCount, 1), gaussianBytes(kCount, 5), gaussianBytes(kCount, 40)}) {
    const double entropy = codeEntropy(std::span<const std::uint8_t>(bytes)) * kCount / 8;
    const double size = static_cast<double>(encodeBytes(bytes).size());
    EXPECT_LT(size, 1.01 * entropy);
    EXPECT_GT(size, 0.999 * entropy);
  }
  EXPECT_EQ(encodeBytes(Bytes(kCount, 9)).size(), 25u);
}

/// The quotient by reciprocal is the quotient, at every frequency and next to every multiple.
TEST(Rans, DividesExactly) {
  constexpr std::uint64_t kMost = (std::uint64_t{1} << 63) - 1;
  for (std::uint32_t f = 1; f <= detail::RansTable::kTotal; ++f) {
    const detail::RansEncoding encoding(f, 0);
    const auto check = [&](std::uint64_t x) { ASSERT_EQ(encoding.quotient(x), x / f) << x << " / " << f; };
    for (const std::uint64_t x : {std::uint64_t{0}, std::uint64_t{1}, kMost - 1, kMost}) check(x);
    for (std::uint64_t i = 0; i < 4; ++i) {
      const std::uint64_t multiple = (randomBits(f, i) >> 1) / f * f;
      for (const std::uint64_t x : {multiple, multiple + f - 1, multiple + f, kMost / f * f, kMost / f * f - 1}) {
        check(std::min(x, kMost));
      }
    }
  }
}

TEST(Rans, ChecksAndCountsEveryByte) {
  for (const std::size_t count : {1u, 3u, 7u, 8u, 9u, 65u}) {
    const Bytes bytes = uniformBytes(count, 256);
    for (std::size_t i = 0; i < count; ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        Bytes other = bytes;
        other[i] = static_cast<std::uint8_t>(other[i] ^ (1 << bit));
        EXPECT_NE(detail::ransCheck(other), detail::ransCheck(bytes)) << i << " of " << count;
      }
    }
    std::array<std::uint64_t, 256> expected{};
    for (const std::uint8_t byte : bytes) ++expected[byte];
    EXPECT_EQ(detail::countBytes(bytes), expected);
  }
}

TEST(Rans, WritesTheSameBytesEverywhere) {
  Bytes bytes(5000);  // sums of two, so that not all are equally frequent
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(randomBits(6, i) % 9 + i % 5);
  const Bytes archive = encodeBytes(bytes);
  EXPECT_EQ(testing::hashBytes(archive.data(), archive.size()), 4071287265563358926u);
}

TEST(Rans, CorruptedArchivesAreRefused) {
  const Bytes bytes = gaussianBytes(500, 5);
  const Bytes archive = encodeBytes(bytes);
  for (std::size_t size = 0; size < archive.size(); ++size) {
    EXPECT_THROW(decoded(Bytes(archive.begin(), archive.begin() + static_cast<std::ptrdiff_t>(size)), 500),
                 FormatError);
  }
  for (std::size_t i = 0; i < archive.size(); ++i) {
    for (const int flip : {1, 0x80, 0xff}) {
      Bytes damaged = archive;
      damaged[i] = static_cast<std::uint8_t>(damaged[i] ^ flip);
      EXPECT_THROW(decoded(damaged, 500), FormatError) << i;
    }
  }
  Bytes longer = archive;
  longer.push_back(0);
  EXPECT_THROW(decoded(longer, 500), FormatError);
}

TEST(Rans, SaysWhatIsWrong) {
  const Bytes archive = encodeBytes(gaussianBytes(500, 5));
  const auto with = [&](std::size_t at, std::uint8_t value) {
    Bytes damaged = archive;
    damaged[at] = value;
    return damaged;
  };
  expectThrows<FormatError>([&] { decoded({}, 0); }, "it ends where 4 more bytes were expected and 0 are left");
  expectThrows<FormatError>([&] { decoded(with(0, 'x'), 500); }, "it does not begin with gANS");
  expectThrows<FormatError>([&] { decoded(archive, 499); }, "it holds 500 bytes, expected 499");
  expectThrows<FormatError>([&] { decoded(with(21, 9), 500); }, "symbols for 500 bytes");
  expectThrows<FormatError>([&] { decoded(with(23, 0), 500); }, "frequenc");
  expectThrows<FormatError>([&] { decoded(with(25, 0), 500); }, "its symbols do not rise");
  expectThrows<FormatError>([&] { decoded(with(12, static_cast<std::uint8_t>(archive[12] ^ 1)), 500); }, "sealed with");
  expectThrows<FormatError>(
      [&] { decoded(with(archive.size() - 1, static_cast<std::uint8_t>(archive.back() ^ 1)), 500); },
      "gosset: corrupted archive: ");
  Bytes constant = encodeBytes(Bytes(5, 1));
  constant.push_back(0);
  expectThrows<FormatError>([&] { decoded(constant, 5); }, "1 bytes follow its end");
  Bytes empty = encodeBytes(Bytes{});
  empty.push_back(0);
  expectThrows<FormatError>([&] { decoded(empty, 0); }, "1 bytes follow its end");
}

}  // namespace
}  // namespace gosset::rans_test
