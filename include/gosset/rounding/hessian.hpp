// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
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

namespace gosset::GOSSET_ABI {

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
    requireShape(matrix.rows(), matrix.cols());
    return fromMatrix(Eigen::MatrixXd(matrix.derived().matrix().template cast<double>()), tokens);
  }
  /// The same, in that matrix's memory.
  static Hessian fromMatrix(Eigen::MatrixXd&& matrix, double tokens = 1) {
    requireShape(matrix.rows(), matrix.cols());
    detail::require(tokens > 0 && std::isfinite(tokens), "Hessian: expected a positive number of tokens, got ", tokens);
    detail::require(matrix.allFinite(), "Hessian: the matrix holds NaN or infinity");
    const double asymmetry = (matrix - matrix.transpose()).cwiseAbs().maxCoeff();
    detail::require(asymmetry <= 1e-4 * matrix.cwiseAbs().maxCoeff(),
                    "Hessian: expected a symmetric matrix, got one where an entry and its mirror differ by ",
                    asymmetry);
    if (asymmetry > 0) makeSymmetric(matrix);
    Hessian h(1);
    *h.mean_ = std::move(matrix);
    h.tokens_ = tokens;
    return h;
  }

  /// Adds a batch of activations (t x n, tokens x in). Errors: std::invalid_argument where its width is not n or it
  /// holds NaN or infinity; std::bad_alloc. The Hessian is then as it was before.
  template <DenseExpression Tokens>
  void accumulate(const Tokens& x) {
    detail::require(size() > 0 && x.cols() == size(), "Hessian: expected activations of ", size(),
                    " inputs (tokens x in), got ", x.rows(), " x ", x.cols());
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

  /// n; 0 for one that was moved from.
  Index size() const { return matrix().rows(); }
  double tokens() const { return tokens_; }

  /// n x n, symmetric; zero while nothing was accumulated.
  const Eigen::MatrixXd& matrix() const& {
    static const Eigen::MatrixXd none;
    return mean_ != nullptr ? *mean_ : none;
  }
  /// The same, taken over where no copy shares it, and this one is left as if moved from; else a copy.
  Eigen::MatrixXd matrix() && {
    const Hessian taken = std::move(*this);
    if (!taken.isOnlyOwner()) return taken.matrix();
    return std::move(*taken.mean_);
  }

 private:
  static void requireShape(Index rows, Index cols) {
    detail::require(rows == cols && rows >= 1, "Hessian: expected a square matrix, got ", rows, " x ", cols);
  }

  /// The mean of entry and mirror, by halves, whose sum is finite.
  static void makeSymmetric(Eigen::MatrixXd& matrix) {
    for (Index col = 0; col < matrix.cols(); ++col) {
      for (Index row = 0; row < col; ++row) {
        matrix(row, col) = matrix(row, col) / 2 + matrix(col, row) / 2;
        matrix(col, row) = matrix(row, col);
      }
    }
  }

  /// a * share + b * other, each product rounded before the sum.
  static double blend(double a, double share, double b, double other) {
    return simd::unfused(a * share) + simd::unfused(b * other);
  }

  /// mean = (tokens_ * mean + x^T x) / total, a tile of the lower triangle at a time. All memory is taken first.
  template <class Scalar>
  void addOuterProducts(const detail::Strided<Scalar>& x, double total, Eigen::MatrixXd& mean) const {
    using Ordered = detail::OrderedTile<double, std::is_same_v<Scalar, float>>;  // whose products are exact in double
    struct Place {
      Index row, col;
    };
    std::vector<Place> places;
    for (Index row = 0; row < x.cols; row += Ordered::kRows) {
      const Index end = std::min(row + Ordered::kRows, x.cols);
      for (Index col = 0; col < end; col += Ordered::kCols) places.push_back({row, col});
    }
    struct Workspace {
      Ordered tile;
      std::vector<double> sums;
    };
    const auto count = static_cast<Index>(places.size()), parts = std::min<Index>(count, Eigen::nbThreads());
    std::vector<Workspace> workspaces(static_cast<std::size_t>(parts));
    for (Workspace& workspace : workspaces) {
      const Index rows = std::min(Ordered::kRows, x.cols), cols = std::min(Ordered::kCols, x.cols);
      workspace.tile.reserve(rows, cols, x.rows);
      workspace.sums.reserve(static_cast<std::size_t>(rows * cols));
    }
    parallelFor(parts, x.rows * Ordered::kRows * Ordered::kCols * ceilDiv(count, parts), [&](Index part) {
      auto& [tile, sums] = workspaces[static_cast<std::size_t>(part)];
      for (Index i = count * part / parts; i < count * (part + 1) / parts; ++i) {
        const auto [row, col] = places[static_cast<std::size_t>(i)];
        const Index rows = std::min(Ordered::kRows, x.cols - row), cols = std::min(Ordered::kCols, x.cols - col);
        sums.assign(static_cast<std::size_t>(rows * cols), 0.);
        tile.add(x.block(0, row, x.rows, rows).transpose(), x.block(0, col, x.rows, cols), sums.data(), cols);
        blendTile(row, col, rows, cols, sums.data(), total, mean);
      }
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

  bool isOnlyOwner() const {
    if (mean_.use_count() != 1) return false;
    std::atomic_thread_fence(std::memory_order_acquire);  // what the last other owner did with it is done
    return true;
  }

  Eigen::MatrixXd& owned() {
    if (!isOnlyOwner()) mean_ = std::make_shared<Eigen::MatrixXd>(matrix());
    return *mean_;
  }

  std::shared_ptr<Eigen::MatrixXd> mean_;
  detail::EmptyAfterMove<double> tokens_;
};

}  // namespace gosset::GOSSET_ABI
