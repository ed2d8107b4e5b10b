// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <atomic>
#include <cmath>
#include <memory>
#include <utility>

namespace gosset {

/// The second moment of a layer's input activations, H = mean over tokens of x x^T (n x n): to second order, the
/// layer's output error under a weight error E is tr(E H E^T) a token. Sums run in double. Copies are cheap: they share
/// the matrix until one of them accumulates more. Source: Frantar et al., "GPTQ", ICLR 2023, section 3.1 (its H is 2 H
/// here, which changes nothing).
class Hessian {
 public:
  /// For a layer of n inputs. Errors: std::invalid_argument where n < 1.
  explicit Hessian(Index n) {
    detail::require(n >= 1, "Hessian: expected at least 1 input, got ", n);
    mean_ = std::make_shared<Eigen::MatrixXd>(Eigen::MatrixXd::Zero(n, n));
  }

  /// From a matrix made elsewhere (n x n, symmetric). `tokens` is the weight it has when more is added to it.
  /// Errors: std::invalid_argument where it is empty, not square, not symmetric or not finite.
  template <DenseExpression Matrix>
  static Hessian fromMatrix(const Matrix& matrix, double tokens = 1) {
    detail::require(matrix.rows() == matrix.cols() && matrix.rows() >= 1, "Hessian: expected a square matrix, got ",
                    matrix.rows(), " x ", matrix.cols());
    detail::require(tokens > 0 && std::isfinite(tokens), "Hessian: expected a positive number of tokens, got ", tokens);
    Hessian h(matrix.rows());
    *h.mean_ = matrix.derived().matrix().template cast<double>();
    h.tokens_ = tokens;
    const Eigen::MatrixXd& mean = *h.mean_;
    detail::require(mean.allFinite(), "Hessian: the matrix holds NaN or infinity");
    const double asymmetry = (mean - mean.transpose()).cwiseAbs().maxCoeff();
    detail::require(asymmetry <= 1e-4 * mean.cwiseAbs().maxCoeff(),
                    "Hessian: expected a symmetric matrix, got one where an entry and its mirror differ by ",
                    asymmetry);
    *h.mean_ = (mean + mean.transpose()).eval() / 2;
    return h;
  }

  /// Adds a batch of activations (t x n, tokens x in). Errors: std::invalid_argument where its width is not n or it
  /// holds NaN or infinity; then the Hessian is as it was before.
  template <DenseExpression Tokens>
  void accumulate(const Tokens& x) {
    detail::require(x.cols() == size(), "Hessian: expected activations of ", size(), " inputs (tokens x in), got ",
                    x.rows(), " x ", x.cols());
    if (x.rows() == 0) return;
    const Eigen::MatrixXd batch = x.derived().matrix().template cast<double>();
    detail::require(batch.allFinite(), "Hessian: the activations hold NaN or infinity");
    Eigen::MatrixXd& mean = owned();
    const double total = tokens_ + static_cast<double>(x.rows());
    mean *= tokens_ / total;
    mean.selfadjointView<Eigen::Lower>().rankUpdate(batch.transpose(), 1 / total);
    mean.triangularView<Eigen::StrictlyUpper>() = mean.transpose();
    tokens_ = total;
  }

  /// Adds what another one, over other tokens of the same layer, has seen.
  void merge(const Hessian& other) {
    detail::require(other.size() == size(), "Hessian: expected one of ", size(), " inputs to merge, got ",
                    other.size());
    if (other.tokens_ == 0) return;
    const double total = tokens_ + other.tokens_;
    const std::shared_ptr<Eigen::MatrixXd> theirs = other.mean_;
    Eigen::MatrixXd& mean = owned();
    mean = mean * (tokens_ / total) + *theirs * (other.tokens_ / total);
    tokens_ = total;
  }

  Index size() const { return mean_->rows(); }
  double tokens() const { return tokens_; }

  /// n x n, symmetric; zero while nothing was accumulated.
  const Eigen::MatrixXd& matrix() const { return *mean_; }

 private:
  Eigen::MatrixXd& owned() {
    if (mean_.use_count() > 1) {
      mean_ = std::make_shared<Eigen::MatrixXd>(*mean_);
    } else {
      std::atomic_thread_fence(std::memory_order_acquire);  // what the last other owner did with it is done
    }
    return *mean_;
  }

  std::shared_ptr<Eigen::MatrixXd> mean_;
  double tokens_ = 0;
};

}  // namespace gosset
