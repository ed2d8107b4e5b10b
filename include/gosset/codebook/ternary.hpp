// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/round.hpp>

#include <algorithm>
#include <string>

namespace gosset::GOSSET_ABI {

/// -1, 0 or +1, times the mean magnitude of the group.
///
///   bits a number   2 as stored here; log2(3) = 1.585 in information
///   code            level + 1, in 0 .. 2
///   value           scale * (code - 1)
///   published scale mean|x|; or c, where all numbers are -c, 0 or c: weights that are ternary already, as in BitNet's
///                   checkpoints, come back as they are. LeastSquares finds the scale (and so the threshold, scale / 2)
///                   with the least error
///
/// Source: Ma et al., "The Era of 1-bit LLMs" (BitNet b1.58), 2024, section 2.
struct Ternary {
  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = 2;
  static constexpr int kLevels = 3;
  static constexpr bool kWholeLevels = true;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kMeanMagnitude;

  static constexpr Code encode(float x) {
    return static_cast<Code>(static_cast<int>(roundToEven(std::clamp(x, -1.f, 1.f))) + 1);
  }
  static constexpr float level(Code q) { return static_cast<float>(static_cast<int>(q) - 1); }
  static std::string name() { return "Ternary"; }
};

static_assert(ScalarCodebook<Ternary>);

}  // namespace gosset::GOSSET_ABI
