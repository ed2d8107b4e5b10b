// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gosset {

/// A rounding for a matrix whose inputs a format has put into another basis, W' = W T^-1: `change` turns the Hessian H
/// of the inputs into T H T^T in place. Roundings that look at no Hessian stay as they are.
template <class Rounding, class Change>
Rounding inBasis(const Rounding& rounding, const Change& change) {
  if constexpr (requires { rounding.inBasis(change); }) {
    return rounding.inBasis(change);
  } else {
    return rounding;
  }
}

}  // namespace gosset
