// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/level_sums.hpp>

#include <gosset/core/exact_sum.hpp>
#include <gosset/scale/level_codes.hpp>

#include "scalar_codebooks.hpp"

#include <array>
#include <vector>

namespace gosset::level_sums_test {
namespace {

using detail::LevelSums;

template <class C>
class LevelSumsOf : public ::testing::Test {};
using Codebooks = ::testing::Types<Symmetric<2>, Symmetric<4>, Symmetric<8>, Ternary, Asymmetric<1>, Asymmetric<3>,
                                   Asymmetric<8>, LloydMax<1>, LloydMax<2>, LloydMax<3>, NormalFloat4>;
TYPED_TEST_SUITE(LevelSumsOf, Codebooks, testing::CodebookName);

/// By encoding and decoding each number.
template <ScalarCodebook C>
LevelSums sumsByHand(const std::vector<float>& x, const Affine& a, float middle, float mean) {
  const auto n = static_cast<Index>(x.size());
  const auto at = [&](Index i) { return x[static_cast<std::size_t>(i)]; };
  const auto level = [&](Index i) {
    const float number = at(i);
    return C::level(encode<C>(&number, a)) - middle;
  };
  const auto off = [&](Index i) {
    const float number = at(i);
    return number - simd::unfused(a.scale * (C::level(encode<C>(&number, a)) - a.zero));
  };
  return {sumOfSquares(n, off), C::kHasZero ? sumOf(n, level) : 0, sumOfSquares(n, level),
          sumOfProducts(n, [&](Index i) {
            return std::array<float, 2>{level(i), at(i) - mean};
          })};
}

TYPED_TEST(LevelSumsOf, AreThoseOfEncodingToTheBit) {
  using C = TypeParam;
  const std::string running = instructionSet();
  constexpr float kMiddle = C::kHasZero ? C::kLevels / 2 : 0, kMean = C::kHasZero ? 0.25f : 0;
  const Affine maps[] = {{0.3f, 0}, {0.01f, 0}, {3, 0}, {0, 0}, {0.17f, C::kHasZero ? 1.3f : 0}};
  detail::LevelsOfSums levels{C::kHasZero, C::level(0), C::level(C::kLevels - 1), kMiddle, nullptr, nullptr};
  std::array<float, 16> thresholds, table;
  if constexpr (detail::CountsThresholds<C>) {
    thresholds = detail::sixteenThresholds<C>();
    table = detail::sixteenLevels<C>();
    levels.thresholds = thresholds.data();
    levels.levels = table.data();
  }
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    for (const Index n : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 64, 100, 256}) {
      const RowMatrixXf w = testing::gaussian(1, n, static_cast<std::uint64_t>(n));
      const std::vector<float> x(w.data(), w.data() + n);
      for (const Affine& a : maps) {
        const LevelSums expected = sumsByHand<C>(x, a, kMiddle, kMean);
        const LevelSums sums = detail::levelSums(levels, x.data(), n, a, kMean);
        EXPECT_EQ(sums.error, expected.error) << set << ' ' << n << ' ' << a.scale;
        EXPECT_EQ(sums.levels, expected.levels) << set << ' ' << n << ' ' << a.scale;
        EXPECT_EQ(sums.squares, expected.squares) << set << ' ' << n << ' ' << a.scale;
        EXPECT_EQ(sums.products, expected.products) << set << ' ' << n << ' ' << a.scale;
      }
    }
  }
  useInstructionSet(running);
}

TEST(LevelSums, DifferencesAddUpInTheOrderOfSumOf) {
  const std::string running = instructionSet();
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    for (const Index n : {1, 7, 8, 9, 16, 21, 33, 300}) {
      const RowMatrixXf w = testing::gaussian(1, n, static_cast<std::uint64_t>(n));
      const double expected = sumOf(n, [&](Index i) { return w(0, i) - 0.7f; });
      EXPECT_EQ(detail::sumOfDifferences(w.data(), n, 0.7f), expected) << set << ' ' << n;
    }
  }
  useInstructionSet(running);
}

}  // namespace
}  // namespace gosset::level_sums_test
