// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "testing.hpp"

#include <Eigen/Cholesky>

#include <cstddef>
#include <vector>

namespace gosset::testing {

/// What is added to the free columns for the loss tr(E H E^T) to be least, given the errors E (m x n) of the others; 0
/// for those.
inline Eigen::MatrixXd textbookFeedback(const Eigen::MatrixXd& h, const Eigen::MatrixXd& error,
                                        const std::vector<bool>& is_free) {
  std::vector<Index> moving, fixed;
  for (Index j = 0; j < h.cols(); ++j) (is_free[static_cast<std::size_t>(j)] ? moving : fixed).push_back(j);
  Eigen::MatrixXd result = Eigen::MatrixXd::Zero(error.rows(), error.cols());
  if (fixed.empty()) return result;
  const Eigen::MatrixXd pull = error(Eigen::all, fixed) * h(fixed, moving);
  const Eigen::MatrixXd among = h(moving, moving);
  result(Eigen::all, moving) = among.llt().solve(pull.transpose()).transpose();
  return result;
}

}  // namespace gosset::testing
