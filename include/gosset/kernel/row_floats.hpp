// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

// y = W x and y += W^T x with activations as they are, for layouts that keep rows by themselves and make bytes of them,
// as row_product.hpp takes them: number = scale * level - min, 16 numbers a scale and a minimum.
//
//   sum_j w_j x_j  =  sum over 16s of  scale sum_j level_j x_j  -  min sum_j x_j
//
// The sums have sixteen lanes on every machine, those of W^T the order of the rows, and products are rounded before
// they are added: the same bits everywhere.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Visits the registers that make up sixteen lanes: visit(register, its first lane), both compile-time constants.
template <class Visit>
[[gnu::always_inline]] inline void forSumRegisters(const Visit& visit) {
  simd::unroll<kSumRegisters>([&](auto r) __attribute__((always_inline)) {
    visit(r, std::integral_constant<int, r * simd::kWordLanes>{});
  });
}

/// The sum of each 16 of n numbers, filled up with zeros as rows are.
inline AlignedVector<float> sumsOfSixteens(const float* x, Index n) {
  AlignedVector<float> sums(static_cast<std::size_t>(RowBytes::paddedGroups(n)));
  for (Index i = 0; i + kRowGroup <= n; i += kRowGroup) {
    simd::Floats numbers[kSumRegisters];
    forSumRegisters([&](auto r, auto lane)
                        __attribute__((always_inline)) { numbers[r] = simd::load<simd::Floats>(x + i + lane); });
    sums[static_cast<std::size_t>(i / kRowGroup)] = simd::sumInHalves<kSumRegisters>(numbers);
  }
  return sums;
}

/// The products of kRows rows with x, n numbers, but for what minima take away.
template <int kRows>
void rowFloatDots(const RowBytes* rows, const float* x, Index n, float* y) {
  const std::int8_t* levels[kRows];
  const float* scales[kRows];
  for (int i = 0; i < kRows; ++i) levels[i] = rows[i].levels(), scales[i] = rows[i].scales();
  simd::Floats sums[kRows][kSumRegisters] = {};
  for (Index group = 0; group < n / kRowGroup; ++group) {
    simd::unroll<kRows>([&](int i) __attribute__((always_inline)) {
      const auto scale = simd::splat<simd::Floats>(scales[i][group]);
      forSumRegisters([&](auto r, auto lane) __attribute__((always_inline)) {
        const Index at = group * kRowGroup + lane;
        const simd::Floats products = simd::unfused(simd::widen(levels[i] + at) * simd::load<simd::Floats>(x + at));
        sums[i][r] = simd::multiplyAdd(products, scale, sums[i][r]);
      });
    });
  }
  for (int i = 0; i < kRows; ++i) y[i] = simd::sumInHalves<kSumRegisters>(sums[i]);
}

/// y (count) = W x for rows that toBytes(i, row) makes; x: n, a multiple of 16.
template <bool kHasMin, class ToBytes>
void multiplyRowFloats(Index count, Index n, const ToBytes& toBytes, const float* x, float* y) {
  constexpr Index kChunk = 64;  // rows of a task
  constexpr int kShared = 4;    // rows that share the loads of x
  const AlignedVector<float> sums = kHasMin ? sumsOfSixteens(x, n) : AlignedVector<float>();
  parallelFor(ceilDiv(count, kChunk), kChunk * n / 2, [&](Index chunk) {
    std::vector<RowBytes> rows(kShared, RowBytes(n));
    const Index end = std::min((chunk + 1) * kChunk, count);
    for (Index first = chunk * kChunk; first < end; first += kShared) {
      const Index together = std::min<Index>(kShared, end - first);
      for (Index i = 0; i < together; ++i) toBytes(first + i, rows[static_cast<std::size_t>(i)]);
      float dots[kShared];
      rowFloatDots<kShared>(rows.data(), x, n, dots);
      for (Index i = 0; i < together; ++i) {
        if constexpr (kHasMin) {
          dots[i] -= groupDot(rows[static_cast<std::size_t>(i)].mins(), sums.data(), RowBytes::paddedGroups(n));
        }
        y[first + i] = dots[i];
      }
    }
  });
}

inline constexpr int kRowsDown = 8;         ///< rows that y is read and written for once, in products with W^T
inline constexpr Index kRowColumns = 1024;  ///< columns of a task there

/// What rows stand for times some columns of x, kRowsDown of each: for each 16 columns the rows' scales times x, and
/// the sum of their minima times x.
template <int kTokens>
struct FoldedRowScales {
  static constexpr Index kGroups = kRowColumns / kRowGroup;
  float scales[kTokens][kRowsDown][kGroups], mins[kTokens][kGroups];

  template <bool kHasMin>
  void fold(const RowBytes* rows, Index groups, const float* x, Index x_stride) {
    for (Index group = 0; group < groups; group += simd::kWordLanes) {
      simd::unroll<kTokens>([&](auto k) __attribute__((always_inline)) {
        simd::Floats sum{};
        for (int i = 0; i < kRowsDown; ++i) {
          const auto factor = simd::splat<simd::Floats>(x[k * x_stride + i]);
          simd::store(&scales[k][i][group], simd::load<simd::Floats>(rows[i].scales() + group) * factor);
          if constexpr (kHasMin) {
            sum = simd::multiplyAdd(simd::load<simd::Floats>(rows[i].mins() + group), factor, sum);
          }
        }
        if constexpr (kHasMin) simd::store(&mins[k][group], sum);
      });
    }
  }
};

/// y += the products of kRowsDown rows, n columns of them, and kTokens columns of x.
template <int kTokens, bool kHasMin>
void addRowsDown(const RowBytes* rows, Index n, const float* x, Index x_stride, float* y, Index y_stride) {
  FoldedRowScales<kTokens> folded;
  folded.template fold<kHasMin>(rows, RowBytes::paddedGroups(n), x, x_stride);
  const std::int8_t* levels[kRowsDown];
  for (int i = 0; i < kRowsDown; ++i) levels[i] = rows[i].levels();
  for (Index group = 0; group < n / kRowGroup; ++group) {
    forSumRegisters([&](auto, auto lane) __attribute__((always_inline)) {
      const Index at = group * kRowGroup + lane;
      simd::Floats sums[kTokens];
      simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
        sums[k] = simd::load<simd::Floats>(y + k * y_stride + at);
      });
      simd::unroll<kRowsDown>([&](int i) __attribute__((always_inline)) {
        const simd::Floats numbers = simd::widen(levels[i] + at);
        simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
          sums[k] = simd::multiplyAdd(numbers, simd::splat<simd::Floats>(folded.scales[k][i][group]), sums[k]);
        });
      });
      simd::unroll<kTokens>([&](auto k) __attribute__((always_inline)) {
        if constexpr (kHasMin) sums[k] -= simd::splat<simd::Floats>(folded.mins[k][group]);
        simd::store(y + k * y_stride + at, sums[k]);
      });
    });
  }
}

/// y (n x t, columns y_stride apart) += W^T x for m rows, of which toBytes(i, first, count, row) makes columns
/// [first, first + count); n a multiple of 16; x: m x t, columns x_stride apart.
template <bool kHasMin, class ToBytes>
void addTransposedRows(Index m, Index n, const ToBytes& toBytes, const float* x, Index tokens, Index x_stride, float* y,
                       Index y_stride) {
  parallelFor(ceilDiv(n, kRowColumns), m * kRowColumns * (tokens + 1) / 4, [&](Index stretch) {
    const Index col = stretch * kRowColumns, count = std::min(kRowColumns, n - col);
    std::vector<RowBytes> rows(kRowsDown, RowBytes(count));
    AlignedVector<float> factors(static_cast<std::size_t>(kRowsDown * tokens));
    for (Index first = 0; first < m; first += kRowsDown) {
      for (Index i = 0; i < kRowsDown; ++i) {  // rows that do not exist are those before, times 0
        const bool exists = first + i < m;
        if (exists) toBytes(first + i, col, count, rows[static_cast<std::size_t>(i)]);
        for (Index token = 0; token < tokens; ++token) {
          factors[static_cast<std::size_t>(token * kRowsDown + i)] = exists ? x[token * x_stride + first + i] : 0.f;
        }
      }
      const auto add = [&](Index token, auto together) {
        addRowsDown<together, kHasMin>(rows.data(), count, factors.data() + token * kRowsDown, kRowsDown,
                                       y + token * y_stride + col, y_stride);
      };
      Index token = 0;
      for (; token + 4 <= tokens; token += 4) add(token, std::integral_constant<int, 4>{});
      for (; token < tokens; ++token) add(token, std::integral_constant<int, 1>{});
    }
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
