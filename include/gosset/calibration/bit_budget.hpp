// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace gosset::GOSSET_ABI {

/// One way to keep one layer: what it takes and what it costs.
struct LayerChoice {
  Index bytes;  ///< >= 0
  double loss;  ///< finite, in any unit that adds up over layers
};

struct BitBudgetPlan {
  std::vector<std::size_t> choice;  ///< for each layer, which of its choices
  Index bytes;                      ///< in total
  double loss;                      ///< in total
};

/// What a layer loses at a size between two that were measured, as a code of any rate would have it, whose squared
/// error falls by one factor with each bit: the logarithm of the loss is linear in bytes. Where a loss is 0, the loss
/// itself. Errors: std::invalid_argument where bytes is not between the two or a loss is negative or not finite.
inline double lossBetween(const LayerChoice& smaller, const LayerChoice& larger, Index bytes) {
  detail::require(smaller.bytes < larger.bytes && bytes >= smaller.bytes && bytes <= larger.bytes,
                  "lossBetween: expected bytes from ", smaller.bytes, " to ", larger.bytes, ", got ", bytes);
  for (const LayerChoice& c : {smaller, larger}) {
    detail::require(c.loss >= 0 && std::isfinite(c.loss), "lossBetween: expected finite losses >= 0, got ", c.loss);
  }
  const double part = static_cast<double>(bytes - smaller.bytes) / static_cast<double>(larger.bytes - smaller.bytes);
  if (smaller.loss == 0 || larger.loss == 0) return (1 - part) * smaller.loss + part * larger.loss;
  return std::exp((1 - part) * std::log(smaller.loss) + part * std::log(larger.loss));
}

namespace detail {

/// A sum over the first layers, one choice made for each.
struct PartialBudget {
  Index bytes;
  double loss;
  std::size_t choice;    ///< of the last of these layers
  std::size_t previous;  ///< which partial sum of the layer before
};

/// For each layer, and past the last, the bytes that the layers from there on take at least; checks the arguments.
inline std::vector<Index> leastBytesFrom(std::span<const std::vector<LayerChoice>> layers, Index budget) {
  require(!layers.empty(), "planBitBudget: expected at least one layer");
  std::vector<Index> least_from(layers.size() + 1, 0);
  for (std::size_t l = layers.size(); l-- > 0;) {
    require(!layers[l].empty(), "planBitBudget: layer ", l, " has no choice");
    Index least = std::numeric_limits<Index>::max();
    for (const LayerChoice& c : layers[l]) {
      require(c.bytes >= 0 && std::isfinite(c.loss), "planBitBudget: layer ", l,
              ": expected bytes >= 0 and a finite loss, got ", c.bytes, " and ", c.loss);
      least = std::min(least, c.bytes);
    }
    least_from[l] = least_from[l + 1] + least;
  }
  require(least_from[0] <= budget, "planBitBudget: the smallest choices take ", least_from[0], " bytes, the budget is ",
          budget);
  return least_from;
}

/// The sums of at most `most` bytes that add one choice to one of `sums`, without those that another beats in both
/// bytes and loss; in rising order of bytes, and so in falling order of loss.
inline std::vector<PartialBudget> withLayer(const std::vector<PartialBudget>& sums,
                                            const std::vector<LayerChoice>& choices, Index most) {
  std::vector<PartialBudget> next;
  for (std::size_t p = 0; p < sums.size(); ++p) {
    for (std::size_t c = 0; c < choices.size(); ++c) {
      const Index bytes = sums[p].bytes + choices[c].bytes;
      if (bytes > most) continue;
      next.push_back({bytes, sums[p].loss + choices[c].loss, c, p});
    }
  }
  std::sort(next.begin(), next.end(), [](const PartialBudget& a, const PartialBudget& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.loss < b.loss;
  });
  std::vector<PartialBudget> front;
  for (const PartialBudget& partial : next) {
    if (front.empty() || partial.loss < front.back().loss) front.push_back(partial);
  }
  return front;
}

}  // namespace detail

/// The assignment of one choice to each layer with the least total loss among those that take at most `budget` bytes in
/// total. Exact: dynamic programming over the layers, keeping of all partial sums those that no other beats in both
/// bytes and loss. Their number is at most the number of different byte totals, which stays small where layers share
/// shapes; at worst it multiplies with every layer.
/// Errors: std::invalid_argument where there is no layer, a layer has no choice, a number is out of range, or even the
/// smallest choices exceed the budget.
inline BitBudgetPlan planBitBudget(std::span<const std::vector<LayerChoice>> layers, Index budget) {
  const std::vector<Index> least_from = detail::leastBytesFrom(layers, budget);
  std::vector<std::vector<detail::PartialBudget>> fronts;
  std::vector<detail::PartialBudget> sums = {{0, 0, 0, 0}};
  for (std::size_t l = 0; l < layers.size(); ++l) {
    sums = detail::withLayer(sums, layers[l], budget - least_from[l + 1]);
    fronts.push_back(sums);
  }

  std::size_t at = sums.size() - 1;  // the most bytes, and so the least loss
  BitBudgetPlan plan{std::vector<std::size_t>(layers.size()), sums[at].bytes, sums[at].loss};
  for (std::size_t l = layers.size(); l-- > 0;) {
    plan.choice[l] = fronts[l][at].choice;
    at = fronts[l][at].previous;
  }
  return plan;
}

}  // namespace gosset::GOSSET_ABI
