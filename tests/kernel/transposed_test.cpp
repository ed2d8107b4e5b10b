// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/transposed.hpp>

#include <gosset/codebook.hpp>
#include <gosset/kernel/definition.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/trits5_tile.hpp>

#include "kernel/random_codes.hpp"

namespace gosset::GOSSET_ABI::detail::transposed_test {
namespace {

/// In groups of so many tiles, or columns where these end within tiles.
template <class C, class T, int kPieces = 1>
void checkTransposed(Index rows, Index n, Index tokens, Index group, bool one_scale = false) {
  const RandomCodes<C, T, kPieces> w(rows, n, group, one_scale);
  const Index xStride = rows + 3, yStride = n + 5;
  const Eigen::MatrixXf x = testing::gaussian(xStride, tokens, 3);
  Eigen::MatrixXf y = testing::gaussian(yStride, tokens, 4), expected = y;
  const Eigen::MatrixXf before = y;
  addTransposedDefinition(w.view, n, 0.5f, x.data(), tokens, xStride, expected.data(), yStride);
  const float bound = 2e-5f * ((expected - before).norm() + 1);
  addTransposedFloat(w.view, n, 0.5f, x.data(), tokens, xStride, y.data(), yStride);
  ASSERT_LE((y - expected).topRows(n).norm(), bound) << rows << " x " << n << " x " << tokens;
  ASSERT_EQ(y.bottomRows(5), before.bottomRows(5));
  if constexpr (TileCode<C>::kExact) {
    y = before;
    addTransposedInteger(w.view, n, 0.5f, x.data(), tokens, xStride, y.data(), yStride);
    ASSERT_LE((y - expected).topRows(n).norm(), bound) << rows << " x " << n << " x " << tokens << ", integers";
    ASSERT_EQ(y.bottomRows(5), before.bottomRows(5));
  }
}

template <class C>
class TransposedTest : public ::testing::Test {};
using Codebooks = ::testing::Types<Binary, Ternary, Trits5, Asymmetric<2>, Asymmetric<3>, Asymmetric<4>, Asymmetric<5>,
                                   Symmetric<8>, NormalFloat4, LloydMax<2>, E8P, E8PRvq3, Trellis<2>, TrellisMixed>;
TYPED_TEST_SUITE(TransposedTest, Codebooks);

TYPED_TEST(TransposedTest, OddShapes) {
  for (const Index rows : {1, 9, 16, 65, 128}) {
    for (const Index n : testing::kOddSizes) {
      for (const Index tokens : {1, 2, 4, 15}) {
        if (rows * n * tokens > 65 * 172) continue;
        checkTransposed<TypeParam, Float16>(rows, n, tokens, 2);
      }
    }
  }
}

TYPED_TEST(TransposedTest, GroupsOfEveryWidthAndOneScaleForAll) {
  for (const Index tokens : {1, 4}) {
    for (const Index group_tiles : {1, 3, 50}) checkTransposed<TypeParam, Float16>(33, 417, tokens, group_tiles);
    checkTransposed<TypeParam, Float16>(33, 417, tokens, 14, true);
  }
}

template <class C>
class NarrowTransposedTest : public ::testing::Test {};
using NarrowTransposedCodebooks = ::testing::Types<Trits5, Asymmetric<3>, E8P>;
TYPED_TEST_SUITE(NarrowTransposedTest, NarrowTransposedCodebooks);

TYPED_TEST(NarrowTransposedTest, GroupsThatEndWithinTiles) {
  for (const Index tokens : {1, 4}) {
    for (const Index codes : {1, 2, 5, 9, 50}) {
      checkTransposed<TypeParam, Float16, 0>(33, 165, tokens, codes * kBlockColumns<TypeParam>);
    }
    checkTransposed<TypeParam, Float16, 0>(17, 43, tokens, 1000 * kBlockColumns<TypeParam>, true);
  }
}

TYPED_TEST(TransposedTest, WholeTilesAndOneMore) {
  for (const Index n : {160, 161, 320}) checkTransposed<TypeParam, Float16>(33, n, 2, 1);
}

TYPED_TEST(TransposedTest, ManyRows) {
  for (const Index rows : {511, 512, 513, 1040}) checkTransposed<TypeParam, Float16>(rows, 65, 4, 1);
}

TEST(Transposed, ScalesInEveryType) {
  checkTransposed<Asymmetric<3>, BFloat16>(33, 417, 1, 2);
  checkTransposed<Asymmetric<3>, float>(33, 417, 9, 2);
}

TEST(Transposed, SumsOfLanes) {
  simd::Floats v[16];
  for (int i = 0; i < 16; ++i) {
    for (int lane = 0; lane < simd::kWordLanes; ++lane) v[i][lane] = static_cast<float>(100 * i + lane * lane);
  }
  const auto expectSums = [&](auto count) {
    float sums[count];
    storeSums<count>(v, sums);
    for (int i = 0; i < count; ++i) {
      float expected = 0;
      for (int lane = 0; lane < simd::kWordLanes; ++lane) expected += v[i][lane];
      EXPECT_EQ(sums[i], expected) << i << " of " << count;
    }
  };
  expectSums(std::integral_constant<int, 1>{});
  expectSums(std::integral_constant<int, 2>{});
  expectSums(std::integral_constant<int, 4>{});
  expectSums(std::integral_constant<int, 8>{});
  expectSums(std::integral_constant<int, 16>{});
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::transposed_test
