// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/types.hpp>
#include <gosset/rounding/hessian.hpp>

namespace gosset::GOSSET_ABI {

/// tr(E H E^T) / tr(W H W^T) with E = W - approximation (m x n): the share of a layer's output energy that the error
/// takes, to second order. Computed in double.
/// Errors: std::invalid_argument where the shapes do not fit or tr(W H W^T) is not positive.
/// Source: Chee et al., "QuIP", NeurIPS 2023, equation 1.
template <DenseExpression Weights, DenseExpression Approximation>
double proxyLoss(const Weights& w, const Approximation& approximation, const Hessian& hessian) {
  detail::require(w.rows() == approximation.rows() && w.cols() == approximation.cols(),
                  "proxyLoss: expected two matrices of one shape, got ", w.rows(), " x ", w.cols(), " and ",
                  approximation.rows(), " x ", approximation.cols());
  detail::require(hessian.size() == w.cols(), "proxyLoss: expected a Hessian of ", w.cols(), " inputs, got ",
                  hessian.size());
  const Eigen::MatrixXd exact = w.derived().matrix().template cast<double>();
  const Eigen::MatrixXd error = exact - approximation.derived().matrix().template cast<double>();
  const auto energy = [&](const Eigen::MatrixXd& e) {
    Eigen::MatrixXd product = Eigen::MatrixXd::Zero(e.rows(), e.cols());
    detail::addProductInOrder(e, hessian.matrix(), product);
    return product.cwiseProduct(e).sum();
  };
  const double signal = energy(exact);
  detail::require(signal > 0, "proxyLoss: expected tr(W H W^T) > 0, got ", signal);
  return energy(error) / signal;
}

}  // namespace gosset::GOSSET_ABI
