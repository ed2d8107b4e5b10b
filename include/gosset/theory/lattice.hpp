// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>

#include <cmath>
#include <numbers>

// Normalized second moments G of lattices: rounding to the nearest point of a lattice of dimension d whose cells have
// volume V leaves a mean squared error of G * V^(2/d) a number, where the numbers spread evenly over the cells.
// Source: Conway and Sloane, "Sphere Packings, Lattices and Groups", 3rd ed., table 2.3.
namespace gosset::GOSSET_ABI {

inline constexpr double kSecondMomentZ = 1.0 / 12;                           ///< the integers
inline constexpr double kSecondMomentA2 = 5 / (36 * std::numbers::sqrt3);    ///< hexagons, d = 2
inline constexpr double kSecondMomentD4 = 13 / (120 * std::numbers::sqrt2);  ///< d = 4
inline constexpr double kSecondMomentE8 = 929.0 / 12960;                     ///< Gosset's lattice, d = 8
inline constexpr double kSecondMomentLeech = 0.065771;                       ///< d = 24, to six decimals
inline constexpr double kSecondMomentLimit =                                 ///< no lattice is below it: 1/(2 pi e)
    1 / (2 * std::numbers::pi * std::numbers::e);

/// The second moment of a ball, which no lattice of that dimension is below: Gamma(d/2 + 1)^(2/d) / ((d + 2) pi).
/// It falls to kSecondMomentLimit as d grows. Errors: std::invalid_argument where dimension < 1.
/// Source: Conway and Sloane, chapter 2, equation 82 (Zador).
inline double sphereSecondMoment(int dimension) {
  detail::require(dimension >= 1, "sphereSecondMoment: expected a dimension >= 1, got ", dimension);
  const double d = dimension;
  return std::exp(std::lgamma(d / 2 + 1) * 2 / d) / ((d + 2) * std::numbers::pi);
}

/// step^2 / 12: the mean squared error of rounding to multiples of `step` numbers that spread evenly over the cells, or
/// whose spread is wide beside the step.
constexpr double uniformStepMse(double step) { return kSecondMomentZ * step * step; }

}  // namespace gosset::GOSSET_ABI
