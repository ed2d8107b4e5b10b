// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/aligned.hpp>

#include <algorithm>
#include <cstddef>

namespace gosset::GOSSET_ABI::detail {

template <class C>
concept WithoutZero = VectorCodebook<C> ||(ScalarCodebook<C> && !TrellisCodebook<C> && !C::kHasZero);

/// Codebooks whose points, or levels, all fit into a small table, which is faster to read than they are to compute.
template <class C>
concept FewPoints = WithoutZero<C> && C::kBits <= 16 && ((std::size_t{C::kDim} << C::kBits) <= std::size_t{1} << 16);

/// The points of all codes, one after the other: 2^kBits x kDim; a scalar codebook's codes beyond kLevels have its
/// last. Made when it is first asked for.
template <FewPoints C>
const float* pointTable() {
  static const AlignedVector<float> table = [] {
    AlignedVector<float> points(std::size_t{C::kDim} << C::kBits);
    for (std::size_t code = 0; code < std::size_t{1} << C::kBits; ++code) {
      if constexpr (ScalarCodebook<C>) {
        points[code] = C::level(static_cast<typename C::Code>(std::min<std::size_t>(code, C::kLevels - 1)));
      } else {
        C::decode(static_cast<typename C::Code>(code), points.data() + code * C::kDim);
      }
    }
    return points;
  }();
  return table.data();
}

}  // namespace gosset::GOSSET_ABI::detail
