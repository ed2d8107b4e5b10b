// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "evaluate.hpp"

#include <gosset/rounding/hessian.hpp>

#include <algorithm>
#include <map>
#include <string>

// What a model's linear layers see on a text: the input to the roundings that look at activations.
namespace llama {

/// What entered one linear layer.
struct LayerInputs {
  static constexpr Index kMostTokens = 1024;

  explicit LayerInputs(Index inputs) : hessian(inputs), tokens(0, inputs) {}

  /// x: tokens x inputs.
  void add(const RowMatrixXf& x) {
    hessian.accumulate(x);
    const Index take = std::min(x.rows(), kMostTokens - tokens.rows());
    tokens.conservativeResize(tokens.rows() + take, Eigen::NoChange);
    tokens.bottomRows(take) = x.topRows(take);
  }

  gosset::Hessian hessian;  ///< the second moment over all tokens
  RowMatrixXf tokens;       ///< the first tokens themselves, at most kMostTokens x inputs
};

/// The inputs of each linear layer, by the layer's name.
using Calibration = std::map<std::string, LayerInputs>;

/// Runs each sequence from its beginning and gathers the inputs of every linear layer. Throws std::invalid_argument,
/// which names the layer, where its inputs are not finite.
template <class Step>
Calibration calibrate(const Engine& engine, const std::vector<Sequence>& sequences, Step&& step) {
  Calibration calibration;
  const Observer gather = [&](const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& x) {
    naming("the inputs of " + name, [&] { calibration.try_emplace(name, x.rows()).first->second.add(x.transpose()); });
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
