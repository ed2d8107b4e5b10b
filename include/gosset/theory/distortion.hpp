// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>

namespace gosset::GOSSET_ABI {

/// How far an approximation lies from what it stands for.
struct Distortion {
  double mse = 0;       ///< mean squared error, in squared units of the numbers
  double sqnr_db = 0;   ///< 10 log10(sum of squares / sum of squared errors), decibels; infinite where all is exact
  double max_abs = 0;   ///< largest error
  double relative = 0;  ///< Frobenius norm of the error over that of the numbers; 0 where all is exact

  friend std::ostream& operator<<(std::ostream& out, const Distortion& d) {
    return out << "MSE " << d.mse << ", SQNR " << d.sqnr_db << " dB, max error " << d.max_abs;
  }
};

/// The distortion of `approximation` as a stand-in for `exact`, both of one shape, computed in double.
/// Errors: std::invalid_argument where the shapes differ or are empty.
template <DenseExpression Exact, DenseExpression Approximation>
Distortion distortion(const Exact& exact, const Approximation& approximation) {
  detail::require(exact.rows() == approximation.rows() && exact.cols() == approximation.cols(),
                  "distortion: expected two matrices of one shape, got ", exact.rows(), " x ", exact.cols(), " and ",
                  approximation.rows(), " x ", approximation.cols());
  detail::require(exact.size() > 0, "distortion: the matrices are empty (", exact.rows(), " x ", exact.cols(), ")");
  using Plain = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  const Plain x = exact.derived().matrix().template cast<double>();
  const Plain error = x - approximation.derived().matrix().template cast<double>();
  const double signal = x.squaredNorm();
  const double noise = error.squaredNorm();
  Distortion d;
  d.mse = noise / static_cast<double>(x.size());
  d.sqnr_db = 10 * std::log10(signal / noise);
  d.max_abs = error.cwiseAbs().maxCoeff();
  d.relative = noise == 0 ? 0 : std::sqrt(noise / signal);
  if (noise == 0) d.sqnr_db = std::numeric_limits<double>::infinity();
  return d;
}

}  // namespace gosset::GOSSET_ABI
