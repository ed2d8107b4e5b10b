// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

#include <cstddef>
#include <cstring>
#include <utility>

// The one place that knows an instruction set. Vectors are GCC's and Clang's vector extensions: +, -, * and / work lane
// by lane, and the compiler picks the instructions. A lane's result never depends on the width, so a kernel that keeps
// one order of additions gives the same bits on every machine.
namespace gosset::GOSSET_ABI::GOSSET_SET::simd {

/// What the widest vector register holds, and how many there are.
#if defined(GOSSET_AVX512F)
inline constexpr int kVectorBytes = 64;
inline constexpr int kVectorRegisters = 32;
#elif defined(GOSSET_AVX)
inline constexpr int kVectorBytes = 32;
inline constexpr int kVectorRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorRegisters = 32;
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorRegisters = 16;
#endif

/// Whether a multiplication and an addition can be one instruction. It says what is fast and must not change a result.
#if defined(GOSSET_FMA) || defined(__ARM_FEATURE_FMA)
inline constexpr bool kHasFma = true;
#else
inline constexpr bool kHasFma = false;
#endif

/// Lanes of T in a register.
template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

namespace detail {

template <class T, int N>
struct VectorOf {
  // Aligned by its size: outside of functions that have the registers GCC would take 16 bytes for enough.
  typedef T type __attribute__((vector_size(sizeof(T) * N), aligned(sizeof(T) * N)));
};
template <class T>
struct VectorOf<T, 1> {
  using type = T;
};

}  // namespace detail

/// N numbers of type T, N a power of two; Vec<T, 1> is T itself, so that one template serves the tails of a loop too.
template <class T, int N = kLanes<T> >
using Vec = typename detail::VectorOf<T, N>::type;

/// Reads a vector from p, aligned or not.
template <class V, class T>
[[gnu::always_inline]] inline V load(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}

/// Writes v to p, aligned or not.
template <class V, class T>
[[gnu::always_inline]] inline void store(T* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}

/// x in every lane.
template <class V, class T>
[[gnu::always_inline]] inline V splat(T x) {
  return x - V{};  // not V{} + x, which would make +0 of -0
}

/// x, but the compiler cannot know its value.
template <class T>
[[gnu::always_inline]] inline T opaque(T x) {
  asm("" : "+m"(x));
  return x;
}

/// x, once: the compiler would otherwise read it from memory again for each use, or make a product and the addition
/// that follows it one instruction, which rounds once where other machines round twice.
template <class V>
[[gnu::always_inline]] inline V inRegister(V x) {
#if defined(GOSSET_AVX)
  asm("" : "+v"(x));
#elif defined(GOSSET_SSE2)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

/// A product, numbers or vectors, that is rounded before anything is added to it: compilers fuse products with sums
/// where a machine can, which would change the last bit of what must be the same everywhere.
template <class V>
[[gnu::always_inline]] inline V unfused(V product) {
#if defined(GOSSET_AVX)
  asm("" : "+v"(product));
#elif defined(GOSSET_SSE2)
  asm("" : "+x"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#else
  product = opaque(product);
#endif
  return product;
}

template <class F, int... I>
[[gnu::always_inline]] inline void unrollOver(const F& f, std::integer_sequence<int, I...>) {
  if constexpr (requires { &F::operator(); }) {
    (f(I), ...);
  } else {
    (f(std::integral_constant<int, I>{}), ...);
  }
}

/// f(0), f(1), .. f(N - 1): loops that must be unrolled whatever the optimizer thinks. An f that takes an int is
/// compiled once, and should say that it is inlined; one that takes anything is compiled for each number, a
/// compile-time constant.
template <int N, class F>
[[gnu::always_inline]] inline void unroll(const F& f) {
  unrollOver(f, std::make_integer_sequence<int, N>{});
}

/// The vector whose lane i is v's lane i ^ Mask.
template <int Mask, class T, int N>
[[gnu::always_inline]] inline Vec<T, N> exchange(Vec<T, N> v) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(v, v, (I ^ Mask)...);
  }
  (std::make_integer_sequence<int, N>{});
}

/// Transposes a square of N vectors of N numbers: at each step the blocks of Half rows and columns that lie off the
/// diagonal of a block twice as large change places.
template <int Half, class T, int N>
[[gnu::always_inline]] inline void transposeBlocks(Vec<T, N>* rows) {
  if constexpr (Half < N) {
    unroll<N>([&](auto i) __attribute__((always_inline)) {
      if constexpr ((i & Half) == 0) {
        const Vec<T, N> upper = rows[i], lower = rows[i + Half];
        [&]<int... L>(std::integer_sequence<int, L...>) __attribute__((always_inline)) {
          rows[i] = __builtin_shufflevector(upper, lower, ((L & Half) == 0 ? L : N + L - Half)...);
          rows[i + Half] = __builtin_shufflevector(upper, lower, ((L & Half) == 0 ? L + Half : N + L)...);
        }
        (std::make_integer_sequence<int, N>{});
      }
    });
    transposeBlocks<2 * Half, T, N>(rows);
  }
}
template <class T, int N>
[[gnu::always_inline]] inline void transpose(T (&rows)[N]) {
  using Scalar = std::remove_cvref_t<decltype(rows[0][0])>;
  transposeBlocks<1, Scalar, N>(rows);
}

/// The vector whose lane i is f(i), a compile-time constant.
template <class T, int N, class F>
[[gnu::always_inline]] inline Vec<T, N> generate(const F& f) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) { return Vec<T, N>{f(I)...}; }
  (std::make_integer_sequence<int, N>{});
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::simd

#endif
