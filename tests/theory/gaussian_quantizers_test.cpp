// SPDX-License-Identifier: Apache-2.0
#include <gosset/theory/gaussian_quantizers.hpp>

#include <gosset/codebook.hpp>
#include <gosset/theory/rate_distortion.hpp>

#include "testing.hpp"

namespace gosset::gaussian_quantizers_test {
namespace {

/// Mean squared error by the trapezium rule, on nothing but the definition of nearest.
double integratedMse(const std::vector<double>& levels) {
  constexpr double kStep = 1.0 / 4096;
  double sum = 0;
  for (double x = -9; x <= 9; x += kStep) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const double level : levels) nearest = std::min(nearest, (x - level) * (x - level));
    sum += nearest * std::exp(-x * x / 2);
  }
  return sum * kStep / std::sqrt(2 * std::numbers::pi);
}

/// The scale with the least error, to 1e-3.
template <ScalarCodebook C>
double bestMse(double from, double to) {
  double best = std::numeric_limits<double>::infinity();
  for (double scale = from; scale < to; scale += 1e-3) best = std::min(best, gaussianMse<C>(scale));
  return best;
}

TEST(GaussianQuantizers, ClosedFormAgreesWithIntegration) {
  for (const std::vector<double>& levels : std::vector<std::vector<double>>{
           {0.0}, {-0.8, 0.8}, {-1.0, 0.0, 2.0}, {0.5, 1.0, 1.1, 4.0}, {-7.0, -6.5, 6.0}}) {
    const double expected = integratedMse(levels);
    EXPECT_NEAR(gaussianQuantizer(levels).mse, expected, 1e-8 * (1 + expected));
  }
}

TEST(GaussianQuantizers, KnownAnswers) {
  EXPECT_DOUBLE_EQ(gaussianQuantizer({0.0}).mse, 1);
  EXPECT_DOUBLE_EQ(gaussianQuantizer({0.0}).entropy, 0);
  EXPECT_NEAR(gaussianQuantizer({3.0}).mse, 10, 1e-12);
  const GaussianQuantizer sign = gaussianQuantizer({-1.0, 1.0});
  EXPECT_NEAR(sign.mse, 2 - 2 * std::sqrt(2 / std::numbers::pi), 1e-15);
  EXPECT_NEAR(sign.entropy, 1, 1e-15);
  EXPECT_EQ(sign.thresholds, std::vector<double>{0.0});
}

/// The tails, of which differences of distribution functions keep no digit; Q(8) and Q(20) from tables.
TEST(GaussianQuantizers, MassesFarOutArePrecise) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const auto& [from, mass] : {std::pair(8., 6.220960574271784e-16), {20., 2.753624118606234e-89}}) {
    EXPECT_NEAR(detail::gaussianMass(from, kInfinity), mass, 1e-12 * mass);
    EXPECT_NEAR(detail::gaussianMass(-kInfinity, -from), mass, 1e-12 * mass);
    EXPECT_NEAR(detail::gaussianMass(from, 2 * from), mass, 1e-12 * mass);
    EXPECT_NEAR(detail::gaussianMass(-2 * from, -from), mass, 1e-12 * mass);
  }
}

/// Of x^2 beyond 1 half of what a chi-square of 3 degrees of freedom has beyond 1, .801252; within the rest of 1.
TEST(GaussianQuantizers, SecondMomentsOfCells) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_NEAR(detail::GaussianCell(1, kInfinity).second, 0.400626, 1e-6);
  EXPECT_NEAR(detail::GaussianCell(-kInfinity, -1).second, 0.400626, 1e-6);
  EXPECT_NEAR(detail::GaussianCell(-1, 1).second, 0.198748, 1e-6);
}

TEST(GaussianQuantizers, UniformAtTheBestStep) {
  EXPECT_NEAR(uniformQuantizer(2).mse, 0.36338, 5e-6);
  EXPECT_NEAR(uniformQuantizer(4).mse, 0.11885, 5e-6);
  EXPECT_NEAR(uniformQuantizer(8).mse, 0.03744, 5e-6);
  EXPECT_NEAR(uniformQuantizer(16).mse, 0.01154, 5e-6);
  EXPECT_NEAR(uniformQuantizer(256).mse, 8.77e-5, 5e-8);
  // Max's table II: steps and entropies.
  EXPECT_NEAR(optimalUniformStep(2), 1.596, 5e-4);
  EXPECT_NEAR(optimalUniformStep(3), 1.224, 5e-4);
  EXPECT_NEAR(optimalUniformStep(4), 0.9957, 5e-5);
  EXPECT_NEAR(optimalUniformStep(7), 0.6508, 5e-5);
  EXPECT_NEAR(optimalUniformStep(16), 0.3352, 5e-5);
  EXPECT_NEAR(uniformQuantizer(4).entropy, 1.904, 5e-4);
  EXPECT_NEAR(uniformQuantizer(16).entropy, 3.602, 5e-4);
}

TEST(GaussianQuantizers, NoOtherStepIsBetter) {
  for (const int levels : {2, 3, 5, 8, 15, 16, 255}) {
    const double step = optimalUniformStep(levels);
    const double least = uniformQuantizer(levels).mse;
    for (const double factor : {0.5, 0.99, 0.9999, 1.0001, 1.01, 2.0}) {
      EXPECT_GT(gaussianQuantizer(detail::uniformLevels(levels, step * factor)).mse, least) << levels << ' ' << factor;
    }
  }
}

TEST(GaussianQuantizers, LloydMaxErrors) {
  const double expected[] = {0.36338, 0.11748, 0.03455, 0.00950};
  for (int bits = 1; bits <= 4; ++bits) EXPECT_NEAR(lloydMax(1 << bits).mse, expected[bits - 1], 5e-6) << bits;
  EXPECT_NEAR(lloydMax(1 << 4).entropy, 3.765, 5e-4);  // Max's table I
  EXPECT_NEAR(lloydMax(1).mse, 1, 1e-12);
  const double panter_dite = std::numbers::pi * std::sqrt(3) / 2 / (64 * 64);  // for many levels
  EXPECT_NEAR(lloydMax(64).mse, panter_dite, 0.04 * panter_dite);
}

TEST(GaussianQuantizers, LloydMaxMeetsItsTwoConditions) {
  for (const int levels : {2, 3, 5, 16, 33}) {
    const GaussianQuantizer q = lloydMax(levels);
    double power = 0;
    const auto cells = detail::gaussianCells(q.thresholds);
    for (std::size_t i = 0; i < q.levels.size(); ++i) {
      EXPECT_NEAR(q.levels[i], cells[i].moment / cells[i].mass, 1e-10);
      EXPECT_NEAR(q.levels[i], -q.levels[q.levels.size() - 1 - i], 1e-10) << "symmetric";
      power += cells[i].mass * q.levels[i] * q.levels[i];
    }
    EXPECT_NEAR(q.mse, 1 - power, 1e-10) << "levels are orthogonal to the error";
    EXPECT_LE(q.mse, uniformQuantizer(levels).mse + 1e-12);
    EXPECT_GT(q.mse, gaussianDistortion(std::log2(levels)));
    EXPECT_GT(q.mse, gaussianDistortion(q.entropy)) << "not even an entropy coder beats D(R)";
  }
}

TEST(GaussianQuantizers, CodebooksAtTheirBestScale) {
  EXPECT_NEAR(gaussianMse<NormalFloat4>(1.0), integratedMse({NormalFloat4::kTable.begin(), NormalFloat4::kTable.end()}),
              1e-8);
  EXPECT_NEAR(bestMse<NormalFloat4>(1, 4), 0.00990, 5e-6);
  EXPECT_NEAR(gaussianMse<Binary>(std::sqrt(2 / std::numbers::pi)), 0.36338, 5e-6);
  EXPECT_NEAR(gaussianMse<Ternary>(lloydMax(3).levels[2]), lloydMax(3).mse, 1e-12);
  EXPECT_NEAR(gaussianMse<Symmetric<4>>(optimalUniformStep(15)), uniformQuantizer(15).mse, 1e-12);
  EXPECT_NEAR(gaussianMse<Asymmetric<2>>(optimalUniformStep(4)), uniformQuantizer(4).mse, 1e-12);
  EXPECT_NEAR(gaussianMse<Asymmetric<8>>(optimalUniformStep(256)), 8.77e-5, 5e-8);
  EXPECT_NEAR(gaussianMse<LloydMax<4>>(LloydMax<4>::kGaussianScale), 0.00950, 5e-6);
  EXPECT_NEAR(gaussianQuantizer<Asymmetric<2>>(1, 0.5).levels[0], -0.5, 1e-15);
}

TEST(GaussianQuantizers, BadArgumentsAreRefused) {
  testing::expectThrows([] { gaussianQuantizer(std::vector<double>{}); },
                        "gaussianQuantizer: expected at least one level, got none");
  testing::expectThrows([] { gaussianQuantizer({1.0, 1.0}); }, "expected rising levels, got 1 before 1");
  testing::expectThrows([] { optimalUniformStep(1); }, "optimalUniformStep: expected at least 2 levels, got 1");
  testing::expectThrows([] { lloydMax(0); }, "lloydMax: expected 1 to 64 levels, got 0");
  testing::expectThrows([] { lloydMax(65); }, "lloydMax: expected 1 to 64 levels, got 65");
  testing::expectThrows([] { gaussianMse<Binary>(0); }, "gaussianQuantizer: expected a scale > 0, got 0");
}

}  // namespace
}  // namespace gosset::gaussian_quantizers_test
