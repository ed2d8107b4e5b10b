// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config.hpp"

#include <algorithm>
#include <cmath>

// Rotary embeddings for longer contexts than a model was trained on first: the plain frequencies of ropeFrequencies(),
// changed. `context` is the length that they were trained on.
namespace llama {

/// All frequencies divided by `factor` (Chen et al. 2023, "Extending context window of large language models via
/// positional interpolation").
inline Rope linearRope(Index dim, double base, double factor) {
  Rope rope{ropeFrequencies(dim, base)};
  for (double& frequency : rope.frequencies) frequency /= factor;
  return rope;
}

struct Llama3Scaling {
  double factor, lowFactor, highFactor, context;
};

/// Llama 3.1's: pairs that turn fewer than lowFactor times over the context are divided by `factor`, those that turn
/// more than highFactor times stay, those between go from one to the other (Dubey et al. 2024, "The Llama 3 herd of
/// models"; the formula is that of github.com/meta-llama/llama-models, apply_scaling).
inline Rope llama3Rope(Index dim, double base, const Llama3Scaling& s) {
  constexpr double kTurn = 2 * 3.14159265358979323846;
  Rope rope{ropeFrequencies(dim, base)};
  for (double& frequency : rope.frequencies) {
    const double turns = s.context * frequency / kTurn;
    const double stays = std::clamp((turns - s.lowFactor) / (s.highFactor - s.lowFactor), 0.0, 1.0);
    frequency *= stays + (1 - stays) / s.factor;
  }
  return rope;
}

struct YarnScaling {
  double factor, context;
  double betaFast = 32, betaSlow = 1;
  bool truncate = true;  ///< whether the ramp begins and ends at whole pairs
};

/// The pair that turns `turns` times over the context, as a real number.
inline double pairOfTurns(double turns, Index dim, double base, double context) {
  constexpr double kTurn = 2 * 3.14159265358979323846;
  return static_cast<double>(dim) * std::log(context / (turns * kTurn)) / (2 * std::log(base));
}

/// YaRN: pairs that turn more than betaFast times over the context stay, those that turn less than betaSlow times are
/// divided by `factor`, with a ramp between (Peng et al. 2023, "YaRN", sections 3.2 and 3.4; that the ramp's end is
/// held below `dim`, not below dim / 2, is the published implementation's).
inline Rope yarnRope(Index dim, double base, const YarnScaling& s, double magnitude) {
  double low = pairOfTurns(s.betaFast, dim, base, s.context), high = pairOfTurns(s.betaSlow, dim, base, s.context);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  Rope rope{ropeFrequencies(dim, base), magnitude};
  for (std::size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double divided = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    rope.frequencies[i] *= 1 - divided + divided / s.factor;
  }
  return rope;
}

/// What YaRN multiplies cosines and sines with: .1 weight ln(factor) + 1 (section 3.4).
inline double yarnMagnitude(double factor, double weight = 1) {
  return factor <= 1 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

}  // namespace llama
