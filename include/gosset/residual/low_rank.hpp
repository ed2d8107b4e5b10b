// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/packed.hpp>
#include <gosset/core/random.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/scaled.hpp>

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset {

namespace detail {

/// left * right, m x k and k x n, the columns of `left` orthonormal.
struct LowRankFactors {
  Eigen::MatrixXf left;
  Eigen::MatrixXf right;
};

/// An orthonormal basis of the columns of a tall matrix, m x k with m >= k; of more than those where they are
/// dependent.
template <class Matrix>
Matrix orthonormalBasis(const Matrix& columns) {
  const Eigen::HouseholderQR<Matrix> qr(columns);
  return qr.householderQ() * Matrix::Identity(columns.rows(), columns.cols());
}

/// The best approximation of e (m x n) of rank k <= min(m, n), nearly: subspace iteration from a seeded start on a few
/// more directions than k, of which the best k are kept. Each iteration multiplies what is missing by the square of the
/// ratio of the singular values beyond and within the subspace.
/// Source: Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithms 4.4 and 5.1.
///
/// A template so that only programs that call it wait for Eigen's decompositions to compile.
template <class = void>
LowRankFactors lowRankFactors(const RowMatrixXf& e, Index rank, int iterations, std::uint64_t seed) {
  constexpr Index kMore = 4;
  const Index directions = std::min({rank + kMore, e.rows(), e.cols()});
  Eigen::MatrixXf start(e.cols(), directions);
  for (Index i = 0; i < start.size(); ++i) {
    start.data()[i] = randomUniform(seed, static_cast<std::uint64_t>(i)) - 0.5f;
  }
  Eigen::MatrixXf left = orthonormalBasis<Eigen::MatrixXf>(e * start);
  for (int i = 0; i < iterations; ++i) {
    start.noalias() = e.transpose() * left;
    left = orthonormalBasis<Eigen::MatrixXf>(e * orthonormalBasis(start));
  }
  const Eigen::MatrixXf right = left.transpose() * e;
  // Its left singular vectors, from the smallest to the largest; in double, where squares keep the precision of float.
  const Eigen::MatrixXd wide = right.cast<double>();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> squares(wide * wide.transpose());
  const Eigen::MatrixXf best = squares.eigenvectors().rightCols(rank).cast<float>();
  return {left * best, best.transpose() * right};
}

}  // namespace detail

/// Adds to Format the best rank-r correction of what it left over: w ~ inner + A B, for errors that many rows or
/// columns have in common.
///
///   inner   the matrix as Format keeps it
///   left    A, m x k Float16, k = min(r, m, n), row after row; its columns are orthonormal before rounding
///   right   B, k x n Float16, row after row, in units of
///   unit    float, a power of two
///
/// Bits a number besides the inner ones: 16 k (m + n) / (m n), and 32 bits a matrix.
/// QuantizeOptions: seed is that of the iteration's start, low_rank_iterations their number.
/// Source: Kang et al., "GEAR" (2024), section 3, for the idea; see detail::lowRankFactors.
template <class Format, int r>
struct LowRank {
  static_assert(r >= 1, "LowRank<Format, r>: the rank must be at least 1");
  using Inner = Format;
};

template <Format F, int r>
class Packed<LowRank<F, r>> {
 public:
  static Packed shaped(Index rows, Index cols) { return Packed(Packed<F>::shaped(rows, cols)); }
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths) {
    return Packed(detail::innerShapedFor<Packed<F>>(rows, cols, lengths));
  }

  /// Errors: std::invalid_argument where low_rank_iterations is negative, and what the inner format refuses.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    detail::require(options.low_rank_iterations >= 0, "quantize: low_rank_iterations must not be negative, got ",
                    options.low_rank_iterations);
    Packed packed(Packed<F>::quantize(w, rounding, options));
    w -= packed.inner_.dequantized();
    packed.correct(std::move(w), options);
    return packed;
  }

  static std::string formatName() { return "LowRank<" + Packed<F>::formatName() + ", " + std::to_string(r) + ">"; }
  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }

  template <class Visitor>
  void visitFields(Visitor&& visit) const {
    fields(*this, visit);
  }
  template <class Visitor>
  void visitFields(Visitor&& visit) {
    fields(*this, visit);
  }

  const Packed<F>& inner() const { return inner_; }

  /// False where a file holds codes that are none of the inner format.
  bool isValid() const { return detail::isValid(inner_); }

  /// k = min(r, m, n).
  Index rank() const { return std::min({static_cast<Index>(r), rows(), cols()}); }

  /// A, m x k, widened.
  RowMatrixXf left() const { return Map(left_.data(), rows(), rank()).template cast<float>(); }
  /// B, k x n, widened, in units of the matrix's values.
  RowMatrixXf right() const { return Map(right_.data(), rank(), cols()).template cast<float>() * unit_; }

  RowMatrixXf dequantized() const {
    RowMatrixXf w = inner_.dequantized();
    w.noalias() += left() * right();
    return w;
  }

  /// y = inner x + A (B x).
  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations) const {
    inner_.multiply(x, y, activations);
    const Eigen::MatrixXf inside = right() * x;
    y.noalias() += left() * inside;
  }

 private:
  using Map = Eigen::Map<const Eigen::Matrix<Float16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

  explicit Packed(Packed<F> inner)
      : inner_(std::move(inner)),
        left_(static_cast<std::size_t>(inner_.rows() * rank())),
        right_(static_cast<std::size_t>(rank() * inner_.cols())) {}

  /// Fits the factors to what is left over.
  void correct(RowMatrixXf e, const QuantizeOptions& options) {
    const float largest = e.cwiseAbs().maxCoeff();
    if (largest == 0) return;  // the factors are zero already
    const float scale = detail::storageUnit(largest);
    e /= scale;  // so that squares neither overflow nor vanish
    const auto factors = detail::lowRankFactors(e, rank(), options.low_rank_iterations, options.seed);
    const float inside = detail::storageUnit(factors.right.cwiseAbs().maxCoeff());
    unit_ = scale * inside;
    store(factors.left, 1, left_);
    store(factors.right, inside, right_);
  }

  static void store(const RowMatrixXf& values, float unit, std::vector<Float16>& stored) {
    std::transform(values.data(), values.data() + values.size(), stored.begin(),
                   [unit](float x) { return storeNearest<Float16>(x / unit); });
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    self.inner_.visitFields([&](std::string_view name, auto values) { visit("inner." + std::string(name), values); });
    visit("left", std::span(self.left_));
    visit("right", std::span(self.right_));
    visit("unit", std::span(&self.unit_, 1));
  }

  Packed<F> inner_;
  std::vector<Float16> left_;
  std::vector<Float16> right_;
  float unit_ = 1;
};

}  // namespace gosset
