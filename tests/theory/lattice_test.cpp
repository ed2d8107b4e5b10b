// SPDX-License-Identifier: Apache-2.0
#include <gosset/theory/lattice.hpp>

#include "testing.hpp"

#include <array>

namespace gosset::lattice_test {
namespace {

TEST(Lattice, PublishedMoments) {
  EXPECT_NEAR(kSecondMomentZ, 0.083333, 5e-7);
  EXPECT_NEAR(kSecondMomentA2, 0.080188, 5e-7);
  EXPECT_NEAR(kSecondMomentD4, 0.076603, 5e-7);
  EXPECT_NEAR(kSecondMomentE8, 0.071682, 5e-7);
  EXPECT_NEAR(kSecondMomentLeech, 0.065771, 5e-7);
  EXPECT_NEAR(kSecondMomentLimit, 0.058550, 5e-7);
}

TEST(Lattice, NoLatticeBeatsTheBallOfItsDimension) {
  EXPECT_NEAR(sphereSecondMoment(1), kSecondMomentZ, 1e-15) << "in one dimension the cell is the ball";
  EXPECT_NEAR(sphereSecondMoment(2), 1 / (4 * std::numbers::pi), 1e-15);
  EXPECT_LT(sphereSecondMoment(2), kSecondMomentA2);
  EXPECT_LT(sphereSecondMoment(4), kSecondMomentD4);
  EXPECT_LT(sphereSecondMoment(8), kSecondMomentE8);
  EXPECT_LT(sphereSecondMoment(24), kSecondMomentLeech);
  for (int d = 1; d < 1000; ++d) {
    ASSERT_GT(sphereSecondMoment(d), sphereSecondMoment(d + 1)) << d;
    ASSERT_GT(sphereSecondMoment(d), kSecondMomentLimit) << d;
  }
  EXPECT_NEAR(sphereSecondMoment(1000000), kSecondMomentLimit, 1e-6);
  testing::expectThrows([] { sphereSecondMoment(0); }, "sphereSecondMoment: expected a dimension >= 1, got 0");
}

using Point = std::array<double, 8>;

/// The squared distance of x to D8 + shift: all coordinates rounded, the worst one the other way where their sum is
/// odd.
double distanceToD8(const Point& x, double shift) {
  double sum = 0, worst = 0;
  double parity = 0;
  for (const double value : x) {
    const double rounded = std::nearbyint(value - shift);
    const double error = std::abs(value - shift - rounded);
    sum += error * error;
    worst = std::max(worst, error);
    parity += rounded;
  }
  return std::fmod(parity, 2) == 0 ? sum : sum + (1 - worst) * (1 - worst) - worst * worst;
}

TEST(Lattice, TheMomentOfE8IsSeenBySampling) {
  // E8 = D8 united with D8 + (1/2, ..., 1/2), of volume 1; x spreads evenly over a box that holds whole periods.
  constexpr std::uint64_t kCount = 200000;
  double sum = 0, squares = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Point x;
    for (std::uint64_t j = 0; j < 8; ++j) x[j] = 2.0 * randomUniform(5, 8 * i + j);
    const double error = std::min(distanceToD8(x, 0), distanceToD8(x, 0.5)) / 8;
    sum += error;
    squares += error * error;
  }
  const double mean = sum / kCount;
  EXPECT_NEAR(mean, kSecondMomentE8, 5 * std::sqrt((squares / kCount - mean * mean) / kCount));
}

TEST(Lattice, RoundingToMultiplesOfAStep) {
  EXPECT_EQ(uniformStepMse(1), kSecondMomentZ);
  constexpr int kPoints = 3000;
  double sum = 0;
  for (int i = 0; i < kPoints; ++i) {  // the midpoints of even slices of one cell
    const double x = ((i + 0.5) / kPoints - 0.5) * 0.7;
    sum += x * x;
  }
  EXPECT_NEAR(sum / kPoints, uniformStepMse(0.7), 1e-7);
}

}  // namespace
}  // namespace gosset::lattice_test
