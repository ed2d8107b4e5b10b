// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <Eigen/Cholesky>

#include <algorithm>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// A symmetric matrix H and the Cholesky factor C of H + damping * mean(diag H) * I = C C^T, in one n x n array: C in
/// its lower triangle, H above its diagonal. At 4096 inputs the two would otherwise take 128 MB more.
///
/// A template, as the functions of ldlq.hpp are, so that only programs that round with feedback wait for Eigen's
/// decompositions to compile.
template <class = void>
class DampedCholesky {
 public:
  /// Takes over a full symmetric H. The damping is raised step by step until H factorizes.
  /// Errors: std::invalid_argument where H has no positive mean diagonal, or no damping up to 10, or the one that is
  /// given, helps.
  DampedCholesky(Eigen::MatrixXd h, double damping) : matrix_(std::move(h)) {
    constexpr double kFirstStep = 1e-4;
    const double largest = std::max(damping, 10.);
    const Eigen::VectorXd diagonal = matrix_.diagonal();
    const double mean_diagonal = diagonal.mean();
    require(mean_diagonal > 0, "Ldlq: expected a Hessian with a positive mean diagonal, got ", mean_diagonal);
    for (damping_ = damping; damping_ <= largest; damping_ = std::max(2 * damping_, kFirstStep)) {
      diagonal_ = diagonal.array() + damping_ * mean_diagonal;
      matrix_.diagonal() = diagonal_;
      const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>, Eigen::Lower> cholesky(matrix_);
      const auto pivots = matrix_.diagonal().array();
      if (cholesky.info() == Eigen::Success && pivots.isFinite().all() && (pivots > 0).all()) return;
      matrix_.triangularView<Eigen::StrictlyLower>() = matrix_.transpose();
    }
    invalidArgument("Ldlq: the Hessian is not positive definite, not even with ", largest,
                    " times its mean diagonal added");
  }

  /// As used: what was asked for, or the first larger one that worked.
  double damping() const { return damping_; }

  /// Columns [first, first + count) of the unit block lower triangular L in H = L D L^T, from row `first` down:
  /// L_jk = C_jk C_kk^-1 for blocks of `dim` columns. (n - first) x count.
  Eigen::MatrixXf unitBlockColumns(Index first, Index count, Index dim) const {
    const Index below = matrix_.rows() - first;
    Eigen::MatrixXd columns = matrix_.block(first, first, below, count);
    columns.topRows(count).triangularView<Eigen::StrictlyUpper>().setZero();  // H stood there
    for (Index col = 0; col < count; col += dim) {
      const Eigen::MatrixXd diagonal = columns.block(col, col, dim, dim);
      auto block = columns.block(col, col, below - col, dim);
      diagonal.triangularView<Eigen::Lower>().solveInPlace<Eigen::OnTheRight>(block);
    }
    return columns.cast<float>();
  }

  /// What an error in each block of `dim` columns weighs, all blocks behind it compensating: the mean diagonal of D_kk
  /// = C_kk C_kk^T.
  std::vector<double> blockWeights(Index dim) const {
    std::vector<double> weights;
    for (Index col = 0; col < matrix_.rows(); col += dim) {
      const Eigen::MatrixXd block = matrix_.block(col, col, dim, dim).template triangularView<Eigen::Lower>();
      weights.push_back(block.squaredNorm() / static_cast<double>(dim));
    }
    return weights;
  }

  /// Columns [first, first + count) of the damped H. n x count.
  Eigen::MatrixXf hessianColumns(Index first, Index count) const {
    const Index end = first + count;
    Eigen::MatrixXf columns(matrix_.rows(), count);
    columns.topRows(first) = matrix_.block(0, first, first, count).cast<float>();
    constexpr Index kLine = 16;  // floats of a cache line
    for (Index row = end; row < matrix_.rows(); row += kLine) {
      const Index rows = std::min(kLine, matrix_.rows() - row);
      for (Index k = 0; k < count; ++k) {
        for (Index i = row; i < row + rows; ++i) columns(i, k) = static_cast<float>(matrix_(first + k, i));
      }
    }
    const Eigen::MatrixXd upper = matrix_.block(first, first, count, count);
    columns.middleRows(first, count) = upper.selfadjointView<Eigen::Upper>().toDenseMatrix().cast<float>();
    columns.middleRows(first, count).diagonal() = diagonal_.segment(first, count).cast<float>();
    return columns;
  }

 private:
  Eigen::MatrixXd matrix_;
  Eigen::VectorXd diagonal_;
  double damping_ = 0;
};

}  // namespace gosset::GOSSET_ABI::detail
