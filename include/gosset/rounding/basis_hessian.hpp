// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/basis.hpp>
#include <gosset/rounding/hessian.hpp>

#include <functional>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// A Hessian and the changes of basis that formats around the codes have asked for; they are applied when it is used,
/// so that one array serves from there to the factorization: that of the Hessian itself, where only this has it. What a
/// rounding of your own keeps of a Hessian.
class BasisHessian {
 public:
  explicit BasisHessian(Hessian hessian) : hessian_(std::move(hessian)) {}

  BasisHessian inBasis(const BasisChange& change) const& { return BasisHessian(*this).inBasis(change); }
  BasisHessian inBasis(const BasisChange& change) && {
    changes_.push_back(change.hessian);
    return std::move(*this);
  }

  Index size() const { return hessian_.size(); }
  double tokens() const { return hessian_.tokens(); }

  /// H in the basis asked for, n x n.
  Eigen::MatrixXd matrix() const& { return BasisHessian(*this).matrix(); }
  /// The same, in the memory of the Hessian where no copy of that shares it.
  Eigen::MatrixXd matrix() && {
    Eigen::MatrixXd h = std::move(hessian_).matrix();
    for (const auto& change : changes_) change(h);
    return h;
  }

  /// Its diagonal, n numbers.
  Eigen::VectorXd diagonal() const {
    if (changes_.empty()) return hessian_.matrix().diagonal();
    return matrix().diagonal();
  }

 private:
  Hessian hessian_;
  std::vector<std::function<void(Eigen::MatrixXd&)>> changes_;
};

}  // namespace gosset::GOSSET_ABI
