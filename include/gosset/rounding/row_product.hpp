// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/ordered_product.hpp>
#include <gosset/core/types.hpp>

namespace gosset::GOSSET_ABI::detail {

/// target += left * right in one order. A template so that it is compiled where it is used, and there once.
template <class = void>
void addProduct(const Eigen::Ref<const RowMatrixXf>& left, const Eigen::Ref<const Eigen::MatrixXf>& right,
                Eigen::Ref<RowMatrixXf> target) {
  addProductInOrder(left, right, target);
}

}  // namespace gosset::GOSSET_ABI::detail
