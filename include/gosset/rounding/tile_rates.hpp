// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/trellis_table.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// What an eighth of a bit more takes from the squared error of a Gaussian number, by rate: the slopes of the convex
/// hull of the frozen codes' distortions, so that they fall.
template <int L>
const std::vector<double>& trellisGains() {
  static const std::vector<double> gains = [] {
    const auto& codes = trellisConstants<L>();
    std::vector<double> result(codes.size() - 1);
    for (std::size_t from = 0; from + 1 < codes.size();) {
      std::size_t to = from + 1;
      double steepest = 0;
      for (std::size_t end = from + 1; end < codes.size(); ++end) {
        const double fall = static_cast<double>(codes[from].distortion) - static_cast<double>(codes[end].distortion);
        const double slope = fall / static_cast<double>(end - from);
        if (slope > steepest) {
          steepest = slope;
          to = end;
        }
      }
      for (; from < to; ++from) result[from] = steepest;
    }
    return result;
  }();
  return gains;
}

/// A rate for each tile, in eighths of a bit, with the least sum of weights[i] * columns[i] * distortion that has at
/// most `mean_bits` bits a column and in no tile differs from that by more than `spread`, rounded up to whole eighths:
/// an eighth at a time goes where it helps most. Rates are those of the frozen codes with 2^L states. Errors:
/// std::invalid_argument where mean_bits is not among these, or spread is negative.
template <int L>
std::vector<std::uint8_t> tileRates(const std::vector<double>& weights, const std::vector<Index>& columns,
                                    double mean_bits, double spread = kMostTrellisRate8 / 8.) {
  constexpr double kLeast = kLeastTrellisRate8 / 8., kMost = kMostTrellisRate8 / 8., kRounding = 1e-6;
  require(mean_bits >= kLeast && mean_bits <= kMost, "Ldlq: mean_bits: expected ", kLeast, " to ", kMost, ", got ",
          mean_bits);
  require(spread >= 0, "Ldlq: rate_spread: expected a number >= 0, got ", spread);
  const auto least = static_cast<std::uint8_t>(std::max(8 * kLeast, std::floor(8 * (mean_bits - spread) + kRounding)));
  const auto most = static_cast<std::uint8_t>(std::min(8 * kMost, std::ceil(8 * (mean_bits + spread) - kRounding)));
  const std::vector<double>& gains = trellisGains<L>();
  std::vector<std::uint8_t> rates(weights.size(), least);
  Index all = 0;
  for (const Index count : columns) all += count;
  auto left = static_cast<Index>(std::floor(8 * mean_bits * static_cast<double>(all) + kRounding)) - least * all;
  for (;;) {
    std::size_t best = weights.size();
    double greatest = -1;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (rates[i] == most || columns[i] > left) continue;
      const double gain = weights[i] * gains[static_cast<std::size_t>(rates[i] - kLeastTrellisRate8)];
      if (gain > greatest) {
        greatest = gain;
        best = i;
      }
    }
    if (best == weights.size()) return rates;
    ++rates[best];
    left -= columns[best];
  }
}

}  // namespace gosset::GOSSET_ABI::detail
