// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/e81b.hpp>

#include "testing.hpp"

#include <array>
#include <limits>
#include <set>
#include <vector>

namespace gosset::e81b_test {
namespace {

using Block = std::array<float, 8>;

Block decoded(unsigned code) {
  Block y;
  E81B::decode(static_cast<E81B::Code>(code), y.data());
  return y;
}

Block gaussianBlock(std::uint64_t seed, std::uint64_t k, double size) {
  Block x;
  for (std::size_t i = 0; i < 8; ++i) x[i] = static_cast<float>(size * testing::normal(seed, 8 * k + i));
  return x;
}

TEST(E81B, Points) {
  std::set<Block> distinct;
  int norms[5] = {};
  for (unsigned code = 0; code < 256; ++code) {
    const Block y = decoded(code);
    EXPECT_TRUE(E8::contains(y.data())) << code;
    float norm = 0;
    for (const float c : y) norm += c * c;
    ++norms[static_cast<int>(norm)];
    distinct.insert(y);
  }
  EXPECT_EQ(distinct.size(), 256u);
  EXPECT_THAT(norms, ::testing::ElementsAre(1, 0, 240, 0, 15));
  EXPECT_EQ(decoded(0), (Block{.5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f}));
  EXPECT_EQ(decoded(5), (Block{-.5f, .5f, -.5f, .5f, .5f, .5f, .5f, .5f}));
  EXPECT_EQ(decoded(130), (Block{1, -1}));
  EXPECT_EQ(decoded(239), (Block{0, 0, 0, 0, 0, 0, -1, -1}));
  EXPECT_EQ(decoded(240), Block{});
  EXPECT_EQ(decoded(248), (Block{0, 0, 0, 0, 0, 0, 0, 2}));
  EXPECT_EQ(decoded(249), Block{-2});
}

TEST(E81B, PointsEncodeToThemselves) {
  for (unsigned code = 0; code < 256; ++code) EXPECT_EQ(E81B::encode(decoded(code).data()), code);
}

class E81BExhaustive : public ::testing::TestWithParam<double> {};

TEST_P(E81BExhaustive, EncodeIsTheDefinition) {
  for (std::uint64_t k = 0; k < 4000; ++k) {
    Block x = gaussianBlock(31, k, GetParam());
    if (k % 4 == 1) {
      for (float& c : x) c = std::round(2 * c) / 2;
    }
    if (k % 4 == 2) {
      for (float& c : x) c = std::round(8 * c) / 8;
    }
    ASSERT_EQ(E81B::encode(x.data()), E81B::encodeExhaustive(x.data())) << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, E81BExhaustive, ::testing::Values(1e-30, 0.1, 0.6, 1., 4., 1e4, 1e30));

TEST(E81B, OddInputs) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  constexpr float kMax = std::numeric_limits<float>::max();
  for (const Block& x : {Block{}, Block{kNan, 1, 2, 3, -1, -2, -3, .3f}, Block{kInf, -kInf, 1, 1, 1, 1, 1, 1},
                         Block{kMax, kMax, -kMax, 0, 0, 0, 0, 0}, Block{0, 0, 0, 0, 0, 0, 0, -9}, Block{-9}}) {
    EXPECT_EQ(E81B::encode(x.data()), E81B::encodeExhaustive(x.data())) << x[0];
  }
}

TEST(E81B, BlocksAreEncodedAndDecodedAsOneByOne) {
  for (const Index count : {0, 1, 7, 8, 9, 15, 16, 17, 63, 65}) {
    std::vector<float> x(static_cast<std::size_t>(8 * count)), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(testing::normal(33, i));
    std::vector<E81B::Code> codes(static_cast<std::size_t>(count) + 1, 77);
    E81B::encodeBlocks(x.data(), count, codes.data());
    E81B::decodeBlocks(codes.data(), count, y.data());
    for (std::size_t b = 0; b < static_cast<std::size_t>(count); ++b) {
      ASSERT_EQ(codes[b], E81B::encode(x.data() + 8 * b)) << count;
      for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(y[8 * b + i], decoded(codes[b])[i]) << count;
    }
    EXPECT_EQ(codes.back(), 77);
  }
}

TEST(E81B, GaussianErrorAtItsScale) {
  const RowMatrixXf x = testing::gaussian(1, 1 << 19, 34);
  const RowMatrixXf scaled = x * (1 / E81B::kGaussianScale);
  std::vector<E81B::Code> codes(1 << 16);
  E81B::encodeBlocks(scaled.data(), 1 << 16, codes.data());
  RowMatrixXf y(1, x.cols());
  E81B::decodeBlocks(codes.data(), 1 << 16, y.data());
  const double error =
      static_cast<double>((E81B::kGaussianScale * y - x).squaredNorm()) / static_cast<double>(x.size());
  EXPECT_NEAR(error, 0.3186, 0.0025);
}

}  // namespace
}  // namespace gosset::e81b_test
