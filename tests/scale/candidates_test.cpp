// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/candidates.hpp>

#include "scalar_codebooks.hpp"

#include <limits>
#include <span>
#include <vector>

namespace gosset::candidates_test {
namespace {

using detail::CandidateErrors;
using detail::Candidates;
using detail::kCandidates;

Candidates someMaps(bool has_zero) {
  Candidates maps;
  for (int i = 0; i < kCandidates; ++i) {
    // Quotients, which no compiler fuses with a sum.
    maps[static_cast<std::size_t>(i)] = {static_cast<float>(5 + 11 * i) / 100,
                                         has_zero ? static_cast<float>(3 * i) / 10 : 0.f};
  }
  return maps;
}

template <ScalarCodebook C>
double errorByHand(std::span<const float> x, Affine a) {
  double sum = 0;
  for (const float value : x) {
    float y;
    decode<C>(encode<C>(&value, a), a, &y);
    sum += (static_cast<double>(value) - y) * (static_cast<double>(value) - y);
  }
  return sum;
}

template <class C>
class CandidatesOf : public ::testing::Test {};
TYPED_TEST_SUITE(CandidatesOf, testing::ScalarCodebooks, testing::CodebookName);

TYPED_TEST(CandidatesOf, ErrorsAreNearlyThoseOfEncodingAndDecoding) {
  static_assert(detail::QuickCodebook<TypeParam>);
  const Candidates maps = someMaps(TypeParam::kHasZero);
  for (const Index n : testing::kOddSizes) {
    const RowMatrixXf w = testing::gaussian(1, 3 * n);
    const std::span<const float> x(w.data(), static_cast<std::size_t>(3 * n));
    const auto errors = CandidateErrors<TypeParam>(maps)(x);
    for (std::size_t i = 0; i < maps.size(); ++i) {
      const double expected = errorByHand<TypeParam>(x, maps[i]);
      EXPECT_NEAR(errors[i], expected, 0x1p-9 * expected) << n << ' ' << i;
    }
  }
}

TYPED_TEST(CandidatesOf, AScaleOfZeroIsNoCandidate) {
  const float x[] = {1, -2, 0, -0.f};
  Candidates maps{};
  maps[3].scale = 1;
  const auto errors = CandidateErrors<TypeParam>(maps)(x);
  EXPECT_EQ(errors[0], std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isfinite(errors[3]));
}

TEST(Candidates, KnownAnswers) {
  const float x[] = {0.25f, -1.25f, 5, -0.f};
  Candidates maps{};
  maps.fill({0.5f, 0});
  maps[1] = {1, 0};
  maps[2] = {1, 0.25f};
  const auto symmetric = CandidateErrors<Symmetric<3>>(maps)(x);  // levels -3 .. 3
  EXPECT_NEAR(symmetric[0], 0.0625 + 0.0625 + 3.5 * 3.5, 1e-6);
  EXPECT_NEAR(symmetric[1], 0.0625 + 0.0625 + 4, 1e-6);
  const auto asymmetric = CandidateErrors<Asymmetric<2>>(maps)(x);  // levels 0 .. 3, less 1/4
  EXPECT_NEAR(asymmetric[2], 0.25 + 1 + 2.25 * 2.25 + 0.0625, 1e-6);
}

template <class C>
void addBits(std::vector<double>& all) {
  const RowMatrixXf w = testing::gaussian(1, 1417);
  const auto errors = CandidateErrors<C>(someMaps(C::kHasZero))(std::span<const float>(w.data(), 1417));
  all.insert(all.end(), errors.begin(), errors.end());
}

TEST(Candidates, TheSameBitsEverywhere) {
  std::vector<double> all;
  addBits<Symmetric<4>>(all);
  addBits<Asymmetric<3>>(all);
  addBits<Asymmetric<8>>(all);
  addBits<NormalFloat4>(all);
  addBits<Ternary>(all);
  EXPECT_EQ(testing::hashBytes(all.data(), all.size() * sizeof(double)), 11856481158753300384u);
}

}  // namespace
}  // namespace gosset::candidates_test
