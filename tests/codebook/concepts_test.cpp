// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/concepts.hpp>

#include "scalar_codebooks.hpp"

#include <limits>

namespace gosset::concepts_test {
namespace {

// The concepts tell codebooks from other types, and say which half of the algebra a codebook belongs to.
struct Pair {  // a vector codebook: two numbers, one code
  using Code = std::uint8_t;
  static constexpr int kDim = 2;
  static constexpr int kBits = 2;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 0.8f;
  static Code encode(const float* x) { return static_cast<Code>((x[0] >= 0) + 2 * (x[1] >= 0)); }
  static void decode(Code q, float* y) {
    y[0] = q % 2 == 1 ? 1.f : -1.f;
    y[1] = q / 2 == 1 ? 1.f : -1.f;
  }
  static std::string name() { return "Pair"; }
};
static_assert(VectorCodebook<Pair> && Codebook<Pair> && !ScalarCodebook<Pair>);
static_assert(!VectorCodebook<Binary> && !Codebook<int> && !Codebook<std::string>);

struct NoScale : Pair {  // the root-mean-square rule needs the Gaussian's scale
  static constexpr const char* kGaussianScale = "none";
};
static_assert(!Codebook<NoScale>);

template <class C>
class ScalarCodebookTest : public ::testing::Test {};
TYPED_TEST_SUITE(ScalarCodebookTest, testing::ScalarCodebooks, testing::CodebookName);

/// Does the upper of the levels of codes i and i + 1 win at equal distance? The even level where levels are whole
/// numbers, else the even code; Binary takes zero as positive.
template <class C>
bool upperWinsTie(int i) {
  if constexpr (std::is_same_v<C, Binary>) return true;
  const auto levels = testing::levelsOf<C>();
  const bool whole = std::ranges::all_of(levels, [](double level) { return level == std::nearbyint(level); }) &&
                     !std::is_same_v<C, LloydMax<1>>;
  if (whole) return std::fmod(levels[static_cast<std::size_t>(i) + 1], 2) == 0;
  return i % 2 == 1;
}

/// The nearest level by its definition, in double, where all of this is exact.
template <class C>
int nearestCode(float x) {
  const auto levels = testing::levelsOf<C>();
  int code = 0;
  for (int i = 0; i + 1 < C::kLevels; ++i) {
    const double twice_middle = levels[static_cast<std::size_t>(i)] + levels[static_cast<std::size_t>(i) + 1];
    const double twice = 2 * static_cast<double>(x);
    if (twice > twice_middle || (twice == twice_middle && upperWinsTie<C>(i))) code = i + 1;
  }
  return code;
}

TYPED_TEST(ScalarCodebookTest, LevelsRiseAndComeBack) {
  static_assert(ScalarCodebook<TypeParam>);
  static_assert(TypeParam::encode(TypeParam::level(1)) == 1, "usable at compile time");
  static_assert(TypeParam::kLevels <= 1 << TypeParam::kBits && TypeParam::kLevels > 1 << (TypeParam::kBits - 1));
  const auto levels = testing::levelsOf<TypeParam>();
  for (int q = 0; q < TypeParam::kLevels; ++q) {
    const auto code = static_cast<typename TypeParam::Code>(q);
    EXPECT_EQ(TypeParam::encode(TypeParam::level(code)), code);
    if (q == 0) continue;
    EXPECT_LT(levels[static_cast<std::size_t>(q) - 1], levels[static_cast<std::size_t>(q)]);
  }
}

TYPED_TEST(ScalarCodebookTest, EncodesToTheNearestLevel) {
  const auto levels = testing::levelsOf<TypeParam>();
  const auto check = [](float x) {
    ASSERT_EQ(static_cast<int>(TypeParam::encode(x)), nearestCode<TypeParam>(x)) << "x = " << x;
  };
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
    const auto middle = static_cast<float>((levels[i] + levels[i + 1]) / 2);  // a tie wherever a float can be one
    for (const float x : {std::nextafter(middle, -1e9f), middle, std::nextafter(middle, 1e9f)}) check(x);
  }
  const double width = levels.back() - levels.front();
  for (int i = 0; i <= 4000; ++i) check(static_cast<float>(levels.front() + width * (i / 2000.0 - 0.5)));
  for (std::uint64_t i = 0; i < 4000; ++i) check(static_cast<float>(testing::normal(3, i) * width / 4));
}

TYPED_TEST(ScalarCodebookTest, ZerosAndDenormals) {
  for (const float tiny : {0.f, 0x1p-149f, 0x1p-126f}) {
    EXPECT_EQ(static_cast<int>(TypeParam::encode(tiny)), nearestCode<TypeParam>(tiny)) << tiny;
    EXPECT_EQ(static_cast<int>(TypeParam::encode(-tiny)), nearestCode<TypeParam>(-tiny)) << -tiny;
  }
  EXPECT_EQ(TypeParam::encode(-0.f), TypeParam::encode(0.f));
}

TYPED_TEST(ScalarCodebookTest, BeyondTheEndsTheEndCodes) {
  const auto levels = testing::levelsOf<TypeParam>();
  for (const float far : {1.f, 1e3f, 1e9f, 1e38f, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(TypeParam::encode(static_cast<float>(levels.front()) - far), 0);
    EXPECT_EQ(TypeParam::encode(static_cast<float>(levels.back()) + far), TypeParam::kLevels - 1);
  }
}

}  // namespace
}  // namespace gosset::concepts_test
