// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/level_codes.hpp>

#include <gosset/codebook.hpp>

#include "scalar_codebooks.hpp"
#include "testing.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace gosset::GOSSET_ABI::detail::level_codes_test {
namespace {

/// Numbers among the levels of maps, on the middles between two of them and next to these, and far away.
std::vector<float> numbersAround(const Affine& a, Index count) {
  std::vector<float> x;
  for (Index i = 0; i < count; ++i) {
    const auto k = static_cast<float>(i % 37 - 18) / 2;
    const float middle = divisor(a) * (k - a.zero);
    const float near[] = {middle, std::nextafter(middle, 1e30f), std::nextafter(middle, -1e30f),
                          divisor(a) * (300 * randomUniform(3, static_cast<std::uint64_t>(i)) - 150 - a.zero)};
    x.push_back(i % 13 == 12 ? 0x1p120f * k : near[i / 37 % 4]);
  }
  return x;
}

template <Codebook C>
void expectAsOneByOne() {
  const std::string before = instructionSet();
  std::vector<Affine> maps = {{1, 0}, {0, 0}, {0.1f, 0}, {0x1p-70f, 0}, {0x1p70f, 0}, {0x1p-149f, 0}, {3, 0}};
  if constexpr (C::kHasZero)
    maps.insert(maps.end(), {{0.3f, 7.25f},
                             {0.01f, -2000},
                             {1.5f, 0x1p27f},
                             {0.7f, 1e6f},
                             {1, C::kLevels - 0x1p19f},
                             {1, 1 + C::kLevels - 0x1p19f}});
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    for (const Index width : {1, 7, 15, 16, 17, 24, 32, 63, 200}) {
      for (const Index count : {1, 8, 15, 16, 33, 100, 172, 400}) {
        std::vector<Affine> affine;
        std::vector<float> x;
        for (Index first = 0; first < count; first += width) {
          affine.push_back(maps[affine.size() % maps.size()]);
          const auto more = numbersAround(affine.back(), std::min(width, count - first));
          x.insert(x.end(), more.begin(), more.end());
        }
        std::vector<typename C::Code> codes(x.size(), 99);
        encodeGroups<C>(x.data(), count, width, affine.data(), codes.data());
        for (Index i = 0; i < count; ++i) {
          const auto at = static_cast<std::size_t>(i);
          ASSERT_EQ(codes[at], encode<C>(&x[at], affine[static_cast<std::size_t>(i / width)]))
              << C::name() << ", " << set << ", groups of " << width << ", number " << i << " of " << count << ": "
              << x[at];
        }
      }
    }
  }
  useInstructionSet(before);
}

TEST(LevelCodes, AreThoseOfNumbersOneByOne) {
  expectAsOneByOne<Symmetric<2>>();
  expectAsOneByOne<Symmetric<4>>();
  expectAsOneByOne<Symmetric<8>>();
  expectAsOneByOne<Asymmetric<1>>();
  expectAsOneByOne<Asymmetric<4>>();
  expectAsOneByOne<Asymmetric<8>>();
  expectAsOneByOne<Ternary>();
  expectAsOneByOne<Binary>();
  expectAsOneByOne<NormalFloat4>();
  expectAsOneByOne<LloydMax<2>>();
  expectAsOneByOne<LloydMax<4>>();
}

TEST(LevelCodes, ThresholdsThemselvesBelongToTheLevelAbove) {
  const std::string before = instructionSet();
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    std::vector<float> x;
    for (const float threshold : NormalFloat4::kThresholds) {
      x.insert(x.end(), {threshold, std::nextafter(threshold, -2.f)});
    }
    const Affine one{1, 0};
    std::vector<std::uint8_t> codes(x.size());
    encodeGroups<NormalFloat4>(x.data(), static_cast<Index>(x.size()), 100, &one, codes.data());
    for (std::size_t i = 0; i < codes.size(); ++i) EXPECT_EQ(codes[i], i % 2 == 0 ? i / 2 + 1 : i / 2) << set;
  }
  useInstructionSet(before);
}

TEST(LevelCodes, CodebooksSayHowTheyEncode) {
  EXPECT_TRUE(RoundsToWholeLevels<Symmetric<3>> && RoundsToWholeLevels<Asymmetric<8>> && RoundsToWholeLevels<Ternary>);
  EXPECT_TRUE(CountsThresholds<NormalFloat4> && CountsThresholds<LloydMax<3>>);
  EXPECT_FALSE(RoundsToWholeLevels<Binary> || CountsThresholds<Binary> || RoundsToWholeLevels<NormalFloat4>);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::level_codes_test
