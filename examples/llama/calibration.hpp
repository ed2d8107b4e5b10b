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

/// The fewest tokens that an expert's own inputs are made of.
inline constexpr Index kFewestExpertTokens = 64;

namespace detail {

/// How many tokens a layer's inputs are made of.
inline Index tokensOf(const Calibration& calibration, const std::string& name) {
  const auto found = calibration.find(name);
  return found == calibration.end() ? 0 : static_cast<Index>(found->second.hessian.tokens());
}

/// What one expert's layers get from some inputs (tokens x dim), whether the router would send them there or not.
inline void calibrateExpert(const PackedModel::FeedForward& expert, const std::string& name, Activation activation,
                            const RowMatrixXf& inputs, Calibration& calibration) {
  const auto product = [](const gosset::AnyMatrix& matrix, const Eigen::MatrixXf& x) {
    Eigen::MatrixXf y(matrix.rows(), x.cols());
    matrix.multiply(x, y);
    return y;
  };
  const auto set = [&](const char* layer, const RowMatrixXf& x) {
    calibration.insert_or_assign(name + layer, LayerInputs(x.cols())).first->second.add(x);
  };
  const Eigen::MatrixXf x = inputs.transpose();
  const Eigen::MatrixXf between = activated(product(expert.w1, x), activation).cwiseProduct(product(expert.w3, x));
  set("gate_proj.weight", inputs);
  set("up_proj.weight", inputs);
  set("down_proj.weight", between.transpose());
}

/// Gives an expert that the router sent fewer than kFewestExpertTokens the tokens of its block's router instead.
/// Whether it was such. Throws as calibrateStarvedExperts().
inline bool feedIfStarved(const PackedModel::FeedForward& expert, const std::string& name, Activation activation,
                          const RowMatrixXf& routed, Calibration& calibration) {
  const Index tokens = tokensOf(calibration, name + "gate_proj.weight");
  if (tokens >= std::min(kFewestExpertTokens, routed.rows())) return false;
  naming("the inputs of " + name, [&] { calibrateExpert(expert, name, activation, routed, calibration); });
  return true;
}

}  // namespace detail

/// Gives experts that the router sent fewer than kFewestExpertTokens the first tokens of their block's router instead,
/// LayerInputs::kMostTokens at most, as if it had sent them all. Returns the first parts of their names. Throws
/// std::invalid_argument, which names the layer, where inputs are not finite.
inline std::vector<std::string> calibrateStarvedExperts(const Engine& engine, Calibration& calibration) {
  std::vector<std::string> starved;
  for (std::size_t i = 0; i < engine.model().layers.size(); ++i) {
    const auto router = calibration.find(routerName(i));
    if (router == calibration.end()) continue;
    const auto& experts = engine.model().layers[i].experts;
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const std::string name = expertName(i, e);
      const bool fed =
          detail::feedIfStarved(experts[e], name, engine.config().activation, router->second.tokens, calibration);
      if (fed) starved.push_back(name);
    }
  }
  return starved;
}

/// Runs each sequence from its beginning and gathers the inputs of every linear layer, and of the routers of experts.
/// Throws std::invalid_argument, which names the layer, where its inputs are not finite.
template <class Step>
Calibration calibrate(const Engine& engine, const std::vector<Sequence>& sequences, Step&& step) {
  Calibration calibration;
  const Observer gather = [&](const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& x) {
    naming("the inputs of " + name, [&] { calibration.try_emplace(name, x.rows()).first->second.add(x.transpose()); });
  };
  for (const Sequence& sequence : sequences) {
    KvCache cache(engine.config(), static_cast<Index>(sequence.size()));
    runPieces(engine, sequence, cache, gather, [](Index, const Eigen::MatrixXf&) {});
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
