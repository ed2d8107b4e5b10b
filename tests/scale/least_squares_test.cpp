// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/least_squares.hpp>

#include <gosset/codebook.hpp>

#include "same_bits.hpp"

#include <limits>
#include <span>
#include <vector>

namespace gosset::least_squares_test {
namespace {

/// The squared error over the real numbers of rows filled up with zeros, by the definition.
template <Codebook C>
double errorByHand(const RowMatrixXf& x, Affine a) {
  const Index padded = ceilDiv(x.cols(), C::kDim) * C::kDim;
  double sum = 0;
  for (Index row = 0; row < x.rows(); ++row) {
    std::vector<float> block(static_cast<std::size_t>(padded), 0.f), values(block);
    for (Index col = 0; col < x.cols(); ++col) block[static_cast<std::size_t>(col)] = x(row, col);
    std::vector<typename C::Code> codes(static_cast<std::size_t>(padded / C::kDim));
    encodeRun<C>(block.data(), padded / C::kDim, a, codes.data());
    decodeRun<C>(codes.data(), padded / C::kDim, a, values.data());
    for (Index col = 0; col < x.cols(); ++col) {
      const double error = static_cast<double>(x(row, col)) - values[static_cast<std::size_t>(col)];
      sum += error * error;
    }
  }
  return sum;
}

std::span<const float> numbersOf(const RowMatrixXf& x) { return {x.data(), static_cast<std::size_t>(x.size())}; }

/// A vector codebook that codes numbers one by one, like Symmetric<3>, but does not say so.
struct FourLevels {
  using Code = std::uint16_t;
  static constexpr int kDim = 4, kBits = 12;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 0.6f;
  static Code encode(const float* x) {
    unsigned code = 0;
    for (int i = 4; i-- > 0;) code = 8 * code + Symmetric<3>::encode(x[i]);
    return static_cast<Code>(code);
  }
  static void decode(Code q, float* y) {
    for (int i = 0; i < 4; ++i, q = static_cast<Code>(q >> 3)) y[i] = Symmetric<3>::level(q & 7);
  }
  static std::string name() { return "FourLevels"; }
};

template <class C>
class LeastSquaresOf : public ::testing::Test {};
using Vectors = ::testing::Types<E8P, E8PRvq3, Trits5>;
TYPED_TEST_SUITE(LeastSquaresOf, Vectors);

TYPED_TEST(LeastSquaresOf, CountsErrorsOnRealNumbersOnly) {
  for (const Index n : {1, 2, 4, 5, 6, 8, 9, 11, 12, 17, 63, 65}) {
    for (const Index rows : {1, 3, 40}) {
      if (rows * n > 600) continue;
      const RowMatrixXf x = testing::gaussian(rows, n, static_cast<std::uint64_t>(n));
      const Affine a = fitAffine<TypeParam, float>(LeastSquares{}, numbersOf(x), n);
      const double error = errorByHand<TypeParam>(x, a);
      const Affine published = fitAffine<TypeParam, float>(PublishedRule{}, numbersOf(x));
      EXPECT_LE(error, errorByHand<TypeParam>(x, published) * (1 + 1e-9)) << rows << " x " << n;
      if (x.size() < 100) continue;  // few numbers have a rough error, of which a narrow hollow may be missed
      double least = std::numeric_limits<double>::infinity();
      for (int k = 1; k <= 100; ++k) {
        least = std::min(least, errorByHand<TypeParam>(x, {0.03f * static_cast<float>(k), 0}));
      }
      EXPECT_LE(error, least * 1.01) << rows << " x " << n;
    }
  }
}

TEST(LeastSquares, Trits5TakesTheScalesOfTernary) {
  for (const Index n : testing::kOddSizes) {
    const RowMatrixXf x = testing::gaussian(2, n);
    EXPECT_EQ((fitAffine<Trits5, Float16>(LeastSquares{}, numbersOf(x), n)),
              (fitAffine<Ternary, Float16>(LeastSquares{}, numbersOf(x))));
  }
}

TEST(LeastSquares, ACodebookThatIsSearchedByEncodingComesAsFar) {
  for (const Index n : {8, 63, 65, 172}) {
    const RowMatrixXf x = testing::gaussian(1, n);
    const auto quick = errorByHand<Symmetric<3>>(x, fitAffine<Symmetric<3>, float>(LeastSquares{}, numbersOf(x)));
    const auto slow = errorByHand<FourLevels>(x, fitAffine<FourLevels, float>(LeastSquares{}, numbersOf(x)));
    EXPECT_LE(std::abs(quick - slow), 0.1 * quick) << n;
  }
}

/// Asymmetric<3>, whose levels compilers do not know, so that its ranges are searched by encoding.
struct EightLevels {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 3, kLevels = 8;
  static constexpr bool kHasZero = true;
  static constexpr ScaleRule kRule = ScaleRule::kMinMax;
  static Code encode(float x) { return Asymmetric<3>::encode(x); }
  static float level(Code q) { return Asymmetric<3>::level(q); }
  static std::string name() { return "EightLevels"; }
};
static_assert(!detail::ConstexprLevels<EightLevels>);

/// A search that leaves out ranges, or does not go on between them, loses half a percent and more.
TEST(LeastSquares, RangesThatAreSearchedByEncodingComeAsFarOnAverage) {
  double ratios = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const RowMatrixXf x = testing::gaussian(1, 128, seed);
    const Affine quick = fitAffine<Asymmetric<3>, float>(LeastSquares{}, numbersOf(x));
    const Affine slow = fitAffine<EightLevels, float>(LeastSquares{}, numbersOf(x));
    ratios += errorByHand<EightLevels>(x, slow) / errorByHand<Asymmetric<3>>(x, quick);
  }
  EXPECT_LT(ratios / 100, 1.003);
}

/// The search ends where the least-squares scale for the codes that it leads to is no better.
TEST(LeastSquares, EndsWhereItsCodesAskForNoOtherScale) {
  const auto check = []<ScalarCodebook C>(C) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      const RowMatrixXf x = testing::gaussian(1, 65, seed);
      const Affine a = fitAffine<C, float>(LeastSquares{}, numbersOf(x));
      double products = 0, squares = 0;
      for (const float value : numbersOf(x)) {
        const double level = static_cast<double>(C::level(encode<C>(&value, a)));
        products += level * static_cast<double>(value);
        squares += level * level;
      }
      const Affine again{static_cast<float>(products / squares), 0};
      EXPECT_GE(errorByHand<C>(x, again), errorByHand<C>(x, a) * (1 - 1e-9)) << C::name() << ", " << seed;
    }
  };
  check(Symmetric<3>{});
  check(Symmetric<4>{});
  check(NormalFloat4{});
}

/// How the search goes shows only in what it finds: scales and zero points of bells, of which every third has a number
/// far out.
TEST(LeastSquares, FindsTheSameEverywhere) {
  testing::SameBits bits({
      {"Symmetric<3>", 0xc49baea614cd0543u},
      {"Symmetric<8>", 0xdd92c986dd6340ecu},
      {"NormalFloat4", 0x2e8781c5920dc2cfu},
      {"Asymmetric<2>", 0x98c7e4acf85b31e3u},
      {"Asymmetric<4>", 0x3b5d04cdba72fb9fu},
      {"FourLevels", 0x2abdcccb0f9b23ecu},
      {"E8P", 0x467e45db8fdad58cu},
  });
  const auto check = [&]<Codebook C>(C) {
    RowMatrixXf x = testing::sameNumbers(60, 65, 1);
    for (Index row = 0; row < 60; row += 3) x(row, row) *= 8;
    std::vector<Affine> found;
    for (Index row = 0; row < 60; ++row) {
      found.push_back(fitAffine<C, Float16>(LeastSquares{}, numbersOf(x.row(row)), 65));
      found.push_back(fitAffine<C, float>(LeastSquares{}, numbersOf(x.row(row)), 65));
    }
    bits.check(C::name(), testing::hashBytes(found.data(), found.size() * sizeof(Affine)));
  };
  check(Symmetric<3>{});
  check(Symmetric<8>{});
  check(NormalFloat4{});
  check(Asymmetric<2>{});
  check(Asymmetric<4>{});
  check(E8P{});
  check(FourLevels{});
  bits.finish();
}

/// Max, Quantizing for Minimum Distortion, 1960, table II: evenly spaced levels.
TEST(LeastSquares, OfManyGaussianNumbersIsTheBestUniformQuantizer) {
  RowMatrixXf x = testing::gaussian(64, 1024, 8);
  x(0, 1) = -5.2f;  // as far as the ends of millions are
  x(0, 2) = 4.9f;
  const auto check = [&]<class C>(C, double expected) {
    const Affine map = fitAffine<C, float>(LeastSquares{}, numbersOf(x), x.cols());
    EXPECT_NEAR(errorByHand<C>(x, map) / static_cast<double>(x.size()), expected, expected / 50);
  };
  check(Asymmetric<2>{}, .1188);
  check(Asymmetric<3>{}, .03744);
  check(Asymmetric<4>{}, .01154);
}

TEST(LeastSquares, SignsNeedNoSearch) {
  const float x[] = {1, -2, 3, -6};
  EXPECT_EQ((fitAffine<Binary, float>(LeastSquares{}, x)), (Affine{3, 0}));
  EXPECT_EQ((fitAffine<LloydMax<1>, float>(LeastSquares{}, x)), (Affine{3, 0}));
}

TEST(LeastSquares, TheBestLineByHand) {
  // Codes 0, 1, 2, 3 whatever the details: x ~ 2 level - 1 + noise, the line being fitted to four points.
  const float x[] = {-1.125f, 1.125f, 3.125f, 4.875f};
  const Affine a = fitAffine<Asymmetric<2>, float>(LeastSquares{}, x);
  EXPECT_FLOAT_EQ(a.scale, 2);            // (-1.5 * -3.125 - 0.5 * -0.875 + 0.5 * 1.125 + 1.5 * 2.875) / 5
  EXPECT_FLOAT_EQ(a.zero, 1.5f - 2 / 2);  // the means are 1.5 and 2
}

}  // namespace
}  // namespace gosset::least_squares_test
