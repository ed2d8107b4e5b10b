// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/scaled.hpp>
#include <gosset/scale/granularity.hpp>

#include <string>

namespace gosset::GOSSET_ABI {

/// One scale for each N neighbours in a row; the last group of a row may be shorter.
template <Codebook C, int N, StorageScalar T = Float16>
struct Grouped {
  static_assert(N >= 1, "Grouped<Codebook, N>: a group needs at least one number");
  static_assert(N % C::kDim == 0, "Grouped<Codebook, N>: N must be a multiple of the numbers that one code stands for");
  static_assert(!TrellisCodebook<C> || N % 32 == 0,
                "Grouped<Trellis, N>: N must be a multiple of 32, a tile's columns");
  using Codebook = C;
  using Scale = T;
  static constexpr bool kOneRowOnly = true;
  static constexpr Index groupWidth(Index) { return N; }
  static std::string name() { return detail::scaledName<T>("Grouped<" + C::name() + ", " + std::to_string(N)); }
};

}  // namespace gosset::GOSSET_ABI
