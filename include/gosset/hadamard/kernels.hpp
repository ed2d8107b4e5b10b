// SPDX-License-Identifier: Apache-2.0
// The kernels of the fast Hadamard transform, in a namespace for each instruction set (core/instruction_set.hpp), and
// calls of those that run.
#ifdef GOSSET_SET

// The inner loops of the fast Hadamard transform. Vector widths, cache blocks and radices change nothing in the
// result, because the additions are always these:
//   * Sylvester's part: stage by stage from the nearest pairs to the farthest, (a, b) becoming (a + b, a - b).
//   * a Hadamard factor: the K inputs in groups of four, s * ((x0 + r1 x1) + r2 (x2 + r3 x3)) with signs s and r, and
//     these summed from the first group to the last.
//   * a Hartley factor: from the first input to the last; for float in double, where the products are exact, and for
//     double by fused multiply-adds.
//   * then one product by the scale.
// detail::hadamardReference (hadamard.hpp) is the same in plain loops, and the tests compare bit by bit.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Stages that one pass over memory does at most: 2^kRadixBits vectors are held in registers.
inline constexpr int kRadixBits = simd::kVectorRegisters >= 32 ? 4 : 3;

/// From this size on, the 16 parts of a block stand whole pages apart and fall into one set of the first-level cache,
/// which has 8 or 12 ways: a pass may have no more than 8 parts.
inline constexpr Index kFarBlockBytes = 16 * 4096;
inline constexpr int kFarRadixBits = 3;

/// The stages inside a vector: lanes i and i ^ h for h = 1, 2, .. N/2.
template <class T, int N, int H = 1>
[[gnu::always_inline]] inline simd::Vec<T, N> laneStages(simd::Vec<T, N> v) {
  if constexpr (H >= N) {
    return v;
  } else {
    // The lower lane becomes b + a, the upper a - b. A product by +-1 is exact, so it may be fused with the addition.
    const auto signs = simd::generate<T, N>([](int i) { return (i & H) == 0 ? T{1} : T{-1}; });
    return laneStages<T, N, 2 * H>(simd::exchange<H, T, N>(v) + v * signs);
  }
}

/// The stages between R vectors: v[i] and v[i ^ h] for h = 1, 2, .. R/2. `one` is 1 in every lane, hidden from the
/// compiler: as a fused multiply-add the difference can run beside the sum on processors with separate adders (AMD's),
/// 7% faster in all, and is the same number.
template <int R, int H = 1, class V>
[[gnu::always_inline]] inline void vectorStages(V* v, V one) {
  if constexpr (H < R) {
    simd::unroll<R / 2>([&](auto pair) __attribute__((always_inline)) {
      constexpr int kLow = pair / H * 2 * H + pair % H;
      const V a = v[kLow];
      const V b = v[kLow + H];
      v[kLow] = a + b;
      v[kLow + H] = simd::kHasFma ? a - b * one : a - b;
    });
    vectorStages<R, 2 * H>(v, one);
  }
}

/// One pass over memory: log2(R) stages between the R rows x + i * stride, each `count` numbers long, a multiple of the
/// lanes. With kInLanes the stages inside each vector come first.
template <class T, int R, bool kInLanes, bool kScaled>
void radixPass(T* x, Index stride, Index count, T scale) {
  constexpr int kN = simd::kLanes<T>;
  using V = simd::Vec<T, kN>;
  const V one = simd::splat<V>(simd::opaque(T{1}));
  for (Index c = 0; c < count; c += kN) {
    V v[R];
    simd::unroll<R>([&](int i) __attribute__((always_inline)) { v[i] = simd::load<V>(x + c + i * stride); });
    if constexpr (kInLanes) {
      simd::unroll<R>([&](int i) __attribute__((always_inline)) { v[i] = laneStages<T, kN>(v[i]); });
    }
    vectorStages<R>(v, one);
    simd::unroll<R>([&](auto i) __attribute__((always_inline)) {
      if constexpr (kScaled) v[i] = v[i] * simd::splat<V>(scale);
      simd::store(x + c + i * stride, v[i]);
    });
  }
}

template <class T, bool kInLanes, bool kScaled>
void radixPass(T* x, int bits, Index stride, Index count, T scale) {
  switch (bits) {
    case 0:
      return radixPass<T, 1, kInLanes, kScaled>(x, stride, count, scale);
    case 1:
      return radixPass<T, 2, kInLanes, kScaled>(x, stride, count, scale);
    case 2:
      return radixPass<T, 4, kInLanes, kScaled>(x, stride, count, scale);
    case 3:
      return radixPass<T, 8, kInLanes, kScaled>(x, stride, count, scale);
    default:
      return radixPass<T, 1 << kRadixBits, kInLanes, kScaled>(x, stride, count, scale);
  }
}

/// `bits` stages between 2^bits elements; with kInLanes an element is one vector, and the stages inside it come first.
/// The near stages of each part are done before the far ones of the whole, so that every part is in cache when it is
/// worked on.
template <class T, bool kInLanes, bool kScaled>
void stages(T* x, int bits, Layout layout, T scale) {
  const bool is_far = (layout.stride << bits) * static_cast<Index>(sizeof(T)) >= kFarBlockBytes;
  const int radix_bits = is_far ? kFarRadixBits : kRadixBits;
  if (bits <= radix_bits) return radixPass<T, kInLanes, kScaled>(x, bits, layout.stride, layout.width, scale);
  const int passes = (bits + radix_bits - 1) / radix_bits;
  const int far = is_far ? kFarRadixBits : bits / passes;
  const Index elements = Index{1} << (bits - far);
  const Index part = elements * layout.stride;
  for (Index i = 0; i < Index{1} << far; ++i) stages<T, kInLanes, false>(x + i * part, bits - far, layout, scale);
  if (layout.isPacked()) return radixPass<T, false, kScaled>(x, far, part, part, scale);
  for (Index i = 0; i < elements; ++i) {
    radixPass<T, false, kScaled>(x + i * layout.stride, far, part, layout.width, scale);
  }
}

/// Sylvester's transform of `count` runs of 2^bits numbers that are shorter than a vector.
template <class T, int N = 2>
void shortStages(T* x, int bits, Index count, T scale) {
  if constexpr (N < simd::kLanes<T>) {
    if (1 << bits != N) return shortStages<T, 2 * N>(x, bits, count, scale);
    using V = simd::Vec<T, N>;
    for (Index i = 0; i < count; ++i, x += N) {
      simd::store(x, laneStages<T, N>(simd::load<V>(x)) * simd::splat<V>(scale));
    }
  }
}

/// Sylvester's transform, times `scale`, of `count` runs of 2^bits elements each.
template <class T>
void sylvesterInSet(T* x, int bits, Layout layout, Index count, T scale) {
  constexpr int kLaneBits = std::countr_zero(static_cast<unsigned>(simd::kLanes<T>));
  constexpr Layout kVectors{simd::kLanes<T>, simd::kLanes<T>};
  if (bits == 0) return;  // the scale is 1, or is left to the factors
  if (layout.width == 1 && bits < kLaneBits) return shortStages<T>(x, bits, count, scale);
  for (Index i = 0; i < count; ++i, x += layout.stride << bits) {
    if (layout.width == 1) {
      scale == T{1} ? stages<T, true, false>(x, bits - kLaneBits, kVectors, scale)
                    : stages<T, true, true>(x, bits - kLaneBits, kVectors, scale);
    } else {
      scale == T{1} ? stages<T, false, false>(x, bits, layout, scale) : stages<T, false, true>(x, bits, layout, scale);
    }
  }
}

/// table[4 r1 + 2 r2 + r3] = (x0 +- x1) +- (x2 +- x3), where r says that the sign is minus.
template <class V>
[[gnu::always_inline]] inline void tableOfSums(V x0, V x1, V x2, V x3, V* table) {
  const V first[2] = {x0 + x1, x0 - x1};
  const V last[2] = {x2 + x3, x2 - x3};
  simd::unroll<8>([&](int i) __attribute__((always_inline)) {
    table[i] = (i & 2) == 0 ? first[i / 4] + last[i % 2] : first[i / 4] - last[i % 2];
  });
}

/// Multiplies K rows, x + i * stride, by a Hadamard matrix and the scale: C vectors of N columns from x on. Several
/// vectors, because the rows often stand a power of two apart and fall into one set of the cache: what is read of a
/// line must be used at once. `work` holds 2 K C vectors.
template <class T, int N, int C>
void mixSigns(T* x, Index stride, const SignedSums<T>& sums, T scale, T* work) {
  using V = simd::Vec<T, N>;
  for (Index g = 0; g < sums.groups(); ++g) {
    const T* in = x + 4 * g * stride;
    simd::unroll<C>([&](int c) __attribute__((always_inline)) {
      V table[8];
      tableOfSums(simd::load<V>(in + c * N), simd::load<V>(in + c * N + stride), simd::load<V>(in + c * N + 2 * stride),
                  simd::load<V>(in + c * N + 3 * stride), table);
      simd::unroll<8>([&](int k)
                          __attribute__((always_inline)) { simd::store(work + ((8 * g + k) * C + c) * N, table[k]); });
    });
  }
  constexpr int kRows = C == 1 ? 4 : 2;  // independent sums, for the latency of an addition
  for (Index i = 0; i < sums.order(); i += kRows) {
    V sum[kRows][C];
    const auto forTerms = [&](Index g, const auto& use) __attribute__((always_inline)) {
      simd::unroll<kRows>([&](int r) __attribute__((always_inline)) {
        const auto& entry = sums.row(i + r)[g];
        const T* terms = work + Index{entry.position} * (C * N);
        const V sign = simd::splat<V>(entry.sign);
        simd::unroll<C>([&](int c)
                            __attribute__((always_inline)) { use(sum[r][c], simd::load<V>(terms + c * N), sign); });
      });
    };
    forTerms(
        0, [](V & to, V term, V sign) __attribute__((always_inline)) { to = term * sign; });
    for (Index g = 1; g < sums.groups(); ++g) {
      // The product by a sign is exact, fused or not.
      forTerms(
          g, [](V & to, V term, V sign) __attribute__((always_inline)) { to = to + term * sign; });
    }
    simd::unroll<kRows>([&](int r) __attribute__((always_inline)) {
      simd::unroll<C>([&](int c) __attribute__((always_inline)) {
        simd::store(x + (i + r) * stride + c * N, sum[r][c] * simd::splat<V>(scale));
      });
    });
  }
}

/// a * b + sum: exact products of floats held in doubles, which a compiler may fuse as it likes, or one fused operation
/// a lane.
template <class T, int N>
[[gnu::always_inline]] inline void addProduct(double a, const simd::Vec<double, N>& b, simd::Vec<double, N>& sum) {
  if constexpr (std::is_same_v<T, float>) {
    sum = sum + b * simd::splat<simd::Vec<double, N>>(a);
  } else if constexpr (N == 1) {
    sum = std::fma(a, b, sum);
  } else {
    for (int i = 0; i < N; ++i) sum[i] = std::fma(a, b[i], sum[i]);
  }
}

/// N numbers of T as doubles, and back.
template <class T, int N>
[[gnu::always_inline]] inline simd::Vec<double, N> loadAsDouble(const T* p) {
  if constexpr (N == 1) {
    return static_cast<double>(*p);
  } else {
    return __builtin_convertvector(simd::load<simd::Vec<T, N>>(p), simd::Vec<double, N>);
  }
}
template <class T, int N>
[[gnu::always_inline]] inline void storeFromDouble(T* p, simd::Vec<double, N> v) {
  if constexpr (N == 1) {
    *p = static_cast<T>(v);
  } else {
    simd::store(p, __builtin_convertvector(v, simd::Vec<T, N>));
  }
}

/// Multiplies K = table.size() rows, x + i * stride, by the Hartley matrix and the scale: C vectors of N columns from x
/// on. The table's numbers are floats where T is. `work` holds K C vectors of doubles.
template <class T, int N, int C>
void mixHartley(T* x, Index stride, const std::vector<double>& table, T scale, double* work) {
  using V = simd::Vec<double, N>;
  constexpr int kRows = 4;
  const Index order = static_cast<Index>(table.size());
  for (Index j = 0; j < order; ++j) {
    simd::unroll<C>([&](int c) __attribute__((always_inline)) {
      simd::store(work + (j * C + c) * N, loadAsDouble<T, N>(x + j * stride + c * N));
    });
  }
  for (Index i = 0; i < order; i += kRows) {
    V sum[kRows][C] = {};
    Index position[kRows] = {};  // (i + r) j mod K
    for (Index j = 0; j < order; ++j) {
      simd::unroll<kRows>([&](int r) __attribute__((always_inline)) {
        const double entry = table[static_cast<std::size_t>(position[r])];
        simd::unroll<C>([&](int c) __attribute__((always_inline)) {
          addProduct<T, N>(entry, simd::load<V>(work + (j * C + c) * N), sum[r][c]);
        });
        position[r] += i + r < order ? i + r : 0;
        position[r] -= position[r] >= order ? order : 0;
      });
    }
    const V last = simd::splat<V>(static_cast<double>(scale));
    simd::unroll<kRows>([&](int r) __attribute__((always_inline)) {
      if (i + r >= order) return;
      simd::unroll<C>([&](int c) __attribute__((always_inline)) {
        storeFromDouble<T, N>(x + (i + r) * stride + c * N, sum[r][c] * last);
      });
    });
  }
}

/// Calls mix(p, N, C), compile-time constants, for the numbers p = x .. x + count - 1: kC vectors of kN numbers at a
/// time, then one vector, then shorter ones.
template <int kN, int kC, class T, class Mix>
void forColumns(T* x, Index count, const Mix& mix) {
  for (; count >= kN * kC; x += kN * kC, count -= kN * kC) {
    mix(x, std::integral_constant<int, kN>{}, std::integral_constant<int, kC>{});
  }
  if constexpr (kN * kC > 1) {
    constexpr int kNext = kC > 1 ? kN : kN > 4 ? 4 : kN / 2;
    if (count > 0) forColumns<kNext, 1>(x, count, mix);
  }
}

/// The same for the numbers of all elements 0 .. elements - 1.
template <int kN, class T, class Mix>
void forColumns(T* x, Index elements, Layout layout, const Mix& mix) {
  if (layout.isPacked()) return forColumns<kN, kMixVectors>(x, elements * layout.width, mix);
  for (Index i = 0; i < elements; ++i) forColumns<kN, kMixVectors>(x + i * layout.stride, layout.width, mix);
}

/// Multiplies the rows of a factor, `row` elements each, by its matrix and the scale. `work`: HadamardTransform's.
template <class T>
void mixSignsInSet(T* x, Index row, Layout layout, const SignedSums<T>& sums, T scale, T* work) {
  forColumns<simd::kLanes<T>>(x, row, layout, [&](T* p, auto lanes, auto vectors) {
    mixSigns<T, lanes, vectors>(p, row * layout.stride, sums, scale, work);
  });
}
template <class T>
void mixHartleyInSet(T* x, Index row, Layout layout, const std::vector<double>& table, T scale, double* work) {
  forColumns<simd::kLanes<double>>(x, row, layout, [&](T* p, auto lanes, auto vectors) {
    mixHartley<T, lanes, vectors>(p, row * layout.stride, table, scale, work);
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#elif !defined(GOSSET_HADAMARD_KERNELS)
#define GOSSET_HADAMARD_KERNELS

#include <gosset/core/types.hpp>
#include <gosset/core/vectors.hpp>
#include <gosset/hadamard/matrix.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// Lanes of the widest vectors that any set has.
template <class T>
inline constexpr Index kMostLanes = 64 / static_cast<Index>(sizeof(T));

/// How the elements of vectors that are transformed side by side lie in memory: element i is the `width` numbers from
/// x + i * stride on. A vector alone has width = stride = 1, else width is a multiple of kMostLanes.
struct Layout {
  Index stride;
  Index width;

  bool isPacked() const { return stride == width; }
};

/// A Hadamard matrix of order K, coded for groups of four columns: row i of group g is sign * table[8 g + choice],
/// where the table has the eight sums of the group's inputs that begin with + (tableOfSums).
template <class T>
class SignedSums {
 public:
  explicit SignedSums(const SignMatrix& h) : order_(h.rows()), entries_(static_cast<std::size_t>(h.rows() * groups())) {
    std::size_t k = 0;
    for (Index i = 0; i < order_; ++i) {
      for (Index g = 0; g < groups(); ++g, ++k) {
        const auto sign = [&](Index j) { return h(i, 4 * g + j); };
        const int choice = (sign(1) != sign(0) ? 4 : 0) + (sign(2) != sign(0) ? 2 : 0) + (sign(3) != sign(2) ? 1 : 0);
        entries_[k] = {static_cast<T>(sign(0)), static_cast<std::int32_t>(8 * g + choice)};
      }
    }
  }

  struct Entry {
    T sign;
    std::int32_t position;
  };

  Index order() const { return order_; }
  Index groups() const { return order_ / 4; }
  const Entry* row(Index i) const { return entries_.data() + i * groups(); }

 private:
  Index order_;
  std::vector<Entry> entries_;
};

/// Vectors that a factor takes at once.
inline constexpr int kMixVectors = 4;

}  // namespace gosset::GOSSET_ABI::detail

#define GOSSET_FRAGMENTS <gosset/hadamard/kernels.hpp>
#include <gosset/core/for_each_set.inc>
#undef GOSSET_FRAGMENTS

namespace gosset::GOSSET_ABI::detail {

/// Sylvester's transform, times `scale`, of `count` runs of 2^bits elements each.
template <class T>
void sylvester(T* x, int bits, Layout layout, Index count, T scale) {
  GOSSET_CALL_RUNNING(sylvesterInSet(x, bits, layout, count, scale))
}

/// Multiplies the rows of a factor, `row` elements each, by its matrix and the scale. `work`: HadamardTransform's.
template <class T>
void mixBySigns(T* x, Index row, Layout layout, const SignedSums<T>& sums, T scale, T* work) {
  GOSSET_CALL_RUNNING(mixSignsInSet(x, row, layout, sums, scale, work))
}
template <class T>
void mixByHartley(T* x, Index row, Layout layout, const std::vector<double>& table, T scale, double* work) {
  GOSSET_CALL_RUNNING(mixHartleyInSet(x, row, layout, table, scale, work))
}

}  // namespace gosset::GOSSET_ABI::detail

#endif
