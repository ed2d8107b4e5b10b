// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/matrix/any_matrix.hpp>

#include "testing.hpp"

#include <algorithm>

namespace gosset::testing {

/// Products of stretches of rows put together are the whole product, to the bit, for one and three columns.
inline void expectProductsOfRows(const AnyMatrix& q) {
  for (const Index t : {1, 3}) {
    const Eigen::MatrixXf x = gaussian(q.cols(), t, 2);
    Eigen::MatrixXf whole(q.rows(), t), rows(q.rows(), t);
    q.multiply(x, whole);
    for (Index first = 0; first < q.rows(); first += kRowBlock) {
      q.multiplyRows(first, std::min<Index>(kRowBlock, q.rows() - first), x, rows);
    }
    EXPECT_EQ(rows, whole) << q;
  }
}

}  // namespace gosset::testing
