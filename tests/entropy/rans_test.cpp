// SPDX-License-Identifier: Apache-2.0
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/entropy/rans.hpp>

#include "testing.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

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

/// Two equally frequent symbols: each step makes a state twice as large, plus the byte. Lane 0 codes, last byte first,
/// 31 zeros after a one, so that its state is exactly 2^62, the limit, when the next one comes.
Bytes meetingTheLimit() {
  Bytes bytes(256, 1);
  for (std::size_t i = 0; i < 64; ++i) bytes[4 * i] = i < 33 ? 1 : 0;
  int zeros = 31;
  for (std::size_t i = 0; i < 256 && zeros < 128; ++i) {
    if (i % 4 != 0) bytes[i] = 0, ++zeros;
  }
  return bytes;
}

TEST(Rans, AStateThatEqualsTheLimitComesBack) {
  const Bytes bytes = meetingTheLimit();
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 0), 128);
  EXPECT_EQ(decoded(encodeBytes(bytes), bytes.size()), bytes);
}

/// Half of the bytes are 0, which makes a state twice as large: lane 0, which codes nothing else, stands at 2^31 after
/// every 32 of them. It needs no word then, though lanes 2 and 3 have left enough for the fast loop.
TEST(Rans, AStateThatEqualsTheLeastNeedsNoWord) {
  Bytes bytes = uniformBytes(1024, 255);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = i % 4 < 2 ? 0 : static_cast<std::uint8_t>(bytes[i] + 1);
  EXPECT_EQ(decoded(encodeBytes(bytes), bytes.size()), bytes);
}

std::uint64_t numberAt(const Bytes& archive, std::size_t at, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = count; i-- > 0;) value = value << 8 | archive[at + i];
  return value;
}

/// States and payload as the page on top of the header has them, from the archive's own frequencies.
TEST(Rans, WritesWhatTheTextbookDoes) {
  for (const Bytes& bytes : {meetingTheLimit(), uniformBytes(417, 2), uniformBytes(1001, 3), gaussianBytes(2002, 0.4),
                             gaussianBytes(3003, 20), uniformBytes(7, 256)}) {
    const Bytes archive = encodeBytes(bytes);
    const std::size_t symbols = numberAt(archive, 20, 2);
    std::array<std::uint64_t, 256> frequency{}, start{};
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < symbols; ++i) {
      const std::size_t symbol = archive[22 + 3 * i];
      frequency[symbol] = numberAt(archive, 23 + 3 * i, 2);
      start[symbol] = sum;
      sum += frequency[symbol];
      const double share = static_cast<double>(std::count(bytes.begin(), bytes.end(), symbol)) * 16384 /
                           static_cast<double>(bytes.size());
      EXPECT_NEAR(static_cast<double>(frequency[symbol]), share, std::max(1.0, 0.02 * share)) << symbol;
    }
    EXPECT_EQ(sum, 16384u);
    std::array<std::uint64_t, 4> states;
    states.fill(std::uint64_t{1} << 31);
    std::vector<std::uint32_t> words;  // the last is drawn first
    for (std::size_t i = bytes.size(); i-- > 0;) {
      std::uint64_t& x = states[i % 4];
      const std::uint64_t f = frequency[bytes[i]];
      // A state stays below 2^63: where x / f reaches 2^49, a word goes out first.
      if (x / f >= std::uint64_t{1} << 49) {
        words.push_back(static_cast<std::uint32_t>(x));
        x >>= 32;
      }
      x = (x / f << 14) + x % f + start[bytes[i]];
    }
    ASSERT_EQ(archive.size(), 22 + 3 * symbols + 32 + 4 * words.size());
    for (std::size_t k = 0; k < 4; ++k) EXPECT_EQ(numberAt(archive, 22 + 3 * symbols + 8 * k, 8), states[k]) << k;
    for (std::size_t k = 0; k < words.size(); ++k) {
      ASSERT_EQ(numberAt(archive, 54 + 3 * symbols + 4 * k, 4), words[words.size() - 1 - k]) << k;
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

/// 127 of each even byte and 129 of each odd one are 63.5 and 64.5 slots, all rounded up: 128 too many, far more than
/// the largest can give.
TEST(Rans, SymbolsThatAreAllRoundedUpComeBack) {
  Bytes bytes;
  for (std::size_t i = 0; i < 256; ++i) bytes.insert(bytes.end(), 127 + 2 * (i % 2), static_cast<std::uint8_t>(i));
  EXPECT_EQ(decoded(encodeBytes(bytes), bytes.size()), bytes);
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
  expectThrows<FormatError>([&] { decoded(with(21, 9), 500); }, " symbols for 500 bytes");
  Bytes many = with(20, 1);
  many[21] = 1;
  expectThrows<FormatError>([&] { decoded(many, 500); }, "it has 257 symbols for 500 bytes");
  many[20] = many[21] = 0;
  expectThrows<FormatError>([&] { decoded(many, 500); }, "it has 0 symbols for 500 bytes");
  expectThrows<FormatError>([&] { decoded(with(23, 0), 500); }, "frequenc");
  expectThrows<FormatError>([&] { decoded(with(25, 0), 500); }, "its symbols do not rise");
  expectThrows<FormatError>([&] { decoded(with(12, static_cast<std::uint8_t>(archive[12] ^ 1)), 500); },
                            "the bytes do not give the number it was sealed with");
  expectThrows<FormatError>(
      [&] { decoded(with(archive.size() - 1, static_cast<std::uint8_t>(archive.back() ^ 1)), 500); },
      "gosset: corrupted archive: ");
  // A state is from 2^31 to below 2^63; the first stands behind the table.
  const Bytes two = encodeBytes(uniformBytes(500, 2));
  const auto state = [&](std::uint64_t x) {
    Bytes damaged = two;
    for (std::size_t i = 0; i < 8; ++i) damaged[28 + i] = static_cast<std::uint8_t>(x >> (8 * i));
    return damaged;
  };
  constexpr std::uint64_t kOne = 1;
  expectThrows<FormatError>([&] { decoded(state(kOne << 63), 500); }, "a state of 9223372036854775808 is out of range");
  expectThrows<FormatError>([&] { decoded(state((kOne << 31) - 1), 500); }, "a state of 2147483647 is out of range");
  for (const std::uint64_t inside : {(kOne << 63) - 1, kOne << 31}) {
    try {
      decoded(state(inside), 500);
      ADD_FAILURE() << "another state was taken";
    } catch (const FormatError& error) {
      EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("out of range")));
    }
  }
  const auto tabled = [&](std::size_t at, std::uint8_t value) {
    Bytes damaged = two;
    damaged[at] = value;
    return damaged;
  };
  const auto sum = 16384 + (two[23] == 7 ? 1 : 7 - int{two[23]});
  expectThrows<FormatError>([&] { decoded(tabled(23, two[23] == 7 ? 8 : 7), 500); },
                            "its frequencies sum to " + std::to_string(sum) + ", expected 16384");
  Bytes nothing = tabled(26, 0);
  nothing[27] = 0;
  expectThrows<FormatError>([&] { decoded(nothing, 500); }, "symbol 1 has frequency 0");
  Bytes longer = two;
  longer.insert(longer.end(), 4, 0);
  expectThrows<FormatError>([&] { decoded(longer, 500); }, "its payload is " + std::to_string(longer.size() - 60) +
                                                               " bytes, of which " + std::to_string(two.size() - 60) +
                                                               " were needed");
  Bytes shorter = two;
  shorter.resize(two.size() - 4);
  expectThrows<FormatError>([&] { decoded(shorter, 500); },
                            "its payload of " + std::to_string(shorter.size() - 60) + " bytes ends too early");
  Bytes constant = encodeBytes(Bytes(5, 1));
  constant.push_back(0);
  expectThrows<FormatError>([&] { decoded(constant, 5); }, "1 bytes follow its end");
  // Symbols of 2^13 slots, of which state 2^32 + s is in the first of the byte's. In the second it is the same byte.
  const Bytes four = {1, 2, 1, 2};
  for (const std::size_t lane : {0u, 1u, 2u, 3u}) {
    Bytes beside = encodeBytes(four);
    beside[28 + 8 * lane] = 1;
    expectThrows<FormatError>([&] { decoded(beside, 4); }, "the decoder does not end at its start");
  }
  Bytes empty = encodeBytes(Bytes{});
  empty[20] = 1;
  expectThrows<FormatError>([&] { decoded(empty, 0); }, "it has 1 symbols for 0 bytes");
  empty[20] = 0;
  empty.push_back(0);
  expectThrows<FormatError>([&] { decoded(empty, 0); }, "1 bytes follow its end");
}

}  // namespace
}  // namespace gosset::rans_test
