// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/packed.hpp>
#include <gosset/residual/low_rank.hpp>
#include <gosset/residual/outliers.hpp>

namespace gosset::detail {

/// add(w, x, y): y += w^T x for a packed m x n matrix w, x: m x t, y: n x t. Both products of attention are of this
/// form: keys are kept a row a channel, values a row a token. Corrections stay in their factors.
template <class Format>
struct TransposedProduct {
  static void add(const Packed<Format>& w, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) {
    y.noalias() += w.dequantized().transpose() * x;
  }
};

template <class Format, int r>
struct TransposedProduct<LowRank<Format, r>> {
  static void add(const Packed<LowRank<Format, r>>& w, const Eigen::Ref<const Eigen::MatrixXf>& x,
                  Eigen::Ref<Eigen::MatrixXf> y) {
    TransposedProduct<Format>::add(w.inner(), x, y);
    const Eigen::MatrixXf inside = w.left().transpose() * x;
    y.noalias() += w.right().transpose() * inside;
  }
};

template <class Format, int permille>
struct TransposedProduct<Outliers<Format, permille>> {
  static void add(const Packed<Outliers<Format, permille>>& w, const Eigen::Ref<const Eigen::MatrixXf>& x,
                  Eigen::Ref<Eigen::MatrixXf> y) {
    TransposedProduct<Format>::add(w.inner(), x, y);
    w.forEach([&](Index row, Index col, float value) { y.row(col) += value * x.row(row); });
  }
};

}  // namespace gosset::detail
