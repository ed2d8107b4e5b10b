// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <functional>
#include <utility>

// Formats put the inputs of a matrix into another basis, W' = W T^-1 and x' = T x, and hand on a rounding that still
// speaks of x. What a rounding knows of its inputs, a Hessian or activations, follows them there.
namespace gosset::GOSSET_ABI {

/// A change of basis x' = T x of the n inputs of a matrix, as what it does to what is known of them; both in place.
struct BasisChange {
  std::function<void(Eigen::MatrixXd& h)> hessian;  ///< H becomes T H T^T, n x n
  std::function<void(RowMatrixXf& x)> tokens;       ///< X becomes X T^T, t x n, tokens x in
};

/// A rounding for a matrix whose inputs are in another basis. Roundings that know nothing of the inputs stay as they
/// are; the others have inBasis(change).
template <class Rounding>
Rounding inBasis(Rounding rounding, const BasisChange& change) {
  if constexpr (requires { std::move(rounding).inBasis(change); }) {
    return std::move(rounding).inBasis(change);
  } else {
    return rounding;
  }
}

}  // namespace gosset::GOSSET_ABI
