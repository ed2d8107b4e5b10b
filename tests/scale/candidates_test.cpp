// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/candidates.hpp>

#include "scalar_codebooks.hpp"

#include <limits>
#include <numeric>
#include <span>
#include <vector>

namespace gosset::candidates_test {
namespace {

using detail::kCandidates;
using detail::Sixteen;

/// Scales of .05 to 1.7 in 10 bits, and zero points less the middle level.
Sixteen someMaps(bool has_zero) {
  Sixteen maps{};
  for (int i = 0; i < kCandidates; ++i) {
    maps.inverse[i] = detail::shortened<14>(100 / static_cast<float>(5 + 11 * i));
    maps.zero[i] = has_zero ? static_cast<float>(3 * i - 20) / 10 : 0.f;
  }
  return maps;
}

std::vector<float> someNumbers(Index n) {
  const RowMatrixXf w = testing::gaussian(1, n);
  std::vector<float> numbers(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) numbers[static_cast<std::size_t>(i)] = detail::shortened<10>(w(0, i));
  return numbers;
}

void refit(const std::vector<float>& x, const detail::QuickLevels& levels, Sixteen& maps) {
  float sum = 0, squares = 0;
  for (const float value : x) {
    sum += value;
    squares += value * value;
  }
  detail::refitSixteen({x.data(), static_cast<Index>(x.size()), sum, squares}, levels, maps);
}

/// Of the codes that a map leads to: the squared errors of the map, of another one, and the least of all maps.
struct Errors {
  double before, after, least;
};
template <ScalarCodebook C>
Errors errorsByHand(const std::vector<float>& x, Affine map, Affine other) {
  constexpr float kMiddle = detail::middleLevel<C>();
  const auto n = static_cast<double>(x.size());
  const double mean = C::kHasZero ? std::accumulate(x.begin(), x.end(), 0.) / n : 0;
  std::vector<double> levels;
  for (const float value : x) {
    levels.push_back(static_cast<double>(C::level(C::encode(value / map.scale + (map.zero + kMiddle))) - kMiddle));
  }
  const double mean_level = C::kHasZero ? std::accumulate(levels.begin(), levels.end(), 0.) / n : 0;
  double squares = 0, products = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    squares += (levels[i] - mean_level) * (levels[i] - mean_level);
    products += (levels[i] - mean_level) * (static_cast<double>(x[i]) - mean);
  }
  const double scale = squares > 0 ? products / squares : 0;
  Errors errors{};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto square = [](double off) { return off * off; };
    const auto off = [&](const Affine& a) {
      return static_cast<double>(x[i]) - static_cast<double>(a.scale) * (levels[i] - static_cast<double>(a.zero));
    };
    errors.before += square(off(map));
    errors.after += square(off(other));
    errors.least += square(static_cast<double>(x[i]) - mean - scale * (levels[i] - mean_level));
  }
  return errors;
}

template <class C>
class CandidatesOf : public ::testing::Test {};
TYPED_TEST_SUITE(CandidatesOf, testing::ScalarCodebooks, testing::CodebookName);

TYPED_TEST(CandidatesOf, BecomeTheLeastSquaresOfTheirCodes) {
  static_assert(detail::QuickCodebook<TypeParam>);
  const auto levels = detail::quickLevels<TypeParam>();
  for (const Index n : {2, 3, 17, 48, 64, 512, 515, 1600}) {
    const std::vector<float> x = someNumbers(n);
    const Sixteen before = someMaps(TypeParam::kHasZero);
    Sixteen maps = before;
    refit(x, levels, maps);
    for (int i = 0; i < kCandidates; ++i) {
      const Affine map{1 / before.inverse[i], before.zero[i]}, refitted{maps.scale[i], maps.zero[i]};
      const Errors errors = errorsByHand<TypeParam>(x, map, refitted);
      const double unsure = 0x1p-7 * errors.before + 1e-6 * static_cast<double>(n);
      EXPECT_GE(maps.error[i], errors.least - unsure) << n << ' ' << i;
      if (errors.before > 1.25 * errors.least) continue;  // numbers far beyond the levels
      EXPECT_LE(maps.error[i], errors.least + unsure) << n << ' ' << i;
      EXPECT_LE(errors.after, errors.least + unsure) << n << ' ' << i;
    }
  }
}

TYPED_TEST(CandidatesOf, WhatIsNoMapHasAnInfiniteError) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {1, -2, 0, -0.f, 3};
  Sixteen maps = someMaps(TypeParam::kHasZero);
  maps.inverse[2] = infinity;
  maps.inverse[5] = std::numeric_limits<float>::quiet_NaN();
  refit(x, detail::quickLevels<TypeParam>(), maps);
  for (int i = 0; i < kCandidates; ++i) EXPECT_EQ(maps.error[i] == infinity, i == 2 || i == 5) << i;
}

TEST(Candidates, KnownAnswers) {
  const std::vector<float> x = {0.25f, -1.25f, 5, -0.f};
  Sixteen maps{};
  for (float& inverse : maps.inverse) inverse = 1;
  maps.inverse[1] = 2;
  refit(x, detail::quickLevels<Symmetric<3>>(), maps);  // levels -3 .. 3
  // Codes 0, -1, 3, 0: scale (1.25 + 15) / 10.
  EXPECT_NEAR(maps.scale[0], 1.625, 1e-3);
  EXPECT_NEAR(maps.error[0], 0.0625 + 0.375 * 0.375 + 0.125 * 0.125, 1e-3);
  // Codes 0, -2, 3, 0 (-2.5 goes to the even one): scale (2.5 + 15) / 13.
  EXPECT_NEAR(maps.scale[1], 17.5 / 13, 1e-3);
}

template <class C>
void addBits(std::vector<float>& all) {
  Sixteen maps = someMaps(C::kHasZero);
  const std::vector<float> x = someNumbers(1417);
  refit(x, detail::quickLevels<C>(), maps);
  all.insert(all.end(), maps.scale, maps.scale + kCandidates);
  all.insert(all.end(), maps.error, maps.error + kCandidates);
  if (C::kHasZero) all.insert(all.end(), maps.zero, maps.zero + kCandidates);
}

TEST(Candidates, TheSameBitsEverywhere) {
  const std::string running = instructionSet();
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    std::vector<float> all;
    addBits<Symmetric<4>>(all);
    addBits<Asymmetric<3>>(all);
    addBits<Asymmetric<8>>(all);
    addBits<NormalFloat4>(all);
    addBits<LloydMax<3>>(all);
    addBits<LloydMax<2>>(all);
    addBits<Ternary>(all);
    EXPECT_EQ(testing::hashBytes(all.data(), all.size() * sizeof(float)), 181330106731158671u) << set;
  }
  useInstructionSet(running);
}

template <ScalarCodebook C>
double errorByHand(std::span<const float> x, Affine a) {
  double sum = 0;
  for (const float value : x) {
    float y;
    decode<C>(encode<C>(&value, a), a, &y);
    sum +=
        (static_cast<double>(value) - static_cast<double>(y)) * (static_cast<double>(value) - static_cast<double>(y));
  }
  return sum;
}

template <ScalarCodebook C>
Affine searched(std::span<const float> x) {
  const detail::Extremes range = detail::extremes(x);
  float mean = 0;
  if (C::kHasZero) mean = std::accumulate(x.begin(), x.end(), 0.f) / static_cast<float>(x.size());
  std::vector<float> room(x.size() + 16);
  return detail::searchLevels({x.data(), static_cast<Index>(x.size()), range.min, range.max, mean, room.data()},
                              detail::quickLevels<C>());
}

/// Against many maps in a grid about what is found: of scales, and of zero points where there are.
TYPED_TEST(CandidatesOf, TheSearchComesNearTheBestOfMany) {
  using C = TypeParam;
  for (const Index n : {40, 64, 200, 1000}) {
    for (const float scale : {1.f, 0x1p-100f, 0x1p90f}) {
      const RowMatrixXf w = (testing::gaussian(1, n, static_cast<std::uint64_t>(n)).array() + 0.3f) * scale;
      const std::span<const float> x(w.data(), static_cast<std::size_t>(n));
      const Affine found = searched<C>(x);
      const double error = errorByHand<C>(x, found);
      double least = std::numeric_limits<double>::infinity();
      for (int i = -20; i <= 20; ++i) {
        for (int k = C::kHasZero ? -12 : 0; k <= (C::kHasZero ? 12 : 0); ++k) {
          const float factor = std::exp(0.06f * static_cast<float>(i));
          const Affine a{found.scale * factor, found.zero + 0.12f * static_cast<float>(k)};
          least = std::min(least, errorByHand<C>(x, a));
        }
      }
      EXPECT_LE(error, 1.03 * least) << n << ' ' << scale;
    }
  }
}

}  // namespace
}  // namespace gosset::candidates_test
