// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/dot.hpp>

#include <algorithm>

// y = W x from 16- or 32-bit floats, row after row: the baseline that packed codes are measured against.
namespace gosset::detail {

/// Rows that share the loads of the activations.
inline constexpr Index kPlainRows = 4;

/// The dot products of kRows rows, n numbers each, with x.
template <int kRows, class T>
[[gnu::always_inline]] inline void plainDots(const T* w, Index n, const float* x, float* y) {
  using simd::Floats;
  constexpr Index kLanes = simd::kWordLanes, kUnroll = 64 / (sizeof(T) * kLanes) > 1 ? 64 / (sizeof(T) * kLanes) : 1;
  Floats sums[kRows][kUnroll] = {};
  Index j = 0;
  for (; j + kLanes * kUnroll <= n; j += kLanes * kUnroll) {
    simd::unroll<kRows>([&](auto r) __attribute__((always_inline)) {
      const T* row = w + r * n + j;
      // A register of each row is a cache line: of the rows that come next, so that a stream never starts cold.
      simd::prefetch(reinterpret_cast<const std::uint8_t*>(row + kRows * n));
      simd::unroll<static_cast<int>(kUnroll)>([&](auto u) __attribute__((always_inline)) {
        sums[r][u] += simd::widen(row + u * kLanes) * simd::load<Floats>(x + j + u * kLanes);
      });
    });
  }
  for (int r = 0; r < kRows; ++r) {
    float total = 0;
    for (Index u = 1; u < kUnroll; ++u) sums[r][0] += sums[r][u];
    for (int lane = 0; lane < kLanes; ++lane) total += sums[r][0][lane];
    for (Index k = j; k < n; ++k) total += static_cast<float>(w[r * n + k]) * x[k];
    y[r] = total;
  }
}

/// y (m) = W x; w: m x n, row after row.
template <class T>
void multiplyPlain(const T* w, Index m, Index n, const float* x, float* y) {
  parallelFor(ceilDiv(m, kPlainRows), kPlainRows * n / 4, [&](Index block) {
    const Index first = block * kPlainRows;
    if (first + kPlainRows <= m) {
      plainDots<kPlainRows>(w + first * n, n, x, y + first);
    } else {
      for (Index row = first; row < m; ++row) plainDots<1>(w + row * n, n, x, y + row);
    }
  });
}

}  // namespace gosset::detail
