// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Matrices in another order of their columns, without a second matrix. An order names each column once: what becomes
// column k was column order[k].
namespace gosset::GOSSET_ABI::detail {

/// numbers[k] becomes what numbers[order[k]] was; old: memory for as many.
template <class T>
void gather(T* numbers, std::span<const std::uint32_t> order, std::vector<T>& old) {
  old.assign(numbers, numbers + order.size());
  for (std::size_t k = 0; k < order.size(); ++k) numbers[k] = old[order[k]];
}

/// Of w (m x n).
inline void gatherColumns(RowMatrixXf& w, std::span<const std::uint32_t> order) {
  constexpr Index kRows = 16;  // that share memory for one
  parallelFor(ceilDiv(w.rows(), kRows), kRows * w.cols(), [&](Index chunk) {
    std::vector<float> old;
    for (Index row = chunk * kRows; row < std::min((chunk + 1) * kRows, w.rows()); ++row) {
      gather(w.row(row).data(), order, old);
    }
  });
}

/// Of h (n x n), and its rows in the same order: h(a, b) becomes what h(order[a], order[b]) was.
inline void gatherBoth(Eigen::MatrixXd& h, std::span<const std::uint32_t> order) {
  constexpr Index kCols = 16;
  parallelFor(ceilDiv(h.cols(), kCols), kCols * h.rows(), [&](Index chunk) {
    std::vector<double> old;
    for (Index col = chunk * kCols; col < std::min((chunk + 1) * kCols, h.cols()); ++col) {
      gather(h.col(col).data(), order, old);
    }
  });
  std::vector<bool> done(order.size(), false);
  for (std::size_t first = 0; first < order.size(); ++first) {  // cycle after cycle of the columns
    for (std::size_t to = first; !done[to]; to = order[to]) {
      done[to] = true;
      if (order[to] != first) h.col(static_cast<Index>(to)).swap(h.col(static_cast<Index>(order[to])));
    }
  }
}

}  // namespace gosset::GOSSET_ABI::detail
