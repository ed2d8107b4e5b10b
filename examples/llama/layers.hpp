// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

// What a forward pass does between its linear layers. Activations are held one token a column.
namespace llama::detail {

/// Divides each column by its root mean square and scales its rows (Zhang and Sennrich 2019, "Root mean square layer
/// normalization").
inline Eigen::MatrixXf rmsNorm(const Eigen::MatrixXf& x, const Eigen::VectorXf& scale, float eps) {
  const Eigen::RowVectorXf meanSquare = x.colwise().squaredNorm() / static_cast<float>(x.rows());
  const Eigen::RowVectorXf inverse = (meanSquare.array() + eps).sqrt().inverse();
  return scale.asDiagonal() * x * inverse.asDiagonal();
}

/// The same of each head alone; x: heads * scale.size() x tokens.
inline void normHeads(Eigen::MatrixXf& x, const Eigen::VectorXf& scale, float eps) {
  Eigen::Map<Eigen::MatrixXf> heads(x.data(), scale.size(), x.size() / scale.size());
  heads = rmsNorm(heads, scale, eps);
}

/// Cosines and sines of one forward pass: pairs x tokens.
struct Rotations {
  Eigen::MatrixXf cosine, sine;
};

/// Pair i at position p turns by p * frequencies[i] (Su et al. 2021, "RoFormer", section 3.2.2).
inline Rotations rotations(const Rope& rope, Index firstPosition, Index tokens) {
  const auto pairs = static_cast<Index>(rope.frequencies.size());
  Rotations r{Eigen::MatrixXf(pairs, tokens), Eigen::MatrixXf(pairs, tokens)};
  for (Index i = 0; i < pairs; ++i) {
    for (Index t = 0; t < tokens; ++t) {
      const double angle = static_cast<double>(firstPosition + t) * rope.frequencies[static_cast<std::size_t>(i)];
      r.cosine(i, t) = static_cast<float>(std::cos(angle) * rope.magnitude);
      r.sine(i, t) = static_cast<float>(std::sin(angle) * rope.magnitude);
    }
  }
  return r;
}

/// Those of each of a config's ropes.
inline std::vector<Rotations> allRotations(const Config& config, Index firstPosition, Index tokens) {
  const Rope plain{ropeFrequencies(config.headDim, static_cast<double>(config.ropeTheta))};
  if (config.ropes.empty()) return {rotations(plain, firstPosition, tokens)};
  std::vector<Rotations> all;
  for (const Rope& rope : config.ropes) all.push_back(rotations(rope, firstPosition, tokens));
  return all;
}

/// Turns the first pairs of neighbouring rows of each head; x: heads * headDim x tokens.
inline void rotate(Eigen::MatrixXf& x, const Rotations& r, Index headDim) {
  for (Index t = 0; t < x.cols(); ++t) {
    for (Index head = 0; head < x.rows(); head += headDim) {
      for (Index pair = 0; pair < r.cosine.rows(); ++pair) {
        float& a = x(head + 2 * pair, t);
        float& b = x(head + 2 * pair + 1, t);
        const float c = r.cosine(pair, t), s = r.sine(pair, t);
        const float turned = a * c - b * s;
        b = a * s + b * c;
        a = turned;
      }
    }
  }
}

/// cap tanh(x / cap); x itself where the cap is 0.
inline void softCap(Eigen::MatrixXf& x, float cap) {
  if (cap > 0.f) x = cap * (x.array() / cap).tanh();
}

/// Softmax of each column. Row 0 is token number `first`; column t, token number past + t, may see the tokens up to
/// itself, of which the newest `window`.
inline void causalSoftmax(Eigen::MatrixXf& scores, Index past, Index first, Index window) {
  for (Index t = 0; t < scores.cols(); ++t) {
    const Index end = past + t + 1 - first;
    const Index begin = std::max<Index>(end - window, 0);
    auto seen = scores.col(t).segment(begin, end - begin);
    seen = (seen.array() - seen.maxCoeff()).exp().matrix().eval();
    seen /= seen.sum();
    scores.col(t).head(begin).setZero();
    scores.col(t).tail(scores.rows() - end).setZero();
  }
}

/// Config says where the formulas are from.
inline Eigen::MatrixXf activated(const Eigen::MatrixXf& x, Activation activation) {
  if (activation == Activation::kSilu) return x.array() / (1.f + (-x.array()).exp());
  constexpr float kRoot = 0.7978845608f;  // sqrt(2 / pi)
  return 0.5f * x.array() * (1.f + (kRoot * (x.array() + 0.044715f * x.array().cube())).tanh());
}

/// An expert and the weight of its output.
using Choice = std::pair<Index, float>;

/// The experts that a token takes; logits: the router's, one an expert. Of equal ones the first.
inline std::vector<Choice> chosenExperts(const Eigen::VectorXf& logits, const Experts& experts) {
  const Eigen::ArrayXf exponentials = (logits.array() - logits.maxCoeff()).exp();
  const Eigen::ArrayXf softmax = exponentials / exponentials.sum();
  std::vector<Index> order(static_cast<std::size_t>(logits.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return softmax[a] > softmax[b]; });
  order.resize(static_cast<std::size_t>(experts.perToken));
  float sum = 0.f;
  for (const Index expert : order) sum += softmax[expert];
  std::vector<Choice> choices;
  for (const Index expert : order) choices.emplace_back(expert, softmax[expert] / (experts.normalized ? sum : 1.f));
  return choices;
}

}  // namespace llama::detail
