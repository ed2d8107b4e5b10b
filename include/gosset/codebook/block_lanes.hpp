// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/simd.hpp>

#include <cstdint>
#include <utility>

namespace gosset::GOSSET_ABI::detail {

/// What searches over blocks of 8 numbers share: lane b of every vector belongs to block b of W.
template <int W>
struct BlockLanes {
  static_assert(W == 4 || W == 8 || W == 16);
  using F = simd::Vec<float, W>;
  using I = simd::Vec<std::int32_t, W>;

  static F splat(float x) { return simd::splat<F>(x); }
  static F min(F a, F b) { return a < b ? a : b; }
  static F max(F a, F b) { return a > b ? a : b; }
  static F keep(I mask, F x) { return reinterpret_cast<F>(mask & reinterpret_cast<I>(x)); }
  static F abs(F x) { return keep(simd::splat<I>(0x7fffffff), x); }
  static I pick(I mask, I a, I b) { return (mask & a) | (~mask & b); }

  /// The place of the one bit that is set in each lane.
  static I placeOf(I bit) { return (reinterpret_cast<I>(__builtin_convertvector(bit, F)) >> 23) - 127; }

  /// rows[i] lane b = x[8 b + i].
  [[gnu::always_inline]] static void transpose(const float* x, F (&rows)[8]) {
    if constexpr (W == 16) {
      simd::unroll<8>([&](auto r) {
        using Half = simd::Vec<float, 8>;
        const Half low = simd::load<Half>(x + 8 * r), high = simd::load<Half>(x + 8 * r + 64);
        rows[r] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      });
    } else if constexpr (W == 8) {
      simd::unroll<8>([&](int r) __attribute__((always_inline)) { rows[r] = simd::load<F>(x + 8 * r); });
    } else {
      simd::unroll<8>([&](int r)
                          __attribute__((always_inline)) { rows[r] = simd::load<F>(x + 8 * (r % 4) + r / 4 * 4); });
    }
    swapBits<1>(rows);
    swapBits<2>(rows);
    if constexpr (W >= 8) swapBits<4>(rows);
  }

  [[gnu::always_inline]] static void order(F& larger, F& smaller) {
    const F a = larger, b = smaller;
    larger = max(a, b);
    smaller = min(a, b);
  }

  [[gnu::always_inline]] static void sort4(F* d) {
    order(d[0], d[1]);
    order(d[2], d[3]);
    order(d[0], d[2]);
    order(d[1], d[3]);
    order(d[1], d[2]);
  }

  /// Merges two falling runs of four (Batcher's odd-even merge).
  [[gnu::always_inline]] static void merge8(F* d) {
    simd::unroll<4>([&](int i) __attribute__((always_inline)) { order(d[i], d[i + 4]); });
    simd::unroll<2>([&](int i) __attribute__((always_inline)) { order(d[i + 2], d[i + 4]); });
    simd::unroll<3>([&](int i) __attribute__((always_inline)) { order(d[2 * i + 1], d[2 * i + 2]); });
  }

 private:
  /// Exchanges bit D of the row's number with bit D of the lane's.
  template <int D>
  [[gnu::always_inline]] static void swapBits(F (&rows)[8]) {
    simd::unroll<8>([&](auto r) {
      if constexpr ((r & D) == 0) {
        const F u = rows[r], v = rows[r + D];
        [&]<int... K>(std::integer_sequence<int, K...>) {
          rows[r] = __builtin_shufflevector(u, v, ((K & D) != 0 ? W + K - D : K)...);
          rows[r + D] = __builtin_shufflevector(u, v, ((K & D) != 0 ? W + K : K + D)...);
        }
        (std::make_integer_sequence<int, W>{});
      }
    });
  }
};

}  // namespace gosset::GOSSET_ABI::detail
