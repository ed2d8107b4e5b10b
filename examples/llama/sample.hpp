// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

// Which token comes next.
namespace llama {

struct Sampling {
  double temperature = 1;  ///< 0 takes the likeliest token
  Index topK = 0;          ///< only so many likeliest tokens; 0 for all
  double topP = 1;         ///< only the likeliest tokens whose probabilities together reach it
};

namespace detail {

/// Sets all but the likeliest weights to 0, as many as `s` lets pass; of equal ones, those of lower tokens are kept.
inline void keepLikeliest(Eigen::ArrayXd& weights, const Sampling& s) {
  const bool all = (s.topK == 0 || s.topK >= weights.size()) && s.topP >= 1;
  if (all) return;
  std::vector<Index> order(static_cast<std::size_t>(weights.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(),
            [&weights](Index a, Index b) { return weights(a) != weights(b) ? weights(a) > weights(b) : a < b; });
  std::size_t kept = s.topK == 0 ? order.size() : std::min(order.size(), static_cast<std::size_t>(s.topK));
  double mass = 0, reached = 0;
  for (std::size_t i = 0; i < kept; ++i) mass += weights(order[i]);
  std::size_t count = 0;
  while (count < kept && (count == 0 || reached < s.topP * mass)) reached += weights(order[count++]);
  for (std::size_t i = count; i < order.size(); ++i) weights(order[i]) = 0;
}

}  // namespace detail

/// A token drawn with `uniform` in [0, 1) from softmax(logits / temperature), of which first the topK likeliest are
/// kept, then, of these, the likeliest that reach topP (Holtzman et al. 2020, "The curious case of neural text
/// degeneration", section 3.1). Throws std::invalid_argument where a logit is not finite.
inline Token sampleToken(const Eigen::VectorXf& logits, const Sampling& s, double uniform) {
  if (!logits.allFinite()) throw std::invalid_argument("logits: finite numbers expected");
  Index likeliest = 0;
  const auto largest = static_cast<double>(logits.maxCoeff(&likeliest));
  if (s.temperature <= 0) return static_cast<Token>(likeliest);
  Eigen::ArrayXd weights(logits.size());
  for (Index i = 0; i < logits.size(); ++i) {
    weights(i) = std::exp((static_cast<double>(logits(i)) - largest) / s.temperature);
  }
  detail::keepLikeliest(weights, s);
  double left = uniform * weights.sum();
  for (Index token = 0; token < weights.size(); ++token) {
    left -= weights(token);
    if (left < 0) return static_cast<Token>(token);
  }
  return static_cast<Token>(likeliest);
}

}  // namespace llama
