// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

// Scalar quantizers of N(0,1), in closed form: no sampling. With phi the density and Phi the distribution function,
//   integral of   phi(x)  from a to b = Phi(b) - Phi(a)                                             (mass)
//   integral of x phi(x)  from a to b = phi(a) - phi(b)                                             (moment)
//   integral of (x - v)^2 phi(x) from a to b = [(1 + v^2) Phi(x) + (2 v - x) phi(x)] from a to b    (error)
// as phi'(x) = -x phi(x).
namespace gosset::GOSSET_ABI {

/// A quantizer that sends each number to its nearest level, and what it does to N(0,1).
struct GaussianQuantizer {
  std::vector<double> levels;      ///< rising
  std::vector<double> thresholds;  ///< one fewer: the midpoints
  double mse = 0;                  ///< mean squared error
  double entropy = 0;              ///< of the codes, bits: what an ideal entropy coder would need a number
};

namespace detail {

inline double gaussianDensity(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }

/// Phi(b) - Phi(a), a <= b, precise in both tails.
inline double gaussianMass(double a, double b) {
  const double s = std::numbers::sqrt2;
  if (a > 0) return (std::erfc(a / s) - std::erfc(b / s)) / 2;
  if (b < 0) return (std::erfc(-b / s) - std::erfc(-a / s)) / 2;
  return (std::erf(b / s) - std::erf(a / s)) / 2;
}

/// x phi(x), 0 at infinity.
inline double gaussianEdge(double x) { return std::isinf(x) ? 0 : x * gaussianDensity(x); }

struct GaussianCell {
  double mass;
  double moment;  ///< integral of x
  double second;  ///< integral of x^2

  GaussianCell(double a, double b)
      : mass(gaussianMass(a, b)),
        moment(gaussianDensity(a) - gaussianDensity(b)),
        second(mass + gaussianEdge(a) - gaussianEdge(b)) {}

  double squaredError(double v) const { return second - 2 * v * moment + v * v * mass; }
};

inline std::vector<double> midpoints(const std::vector<double>& levels) {
  std::vector<double> result;
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) result.push_back((levels[i] + levels[i + 1]) / 2);
  return result;
}

/// The cells of the line between thresholds.
inline std::vector<GaussianCell> gaussianCells(const std::vector<double>& thresholds) {
  std::vector<GaussianCell> cells;
  double from = -std::numeric_limits<double>::infinity();
  for (const double to : thresholds) {
    cells.emplace_back(from, to);
    from = to;
  }
  cells.emplace_back(from, std::numeric_limits<double>::infinity());
  return cells;
}

inline std::vector<double> uniformLevels(int levels, double step) {
  std::vector<double> result;
  for (int i = 0; i < levels; ++i) result.push_back((i - (levels - 1) / 2.0) * step);
  return result;
}

}  // namespace detail

/// The quantizer with these levels. Errors: std::invalid_argument where there are none or they do not rise.
inline GaussianQuantizer gaussianQuantizer(std::vector<double> levels) {
  detail::require(!levels.empty(), "gaussianQuantizer: expected at least one level, got none");
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) {
    detail::require(levels[i] < levels[i + 1], "gaussianQuantizer: expected rising levels, got ", levels[i], " before ",
                    levels[i + 1]);
  }
  GaussianQuantizer q;
  q.thresholds = detail::midpoints(levels);
  const auto cells = detail::gaussianCells(q.thresholds);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    q.mse += cells[i].squaredError(levels[i]);
    if (cells[i].mass > 0) q.entropy -= cells[i].mass * std::log2(cells[i].mass);
  }
  q.levels = std::move(levels);
  return q;
}

/// The step at which `levels` equally spaced levels around 0 have the least mean squared error on N(0,1): mid-rise
/// (+-step/2, ...) for an even count, mid-tread (0, +-step, ...) for an odd one. At the best step the error is
/// orthogonal to the level, sum of level * (moment - level * step * mass) = 0 over the cells; bisection finds it.
/// Errors: std::invalid_argument where levels < 2.
/// Source: Max, IRE Trans. Inf. Theory 6 (1960), section IV.
inline double optimalUniformStep(int levels) {
  detail::require(levels >= 2, "optimalUniformStep: expected at least 2 levels, got ", levels);
  const std::vector<double> units = detail::uniformLevels(levels, 1);
  const auto wantsMore = [&](double step) {
    const auto cells = detail::gaussianCells(detail::midpoints(detail::uniformLevels(levels, step)));
    double sum = 0;
    for (std::size_t i = 0; i < units.size(); ++i)
      sum += units[i] * (cells[i].moment - units[i] * step * cells[i].mass);
    return sum > 0;
  };
  double low = 0;
  double high = 4;
  for (double middle = 2; low < middle && middle < high; middle = (low + high) / 2) {
    (wantsMore(middle) ? low : high) = middle;
  }
  return low;
}

/// The best quantizer of N(0,1) with equally spaced levels around 0. Errors: as optimalUniformStep.
inline GaussianQuantizer uniformQuantizer(int levels) {
  return gaussianQuantizer(detail::uniformLevels(levels, optimalUniformStep(levels)));
}

/// The quantizer of N(0,1) with the least mean squared error: each level the centroid of its cell, each threshold the
/// midpoint of its levels, iterated to a fixed point, which is the only one, as log phi is concave (Fleischer 1964).
/// Errors: std::invalid_argument where levels is not in 1 .. 64, beyond which the iteration would take long.
/// Source: Lloyd, IEEE Trans. Inf. Theory 28 (1982), method I; Max (1960).
inline GaussianQuantizer lloydMax(int levels) {
  detail::require(levels >= 1 && levels <= 64, "lloydMax: expected 1 to 64 levels, got ", levels);
  constexpr double kTolerance = 1e-13;
  std::vector<double> points = detail::uniformLevels(levels, levels > 1 ? optimalUniformStep(levels) : 1);
  for (double change = 1; change > kTolerance;) {
    change = 0;
    const auto cells = detail::gaussianCells(detail::midpoints(points));
    for (std::size_t i = 0; i < points.size(); ++i) {
      const double centroid = cells[i].moment / cells[i].mass;
      change = std::max(change, std::abs(centroid - points[i]));
      points[i] = centroid;
    }
  }
  return gaussianQuantizer(std::move(points));
}

/// What a scalar codebook does to N(0,1) at a scale, and a zero point where it has one (by default the middle of its
/// levels). Errors: std::invalid_argument where the scale is not positive.
template <ScalarCodebook C>
GaussianQuantizer gaussianQuantizer(double scale, double zero = C::kHasZero ? (C::kLevels - 1) / 2.0 : 0.0) {
  detail::require(scale > 0, "gaussianQuantizer: expected a scale > 0, got ", scale);
  std::vector<double> levels;
  for (int q = 0; q < C::kLevels; ++q) {
    levels.push_back(scale * (static_cast<double>(C::level(static_cast<typename C::Code>(q))) - zero));
  }
  return gaussianQuantizer(std::move(levels));
}

/// The mean squared error of a scalar codebook on N(0,1) at a scale, exactly. Errors: as gaussianQuantizer.
template <ScalarCodebook C>
double gaussianMse(double scale) {
  return gaussianQuantizer<C>(scale).mse;
}

}  // namespace gosset::GOSSET_ABI
