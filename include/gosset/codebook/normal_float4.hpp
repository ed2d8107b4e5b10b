// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/level_table.hpp>

#include <array>
#include <string>

namespace gosset::GOSSET_ABI {

/// NF4: 16 quantiles of the normal distribution, in units of the largest magnitude, with an exact zero.
///
///   bits a number   4
///   code            the level's rank
///   value           scale * level
///   published scale max|x|
///
/// Source of the sixteen values: Dettmers et al., "QLoRA", NeurIPS 2023, appendix E.
struct NormalFloat4 {
  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = 4;
  static constexpr int kLevels = 16;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;

  static constexpr std::array<float, 16> kTable = {-1.0f,
                                                   -0.6961928009986877f,
                                                   -0.5250730514526367f,
                                                   -0.39491748809814453f,
                                                   -0.28444138169288635f,
                                                   -0.18477343022823334f,
                                                   -0.09105003625154495f,
                                                   0.0f,
                                                   0.07958029955625534f,
                                                   0.16093020141124725f,
                                                   0.24611230194568634f,
                                                   0.33791524171829224f,
                                                   0.44070982933044434f,
                                                   0.5626170039176941f,
                                                   0.7229568362236023f,
                                                   1.0f};
  static constexpr std::array<float, 15> kThresholds = detail::levelThresholds(kTable);

  static constexpr Code encode(float x) { return detail::nearestLevel(x, kThresholds); }
  static constexpr float level(Code q) { return kTable[q]; }
  static std::string name() { return "NormalFloat4"; }
};

static_assert(ScalarCodebook<NormalFloat4>);

}  // namespace gosset::GOSSET_ABI
