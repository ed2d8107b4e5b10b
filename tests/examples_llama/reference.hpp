// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../examples/llama/model.hpp"

#include "testing.hpp"

#include <cmath>
#include <vector>

// What the tests of examples/llama share: a small random model, and a forward pass that a reader can check by eye.
namespace llama::testing {

/// A model of random weights whose logits are of order one. Sizes are odd where they may be.
inline Model randomModel(const Config& config, bool ownOutput, std::uint64_t seed = 1) {
  Model model = emptyWeights<RowMatrixXf>(config, ownOutput);
  const auto matrix = [&seed](Index rows, Index cols) -> RowMatrixXf {
    return gosset::testing::gaussian(rows, cols, ++seed) / std::sqrt(static_cast<float>(cols));
  };
  const auto norm = [&](Index size) -> Eigen::VectorXf { return (matrix(1, size).transpose().array() + 1.f).matrix(); };
  model.embedding = gosset::testing::gaussian(config.vocab, config.dim, seed);
  for (auto& layer : model.layers) {
    layer.attentionNorm = norm(config.dim);
    layer.ffnNorm = norm(config.dim);
  }
  model.finalNorm = norm(config.dim);
  forEachLinear(model, [&](const LinearInfo& info, RowMatrixXf& weights) { weights = matrix(info.rows, info.cols); });
  return model;
}

inline Config smallConfig() {
  return {.dim = 24, .hidden = 37, .layers = 2, .heads = 6, .kvHeads = 2, .headDim = 4, .vocab = 31, .context = 48};
}

/// Random tokens of a model.
inline std::vector<Token> randomTokens(const Config& config, std::size_t count, std::uint64_t seed = 9) {
  std::vector<Token> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<Token>(gosset::randomBits(seed, i) % static_cast<std::uint64_t>(config.vocab));
  }
  return tokens;
}

/// Which two numbers of a head rotary embedding turns together: 2i and 2i + 1, or i and i + headDim / 2.
enum class Pairs { kNeighbours, kHalves };

/// The forward pass in double, one token after the other, in plain loops.
class NaiveLlama {
 public:
  using Vector = std::vector<double>;

  NaiveLlama(const Model& model, Pairs pairs) : m_(model), c_(model.config), pairs_(pairs) {
    keys_.resize(model.layers.size());
    values_.resize(model.layers.size());
  }

  /// The logits behind `token`, which follows those of earlier calls.
  Vector next(Token token) {
    Vector x(size(c_.dim));
    for (Index i = 0; i < c_.dim; ++i) x[size(i)] = static_cast<double>(m_.embedding(token, i));
    for (std::size_t l = 0; l < m_.layers.size(); ++l) {
      add(x, attention(l, normed(x, m_.layers[l].attentionNorm)));
      add(x, feedForward(m_.layers[l], normed(x, m_.layers[l].ffnNorm)));
    }
    ++position_;
    return times(m_.output ? *m_.output : m_.embedding, normed(x, m_.finalNorm));
  }

 private:
  static std::size_t size(Index i) { return static_cast<std::size_t>(i); }

  static void add(Vector& x, const Vector& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  static Vector times(const RowMatrixXf& w, const Vector& x) {
    Vector y(size(w.rows()), 0.0);
    for (Index r = 0; r < w.rows(); ++r) {
      for (Index k = 0; k < w.cols(); ++k) y[size(r)] += static_cast<double>(w(r, k)) * x[size(k)];
    }
    return y;
  }
  Vector normed(const Vector& x, const Eigen::VectorXf& scale) const {
    double meanSquare = 0;
    for (const double v : x) meanSquare += v * v / static_cast<double>(x.size());
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      y[i] = x[i] / std::sqrt(meanSquare + static_cast<double>(c_.normEps)) *
             static_cast<double>(scale[static_cast<Index>(i)]);
    }
    return y;
  }
  void turn(Vector& heads) const {
    const std::size_t width = size(c_.headDim);
    for (std::size_t head = 0; head < heads.size(); head += width) {
      for (std::size_t i = 0; i < width / 2; ++i) {
        const double exponent = static_cast<double>(2 * i) / static_cast<double>(width);
        const double angle = position_ / std::pow(static_cast<double>(c_.ropeTheta), exponent);
        double& a = heads[head + (pairs_ == Pairs::kNeighbours ? 2 * i : i)];
        double& b = heads[head + (pairs_ == Pairs::kNeighbours ? 2 * i + 1 : i + width / 2)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }
  Vector attention(std::size_t l, const Vector& x) {
    Vector q = times(m_.layers[l].wq, x), k = times(m_.layers[l].wk, x);
    turn(q);
    turn(k);
    keys_[l].push_back(k);
    values_[l].push_back(times(m_.layers[l].wv, x));
    const std::size_t width = size(c_.headDim), group = size(c_.heads / c_.kvHeads);
    Vector out(q.size(), 0.0);
    for (std::size_t head = 0; head < size(c_.heads); ++head) {
      const std::size_t mine = head * width, theirs = head / group * width;
      Vector weight(keys_[l].size());
      double sum = 0;
      for (std::size_t t = 0; t < weight.size(); ++t) {
        double dot = 0;
        for (std::size_t i = 0; i < width; ++i) dot += q[mine + i] * keys_[l][t][theirs + i];
        weight[t] = std::exp(dot / std::sqrt(static_cast<double>(width)));
        sum += weight[t];
      }
      for (std::size_t t = 0; t < weight.size(); ++t) {
        for (std::size_t i = 0; i < width; ++i) out[mine + i] += weight[t] / sum * values_[l][t][theirs + i];
      }
    }
    return times(m_.layers[l].wo, out);
  }
  static Vector feedForward(const Model::Layer& layer, const Vector& x) {
    Vector gate = times(layer.w1, x);
    const Vector up = times(layer.w3, x);
    for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1.0 + std::exp(-gate[i]));
    return times(layer.w2, gate);
  }

  const Model& m_;
  const Config& c_;
  Pairs pairs_;
  double position_ = 0;
  std::vector<std::vector<Vector>> keys_, values_;  // [layer][token]
};

/// The naive logits behind each token: vocab x tokens.
inline Eigen::MatrixXd naiveLogits(const Model& model, const std::vector<Token>& tokens,
                                   Pairs pairs = Pairs::kNeighbours) {
  NaiveLlama naive(model, pairs);
  Eigen::MatrixXd logits(model.config.vocab, static_cast<Index>(tokens.size()));
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::vector<double> column = naive.next(tokens[t]);
    logits.col(static_cast<Index>(t)) = Eigen::Map<const Eigen::VectorXd>(column.data(), logits.rows());
  }
  return logits;
}

}  // namespace llama::testing
