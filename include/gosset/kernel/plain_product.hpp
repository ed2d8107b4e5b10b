// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

// The kernels of plain.hpp.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Rows that share the loads of the activations.
inline constexpr Index kPlainRows = 4;

/// The dot products of kRows rows, n numbers each and `stride` apart, with x.
template <int kRows, class T>
[[gnu::always_inline]] inline void plainDots(const T* w, Index n, Index stride, const float* x, float* y) {
  using simd::Floats;
  constexpr Index kLanes = simd::kWordLanes, kUnroll = 64 / (sizeof(T) * kLanes) > 1 ? 64 / (sizeof(T) * kLanes) : 1;
  constexpr int kSums = static_cast<int>(kLanes * kUnroll);  // in a row, the same number on all machines
  Floats sums[kRows][kUnroll] = {};
  Index j = 0;
  for (; j + kSums <= n; j += kSums) {
    simd::unroll<kRows>([&](int r) __attribute__((always_inline)) {
      const T* row = w + r * stride + j;
      // A register of each row is a cache line: of the rows that come next, so that a stream never starts cold. They
      // would push each other out of L1.
      simd::prefetchToL2(row + kRows * stride);
      simd::unroll<static_cast<int>(kUnroll)>([&](int u) __attribute__((always_inline)) {
        sums[r][u] =
            simd::multiplyAdd(simd::widen(row + u * kLanes), simd::load<Floats>(x + j + u * kLanes), sums[r][u]);
      });
    });
  }
  for (int r = 0; r < kRows; ++r) {
    if (j < n) {
      float parts[kSums];
      std::memcpy(parts, sums[r], sizeof(parts));
      for (Index k = j; k < n; ++k) parts[k - j] += simd::unfused(static_cast<float>(w[r * stride + k]) * x[k]);
      std::memcpy(sums[r], parts, sizeof(parts));
    }
    y[r] = simd::sumInHalves<static_cast<int>(kUnroll)>(sums[r]);
  }
}

/// y (m) = W x; w: m x n, rows `stride` apart.
template <class T>
void multiplyPlain(const T* w, Index m, Index n, Index stride, const float* x, float* y) {
  parallelFor(ceilDiv(m, kPlainRows), kPlainRows * n / 4, [&](Index block) {
    const Index first = block * kPlainRows;
    if (first + kPlainRows <= m) {
      plainDots<kPlainRows>(w + first * stride, n, stride, x, y + first);
    } else {
      for (Index row = first; row < m; ++row) plainDots<1>(w + row * stride, n, stride, x, y + row);
    }
  });
}

/// Columns of x that share the loads of W, in products with W^T.
inline constexpr int kPlainTogether = simd::kVectorRegisters >= 32 ? 8 : 4;

/// y += W^T x for kRegisters registers of columns of W, m rows `stride` apart, and kTokens columns of x. Cache lines
/// `ahead` numbers further on are asked for.
template <bool kFused, int kTokens, int kRegisters, class T>
[[gnu::always_inline]] inline void addPlainColumns(const T* w, Index m, Index stride, Index ahead, const float* x,
                                                   Index x_stride, float* y, Index y_stride) {
  using simd::Floats;
  constexpr Index kLanes = simd::kWordLanes;
  Floats sums[kTokens][kRegisters];
  simd::unroll<kTokens * kRegisters>([&](int i) __attribute__((always_inline)) {
    sums[i / kRegisters][i % kRegisters] = simd::load<Floats>(y + i / kRegisters * y_stride + i % kRegisters * kLanes);
  });
  for (Index row = 0; row < m; ++row) {
    const T* from = w + row * stride;
    Floats numbers[kRegisters];
    simd::unroll<kRegisters>([&](auto r) __attribute__((always_inline)) {
      if constexpr (r * sizeof(T) * kLanes % 64 == 0) simd::prefetchToL2(from + ahead + r * kLanes);
      numbers[r] = simd::widen(from + r * kLanes);
    });
    simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
      const auto factor = simd::splat<Floats>(x[k * x_stride + row]);
      simd::unroll<kRegisters>([&](int r) __attribute__((always_inline)) {
        sums[k][r] = kFused ? simd::fusedMultiplyAdd(numbers[r], factor, sums[k][r])
                            : simd::multiplyAdd(numbers[r], factor, sums[k][r]);
      });
    });
  }
  simd::unroll<kTokens * kRegisters>([&](int i) __attribute__((always_inline)) {
    simd::store(y + i / kRegisters * y_stride + i % kRegisters * kLanes, sums[i / kRegisters][i % kRegisters]);
  });
}

/// y (n x t, column-major, columns y_stride apart) += W^T x; w: m x n, rows `stride` apart; x: m x t, columns x_stride
/// apart. A few rows at a time, from end to end, so that memory is read as it lies. kFused: products are fused with
/// sums where the machine can, which spares up to a quarter of the time. Allocates nothing.
template <bool kFused, class T>
void addPlainTransposed(const T* w, Index m, Index n, Index stride, const float* x, Index tokens, Index x_stride,
                        float* y, Index y_stride) {
  constexpr Index kLanes = simd::kWordLanes, kRows = 8, kAheadBytes = 8192;
  const Index ahead_rows = ceilDiv(kAheadBytes, kRows * stride * static_cast<Index>(sizeof(T))) * kRows;
  const auto rows = [&](Index first, Index token, auto together) {
    constexpr int kColumns = together, kRegisters = std::min(2 * kPlainTogether / kColumns, 8);
    const Index count = std::min(kRows, m - first), ahead = first + ahead_rows < m ? ahead_rows * stride : 0;
    const T* from = w + first * stride;
    const float* numbers = x + token * x_stride + first;
    float* target = y + token * y_stride;
    Index j = 0;
    for (; j + kRegisters * kLanes <= n; j += kRegisters * kLanes) {
      addPlainColumns<kFused, kColumns, kRegisters>(from + j, count, stride, ahead, numbers, x_stride, target + j,
                                                    y_stride);
    }
    for (; j + kLanes <= n; j += kLanes) {
      addPlainColumns<kFused, kColumns, 1>(from + j, count, stride, ahead, numbers, x_stride, target + j, y_stride);
    }
    for (; j < n; ++j) {
      for (Index k = 0; k < kColumns; ++k) {
        float sum = target[k * y_stride + j];
        for (Index row = 0; row < count; ++row) {
          const float number = static_cast<float>(from[row * stride + j]), factor = numbers[k * x_stride + row];
          sum = kFused ? simd::fusedMultiplyAdd(number, factor, sum) : simd::unfused(number * factor) + sum;
        }
        target[k * y_stride + j] = sum;
      }
    }
  };
  for (Index first = 0; first < m; first += kRows) {
    Index token = 0;
    for (; token + kPlainTogether <= tokens; token += kPlainTogether) {
      rows(first, token, std::integral_constant<int, kPlainTogether>{});
    }
    for (; token + 4 <= tokens; token += 4) rows(first, token, std::integral_constant<int, 4>{});
    for (; token + 2 <= tokens; token += 2) rows(first, token, std::integral_constant<int, 2>{});
    for (; token < tokens; ++token) rows(first, token, std::integral_constant<int, 1>{});
  }
}

/// How many of n floats, from the first on, have been stored in halves, which scalar code takes far longer for where no
/// flags promise the instruction.
inline Index narrowByVectors([[maybe_unused]] const float* x, [[maybe_unused]] Index n, [[maybe_unused]] Float16* y) {
  Index i = 0;
#if defined(GOSSET_AVX512BW)
  for (; i + 16 <= n; i += 16) {
    _mm256_storeu_si256((__m256i*)(y + i), _mm512_maskz_cvtps_ph(0xffff, _mm512_loadu_ps(x + i), 0));
  }
#elif defined(GOSSET_AVX2) && defined(GOSSET_F16C)
  for (; i + 8 <= n; i += 8) _mm_storeu_si128((__m128i*)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), 0));
#elif defined(__aarch64__)
  for (; i + 4 <= n; i += 4) vst1_f16((__fp16*)(y + i), vcvt_f16_f32(vld1q_f32(x + i)));
#endif
  return i;
}

template <class T>
void narrowInSet(const float* x, Index n, T* y) {
  Index i = 0;
  if constexpr (std::is_same_v<T, Float16>) i = narrowByVectors(x, n, y);
  for (; i < n; ++i) y[i] = static_cast<T>(x[i]);
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
