// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>

#include <algorithm>
#include <cmath>

// What no quantizer of a Gaussian can beat, however long its blocks.
namespace gosset::GOSSET_ABI {

/// D(R) = variance * 2^(-2R): the least mean squared error at which independent N(0, variance) numbers can be kept in
/// `bits` bits each. Errors: std::invalid_argument where bits or the variance is negative or not a number.
/// Source: Shannon 1959; Cover and Thomas, "Elements of Information Theory", theorem 10.3.2.
inline double gaussianDistortion(double bits, double variance = 1) {
  detail::require(bits >= 0, "gaussianDistortion: expected bits >= 0, got ", bits);
  detail::require(variance >= 0, "gaussianDistortion: expected a variance >= 0, got ", variance);
  return variance * std::exp2(-2 * bits);
}

/// R(D) = max(0, log2(variance / D) / 2), the inverse: the least bits a number for a mean squared error of D.
/// Errors: std::invalid_argument where the distortion is not positive or the variance is negative or not a number.
inline double gaussianRate(double distortion, double variance = 1) {
  detail::require(distortion > 0, "gaussianRate: expected a distortion > 0, got ", distortion);
  detail::require(variance >= 0, "gaussianRate: expected a variance >= 0, got ", variance);
  return std::max(0.0, std::log2(variance / distortion) / 2);
}

}  // namespace gosset::GOSSET_ABI
