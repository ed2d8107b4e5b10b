// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <type_traits>

// Products of dense matrices of floats. Eigen shares large ones out among threads of its own: then the order of their
// sums depends on the number of threads, and where such a thread finds no memory the process ends. Here neither
// happens. All that gosset takes of Eigen's products from within is in this file.
namespace gosset::detail {

template <class Matrix>
inline constexpr int kStorageOrder = (std::remove_cvref_t<Matrix>::Flags & Eigen::RowMajorBit) != 0 ? Eigen::RowMajor
                                                                                                    : Eigen::ColMajor;

/// y += factor * a * b in this thread alone; y must not overlap the others. All lie in memory, their rows or columns
/// without gaps between numbers.
template <class A, class B, class Y>
void addDenseProductHere(const A& a, const B& b, Y&& y, float factor = 1) {
  constexpr Index kShared = 100000;  // multiply-adds from which on Eigen may use threads
  if (a.rows() == 1 || b.cols() == 1 || a.rows() * a.cols() * b.cols() < kShared) {
    y.noalias() += factor * a * b;
    return;
  }
  using namespace Eigen::internal;
  constexpr int kDynamic = Eigen::Dynamic, kResultOrder = kStorageOrder<Y>;
  gemm_blocking_space<kResultOrder, float, float, kDynamic, kDynamic, kDynamic> blocking(a.rows(), b.cols(), a.cols(),
                                                                                         1, true);
  general_matrix_matrix_product<Index, float, kStorageOrder<A>, false, float, kStorageOrder<B>, false, kResultOrder,
                                1>::run(a.rows(), b.cols(), a.cols(), a.data(), a.outerStride(), b.data(),
                                        b.outerStride(), y.data(), 1, y.outerStride(), factor, blocking);
}

/// The same, the rows of y shared out among threads.
template <class A, class B, class Y>
void addDenseProduct(const A& a, const B& b, Y&& y, float factor = 1) {
  constexpr Index kRows = 192;  // a multiple of what Eigen's kernels take at a time, of any instruction set
  parallelFor(ceilDiv(a.rows(), kRows), std::min(kRows, a.rows()) * b.size(), [&](Index chunk) {
    const Index first = chunk * kRows, count = std::min(kRows, a.rows() - first);
    addDenseProductHere(a.middleRows(first, count), b, y.middleRows(first, count), factor);
  });
}

}  // namespace gosset::detail
