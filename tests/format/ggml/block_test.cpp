// SPDX-License-Identifier: Apache-2.0
// The numbers of ggml's blocks, held to what ggml's own functions dequantize_row_* make of the same bytes: by a hash of
// 200 random blocks, those without finite scales left out, and four numbers of the first.
#include "format/ggml/types.hpp"
#include "testing.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gosset::ggml_block_test {
namespace {

struct Vector {
  std::string_view name;
  std::size_t numbers;
  std::uint64_t hash;
  std::array<float, 4> some;
};

/// Made by libggml-base of llama.cpp, as @node-llama-cpp/linux-x64 3.22.1 has it.
constexpr Vector kVectors[] = {
    {"Q4_0", 6208, 0xe480f75f0bcd0f8bu, {-0x1.9bcp+8f, -0x1.9bcp+8f, 0x1.34dp+10f, -0x1.6848p+11f}},
    {"Q4_1", 5984, 0xf6177ad443054717u, {0x1.1b14p+12f, 0x1.34dp+12f, 0x1.1b14p+12f, 0x1.9bc004p+9f}},
    {"Q5_0", 6208, 0xc99b706e492111abu, {0x1.6848p+12f, 0x1.9bcp+11f, -0x1.34dp+11f, -0x1.8204p+12f}},
    {"Q5_1", 5984, 0xd0a90f39c3d69d3eu, {0x1.41aep+13f, 0x1.9bc006p+8f, 0x1.41aep+13f, 0x1.34dp+13f}},
    {"Q8_0", 6208, 0xc638933c58c6cd05u, {0x1.27f2p+13f, 0x1.61d9p+14f, -0x1.4b548p+15f, -0x1.5b6ap+13f}},
    {"Q2_K", 46592, 0x06395bed1fde41a0u, {0x1.9edd4p+11f, 0x1.3b4b4p+10f, 0x1.7844cp+11f, 0x1.41cp+4f}},
    {"Q3_K", 49920, 0x2d602b592bb297b7u, {0x0p+0f, -0x1.b44ap+14f, 0x1.674cp+14f, -0x1.cdf4p+14f}},
    {"Q4_K", 47872, 0xc4d8632f3f8a3a87u, {0x1.1cafcp+17f, 0x1.2b298p+18f, 0x1.02f3cp+17f, 0x1.9550fep+15f}},
    {"Q5_K", 47872, 0x07f63f3b113c8077u, {0x1.4c226p+17f, 0x1.2b298p+17f, 0x1.ce6a2p+18f, 0x1.51c38p+16f}},
    {"Q6_K", 49408, 0x5cd6d6352e513801u, {-0x1.2f7f5p+14f, 0x1.5eea1p+14f, 0x1.06cbp+11f, -0x1.4febp+13f}},
    {"IQ4_NL", 6208, 0xd28be1408b2da088u, {-0x1.0158p+12f, -0x1.0158p+12f, 0x1.e8f4p+13f, -0x1.4e8cp+15f}},
    {"IQ4_XS", 49664, 0x51773ce6bee76d1bu, {0x1.1a462p+17f, 0x1.7efff8p+19f, 0x1.abd58p+17f, 0x1.3e768p+17f}},
    {"TQ1_0", 49664, 0xf81a38ef6f00095au, {-0x0p+0f, 0x1.29cp-10f, 0x1.29cp-10f, -0x0p+0f}},
    {"TQ2_0", 50432, 0xce81c198f724e69du, {0x1.cb4p+16f, 0x0p+0f, -0x1.cb4p+15f, -0x1.cb4p+15f}},
    {"MXFP4", 6400, 0x8fdbaf6047f18653u, {-0x1p-14f, 0x0p+0f, 0x0p+0f, 0x1p-15f}},
    {"IQ2_XXS", 49664, 0x6e76904584a42309u, {0x1.8204p+12f, -0x1.8204p+12f, -0x1.8ee2p+13f, 0x1.8204p+12f}},
    {"IQ2_XS", 49664, 0xc33c1f54eef487b3u, {-0x1.0158p+11f, 0x1.1b14p+12f, -0x1.3739ap+14f, 0x1.f56b1p+15f}},
    {"IQ2_S", 49664, 0xb8b6a2b2e705cc74u, {0x1.27f2p+13f, -0x1.0158p+11f, -0x1.b041dp+15f, 0x1.a6346p+14f}},
    {"IQ3_XXS", 49664, 0x04acdfc38d61487eu, {0x1.41aep+13f, -0x1.6848p+11f, -0x1.41aep+13f, 0x1.7ecc8p+15f}},
    {"IQ3_S", 49664, 0x80357fec696b0525u, {-0x1.13094p+16f, -0x1.a22fp+14f, -0x1.8204p+12f, -0x1.34dp+10f}},
};

template <class F>
class GgmlBlock : public ::testing::Test {};
TYPED_TEST_SUITE(GgmlBlock, testing::GgmlTypes, testing::GgmlNames);

template <class F>
class GgmlDecoding : public ::testing::Test {};
TYPED_TEST_SUITE(GgmlDecoding, testing::GgmlReadTypes, testing::GgmlNames);

TYPED_TEST(GgmlDecoding, DecodesAsGgmlDoes) {
  using F = TypeParam;
  std::vector<float> numbers;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const std::vector<std::uint8_t> block = testing::randomBlock<F>(i);
    if (!F::isSound(block.data())) continue;
    numbers.resize(numbers.size() + static_cast<std::size_t>(F::kBlock));
    ggml::decodeBlock<F>(block.data(), numbers.data() + numbers.size() - F::kBlock);
  }
  const auto* vector =
      std::find_if(std::begin(kVectors), std::end(kVectors), [](const Vector& v) { return v.name == F::kName; });
  ASSERT_NE(vector, std::end(kVectors));
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_EQ(numbers[i * static_cast<std::size_t>(F::kBlock / 4 + 1)], vector->some[i]);
  EXPECT_EQ(numbers.size(), vector->numbers);
  EXPECT_EQ(testing::hashBytes(numbers.data(), numbers.size() * sizeof(float)), vector->hash);
}

TYPED_TEST(GgmlDecoding, LevelsAreWithinTheirBounds) {
  using F = TypeParam;
  std::vector<std::int8_t> levels(static_cast<std::size_t>(F::kBlock));
  for (std::uint64_t i = 0; i < 200; ++i) {
    F::unpack(testing::randomBlock<F>(i).data(), levels.data());
    for (const std::int8_t level : levels) ASSERT_TRUE(level >= -F::kZero && level <= F::kMostLevel) << int{level};
  }
}

TYPED_TEST(GgmlBlock, PacksWhatItUnpacks) {
  using F = TypeParam;
  using C = typename F::Levels;
  for (std::uint64_t i = 0; i < 50; ++i) {
    BlockScales scales;
    scales.scale = F::stored(std::ldexp(1.5f, static_cast<int>(i % 9) - 4));
    scales.min = F::kMostMin > 0 ? F::stored(0.75f) : 0.f;
    std::array<std::uint8_t, static_cast<std::size_t>(F::kBlock)> codes;
    const auto random = [i](std::uint64_t k, std::size_t below) { return static_cast<int>(randomBits(i, k) % below); };
    for (std::size_t k = 0; k < codes.size(); ++k) codes[k] = static_cast<std::uint8_t>(random(k, C::kLevels));
    for (std::size_t g = 0; g < static_cast<std::size_t>(F::kBlock / F::kGroup); ++g) {
      scales.scales[g] = static_cast<std::int8_t>(F::kLeastStep + random(1000 + g, F::kMostStep - F::kLeastStep + 1));
      scales.mins[g] = static_cast<std::int8_t>(F::kMostMin == 1 ? 1 : random(2000 + g, F::kMostMin + 1));
    }
    std::vector<std::uint8_t> block(static_cast<std::size_t>(F::kBlockBytes), 0xaa);
    F::pack(scales, codes.data(), block.data());
    EXPECT_TRUE(F::isSound(block.data()));
    std::array<float, static_cast<std::size_t>(F::kBlock)> numbers;
    ggml::decodeBlock<F>(block.data(), numbers.data());
    for (std::size_t k = 0; k < codes.size(); ++k) {
      const std::size_t group = k / static_cast<std::size_t>(F::kGroup);
      ASSERT_EQ(numbers[k], scales.scaleOf(group) * C::level(codes[k]) - scales.minOf(group)) << k;
    }
  }
}

TYPED_TEST(GgmlBlock, LevelsAreThoseOfTheTables) {
  using C = typename TypeParam::Levels;
  for (int q = 0; q < C::kLevels; ++q) {
    const auto code = static_cast<std::uint8_t>(q);
    EXPECT_EQ(C::encode(C::level(code)), code);
    EXPECT_GE(C::level(code), C::level(0) + static_cast<float>(q));  // they rise
  }
  EXPECT_EQ(C::encode(-1e30f), 0);
  EXPECT_EQ(C::encode(1e30f), C::kLevels - 1);
  EXPECT_LE(C::kLevels, 1 << C::kBits);
  EXPECT_NE(C::name().find("ggml::"), std::string::npos);
}

TEST(GgmlMxfp4, StoresPowersOfTwo) {
  using ggml::MXFP4;
  EXPECT_EQ(MXFP4::stored(1), 1);
  EXPECT_EQ(MXFP4::stored(1.4f), 1);
  EXPECT_EQ(MXFP4::stored(1.5f), 2);
  EXPECT_EQ(MXFP4::stored(0), 0x1p-128f);
  EXPECT_EQ(MXFP4::stored(-1), 0x1p-128f);
  EXPECT_EQ(MXFP4::stored(1e-45f), 0x1p-128f);
  EXPECT_EQ(MXFP4::stored(std::numeric_limits<float>::max()), 0x1p127f);
  std::uint8_t block[17] = {};
  float y[32];
  for (const auto& [exponent, value] : {std::pair{0, 0x1p-128f}, {1, 0x1p-127f}, {128, 1.f}, {255, 0x1p127f}}) {
    block[0] = static_cast<std::uint8_t>(exponent);
    block[1] = 1;
    ggml::decodeBlock<MXFP4>(block, y);
    EXPECT_EQ(y[0], value);
  }
}

}  // namespace
}  // namespace gosset::ggml_block_test
