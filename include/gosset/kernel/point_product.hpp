// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/point_table.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/kernels.hpp>

// y = W x from codes of vectors that have no kernel of their own: points are looked up in a table. The numbers of a
// code meet theirs of x lane by lane, and the lanes of a row are added together at its end: sums have one order, and
// products are rounded before they are added.
namespace gosset::GOSSET_ABI::detail {

/// y (m) = W x for one token of floats: n numbers, padded with zeros to whole tiles.
template <FewPoints C, class T, int kPieces>
void multiplyPoints(const CodeView<C, T, kPieces>& w, const float* x, float* y) {
  GOSSET_CALL_RUNNING(multiplyPointsInSet(w, x, y))
}

}  // namespace gosset::GOSSET_ABI::detail
