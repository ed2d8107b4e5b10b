// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/scaled.hpp>
#include <gosset/scale/granularity.hpp>

#include <string>

namespace gosset::GOSSET_ABI {

/// One scale for each row of the matrix, an output channel of a weight matrix.
template <Codebook C, StorageScalar T = Float16>
struct PerChannel {
  using Codebook = C;
  using Scale = T;
  static constexpr bool kOneRowOnly = true;
  static constexpr Index groupWidth(Index cols) { return cols; }
  static std::string name() { return detail::scaledName<T>("PerChannel<" + C::name()); }
};

}  // namespace gosset::GOSSET_ABI
