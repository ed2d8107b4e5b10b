// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/level_table.hpp>

#include <array>
#include <cstddef>
#include <string>

namespace gosset::GOSSET_ABI {

namespace detail {

/// The positive levels of the Lloyd-Max quantizer of N(0,1) with 2^b levels, in rising order.
/// Source: Max, "Quantizing for Minimum Distortion", IRE Trans. Inf. Theory 6 (1960), table I, to more digits; the
/// tests derive them anew from the centroid condition.
template <int b>
inline constexpr std::array<double, (1 << b) / 2> kLloydMaxLevels{};
template <>
inline constexpr std::array<double, 1> kLloydMaxLevels<1> = {0.7978845608028654};
template <>
inline constexpr std::array<double, 2> kLloydMaxLevels<2> = {0.4527800346364928, 1.5104176084990972};
template <>
inline constexpr std::array<double, 4> kLloydMaxLevels<3> = {0.2450941789442214, 0.7560052812058768, 1.3439092785049995,
                                                             2.151945704536984};
template <>
inline constexpr std::array<double, 8> kLloydMaxLevels<4> = {
    0.12839502985114726, 0.3880482994902899, 0.6567591185324625, 0.942340456486961,
    1.2562311973471787,  1.6180463860218817, 2.069017226531383,  2.7325895709951427};

}  // namespace detail

/// The quantizer with the least mean squared error on a Gaussian. Its levels are kept in units of the largest, as NF4's
/// are, so that a constant group comes back exactly; kGaussianScale is the scale for N(0,1).
///
///   bits a number   b
///   code            the level's rank
///   value           scale * level
///   published scale sigma * kGaussianScale, sigma being the group's root mean square
///   error on N(0,1) .36338, .11748, .03455, .00950 for b = 1 .. 4, at scale kGaussianScale
template <int b>
struct LloydMax {
  static_assert(b >= 1 && b <= 4, "LloydMax<b> takes 1 to 4 bits");

  using Code = std::uint8_t;
  static constexpr int kDim = 1;
  static constexpr int kBits = b;
  static constexpr int kLevels = 1 << b;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = static_cast<float>(detail::kLloydMaxLevels<b>.back());

  static constexpr std::array<float, kLevels> kTable = [] {
    constexpr auto& kPositive = detail::kLloydMaxLevels<b>;
    std::array<float, kLevels> table{};
    for (std::size_t i = 0; i < kPositive.size(); ++i) {
      table[kPositive.size() + i] = static_cast<float>(kPositive[i] / kPositive.back());
      table[kPositive.size() - 1 - i] = -table[kPositive.size() + i];
    }
    return table;
  }();
  static constexpr std::array<float, kLevels - 1> kThresholds = detail::levelThresholds(kTable);

  static constexpr Code encode(float x) { return detail::nearestLevel(x, kThresholds); }
  static constexpr float level(Code q) { return kTable[q]; }
  static std::string name() { return "LloydMax<" + std::to_string(b) + ">"; }
};

static_assert(ScalarCodebook<LloydMax<1>> && ScalarCodebook<LloydMax<4>>);

}  // namespace gosset::GOSSET_ABI
