// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "evaluate.hpp"

#include <gosset/rounding/hessian.hpp>

#include <map>
#include <string>

// What a model's linear layers see on a text: the input to the roundings that look at activations.
namespace llama {

/// The Hessian of each linear layer, by the layer's name.
using Calibration = std::map<std::string, gosset::Hessian>;

/// Runs each sequence from its beginning and gathers the second moments of every linear layer's inputs.
template <class Step>
Calibration calibrate(const Engine& engine, const std::vector<Sequence>& sequences, Step&& step) {
  Calibration calibration;
  const Observer gather = [&](const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& x) {
    calibration.try_emplace(name, x.rows()).first->second.accumulate(x.transpose());
  };
  for (const Sequence& sequence : sequences) {
    KvCache cache(engine.config(), static_cast<Index>(sequence.size()));
    engine.forward(sequence, cache, gather);
    step();
  }
  return calibration;
}

/// The sequences of a text that predictions are measured on, and those behind them that calibrate: at most `measured`
/// and `calibrating` tokens, the first being no more than two thirds of the text.
struct SplitText {
  std::vector<Sequence> measured;
  std::vector<Sequence> calibrating;
};

inline SplitText split(std::vector<Sequence> sequences, Index measured, Index calibrating) {
  Index all = 0;
  for (const Sequence& sequence : sequences) all += static_cast<Index>(sequence.size());
  const Index limit = std::min(measured, all * 2 / 3);
  SplitText result;
  Index tokens = 0;
  for (Sequence& sequence : sequences) {
    tokens += static_cast<Index>(sequence.size());
    if (tokens <= limit || result.measured.empty()) {
      result.measured.push_back(std::move(sequence));
    } else if (tokens <= limit + calibrating || result.calibrating.empty()) {
      result.calibrating.push_back(std::move(sequence));
    }
  }
  return result;
}

}  // namespace llama
