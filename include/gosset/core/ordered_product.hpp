// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/strided.hpp>
#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>

#include <type_traits>

// Products of matrices with the same bits under every compiler, on every instruction set, with any number of threads:
//
//   c(i, j) += a(i, 0) b(0, j),  then  += a(i, 1) b(1, j),  and so on,
//
// each product rounded before it is added. How the work is cut up changes nothing in it, so rows multiplied alone are
// those of the whole product.
namespace gosset::GOSSET_ABI::detail {

/// c += a b for c of a.rows x b.cols, row after row and `stride` apart.
template <class T>
void addProductInOrder(const Strided<T>& a, const Strided<T>& b, T* c, Index stride) {
  GOSSET_CALL_RUNNING(addOrderedTiles(a, b, c, stride))
}

/// c += a b for matrices of Eigen's, or parts of some.
template <class Left, class Right, class Result>
void addProductInOrder(const Left& a, const Right& b, Result&& c) {
  static_assert(!std::is_const_v<std::remove_reference_t<Result>>);
  if (c.colStride() == 1) {
    addProductInOrder(strided(a), strided(b), c.data(), c.rowStride());
  } else {
    addProductInOrder(strided(b).transpose(), strided(a).transpose(), c.data(), c.colStride());
  }
}

}  // namespace gosset::GOSSET_ABI::detail
