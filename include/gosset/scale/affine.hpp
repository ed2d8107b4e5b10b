// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/point_table.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>

namespace gosset::GOSSET_ABI {

/// What a group of numbers shares, as it comes back from storage: value = scale * (level - zero). A scale of 0 makes
/// every value 0.
struct Affine {
  float scale = 0;  ///< not negative
  float zero = 0;   ///< in levels; 0 for codebooks without a zero point

  friend bool operator==(const Affine&, const Affine&) = default;
};

namespace detail {

template <Codebook C>
constexpr bool hasZeroPoint() {
  if constexpr (ScalarCodebook<C>) return C::kHasZero;
  return false;
}

constexpr float divisor(Affine a) { return a.scale > 0 ? a.scale : 1.f; }

}  // namespace detail

/// The code of the number at x (of the kDim numbers from x on, for a vector codebook).
template <Codebook C>
typename C::Code encode(const float* x, Affine a) {
  const float divisor = detail::divisor(a);
  if constexpr (ScalarCodebook<C>) {
    return C::encode(C::kHasZero ? *x / divisor + a.zero : *x / divisor);
  } else {
    float scaled[C::kDim];
    for (int i = 0; i < C::kDim; ++i) scaled[i] = x[i] / divisor;
    return C::encode(scaled);
  }
}

/// The kDim numbers of a code.
template <Codebook C>
void decode(typename C::Code code, Affine a, float* y) {
  if constexpr (ScalarCodebook<C>) {
    *y = a.scale * (C::kHasZero ? C::level(code) - a.zero : C::level(code));
  } else {
    C::decode(code, y);
    for (int i = 0; i < C::kDim; ++i) y[i] *= a.scale;
  }
}

/// The codes of `count` blocks, block i under affineOf(i).
template <Codebook C, class AffineOf>
void encodeEach(const float* x, Index count, const AffineOf& affineOf, typename C::Code* codes) {
  if constexpr (requires { C::encodeBlocks(x, count, codes); }) {
    constexpr Index kChunk = 64;
    float scaled[kChunk * C::kDim];
    for (Index first = 0; first < count; first += kChunk) {
      const Index blocks = count - first < kChunk ? count - first : kChunk;
      for (Index i = 0; i < blocks; ++i) {
        const float divisor = detail::divisor(affineOf(first + i));
        for (Index d = 0; d < C::kDim; ++d) scaled[i * C::kDim + d] = x[(first + i) * C::kDim + d] / divisor;
      }
      C::encodeBlocks(scaled, blocks, codes + first);
    }
  } else {
    for (Index i = 0; i < count; ++i) codes[i] = encode<C>(x + i * C::kDim, affineOf(i));
  }
}

/// The numbers of `count` codes, code i under affineOf(i).
template <Codebook C, class AffineOf>
void decodeEach(const typename C::Code* codes, Index count, const AffineOf& affineOf, float* y) {
  for (Index i = 0; i < count; ++i) decode<C>(codes[i], affineOf(i), y + i * C::kDim);
}

/// The codes of count * kDim contiguous numbers that share a scale.
template <Codebook C>
void encodeRun(const float* x, Index count, Affine a, typename C::Code* codes) {
  encodeEach<C>(
      x, count, [&](Index) { return a; }, codes);
}

/// The count * kDim numbers of `count` codes that share a scale.
template <Codebook C>
void decodeRun(const typename C::Code* codes, Index count, Affine a, float* y) {
  if constexpr (requires { C::decodeBlocks(codes, count, y); }) {
    C::decodeBlocks(codes, count, y);
    for (Index i = 0; i < count * C::kDim; ++i) y[i] *= a.scale;
  } else if constexpr (detail::FewPoints<C> && !detail::ConstexprLevels<C>) {
    const float* points = detail::pointTable<C>();
    for (Index i = 0; i < count; ++i) {
      const float* point = points + static_cast<Index>(codes[i]) * C::kDim;
      float scaled[C::kDim];  // which the compiler knows to be apart from the table
      for (int d = 0; d < C::kDim; ++d) scaled[d] = a.scale * point[d];
      std::copy_n(scaled, C::kDim, y + i * C::kDim);
    }
  } else {
    for (Index i = 0; i < count; ++i) decode<C>(codes[i], a, y + i * C::kDim);
  }
}

}  // namespace gosset::GOSSET_ABI
