// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <cmath>

namespace llama {

/// A token drawn from softmax(logits / temperature) with `uniform` in [0, 1); temperature 0 gives the likeliest.
inline Token sampleToken(const Eigen::VectorXf& logits, double temperature, double uniform) {
  Index likeliest = 0;
  const auto largest = static_cast<double>(logits.maxCoeff(&likeliest));
  if (temperature <= 0) return static_cast<Token>(likeliest);
  const Eigen::ArrayXd weights = ((logits.cast<double>().array() - largest) / temperature).exp();
  double left = uniform * weights.sum();
  for (Index token = 0; token < weights.size(); ++token) {
    left -= weights(token);
    if (left < 0) return static_cast<Token>(token);
  }
  return static_cast<Token>(likeliest);
}

}  // namespace llama
