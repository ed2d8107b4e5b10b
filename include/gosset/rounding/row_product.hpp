// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>

namespace gosset::detail {

/// target += left * right, a chunk of rows a thread: Eigen's own threads would change the order of the sums. A template
/// so that it is compiled where it is used, and there once.
template <class = void>
void addProduct(const Eigen::Ref<const RowMatrixXf>& left, const Eigen::Ref<const Eigen::MatrixXf>& right,
                RowMatrixXf& target) {
  constexpr Index kRows = 256;
  parallelFor(ceilDiv(target.rows(), kRows), kRows * right.size(), [&](Index chunk) {
    const Index row = chunk * kRows;
    const Index rows = std::min(kRows, target.rows() - row);
    target.middleRows(row, rows).noalias() += left.middleRows(row, rows) * right;
  });
}

}  // namespace gosset::detail
