// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <cmath>

namespace gosset::GOSSET_ABI {

/// How unevenly a matrix spreads its weight over its entries: mu = max |w_ij| sqrt(m n) / ||w||_F, w m x n (Chee, Cai,
/// Kuleshov and De Sa, "QuIP", NeurIPS 2023, definition 1). 1 where all magnitudes are equal (and for a zero matrix),
/// sqrt(m n) where one entry holds everything; about sqrt(2 log(m n)) for independent normal entries.
/// An empty matrix, NaN and infinity throw std::invalid_argument.
template <class Derived>
double incoherence(const Eigen::DenseBase<Derived>& w) {
  static_assert(DenseExpression<Derived>, "gosset::incoherence takes an Eigen matrix of real numbers");
  detail::require(w.size() > 0, "incoherence: w: expected at least one entry, got ", w.rows(), " x ", w.cols());
  const Eigen::MatrixXd values = w.derived().template cast<double>();
  double largest = 0;
  for (Index i = 0; i < values.size(); ++i) {
    const double value = values.data()[i];
    detail::require(std::isfinite(value), "incoherence: w: expected finite entries, got ", value);
    largest = std::max(largest, std::abs(value));
  }
  if (largest == 0) return 1;
  double sum = 0;  // of (w_ij / largest)^2, which neither overflows nor vanishes
  for (Index i = 0; i < values.size(); ++i) {
    const double ratio = values.data()[i] / largest;
    sum += ratio * ratio;
  }
  return std::sqrt(static_cast<double>(values.size()) / sum);
}

}  // namespace gosset::GOSSET_ABI
