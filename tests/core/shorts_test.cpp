// SPDX-License-Identifier: Apache-2.0
#include <gosset/core/shorts.hpp>

#include "testing.hpp"

#include <algorithm>
#include <iterator>

namespace gosset::shorts_test {
namespace {

using simd::kShortLanes;
using simd::Shorts;

constexpr std::int16_t kEdges[] = {-32768, -32767, -31000, -256, -255, -1,    0,     1,
                                   2,      127,    128,    255,  256,  31000, 32766, 32767};

/// Number i: all pairs of edges in turn, then random ones.
std::int16_t number(int i, int which) {
  constexpr int kCount = static_cast<int>(std::size(kEdges));
  if (i < kCount * kCount) return kEdges[which == 0 ? i % kCount : i / kCount];
  return static_cast<std::int16_t>(randomBits(static_cast<std::uint64_t>(which), static_cast<std::uint64_t>(i)));
}

/// Calls visit(a, b) for registers of all pairs.
template <class Visit>
void forPairs(const Visit& visit) {
  for (int first = 0; first < 1024; first += kShortLanes) {
    Shorts a, b;
    for (int i = 0; i < kShortLanes; ++i) {
      a[i] = number(first + i, 0);
      b[i] = number(first + i, 1);
    }
    visit(a, b);
  }
}

TEST(Shorts, ARegisterIsFull) { EXPECT_EQ(sizeof(Shorts), static_cast<std::size_t>(simd::kByteLanes)); }

TEST(Shorts, TheSmaller) {
  forPairs([](Shorts a, Shorts b) {
    const Shorts less = simd::smaller(a, b);
    for (int i = 0; i < kShortLanes; ++i) EXPECT_EQ(less[i], std::min<std::int16_t>(a[i], b[i])) << a[i] << ' ' << b[i];
  });
}

TEST(Shorts, SumsEndAtTheEndsOfTheRange) {
  forPairs([](Shorts a, Shorts b) {
    const Shorts sum = simd::addSaturated(a, b);
    for (int i = 0; i < kShortLanes; ++i) {
      EXPECT_EQ(sum[i], std::clamp(int{a[i]} + int{b[i]}, -32768, 32767)) << a[i] << ' ' << b[i];
    }
  });
}

TEST(Shorts, StoresLowBytesAndNothingElse) {
  forPairs([](Shorts a, Shorts) {
    std::uint8_t bytes[kShortLanes + 3];
    std::fill(std::begin(bytes), std::end(bytes), std::uint8_t{0x77});
    simd::storeLowBytes(bytes + 1, a);
    EXPECT_EQ(bytes[0], 0x77);
    for (int i = 0; i < kShortLanes; ++i) EXPECT_EQ(bytes[i + 1], a[i] & 0xff) << a[i];
    EXPECT_EQ(bytes[kShortLanes + 1], 0x77);
    EXPECT_EQ(bytes[kShortLanes + 2], 0x77);
  });
}

/// What a search needs: each of 2^kShift neighbours the same lane, and kLanes << kShift of them in as many registers.
template <int kShift>
void checkSpread() {
  Shorts v;
  for (int i = 0; i < kShortLanes; ++i) v[i] = static_cast<std::int16_t>(100 * i - 77);
  simd::unroll<1 << kShift>([&](auto w) {
    constexpr int kFirst = w * kShortLanes;
    const Shorts spread = simd::spread<kShift, kFirst>(v);
    for (int i = 0; i < kShortLanes; ++i) EXPECT_EQ(spread[i], v[(kFirst + i) >> kShift]) << kShift << ' ' << kFirst;
  });
}

TEST(Shorts, SpreadsLanes) {
  simd::unroll<7>([](auto shift) { checkSpread<shift>(); });
}

}  // namespace
}  // namespace gosset::shorts_test
