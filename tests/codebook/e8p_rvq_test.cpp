// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/e8p_rvq.hpp>

#include "testing.hpp"

#include <array>
#include <limits>
#include <vector>

namespace gosset::e8p_rvq_test {
namespace {

using Block = std::array<float, 8>;

template <class C>
class E8PRvq : public ::testing::Test {
 public:
  static double squaredError(const float* x, typename C::Code code) {
    float y[8];
    C::decode(code, y);
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += static_cast<double>(y[i] - x[i]) * static_cast<double>(y[i] - x[i]);
    return sum;
  }
};

using Codebooks = ::testing::Types<E8PRvq3, E8PRvq4>;
TYPED_TEST_SUITE(E8PRvq, Codebooks);

TEST(E8PRvqNames, BitsAndNames) {
  EXPECT_EQ(E8PRvq3::name(), "E8PRvq3");
  EXPECT_EQ(E8PRvq3::kBits, 24);
  EXPECT_EQ(E8PRvq4::name(), "E8PRvq4");
  EXPECT_EQ(E8PRvq4::kBits, 32);
}

TYPED_TEST(E8PRvq, PointsAreExactSums) {
  using Second = typename TypeParam::Second;
  for (std::uint64_t k = 0; k < 2000; ++k) {
    const auto code = static_cast<typename TypeParam::Code>(randomBits(51, k) >> (64 - TypeParam::kBits));
    Block y, coarse, fine;
    TypeParam::decode(code, y.data());
    E8P::decode(static_cast<E8P::Code>(code >> Second::kBits), coarse.data());
    Second::decode(static_cast<typename Second::Code>(code & ((1u << Second::kBits) - 1)), fine.data());
    for (std::size_t i = 0; i < 8; ++i) {
      const double exact = static_cast<double>(coarse[i]) + double{TypeParam::kStep} * static_cast<double>(fine[i]);
      ASSERT_EQ(static_cast<double>(y[i]), exact);
    }
  }
}

TYPED_TEST(E8PRvq, NeverWorseThanOneStageAfterTheOther) {
  using Second = typename TypeParam::Second;
  int better = 0;
  for (std::uint64_t k = 0; k < 3000; ++k) {
    Block x, rest;
    const double size = k % 10 == 9 ? 4 : 1;
    for (std::size_t i = 0; i < 8; ++i) x[i] = static_cast<float>(size * testing::normal(52, 8 * k + i));
    const E8P::Code first = E8P::encode(x.data());
    E8P::decode(first, rest.data());
    for (std::size_t i = 0; i < 8; ++i) rest[i] = (x[i] - rest[i]) * (1 / TypeParam::kStep);
    const auto greedy = (static_cast<typename TypeParam::Code>(first) << Second::kBits) | Second::encode(rest.data());
    const double joint = TestFixture::squaredError(x.data(), TypeParam::encode(x.data()));
    const double simple = TestFixture::squaredError(x.data(), greedy);
    ASSERT_LE(joint, simple * (1 + 1e-5)) << k;
    if (joint < simple * (1 - 1e-5)) ++better;
  }
  EXPECT_GT(better, 600);
}

TYPED_TEST(E8PRvq, BlocksAreEncodedAndDecodedAsOneByOne) {
  for (const Index count : {0, 1, 7, 15, 16, 17, 33, 65}) {
    std::vector<float> x(static_cast<std::size_t>(8 * count)), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(testing::normal(53, i));
    std::vector<typename TypeParam::Code> codes(static_cast<std::size_t>(count) + 1, 4711);
    TypeParam::encodeBlocks(x.data(), count, codes.data());
    TypeParam::decodeBlocks(codes.data(), count, y.data());
    for (std::size_t b = 0; b < static_cast<std::size_t>(count); ++b) {
      ASSERT_EQ(codes[b], TypeParam::encode(x.data() + 8 * b)) << count;
      Block point;
      TypeParam::decode(codes[b], point.data());
      for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(point[i], y[8 * b + i]) << count;
    }
    EXPECT_EQ(codes.back(), 4711u);
  }
}

TYPED_TEST(E8PRvq, OddInputsGiveACode) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (const Block& x : {Block{}, Block{kNan, 1}, Block{kInf, -kInf}, Block{3e38f, -3e38f, 3e38f}}) {
    const auto code = TypeParam::encode(x.data());
    EXPECT_EQ(static_cast<std::uint64_t>(code) >> TypeParam::kBits, 0u);
    EXPECT_EQ(code, TypeParam::encode(x.data()));
  }
}

/// The same bits on every compiler and instruction set, on inputs that need no mathematical function.
TYPED_TEST(E8PRvq, CodesAreTheSameEverywhere) {
  constexpr Index kCount = 1 << 12;
  std::vector<float> x(8 * kCount);
  for (std::uint64_t i = 0; i < x.size(); ++i) {
    float sum = -2;
    for (std::uint64_t k = 0; k < 4; ++k) sum += randomUniform(54, 4 * i + k);
    x[i] = 1.8f * sum;
  }
  std::vector<typename TypeParam::Code> codes(kCount);
  TypeParam::encodeBlocks(x.data(), kCount, codes.data());
  EXPECT_EQ(testing::hashBytes(codes.data(), codes.size() * sizeof(codes[0])),
            TypeParam::kBits == 24 ? 3227224771962970856u : 12906873075657586699u);
}

TYPED_TEST(E8PRvq, GaussianErrorAtItsScale) {
  constexpr Index kCount = 1 << 17;
  const RowMatrixXf x = testing::gaussian(1, 8 * kCount, 55);
  const auto errorAt = [&](float scale, Index count) {
    const RowMatrixXf scaled = x.leftCols(8 * count) * (1 / scale);
    std::vector<typename TypeParam::Code> codes(static_cast<std::size_t>(count));
    TypeParam::encodeBlocks(scaled.data(), count, codes.data());
    RowMatrixXf y(1, 8 * count);
    TypeParam::decodeBlocks(codes.data(), count, y.data());
    return static_cast<double>((scale * y - x.leftCols(8 * count)).squaredNorm()) / static_cast<double>(8 * count);
  };
  EXPECT_LT(errorAt(TypeParam::kGaussianScale, kCount), TypeParam::kBits == 24 ? 0.0287 : 0.0076);
  constexpr Index kPart = 1 << 15;
  const double error = errorAt(TypeParam::kGaussianScale, kPart);
  EXPECT_GT(errorAt(1.04f * TypeParam::kGaussianScale, kPart), error);
  EXPECT_GT(errorAt(0.96f * TypeParam::kGaussianScale, kPart), error);
}

}  // namespace
}  // namespace gosset::e8p_rvq_test
