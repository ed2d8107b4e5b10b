// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/lloyd_max.hpp>

#include <gosset/theory/gaussian_quantizers.hpp>

#include "testing.hpp"

namespace gosset::lloyd_max_test {
namespace {

template <class C>
class LloydMaxTest : public ::testing::Test {};
using Widths = ::testing::Types<LloydMax<1>, LloydMax<2>, LloydMax<3>, LloydMax<4>>;
TYPED_TEST_SUITE(LloydMaxTest, Widths);

TYPED_TEST(LloydMaxTest, LevelsAreThoseThatTheCentroidConditionGives) {
  const GaussianQuantizer derived = lloydMax(TypeParam::kLevels);
  for (int q = 0; q < TypeParam::kLevels; ++q) {
    EXPECT_NEAR(TypeParam::kGaussianScale * TypeParam::level(static_cast<std::uint8_t>(q)),
                derived.levels[static_cast<std::size_t>(q)], 1e-6);
  }
  for (std::size_t i = 0; i < TypeParam::kLevels / 2; ++i) {
    EXPECT_NEAR(detail::kLloydMaxLevels<TypeParam::kBits>[i], derived.levels[TypeParam::kLevels / 2 + i], 1e-8);
  }
}

TYPED_TEST(LloydMaxTest, TheTableIsInUnitsOfItsLargestLevel) {
  EXPECT_EQ(TypeParam::level(0), -1.f);
  EXPECT_EQ(TypeParam::level(TypeParam::kLevels - 1), 1.f);
  for (int q = 0; q < TypeParam::kLevels; ++q) {
    EXPECT_EQ(TypeParam::level(static_cast<std::uint8_t>(q)),
              -TypeParam::level(static_cast<std::uint8_t>(TypeParam::kLevels - 1 - q)));
  }
}

TYPED_TEST(LloydMaxTest, ItsScaleIsTheBestForAGaussian) {
  const double scale = TypeParam::kGaussianScale;
  const double least = gaussianMse<TypeParam>(scale);
  EXPECT_NEAR(least, lloydMax(TypeParam::kLevels).mse, 1e-9);
  EXPECT_GT(gaussianMse<TypeParam>(scale * 1.01), least);
  EXPECT_GT(gaussianMse<TypeParam>(scale / 1.01), least);
}

TEST(LloydMax, Names) { EXPECT_EQ(LloydMax<3>::name(), "LloydMax<3>"); }

}  // namespace
}  // namespace gosset::lloyd_max_test
