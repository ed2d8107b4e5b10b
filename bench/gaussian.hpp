// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>

namespace gosset::bench {

/// N(0,1) draws, the same in every run (Box-Muller).
inline RowMatrixXf gaussianMatrix(Index rows, Index cols, std::uint64_t seed) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const double u = (static_cast<double>(randomBits(seed, 2 * at) >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(randomBits(seed, 2 * at + 1) >> 11) * 0x1p-53;
    w.data()[i] = static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }
  return w;
}

}  // namespace gosset::bench
