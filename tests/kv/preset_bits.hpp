// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

// What presets take, by their caches and by hand.
namespace gosset::testing {

/// Bits a number of one block of `count` tokens.
template <class Formats>
double bitsOfBlock(Index head_dim, Index count) {
  return Formats::Cache::shaped({8, 8, head_dim}, {}, {.ends = {count}, .stored = {count}}).bitsPerElement();
}

/// Of keys or values of heads of d in blocks of n: codes, a scale of 16 bits for each scale_reach, 8-bit factors.
inline double bitsOfSide(double codes, double scale_reach, double rank, double d, double n) {
  return codes + 16 / scale_reach + (8 * rank * (n + d) + 32 * (rank + 1)) / (n * d);
}

}  // namespace gosset::testing
