// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/random.hpp>

#include "testing.hpp"

#include <set>
#include <vector>

namespace gosset::random_test {
namespace {

/// SplitMix64 as published: a state that steps by gamma, each step mixed.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t state) : state_(state) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9u;
    z ^= z >> 27;
    z *= 0x94d049bb133111ebu;
    z ^= z >> 31;
    return z;
  }

 private:
  std::uint64_t state_;
};

TEST(Random, TheReferenceGivesThePublishedNumbers) {
  // The first numbers of the state 1234567, as the authors' program prints them.
  SplitMix64 reference(1234567);
  EXPECT_EQ(reference.next(), 6457827717110365317u);
  EXPECT_EQ(reference.next(), 3203168211198807973u);
  EXPECT_EQ(reference.next(), 9817491932198370423u);
}

TEST(Random, AnyPositionIsReadLikeTheSequence) {
  for (const std::uint64_t seed : {0ull, 1ull, 42ull, 0xffffffffffffffffull}) {
    SplitMix64 sequence(SplitMix64(seed).next());
    for (std::uint64_t i = 0; i < 100; ++i) ASSERT_EQ(randomBits(seed, i), sequence.next()) << seed << ' ' << i;
  }
}

TEST(Random, TheSameBitsEverywhere) {
  static_assert(randomBits(0, 0) == randomBits(0, 0), "usable at compile time");
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    for (std::uint64_t i = 0; i < 512; ++i) numbers.push_back(randomBits(seed, i));
  }
  EXPECT_EQ(testing::hashBytes(numbers.data(), numbers.size() * 8), 15769954645391634323u);
}

/// Files keep seeds, not signs: which bit gives a sign, and which way, must stay.
TEST(Random, SignsAreThoseOfTheTopBit) {
  SplitMix64 sequence(SplitMix64(7).next());
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(randomSign(7, i), sequence.next() < 0x8000000000000000u ? 1.f : -1.f) << i;
  }
}

TEST(Random, UniformNumbersFillTheUnitInterval) {
  constexpr int kCount = 1 << 16;
  double sum = 0, squares = 0;
  std::vector<int> bins(16);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const float u = randomUniform(3, i);
    ASSERT_GE(u, 0.f);
    ASSERT_LT(u, 1.f);
    ASSERT_EQ(u * 0x1p24f, std::floor(u * 0x1p24f)) << "not a multiple of 2^-24";
    sum += u;
    squares += static_cast<double>(u) * u;
    ++bins[static_cast<std::size_t>(u * 16)];
  }
  EXPECT_NEAR(sum / kCount, 1.0 / 2, 5 / std::sqrt(12.0 * kCount));
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kCount));
  for (const int bin : bins) EXPECT_NEAR(bin, kCount / 16, 5 * std::sqrt(kCount / 16.0));
}

TEST(Random, SignsAreBalancedAndUncorrelated) {
  constexpr int kCount = 1 << 16;
  double sum = 0, neighbours = 0, seeds = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const float sign = randomSign(9, i);
    ASSERT_EQ(std::abs(sign), 1.f);
    sum += sign;
    neighbours += sign * randomSign(9, i + 1);
    seeds += sign * randomSign(10, i);
  }
  const double bound = 5 * std::sqrt(kCount);
  EXPECT_LT(std::abs(sum), bound);
  EXPECT_LT(std::abs(neighbours), bound);
  EXPECT_LT(std::abs(seeds), bound);
}

TEST(Random, NeighbouringSeedsShareNoNumber) {
  // Unmixed seeds a multiple of gamma apart would give shifted copies of one stream.
  constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15u;
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 16; ++seed) {
    for (std::uint64_t i = 0; i < 256; ++i) {
      seen.insert(randomBits(seed, i));
      seen.insert(randomBits((seed + 1) * kGamma, i));
    }
  }
  EXPECT_EQ(seen.size(), 2u * 16 * 256);
}

}  // namespace
}  // namespace gosset::random_test
