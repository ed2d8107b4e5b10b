// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>

#include <cstdint>
#include <type_traits>

// The random signs of a randomized Hadamard transform. Number i of a seed is a pure function of both, so the seed alone
// is kept. A product by a sign is exact, and applying the same signs twice gives back what was there.
namespace gosset::GOSSET_ABI {

/// The first n signs of a seed, each +1 or -1.
template <RealScalar Scalar>
Eigen::Matrix<Scalar, Eigen::Dynamic, 1> randomSigns(std::uint64_t seed, Index n) {
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> signs(n);
  for (Index i = 0; i < n; ++i) signs[i] = static_cast<Scalar>(randomSign(seed, static_cast<std::uint64_t>(i)));
  return signs;
}

/// w <- D w in place, D the diagonal matrix of the seed's first m signs: row i of w, m x n, times sign i.
template <class M>
void applyRowSigns(M&& w, std::uint64_t seed) {
  static_assert(RealScalar<typename std::remove_cvref_t<M>::Scalar>,
                "gosset::applyRowSigns takes a writable Eigen matrix of real numbers");
  const auto signs = randomSigns<typename std::remove_cvref_t<M>::Scalar>(seed, w.rows());
  if constexpr (std::remove_cvref_t<M>::IsRowMajor && std::remove_cvref_t<M>::ColsAtCompileTime != 1) {
    parallelFor(w.rows(), w.cols(), [&](Index i) { w.row(i) *= signs[i]; });
  } else {
    parallelFor(w.cols(), w.rows(), [&](Index j) { w.col(j).array() *= signs.array(); });
  }
}

/// w <- w D in place: column j of w, m x n, times sign j.
template <class M>
void applyColSigns(M&& w, std::uint64_t seed) {
  static_assert(RealScalar<typename std::remove_cvref_t<M>::Scalar>,
                "gosset::applyColSigns takes a writable Eigen matrix of real numbers");
  auto transposed = w.transpose();
  applyRowSigns(transposed, seed);
}

/// x <- D x in place: number i of a row or column vector times sign i.
template <class X>
void applySigns(X&& x, std::uint64_t seed) {
  static_assert(RealScalar<typename std::remove_cvref_t<X>::Scalar>,
                "gosset::applySigns takes a writable Eigen vector of real numbers");
  static_assert(std::remove_cvref_t<X>::IsVectorAtCompileTime != 0,
                "gosset::applySigns takes a vector; for a matrix, call applyRowSigns or applyColSigns");
  if constexpr (std::remove_cvref_t<X>::ColsAtCompileTime == 1) {
    applyRowSigns(x, seed);
  } else {
    applyColSigns(x, seed);
  }
}

}  // namespace gosset::GOSSET_ABI
