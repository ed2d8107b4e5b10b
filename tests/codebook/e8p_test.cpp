// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/e8.hpp>
#include <gosset/codebook/e8p.hpp>

#include "testing.hpp"

#include <array>
#include <bit>
#include <limits>
#include <map>
#include <set>
#include <vector>

namespace gosset::e8p_test {
namespace {

using Block = std::array<float, 8>;

Block decoded(unsigned code) {
  Block y;
  E8P::decode(static_cast<E8P::Code>(code), y.data());
  return y;
}

/// The layout read as the header draws it, sign by sign.
Block readByHand(unsigned code) {
  const unsigned pattern = code >> 8;
  Block v;
  int threes = 0;
  for (unsigned i = 0; i < 8; ++i) {
    v[i] = 0.25f * static_cast<float>(detail::kE8P.quarters[pattern][i]);
    threes += v[i] == 1.5f ? 1 : 0;
  }
  bool odd = false;
  for (unsigned i = 0; i < 8; ++i) {
    const bool running = i < 7 ? ((code >> i) & 1) != 0 : threes % 2 != 0;
    if (running != odd) v[i] = -v[i];
    odd = running;
  }
  for (float& c : v) c += (code & 0x80) != 0 ? 0.25f : -0.25f;
  return v;
}

Block gaussianBlock(std::uint64_t seed, std::uint64_t k, double size) {
  Block x;
  for (std::size_t i = 0; i < 8; ++i) x[i] = static_cast<float>(size * testing::normal(seed, 8 * k + i));
  return x;
}

/// Another way to the nearest point: every pattern in turn, with signs that follow x, the cheapest turned where the sum
/// would be odd; in double. Gives the score, 4 (2 <x, p> - |p|^2), of the best two patterns.
struct BestTwo {
  double first = -1e300, second = -1e300;
  Block point{};
};

BestTwo searchPatterns(const Block& x) {
  BestTwo best;
  for (const double shift : {-0.25, 0.25}) {
    for (unsigned p = 0; p < 256; ++p) {
      double score = 0, cheapest = 1e300, sum = 0;
      Block point;
      std::size_t turn = 0;
      for (std::size_t i = 0; i < 8; ++i) {
        const double y = static_cast<double>(x[i]) - shift, size = 0.25 * detail::kE8P.quarters[p][i];
        const double v = y < 0 ? -size : size;
        point[i] = static_cast<float>(v + shift);
        score += 2 * static_cast<double>(x[i]) * (v + shift) - (v + shift) * (v + shift);
        sum += v;
        if (size * std::abs(y) < cheapest) {
          cheapest = size * std::abs(y);
          turn = i;
        }
      }
      if (std::fmod(sum, 2) != 0) {
        score -= 4 * cheapest;
        point[turn] = static_cast<float>(2 * shift) - point[turn];
      }
      score *= 4;
      if (score > best.first) {
        best.second = best.first;
        best.first = score;
        best.point = point;
      } else if (score > best.second) {
        best.second = score;
      }
    }
  }
  return best;
}

TEST(E8P, PatternsByNorm) {
  std::map<int, int> count;  // by four times the norm
  std::set<std::vector<int>> distinct;
  std::set<unsigned> ones12;
  for (const auto& quarters : detail::kE8P.quarters) {
    int norm = 0;
    unsigned ones = 0;
    for (unsigned i = 0; i < 8; ++i) {
      norm += quarters[i] * quarters[i] / 4;
      if (quarters[i] == 2) ones |= 1u << i;
    }
    ++count[norm];
    distinct.insert(std::vector<int>(quarters, quarters + 8));
    if (norm == 48) ones12.insert(ones);
  }
  EXPECT_EQ(distinct.size(), 256u);
  EXPECT_EQ(count, (std::map<int, int>{{8, 1}, {16, 8}, {24, 28}, {32, 64}, {40, 126}, {48, 29}}));
  // The published 29, each as the mask of its three places of 1/2.
  EXPECT_EQ(ones12, (std::set<unsigned>{0x0e, 0x0d, 0x0b, 0x07, 0xc8, 0xa8, 0x98, 0x68, 0x58, 0x38,
                                        0xc4, 0xa4, 0x94, 0x64, 0x54, 0x34, 0xc2, 0xa2, 0x92, 0x62,
                                        0x52, 0x31, 0xc1, 0xa1, 0x91, 0x61, 0x51, 0x13, 0x8c}));
}

TEST(E8P, PointsAreDistinctAndInE8PlusAQuarter) {
  std::set<Block> distinct;
  double squares = 0;
  for (unsigned code = 0; code < 65536; ++code) {
    const Block y = decoded(code);
    ASSERT_EQ(y, readByHand(code)) << code;
    Block lattice;
    for (std::size_t i = 0; i < 8; ++i) {
      ASSERT_EQ(y[i] * 4, static_cast<float>(detail::e8pQuarter(code, static_cast<unsigned>(i)))) << code;
      lattice[i] = y[i] - 0.25f;
      squares += static_cast<double>(y[i] * y[i]);
    }
    ASSERT_TRUE(E8::contains(lattice.data())) << code;
    distinct.insert(y);
  }
  EXPECT_EQ(distinct.size(), 65536u);
  EXPECT_NEAR(std::sqrt(squares / (8 * 65536)), 1.094, 5e-4);
}

TEST(E8P, PointsEncodeToThemselves) {
  for (unsigned code = 0; code < 65536; ++code) ASSERT_EQ(E8P::encode(decoded(code).data()), code);
}

TEST(E8P, ALayoutWorkedByHand) {
  // +1/2 everywhere but +3/2 at place 2, one minus sign, at place 4, shift +1/4.
  EXPECT_EQ(decoded((3u << 8) | 0x80 | 0x70), (Block{.75f, .75f, 1.75f, .75f, -.25f, .75f, .75f, .75f}));
  EXPECT_EQ(decoded(0), (Block{.25f, .25f, .25f, .25f, .25f, .25f, .25f, .25f}));
  // -5/2 at place 0, -3/2 at place 7, one more minus sign at place 1, shift -1/4.
  EXPECT_EQ(decoded((199u << 8) | 0x01), (Block{-2.75f, -.75f, .25f, .25f, .25f, .25f, .25f, -1.75f}));
}

class E8PExhaustive : public ::testing::TestWithParam<double> {};

TEST_P(E8PExhaustive, EncodeIsTheDefinition) {
  for (std::uint64_t k = 0; k < 60; ++k) {
    Block x = gaussianBlock(21, k, GetParam());
    if (k % 4 == 1) std::transform(x.begin(), x.end(), x.begin(), [](float c) { return std::round(4 * c) / 4; });
    if (k % 4 == 2) std::transform(x.begin(), x.end(), x.begin(), [](float c) { return std::round(8 * c) / 8; });
    ASSERT_EQ(E8P::encode(x.data()), E8P::encodeExhaustive(x.data())) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, E8PExhaustive, ::testing::Values(1e-30, 0.05, 0.3, 1., 2., 5., 30., 1e4, 1e30));

TEST(E8P, EqualToASearchOverPatternsOnManyInputs) {
  for (const double size : {0.25, 1., 1.04, 3., 50.}) {
    constexpr std::uint64_t kCount = 20000;
    std::vector<float> x;
    for (std::uint64_t k = 0; k < kCount; ++k) {
      const Block block = gaussianBlock(22, k, size);
      x.insert(x.end(), block.begin(), block.end());
    }
    std::vector<E8P::Code> codes(kCount);
    E8P::encodeBlocks(x.data(), kCount, codes.data());
    for (std::uint64_t k = 0; k < kCount; ++k) {
      const Block block = gaussianBlock(22, k, size);
      const BestTwo best = searchPatterns(block);
      if (best.first - best.second > 1e-9) {
        ASSERT_EQ(decoded(codes[k]), best.point) << size << ' ' << k;
      } else {
        ASSERT_NEAR(detail::e8pScore(detail::e8pInput(block.data()), codes[k]), best.first, 1e-9) << size << ' ' << k;
      }
    }
  }
}

TEST(E8P, OfEquallyNearPointsTheSmallestCode) {
  const Block zero{};
  EXPECT_EQ(E8P::encode(zero.data()), 0);  // as near as code 0xd5: -1/4 everywhere
  EXPECT_EQ(E8P::encodeExhaustive(zero.data()), 0);
  // Halfway between two neighbours, and where eight points or more meet.
  for (unsigned code = 0; code < 65536; code += 997) {
    Block x = decoded(code);
    for (std::size_t i = 0; i < 2; ++i) x[i] += 0.5f;
    ASSERT_EQ(E8P::encode(x.data()), E8P::encodeExhaustive(x.data())) << code;
    x = decoded(code);
    x[code % 8] += 1.f;
    ASSERT_EQ(E8P::encode(x.data()), E8P::encodeExhaustive(x.data())) << code;
  }
}

/// What turns into its own negative when places are exchanged is as far from the points of either shift.
TEST(E8P, OfTheNearestPointsOfBothShiftsTheSmallestCode) {
  int plus = 0;
  for (std::uint64_t k = 0; k < 24; ++k) {
    Block x;
    for (std::size_t i = 0; i < 4; ++i) {
      x[i] = static_cast<float>(std::round(64 * testing::normal(27, 4 * k + i)) / 64);
      x[(k + i) % 4 + 4] = -x[i];
    }
    const E8P::Code code = E8P::encodeExhaustive(x.data());
    EXPECT_EQ(E8P::encode(x.data()), code) << k;
    plus += (code & 0x80) != 0 ? 1 : 0;
  }
  EXPECT_GT(plus, 4);
  EXPECT_LT(plus, 20);
}

TEST(E8P, OddInputs) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  constexpr float kMax = std::numeric_limits<float>::max(), kTiny = std::numeric_limits<float>::denorm_min();
  for (const Block& x :
       {Block{kNan, 1, 2, 3, -1, -2, -3, .3f}, Block{kInf, -kInf, 1, 1, 1, 1, 1, 1},
        Block{kMax, kMax, -kMax, 0, 0, 0, 0, 0}, Block{kTiny, -kTiny, kTiny, kTiny, 0.f, -0.f, kTiny, kTiny},
        Block{-0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f}, Block{.25f, .25f, .25f, .25f, .25f, .25f, .25f, .25f},
        Block{1e-8f, 1, 1e-9f, 1, 1e-20f, 1, -1e-8f, 1}, Block{7, 7, 7, 7, 7, 7, 7, 7},
        Block{-9, -9, -9, -9, -9, -9, -9, -9}, Block{100, 0, 0, 0, 0, 0, 0, 0}}) {
    EXPECT_EQ(E8P::encode(x.data()), E8P::encodeExhaustive(x.data())) << x[0];
  }
}

TEST(E8P, BlocksAreEncodedAndDecodedAsOneByOne) {
  for (const Index count : {0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 65, 172, 417}) {
    std::vector<float> x(static_cast<std::size_t>(8 * count)), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(testing::normal(23, i));
    std::vector<E8P::Code> codes(static_cast<std::size_t>(count) + 1, 12345);
    E8P::encodeBlocks(x.data(), count, codes.data());
    E8P::decodeBlocks(codes.data(), count, y.data());
    for (std::size_t b = 0; b < static_cast<std::size_t>(count); ++b) {
      ASSERT_EQ(codes[b], E8P::encode(x.data() + 8 * b)) << count;
      ASSERT_EQ(Block(decoded(codes[b])), *reinterpret_cast<const Block*>(y.data() + 8 * b)) << count;
    }
    EXPECT_EQ(codes.back(), 12345);
  }
}

/// The search in vectors of `Width` lanes for Gaussian numbers: where it is sure, it is right. How often it is not.
template <int Width, bool kWhole>
int unsureBlocks(double deviation, std::uint64_t count) {
  int unsure = 0;
  for (std::uint64_t k = 0; k < count; k += Width) {
    float x[8 * Width], atLeast[Width];
    std::int32_t answers[Width];
    for (std::uint64_t i = 0; i < 8 * Width; ++i) x[i] = static_cast<float>(deviation * testing::normal(24, 8 * k + i));
    detail::E8PSearch<Width>::template encode<kWhole>(x, answers, atLeast);
    for (int b = 0; b < Width; ++b) {
      const unsigned exact = detail::E8PExactSearch(x + 8 * b, -1e300).code();
      if (answers[b] < 0) {
        ++unsure;
        EXPECT_EQ(detail::E8PExactSearch(x + 8 * b, static_cast<double>(atLeast[b])).code(), exact);
      } else {
        EXPECT_EQ(detail::E8PSearch<Width>::unpack(static_cast<unsigned>(answers[b])), exact);
      }
    }
  }
  return unsure;
}

template <int Width>
void checkLanes() {
  const int unsure = unsureBlocks<Width, false>(1.04, 1 << 14);
  EXPECT_GT(unsure, 0);
  EXPECT_LT(unsure, (1 << 14) / 50);
  for (const double deviation : {0.3, 1.04, 2., 5.}) {
    EXPECT_LT((unsureBlocks<Width, true>(deviation, 1 << 13)), (1 << 13) / 500) << deviation;
  }
}

TEST(E8P, EveryVectorWidthGivesTheSameCodes) {
  checkLanes<4>();
  if constexpr (simd::kLanes<float> >= 8) checkLanes<8>();
  if constexpr (simd::kLanes<float> >= 16) checkLanes<16>();
}

/// The same bits on every compiler and instruction set. Sums of uniforms need no mathematical function.
TEST(E8P, CodesAreTheSameEverywhere) {
  constexpr Index kCount = 1 << 15;
  std::vector<float> x(8 * kCount);
  for (std::uint64_t i = 0; i < x.size(); ++i) {
    float sum = -2;
    for (std::uint64_t k = 0; k < 4; ++k) sum += randomUniform(25, 4 * i + k);
    x[i] = 1.8f * sum;
  }
  std::vector<E8P::Code> codes(kCount);
  E8P::encodeBlocks(x.data(), kCount, codes.data());
  EXPECT_EQ(testing::hashBytes(codes.data(), codes.size() * sizeof(codes[0])), 2344835935858080886u);
}

double gaussianError(float scale) {
  const RowMatrixXf x = testing::gaussian(1, 1 << 20, 26);
  const RowMatrixXf scaled = x * (1 / scale);
  std::vector<E8P::Code> codes(1 << 17);
  E8P::encodeBlocks(scaled.data(), 1 << 17, codes.data());
  RowMatrixXf y(1, x.cols());
  E8P::decodeBlocks(codes.data(), 1 << 17, y.data());
  return static_cast<double>((scale * y - x).squaredNorm()) / static_cast<double>(x.size());
}

TEST(E8P, GaussianErrorAtItsScale) {
  const double error = gaussianError(E8P::kGaussianScale);
  EXPECT_LT(error, 0.0918);  // .09136 on average; one draw of 2^20 numbers strays by .00015
  EXPECT_GT(error, 0.0908);
  EXPECT_GT(gaussianError(1.02f * E8P::kGaussianScale), error);
  EXPECT_GT(gaussianError(0.98f * E8P::kGaussianScale), error);
}

}  // namespace
}  // namespace gosset::e8p_test
