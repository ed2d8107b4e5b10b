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

namespace gosset {

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

/// The assignment of one choice to each layer with the least total loss among those that take at most `budget` bytes in
/// total. Exact: dynamic programming over the layers, keeping of all partial sums those that no other beats in both
/// bytes and loss. Their number is at most the number of different byte totals, which stays small where layers share
/// shapes; at worst it multiplies with every layer.
/// Errors: std::invalid_argument where there is no layer, a layer has no choice, a number is out of range, or even the
/// smallest choices exceed the budget.
inline BitBudgetPlan planBitBudget(std::span<const std::vector<LayerChoice>> layers, Index budget) {
  struct Partial {
    Index bytes;
    double loss;
    std::size_t choice;    // of this layer
    std::size_t previous;  // which partial sum of the layer before
  };
  detail::require(!layers.empty(), "planBitBudget: expected at least one layer");
  std::vector<Index> least_after(layers.size() + 1, 0);  // bytes that the layers from here on take at least
  for (std::size_t l = layers.size(); l-- > 0;) {
    detail::require(!layers[l].empty(), "planBitBudget: layer ", l, " has no choice");
    Index least = std::numeric_limits<Index>::max();
    for (const LayerChoice& c : layers[l]) {
      detail::require(c.bytes >= 0 && std::isfinite(c.loss), "planBitBudget: layer ", l,
                      ": expected bytes >= 0 and a finite loss, got ", c.bytes, " and ", c.loss);
      least = std::min(least, c.bytes);
    }
    least_after[l] = least_after[l + 1] + least;
  }
  detail::require(least_after[0] <= budget, "planBitBudget: the smallest choices take ", least_after[0],
                  " bytes, the budget is ", budget);

  std::vector<std::vector<Partial>> fronts;
  std::vector<Partial> sums = {{0, 0, 0, 0}};
  for (std::size_t l = 0; l < layers.size(); ++l) {
    std::vector<Partial> next;
    for (std::size_t p = 0; p < sums.size(); ++p) {
      for (std::size_t c = 0; c < layers[l].size(); ++c) {
        const Index bytes = sums[p].bytes + layers[l][c].bytes;
        if (bytes > budget - least_after[l + 1]) continue;
        next.push_back({bytes, sums[p].loss + layers[l][c].loss, c, p});
      }
    }
    std::sort(next.begin(), next.end(), [](const Partial& a, const Partial& b) {
      return a.bytes != b.bytes ? a.bytes < b.bytes : a.loss < b.loss;
    });
    sums.clear();
    for (const Partial& partial : next) {
      if (sums.empty() || partial.loss < sums.back().loss) sums.push_back(partial);
    }
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

}  // namespace gosset
