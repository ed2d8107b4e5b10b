// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset {

/// The second moment of a layer's input activations, H = mean over tokens of x x^T (n x n): to second order, the
/// layer's output error under a weight error E is tr(E H E^T) a token. Sums run in double, token after token, so that
/// the same batches give the same bits everywhere. Copies are cheap: they share the matrix until one of them
/// accumulates more. Source: Frantar et al., "GPTQ", ICLR 2023, section 3.1 (its H is 2 H here, which changes nothing).
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
    using Scalar = std::conditional_t<std::is_same_v<typename Tokens::Scalar, double>, double, float>;
    const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> batch =
        x.derived().matrix().template cast<Scalar>();
    detail::require(batch.allFinite(), "Hessian: the activations hold NaN or infinity");
    Eigen::MatrixXd& mean = owned();
    const double total = tokens_ + static_cast<double>(x.rows());
    addOuterProducts(detail::strided(batch), total, mean);
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
    for (Index i = 0; i < mean.size(); ++i) {
      double& entry = mean.data()[i];
      entry = blend(entry, tokens_ / total, theirs->data()[i], other.tokens_ / total);
    }
    tokens_ = total;
  }

  Index size() const { return mean_->rows(); }
  double tokens() const { return tokens_; }

  /// n x n, symmetric; zero while nothing was accumulated.
  const Eigen::MatrixXd& matrix() const { return *mean_; }

 private:
  /// a * share + b * other, each product rounded before the sum.
  static double blend(double a, double share, double b, double other) {
    return simd::unfused(a * share) + simd::unfused(b * other);
  }

  /// mean = (tokens_ * mean + x^T x) / total, a tile of the lower triangle at a time.
  template <class Scalar>
  void addOuterProducts(const detail::Strided<Scalar>& x, double total, Eigen::MatrixXd& mean) const {
    using Tile = detail::OrderedTile<double, std::is_same_v<Scalar, float>>;  // whose products are exact in double
    struct Place {
      Index row, col;
    };
    std::vector<Place> places;
    for (Index row = 0; row < x.cols; row += Tile::kRows) {
      const Index end = std::min(row + Tile::kRows, x.cols);
      for (Index col = 0; col < end; col += Tile::kCols) places.push_back({row, col});
    }
    const auto count = static_cast<Index>(places.size());
    parallelFor(count, x.rows * Tile::kRows * Tile::kCols, [&](Index i) {
      const auto [row, col] = places[static_cast<std::size_t>(i)];
      const Index rows = std::min(Tile::kRows, x.cols - row), cols = std::min(Tile::kCols, x.cols - col);
      std::vector<double> sums(static_cast<std::size_t>(rows * cols));
      Tile().add(x.block(0, row, x.rows, rows).transpose(), x.block(0, col, x.rows, cols), sums.data(), cols);
      blendTile(row, col, rows, cols, sums.data(), total, mean);
    });
  }

  /// The part of a tile that lies in the lower triangle, and its mirror image.
  void blendTile(Index row, Index col, Index rows, Index cols, const double* sums, double total,
                 Eigen::MatrixXd& mean) const {
    constexpr Index kTogether = 8;  // a cache line
    for (Index first = 0; first < rows; first += kTogether) {
      const Index end = std::min(first + kTogether, rows);
      for (Index j = 0; j < std::min(cols, row + end - col); ++j) {
        for (Index i = std::max(first, col + j - row); i < end; ++i) {
          double& entry = mean(row + i, col + j);
          entry = blend(entry, tokens_ / total, sums[i * cols + j], 1 / total);
          mean(col + j, row + i) = entry;
        }
      }
    }
  }

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
