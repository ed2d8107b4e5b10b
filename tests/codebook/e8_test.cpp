// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/e8.hpp>

#include "testing.hpp"

#include <array>
#include <set>
#include <vector>

namespace gosset::e8_test {
namespace {

using Point = std::array<double, 8>;

double squaredDistance(const Point& a, const Point& b) {
  double sum = 0;
  for (std::size_t i = 0; i < 8; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

Point nearest(const Point& x) {
  Point y;
  E8::nearest(x.data(), y.data());
  return y;
}

/// The vectors of norm 2 and 4: a point of E8 is nearest if none of these leads to a nearer one (they are all that
/// bound the Voronoi cell; Conway and Sloane, chapter 21).
std::vector<Point> cellNeighbours() {
  std::vector<Point> found;
  std::array<int, 8> v{};  // in halves
  const auto extend = [&](auto&& self, std::size_t i, int norm) -> void {
    if (norm > 16) return;
    if (i == 8) {
      Point p;
      for (std::size_t k = 0; k < 8; ++k) p[k] = 0.5 * v[k];
      if (norm > 0 && E8::contains(p.data())) found.push_back(p);
      return;
    }
    for (int c = -4; c <= 4; ++c) {
      if (i > 0 && (c - v[0]) % 2 != 0) continue;
      v[i] = c;
      self(self, i + 1, norm + c * c);
    }
  };
  extend(extend, 0, 0);
  return found;
}

TEST(E8, ContainsItsPointsAndNoOthers) {
  const auto contains = [](Point p) { return E8::contains(p.data()); };
  EXPECT_TRUE(contains({}));
  EXPECT_TRUE(contains({1, 1}));
  EXPECT_TRUE(contains({-2}));
  EXPECT_TRUE(contains({.5, .5, .5, .5, .5, .5, .5, .5}));
  EXPECT_TRUE(contains({-.5, .5, .5, .5, .5, .5, .5, 1.5}));
  EXPECT_FALSE(contains({1}));
  EXPECT_FALSE(contains({-.5, .5, .5, .5, .5, .5, .5, .5}));
  EXPECT_FALSE(contains({.5, .5, .5, .5}));
  EXPECT_FALSE(contains({.25, .25, .25, .25, .25, .25, .25, .25}));
}

TEST(E8, MinimalVectors) {
  std::set<std::array<signed char, 8>> distinct;
  for (const auto& twice : E8::twiceMinimalVectors()) {
    Point p;
    for (std::size_t i = 0; i < 8; ++i) p[i] = 0.5 * twice[i];
    EXPECT_TRUE(E8::contains(p.data()));
    EXPECT_EQ(squaredDistance(p, {}), 2);
    distinct.insert(twice);
  }
  EXPECT_EQ(distinct.size(), 240u);
}

TEST(E8, LatticePointsStayWhereTheyAre) {
  for (const Point& p : cellNeighbours()) EXPECT_EQ(nearest(p), p);
}

TEST(E8, NoNeighbourIsNearer) {
  const std::vector<Point> neighbours = cellNeighbours();
  ASSERT_EQ(neighbours.size(), 240u + 2160u);
  for (std::uint64_t k = 0; k < 3000; ++k) {
    Point x;
    const double size = k % 3 == 0 ? 0.3 : k % 3 == 1 ? 2. : 1000.;
    for (std::size_t i = 0; i < 8; ++i) x[i] = size * testing::normal(11, 8 * k + i);
    if (k % 5 == 0) {  // many ties
      for (double& c : x) c = std::round(4 * c) / 4;
    }
    const Point y = nearest(x);
    ASSERT_TRUE(E8::contains(y.data()));
    const double distance = squaredDistance(x, y);
    for (const Point& v : neighbours) {
      Point other;
      for (std::size_t i = 0; i < 8; ++i) other[i] = y[i] + v[i];
      ASSERT_GE(squaredDistance(x, other), distance - 1e-9 * (1 + distance)) << k;
    }
  }
}

TEST(E8, TiesAreSettledAsDocumented) {
  // A coordinate between two integers goes to the even one.
  EXPECT_EQ(nearest({0.5, 0.5}), (Point{0, 0}));
  EXPECT_EQ(nearest({1.5, 0.5}), (Point{2, 0}));
  // An odd integer point: the first coordinate turns, upwards.
  EXPECT_EQ(nearest({1}), (Point{2}));
  EXPECT_EQ(nearest({0, 0, -1}), (Point{1, 0, -1}));
  // The first of several farthest coordinates turns to its other neighbour.
  EXPECT_EQ(nearest({1, 0, -0.25, 0.25}), (Point{1, 0, -1, 0}));
  // Between an integer and a half point the integer point wins.
  EXPECT_EQ(nearest({.25, .25, .25, .25, .25, .25, .25, .25}), (Point{}));
}

TEST(E8, FloatAgreesWithDoubleAndMayWorkInPlace) {
  for (std::uint64_t k = 0; k < 20000; ++k) {
    std::array<float, 8> x;
    Point wide, wideNearest;
    for (std::size_t i = 0; i < 8; ++i) {
      x[i] = static_cast<float>(3 * testing::normal(12, 8 * k + i));
      wide[i] = static_cast<double>(x[i]);
    }
    E8::nearest(wide.data(), wideNearest.data());
    E8::nearest(x.data(), x.data());
    for (std::size_t i = 0; i < 8; ++i) ASSERT_EQ(static_cast<double>(x[i]), wideNearest[i]) << k;
  }
}

/// E8 contains 2 Z^8, so what a point spread evenly over [0, 2)^8 loses is spread evenly over the cell. The points are
/// a Kronecker sequence on the square roots of primes.
TEST(E8, SecondMoment) {
  const double steps[] = {2, 3, 5, 7, 11, 13, 17, 19};
  constexpr int kCount = 1 << 18;
  double sum = 0;
  for (int k = 0; k < kCount; ++k) {
    Point x;
    for (std::size_t i = 0; i < 8; ++i) {
      const double t = (k + 0.5) * std::sqrt(steps[i]);
      x[i] = 2 * (t - std::floor(t));
    }
    sum += squaredDistance(x, nearest(x));
  }
  EXPECT_NEAR(sum / (8. * kCount), E8::kSecondMoment, 3e-5);
  EXPECT_NEAR(E8::kSecondMoment, 0.0716821, 1e-7);
}

}  // namespace
}  // namespace gosset::e8_test
