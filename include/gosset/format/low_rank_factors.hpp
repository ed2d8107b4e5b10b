// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/exact_sum.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/random.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/transpose.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

// The best approximation of low rank, nearly, with the same bits on every machine: each sum has one order, whatever the
// width of a register, and no product is fused with a sum. So a file packed here is the file packed there.
namespace gosset::GOSSET_ABI::detail {

/// left * right, m x k and k x n, the columns of `left` orthonormal, the strongest direction first.
struct LowRankFactors {
  Eigen::MatrixXf left;
  Eigen::MatrixXf right;
};

/// Columns of A that meet X together.
inline constexpr Index kPanel = 2 * simd::kLanes<float>;

/// A, rows x cols, in panels of kPanel columns: panel i begins at data + i * next, its rows are `stride` apart.
struct Panels {
  const float* data;
  Index rows, cols, stride, next;
};

/// A row-major matrix as it lies.
inline Panels panelsOf(const float* data, Index rows, Index cols) { return {data, rows, cols, cols, kPanel}; }

/// The transpose of a matrix in panels of its own, the last filled up with zeros.
class TransposedPanels {
 public:
  explicit TransposedPanels(const RowMatrixXf& w)
      : rows_(w.cols()), cols_(w.rows()), data_(static_cast<std::size_t>(ceilDiv(cols_, kPanel) * kPanel * rows_)) {
    parallelFor(ceilDiv(cols_, kPanel), kPanel * rows_, [&](Index panel) {
      const Index first = panel * kPanel, count = std::min(kPanel, cols_ - first);
      float* to = data_.data() + first * rows_;
      transposeInto(w.data() + first * rows_, count, rows_, rows_, to, kPanel);
    });
  }

  operator Panels() const { return {data_.data(), rows_, cols_, kPanel, kPanel * rows_}; }

 private:
  Index rows_, cols_;
  std::vector<float> data_;
};

/// y = A^T X for a panel of A, of which `count` columns are wanted, and kColumns columns of X: row after row.
template <int kColumns>
void multiplyPanel(const float* a, Index rows, Index stride, const float* x, Index x_stride, Index count, float* y,
                   Index y_stride) {
  using Floats = simd::Vec<float>;
  constexpr Index kLanes = simd::kLanes<float>;
  Floats sums[kColumns][2] = {};
  for (Index i = 0; i < rows; ++i) {
    const auto low = simd::load<Floats>(a + i * stride), high = simd::load<Floats>(a + i * stride + kLanes);
    simd::unroll<kColumns>([&](int c) __attribute__((always_inline)) {
      const auto factor = simd::splat<Floats>(x[c * x_stride + i]);
      sums[c][0] += simd::unfused(low * factor);
      sums[c][1] += simd::unfused(high * factor);
    });
  }
  for (int c = 0; c < kColumns; ++c) {
    float out[kPanel];
    simd::store(out, sums[c][0]);
    simd::store(out + kLanes, sums[c][1]);
    std::copy_n(out, count, y + c * y_stride);
  }
}

/// A^T X; x: as many rows as A.
inline Eigen::MatrixXf transposedProduct(const Panels& a, const Eigen::MatrixXf& x) {
  constexpr int kMost = simd::kVectorRegisters >= 32 ? 12 : 6;
  Eigen::MatrixXf y(a.cols, x.cols());
  parallelFor(ceilDiv(a.cols, kPanel), kPanel * a.rows * x.cols(), [&](Index panel) {
    const Index count = std::min(kPanel, a.cols - panel * kPanel);
    const float* from = a.data + panel * a.next;
    Index stride = a.stride, column = 0;
    std::vector<float> filled;
    if (count < kPanel && stride != kPanel) {  // reading on would leave the matrix
      filled.resize(static_cast<std::size_t>(a.rows * kPanel));
      for (Index i = 0; i < a.rows; ++i) std::copy_n(from + i * stride, count, filled.data() + i * kPanel);
      from = filled.data();
      stride = kPanel;
    }
    const auto columns = [&]<int kColumns>(std::integral_constant<int, kColumns>) {
      for (; column + kColumns <= x.cols(); column += kColumns) {
        multiplyPanel<kColumns>(from, a.rows, stride, x.col(column).data(), x.outerStride(), count,
                                y.col(column).data() + panel * kPanel, y.outerStride());
      }
    };
    columns(std::integral_constant<int, kMost>{});
    columns(std::integral_constant<int, 4>{});
    columns(std::integral_constant<int, 1>{});
  });
  return y;
}

/// a . b, in 32 lanes, which are added in halves.
inline float dotInOrder(const float* a, const float* b, Index n) {
  constexpr Index kLanes = simd::kLanes<float>, kSumLanes = 32;
  using Floats = simd::Vec<float>;
  Floats sums[kSumLanes / kLanes] = {};
  Index i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    simd::unroll<kSumLanes / kLanes>([&](int k) __attribute__((always_inline)) {
      sums[k] += simd::unfused(simd::load<Floats>(a + i + k * kLanes) * simd::load<Floats>(b + i + k * kLanes));
    });
  }
  float lanes[kSumLanes];
  for (Index k = 0; k < kSumLanes / kLanes; ++k) simd::store(lanes + k * kLanes, sums[k]);
  for (Index lane = 0; i < n; ++i, ++lane) lanes[lane] += simd::unfused(a[i] * b[i]);
  for (Index half = kSumLanes / 2; half > 0; half /= 2) {
    for (Index lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

/// y -= factor * x.
inline void subtractInOrder(float factor, const float* x, float* y, Index n) {
  constexpr Index kLanes = simd::kLanes<float>;
  using Floats = simd::Vec<float>;
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    simd::store(y + i, simd::load<Floats>(y + i) - simd::unfused(simd::load<Floats>(x + i) * factor));
  }
  for (; i < n; ++i) y[i] -= simd::unfused(x[i] * factor);
}

/// Takes out of column j what it has in common with those before it, which are orthonormal; the length of what is left.
inline float takeOutEarlier(Eigen::MatrixXf& columns, Index j) {
  const Index m = columns.rows();
  float* column = columns.col(j).data();
  Eigen::VectorXf shares(j);
  for (Index i = 0; i < j; ++i) shares[i] = dotInOrder(columns.col(i).data(), column, m);
  for (Index i = 0; i < j; ++i) subtractInOrder(shares[i], columns.col(i).data(), column, m);
  return std::sqrt(dotInOrder(column, column, m));
}

/// The axis that lies farthest from the first j columns, which are orthonormal.
inline Index farthestAxis(const Eigen::MatrixXf& columns, Index j) {
  Index axis = 0;
  double least = 2;
  for (Index i = 0; i < columns.rows(); ++i) {
    const double inside = sumOfSquares(j, [&](Index k) { return columns(i, k); });
    if (inside < least) axis = i;
    least = std::min(least, inside);
  }
  return axis;
}

/// An orthonormal basis of the columns of a tall matrix, m x k with m >= k, by Gram and Schmidt; of more than those
/// where they are dependent.
///
/// What a column has in common with those before it is taken out again and again until that leaves half of it: then
/// what rounding left in is small beside the rest. A column of which less than 2^-20 is left was dependent, as far as
/// floats can tell, and the axis farthest from those before it takes its place.
/// Source: Giraud, Langou, Rozloznik and van den Eshof, "Rounding error analysis of the classical Gram-Schmidt
/// orthogonalization process", Numerische Mathematik 101 (2005), on why twice is nearly always enough.
inline Eigen::MatrixXf orthonormalBasis(Eigen::MatrixXf columns) {
  constexpr float kDependent = 0x1p-20f;
  constexpr int kPasses = 8;  // never needed, but numbers that are not finite must not go round for ever
  for (Index j = 0; j < columns.cols(); ++j) {
    float* column = columns.col(j).data();
    float whole = std::sqrt(dotInOrder(column, column, columns.rows())), before = whole, left = 0;
    for (int pass = 0; pass < kPasses; ++pass) {
      left = takeOutEarlier(columns, j);
      if (!(left > kDependent * whole)) {
        columns.col(j) = Eigen::VectorXf::Unit(columns.rows(), farthestAxis(columns, j));
        whole = before = 1;
        continue;
      }
      if (left > before / 2) break;
      before = left;
    }
    columns.col(j) /= left;
  }
  return columns;
}

/// The eigenvectors of a symmetric matrix by Jacobi's rotations, each of which makes one number off the diagonal 0.
/// Source: Golub and Van Loan, "Matrix Computations", 4th edition (2013), section 8.5.
class JacobiEigenvectors {
 public:
  explicit JacobiEigenvectors(const Eigen::MatrixXd& symmetric)
      : n_(symmetric.rows()), stride_(ceilDiv(n_, kLanes) * kLanes) {
    rows_.setZero(n_, stride_);
    rows_.leftCols(n_) = symmetric;
    vectors_.setIdentity(n_, stride_);
    const double least = 0x1p-54 * symmetric.diagonal().cwiseAbs().maxCoeff();
    bool rotated = true;
    for (int sweep = 0; rotated && sweep < kSweeps; ++sweep) {
      rotated = false;
      for (Index p = 0; p < n_; ++p) {
        for (Index q = p + 1; q < n_; ++q) {
          if (!(std::abs(rows_(p, q)) > least)) continue;
          rotate(p, q);
          rotated = true;
        }
      }
    }
  }

  /// Those of the `count` largest eigenvalues, the largest first, as columns; eigenvalues that are equal keep the order
  /// of their rows.
  Eigen::MatrixXf largest(Index count) const {
    std::vector<Index> order(static_cast<std::size_t>(n_));
    std::iota(order.begin(), order.end(), Index{0});
    std::sort(order.begin(), order.end(),
              [&](Index a, Index b) { return rows_(a, a) != rows_(b, b) ? rows_(a, a) > rows_(b, b) : a < b; });
    Eigen::MatrixXf columns(n_, count);
    for (Index i = 0; i < count; ++i) {
      columns.col(i) = vectors_.row(order[static_cast<std::size_t>(i)]).head(n_).transpose().cast<float>();
    }
    return columns;
  }

 private:
  static constexpr Index kLanes = simd::kLanes<double>;
  static constexpr int kSweeps = 40;  ///< some 6 are needed
  using Doubles = simd::Vec<double>;
  using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  /// A turn in the plane of axes p and q, by the smaller of the two angles that make their common number 0.
  void rotate(Index p, Index q) {
    const double common = rows_(p, q), pp = rows_(p, p), qq = rows_(q, q);
    const double cotangent = (qq - pp) / (2 * common);  // of twice the angle
    const double root = std::sqrt(1 + simd::unfused(cotangent * cotangent));
    const double tangent = 1 / (cotangent < 0 ? cotangent - root : cotangent + root);
    const double cosine = 1 / std::sqrt(1 + simd::unfused(tangent * tangent)), sine = tangent * cosine;
    rotateRows(rows_, p, q, cosine, sine);
    rotateRows(vectors_, p, q, cosine, sine);
    rows_(p, p) = pp - simd::unfused(tangent * common);
    rows_(q, q) = qq + simd::unfused(tangent * common);
    rows_(p, q) = rows_(q, p) = 0;
    for (Index k = 0; k < n_; ++k) {  // the matrix stays symmetric
      rows_(k, p) = rows_(p, k);
      rows_(k, q) = rows_(q, k);
    }
  }

  void rotateRows(Rows& rows, Index p, Index q, double cosine, double sine) const {
    double* a = rows.row(p).data();
    double* b = rows.row(q).data();
    for (Index k = 0; k < stride_; k += kLanes) {
      const auto x = simd::load<Doubles>(a + k), y = simd::load<Doubles>(b + k);
      simd::store(a + k, simd::unfused(x * cosine) - simd::unfused(y * sine));
      simd::store(b + k, simd::unfused(x * sine) + simd::unfused(y * cosine));
    }
  }

  Index n_, stride_;
  Rows rows_, vectors_;
};

/// The best approximation of e (m x n) of rank k <= min(m, n), nearly: subspace iteration from a seeded start on a few
/// more directions than k, of which the best k are kept. Each iteration multiplies what is missing by the square of the
/// ratio of the singular values beyond and within the subspace.
/// Source: Halko, Martinsson and Tropp, SIAM Review 53 (2011), algorithms 4.4 and 5.1.
inline LowRankFactors lowRankFactors(const RowMatrixXf& e, Index rank, int iterations, std::uint64_t seed) {
  constexpr Index kMore = 4;
  const Index directions = std::min({rank + kMore, e.rows(), e.cols()});
  const Panels rows = panelsOf(e.data(), e.rows(), e.cols());
  const TransposedPanels columns(e);
  Eigen::MatrixXf start(e.cols(), directions);
  for (Index i = 0; i < start.size(); ++i) {
    start.data()[i] = randomUniform(seed, static_cast<std::uint64_t>(i)) - 0.5f;
  }
  Eigen::MatrixXf left = orthonormalBasis(transposedProduct(columns, start));
  for (int i = 0; i < iterations; ++i) {
    left = orthonormalBasis(transposedProduct(columns, orthonormalBasis(transposedProduct(rows, left))));
  }
  const Eigen::MatrixXf right = transposedProduct(rows, left);  // its transpose
  // Its left singular vectors; in double, where squares keep the precision of float.
  Eigen::MatrixXd squares(directions, directions);
  for (Index i = 0; i < directions; ++i) {
    for (Index j = 0; j <= i; ++j) {
      squares(i, j) = squares(j, i) = sumOfProducts(right.rows(), [&](Index k) {
        return std::array<float, 2>{right(k, i), right(k, j)};
      });
    }
  }
  const Eigen::MatrixXf best = JacobiEigenvectors(squares).largest(rank);
  return {transposedProduct(panelsOf(left.data(), directions, left.rows()), best),
          transposedProduct(panelsOf(right.data(), directions, right.rows()), best).transpose()};
}

}  // namespace gosset::GOSSET_ABI::detail
