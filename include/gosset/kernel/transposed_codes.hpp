// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

// The kernels of transposed.hpp.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// Whether sums of integers are at least as fast as floats. With AVX2 alone, without a dot product of bytes, they are
/// where the columns of a tile can be decoded only all together; else they take 1.2 to 1.5 times as long.
#if defined(GOSSET_AVX2)
template <TileCodebook C>
inline constexpr bool kTransposesIntegers = TileCode<C>::kExact && (simd::kHasDot || !kDecodesColumns<C>);
#else
template <TileCodebook C>
inline constexpr bool kTransposesIntegers = TileCode<C>::kExact&& simd::kHasDot;
#endif

/// y += unit * W^T x by the faster of the two. On all machines that take integers the results are the same; in floats
/// they are on all that multiply and add at once (kHasFma). Allocates nothing.
template <TileCodebook C, class T, int kPieces>
void addTransposedInSet(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                        Index x_stride, float* y, Index y_stride) {
  if constexpr (kTransposesIntegers<C>) {
    addTransposedInteger(w, n, unit, x, tokens, x_stride, y, y_stride);
  } else {
    addTransposedFloat(w, n, unit, x, tokens, x_stride, y, y_stride);
  }
}

/// The same with one byte or two of x' in place of three, where codes have such products, and whether they do.
template <TileCodebook C, class T, int kPieces>
bool addTransposedRoundedInSet(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                               Index x_stride, float* y, Index y_stride) {
  constexpr bool kHasProduct = TileCode<C>::kExact && simd::kHasDot;
  if constexpr (kHasProduct) addTransposedInteger<kRoundedDigits<C> >(w, n, unit, x, tokens, x_stride, y, y_stride);
  return kHasProduct;
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
