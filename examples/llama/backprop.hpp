// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <gosset/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

// A Llama's loss and its gradient, by hand. Sequences are trained one at a time: activations are t x n matrices, a row
// a token. In every backward function dX is the loss's derivative by X, and it gets what the forward function kept.
namespace llama {

template <class Scalar>
using RowMatrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

/// All trainable numbers of a Llama whose output matrix is its embedding, in one row, so that an optimizer need not
/// know what they are; with names for its parts. Gradients have the same form.
template <class Scalar>
class Parameters {
 public:
  using MatrixMap = Eigen::Map<RowMatrix<Scalar>>;
  using VectorMap = Eigen::Map<Vector<Scalar>>;
  struct Layer {
    VectorMap attentionNorm;
    MatrixMap wq, wk, wv, wo;
    VectorMap ffnNorm;
    MatrixMap w1, w2, w3;
  };

 private:
  Config config_;
  Vector<Scalar> values_;

 public:
  MatrixMap embedding{nullptr, 0, 0};  ///< vocab x dim
  std::vector<Layer> layers;           ///< shapes as in Weights
  VectorMap finalNorm{nullptr, 0};     ///< dim

  /// All zero.
  explicit Parameters(const Config& c) : config_(c), values_(Vector<Scalar>::Zero(count(c))) {
    Scalar* next = values_.data();
    const auto matrix = [&next](Index rows, Index cols) {
      next += rows * cols;
      return MatrixMap(next - rows * cols, rows, cols);
    };
    const auto vector = [&next](Index size) {
      next += size;
      return VectorMap(next - size, size);
    };
    new (&embedding) MatrixMap(matrix(c.vocab, c.dim));
    for (Index i = 0; i < c.layers; ++i) {
      // Braces evaluate from left to right.
      layers.push_back({vector(c.dim), matrix(c.queryDim(), c.dim), matrix(c.kvDim(), c.dim), matrix(c.kvDim(), c.dim),
                        matrix(c.dim, c.queryDim()), vector(c.dim), matrix(c.hidden, c.dim), matrix(c.dim, c.hidden),
                        matrix(c.hidden, c.dim)});
    }
    new (&finalNorm) VectorMap(vector(c.dim));
  }
  Parameters(const Parameters&) = delete;  // the parts point into the whole
  Parameters& operator=(const Parameters&) = delete;
  Parameters(Parameters&&) = default;

  const Config& config() const { return config_; }
  Vector<Scalar>& values() { return values_; }
  const Vector<Scalar>& values() const { return values_; }

  static Index count(const Config& c) {
    const Index perLayer = 2 * c.dim + 2 * c.dim * (c.queryDim() + c.kvDim()) + 3 * c.dim * c.hidden;
    return c.vocab * c.dim + c.layers * perLayer + c.dim;
  }

  /// Calls visit(matrix) for each linear layer, in the order of llama::forEachLinear().
  template <class Visit>
  void forEachLinear(Visit&& visit) {
    for (Layer& layer : layers) {
      for (MatrixMap* w : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w1, &layer.w3, &layer.w2}) visit(*w);
    }
  }
};

/// The parameters as the inference engine takes them.
inline Model toModel(const Parameters<float>& parameters) {
  Model model;
  model.config = parameters.config();
  model.embedding = parameters.embedding;
  for (const auto& layer : parameters.layers) {
    Model::Layer& to = model.layers.emplace_back();
    to.attentionNorm = layer.attentionNorm;
    to.wq = layer.wq;
    to.wk = layer.wk;
    to.wv = layer.wv;
    to.wo = layer.wo;
    to.ffnNorm = layer.ffnNorm;
    to.w1 = layer.w1;
    to.w3 = layer.w3;
    to.w2 = layer.w2;
  }
  model.finalNorm = parameters.finalNorm;
  return model;
}

/// The parameters of a model that was read from a file. Throws std::invalid_argument where its output matrix is not its
/// embedding, or where it is more than a plain Llama.
inline Parameters<float> toParameters(const Model& model) {
  requirePlainLlama(model.config, "model");
  gosset::detail::require(!model.output,
                          "model: an output matrix that is its embedding expected, found one of its own");
  Parameters<float> parameters(model.config);
  parameters.embedding = model.embedding;
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    auto& to = parameters.layers[i];
    const Model::Layer& from = model.layers[i];
    to.attentionNorm = from.attentionNorm;
    to.wq = from.wq;
    to.wk = from.wk;
    to.wv = from.wv;
    to.wo = from.wo;
    to.ffnNorm = from.ffnNorm;
    to.w1 = from.w1;
    to.w2 = from.w2;
    to.w3 = from.w3;
  }
  parameters.finalNorm = model.finalNorm;
  return parameters;
}

/// RMSNorm (Zhang and Sennrich 2019): y = x / rms(x) * weight, with rms(x)^2 = mean(x^2) + eps.
template <class Scalar>
struct NormStep {
  RowMatrix<Scalar> x, y;  // t x dim
  Vector<Scalar> inverse;  // 1 / rms, t

  template <class Weight>
  void forward(const Weight& weight, Scalar eps) {
    inverse = (x.rowwise().squaredNorm().array() / static_cast<Scalar>(x.cols()) + eps).rsqrt();
    y = inverse.asDiagonal() * x * weight.asDiagonal();
  }

  /// Adds to dX, as x goes on beside the norm; sets dWeight. With u = dY * weight and r = 1 / rms:
  /// dX = r u - x r^3 (u . x) / dim.
  template <class Weight, class DWeight>
  void backward(const Weight& weight, const RowMatrix<Scalar>& dY, RowMatrix<Scalar>& dX, DWeight& dWeight) const {
    dWeight = dY.cwiseProduct(x).transpose() * inverse;
    const RowMatrix<Scalar> u = dY * weight.asDiagonal();
    const Vector<Scalar> pull =
        u.cwiseProduct(x).rowwise().sum().array() * inverse.array().cube() / static_cast<Scalar>(x.cols());
    dX += inverse.asDiagonal() * u;
    dX -= pull.asDiagonal() * x;
  }
};

/// Rotary embedding (Su et al. 2021): in every head, the pair (2i, 2i + 1) of the row at position p turns by the angle
/// p * theta^(-2i / headDim); `direction` -1 turns back, which is also how the derivative turns.
template <class Scalar>
class Rotary {
 public:
  explicit Rotary(const Config& c)
      : headDim_(c.headDim), cos_(c.context, c.headDim / 2), sin_(c.context, c.headDim / 2) {
    for (Index p = 0; p < c.context; ++p) {
      for (Index i = 0; i < c.headDim / 2; ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(c.headDim);
        const double angle = static_cast<double>(p) * std::pow(static_cast<double>(c.ropeTheta), exponent);
        cos_(p, i) = static_cast<Scalar>(std::cos(angle));
        sin_(p, i) = static_cast<Scalar>(std::sin(angle));
      }
    }
  }

  void turn(RowMatrix<Scalar>& x, Scalar direction) const {
    for (Index p = 0; p < x.rows(); ++p) {
      for (Index at = 0; at < x.cols(); at += 2) {
        const Index i = at % headDim_ / 2;
        const Scalar a = x(p, at), b = x(p, at + 1), c = cos_(p, i), s = direction * sin_(p, i);
        x(p, at) = a * c - b * s;
        x(p, at + 1) = a * s + b * c;
      }
    }
  }

 private:
  Index headDim_;
  RowMatrix<Scalar> cos_, sin_;  // positions x pairs
};

/// Causal attention with grouped queries (Ainslie et al. 2023): out = softmax(q k^T / sqrt(headDim)) v in every head,
/// each row over the positions up to its own.
template <class Scalar>
struct AttentionStep {
  RowMatrix<Scalar> q, k, v, out;                // t x heads * headDim, t x kvHeads * headDim twice, as q
  std::vector<RowMatrix<Scalar>> probabilities;  // of each head, t x t; what lies above the diagonal is never read

  // Rows are done in blocks: a block needs no positions behind its last row, so about half the work falls away.
  static constexpr Index kBlock = 32;

  void forward(const Config& c) {
    const Index t = q.rows(), d = c.headDim;
    out.resize(t, q.cols());
    probabilities.resize(static_cast<std::size_t>(c.heads));
    for (Index head = 0; head < c.heads; ++head) {
      const Index kv = head / (c.heads / c.kvHeads) * d;
      RowMatrix<Scalar>& p = probabilities[static_cast<std::size_t>(head)];
      p.resize(t, t);
      for (Index row = 0; row < t; row += kBlock) {
        const Index rows = std::min(kBlock, t - row), seen = row + rows;
        auto block = p.block(row, 0, rows, seen);
        block.noalias() = (q.block(row, head * d, rows, d) * scale(c)) * k.block(0, kv, seen, d).transpose();
        for (Index i = 0; i < rows; ++i) softmax(block.row(i), row + i + 1);
        out.block(row, head * d, rows, d).noalias() = block * v.block(0, kv, seen, d);
      }
    }
  }

  /// Sets dQ, dK, dV. Through the softmax, dScore = p * (dP - sum(p * dP)).
  void backward(const Config& c, const RowMatrix<Scalar>& dOut, RowMatrix<Scalar>& dQ, RowMatrix<Scalar>& dK,
                RowMatrix<Scalar>& dV) const {
    const Index t = q.rows(), d = c.headDim;
    dQ.resize(t, q.cols());
    dK.setZero(t, k.cols());
    dV.setZero(t, v.cols());
    RowMatrix<Scalar> dScore;
    for (Index head = 0; head < c.heads; ++head) {
      const Index kv = head / (c.heads / c.kvHeads) * d;
      for (Index row = 0; row < t; row += kBlock) {
        const Index rows = std::min(kBlock, t - row), seen = row + rows;
        const auto p = probabilities[static_cast<std::size_t>(head)].block(row, 0, rows, seen);
        const auto dO = dOut.block(row, head * d, rows, d);
        dV.block(0, kv, seen, d).noalias() += p.transpose() * dO;
        dScore.noalias() = dO * v.block(0, kv, seen, d).transpose();
        const Vector<Scalar> mean = dScore.cwiseProduct(p).rowwise().sum();
        dScore = (dScore.colwise() - mean).cwiseProduct(p) * scale(c);
        dQ.block(row, head * d, rows, d).noalias() = dScore * k.block(0, kv, seen, d);
        dK.block(0, kv, seen, d).noalias() += dScore.transpose() * q.block(row, head * d, rows, d);
      }
    }
  }

 private:
  static Scalar scale(const Config& c) { return Scalar(1) / std::sqrt(static_cast<Scalar>(c.headDim)); }

  /// Softmax of the first `seen` entries; the others become 0.
  template <class Row>
  static void softmax(Row row, Index seen) {
    auto scores = row.head(seen).array();
    scores = (scores - scores.maxCoeff()).exp();
    scores /= scores.sum();
    row.tail(row.size() - seen).setZero();
  }
};

/// The feed-forward network's middle, SwiGLU (Shazeer 2020): out = silu(gate) * up, silu(x) = x / (1 + exp(-x)).
template <class Scalar>
struct SwigluStep {
  RowMatrix<Scalar> gate, up, out;  // t x hidden

  void forward() { out = gate.array() * sigmoid() * up.array(); }

  /// silu'(x) = s (1 + x (1 - s)) with s the sigmoid of x.
  void backward(const RowMatrix<Scalar>& dOut, RowMatrix<Scalar>& dGate, RowMatrix<Scalar>& dUp) const {
    const RowMatrix<Scalar> s = sigmoid();
    dUp = dOut.array() * gate.array() * s.array();
    dGate = dOut.array() * up.array() * s.array() * (1 + gate.array() * (1 - s.array()));
  }

 private:
  auto sigmoid() const { return (1 + (-gate.array()).exp()).inverse(); }
};

/// y = x w^T: every linear layer goes through these three.
template <class Scalar, class Weight>
void linear(const RowMatrix<Scalar>& x, const Weight& w, RowMatrix<Scalar>& y) {
  y.noalias() = x * w.transpose();
}
template <class Scalar, class DWeight>
void linearWeightGradient(const RowMatrix<Scalar>& x, const RowMatrix<Scalar>& dY, DWeight& dW) {
  dW.noalias() = dY.transpose() * x;
}
template <class Scalar, class Weight>
void addLinearInputGradient(const Weight& w, const RowMatrix<Scalar>& dY, RowMatrix<Scalar>& dX) {
  dX.noalias() += dY * w;
}

/// Computes losses and gradients, one sequence after the other; keeps its buffers between them. One for each thread.
///
/// It reads the weights that it is given and knows no others: who gives it rounded weights and adds the gradient to
/// the weights before rounding has trained with the straight-through estimator, as qat_model.hpp does.
template <class Scalar>
class Backprop {
 public:
  explicit Backprop(const Config& config)
      : config_(config), rotary_(config), blocks_(static_cast<std::size_t>(config.layers)) {}

  /// Mean cross entropy, in nats, of predicting tokens[1], tokens[2], ... from those before. Takes 2 to context + 1
  /// tokens, each below vocab.
  double loss(const Parameters<Scalar>& weights, std::span<const Token> tokens) {
    checkTokens(tokens);
    forward(weights, tokens.first(tokens.size() - 1));
    return crossEntropy(tokens.subspan(1));
  }

  /// The same, and sets `gradient` to the loss's derivative by every parameter.
  double lossAndGradient(const Parameters<Scalar>& weights, std::span<const Token> tokens,
                         Parameters<Scalar>& gradient) {
    const double value = loss(weights, tokens);
    backward(weights, tokens.first(tokens.size() - 1), gradient);
    return value;
  }

  /// What is predicted behind each token but the last: t x vocab, rows that sum to 1.
  RowMatrix<Scalar> predictions(const Parameters<Scalar>& weights, std::span<const Token> tokens) {
    checkTokens(tokens);
    forward(weights, tokens.first(tokens.size() - 1));
    logits_.colwise() -= Vector<Scalar>(logits_.rowwise().maxCoeff());
    logits_ = logits_.array().exp();
    return Vector<Scalar>(logits_.rowwise().sum().cwiseInverse()).asDiagonal() * logits_;
  }

  /// Mean Kullback-Leibler divergence of the predictions from `teacher`'s, t x vocab, in nats; sets `gradient` to its
  /// derivative by every parameter (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network").
  double divergenceAndGradient(const Parameters<Scalar>& weights, std::span<const Token> tokens,
                               const RowMatrix<Scalar>& teacher, Parameters<Scalar>& gradient) {
    checkTokens(tokens);
    const std::span<const Token> seen = tokens.first(tokens.size() - 1);
    forward(weights, seen);
    const double value = divergence(teacher);
    backward(weights, seen, gradient);
    return value;
  }

 private:
  struct Block {
    NormStep<Scalar> attentionNorm;
    AttentionStep<Scalar> attention;
    NormStep<Scalar> ffnNorm;
    SwigluStep<Scalar> swiglu;
  };

  void checkTokens(std::span<const Token> tokens) const {
    const auto n = static_cast<Index>(tokens.size());
    gosset::detail::require(n >= 2 && n <= config_.context + 1, "tokens: 2 to ", config_.context + 1,
                            " expected, found ", n);
    for (const Token token : tokens) {
      gosset::detail::require(token >= 0 && token < config_.vocab, "tokens: values below ", config_.vocab,
                              " expected, found ", token);
    }
  }

  /// Leaves probabilities-to-be, the logits, in logits_ (t x vocab).
  void forward(const Parameters<Scalar>& weights, std::span<const Token> tokens) {
    const auto eps = static_cast<Scalar>(config_.normEps);
    stream_.resize(static_cast<Index>(tokens.size()), config_.dim);
    for (Index i = 0; i < stream_.rows(); ++i)
      stream_.row(i) = weights.embedding.row(tokens[static_cast<std::size_t>(i)]);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      Block& block = blocks_[i];
      const auto& w = weights.layers[i];
      block.attentionNorm.x = stream_;
      block.attentionNorm.forward(w.attentionNorm, eps);
      linear(block.attentionNorm.y, w.wq, block.attention.q);
      linear(block.attentionNorm.y, w.wk, block.attention.k);
      linear(block.attentionNorm.y, w.wv, block.attention.v);
      rotary_.turn(block.attention.q, 1);
      rotary_.turn(block.attention.k, 1);
      block.attention.forward(config_);
      linear(block.attention.out, w.wo, update_);
      stream_ += update_;

      block.ffnNorm.x = stream_;
      block.ffnNorm.forward(w.ffnNorm, eps);
      linear(block.ffnNorm.y, w.w1, block.swiglu.gate);
      linear(block.ffnNorm.y, w.w3, block.swiglu.up);
      block.swiglu.forward();
      linear(block.swiglu.out, w.w2, update_);
      stream_ += update_;
    }
    finalNorm_.x = stream_;
    finalNorm_.forward(weights.finalNorm, eps);
    linear(finalNorm_.y, weights.embedding, logits_);
  }

  /// Turns logits_ into the loss's derivative by them, (softmax - what came) / t.
  double crossEntropy(std::span<const Token> targets) {
    const Index t = logits_.rows();
    double sum = 0;
    for (Index i = 0; i < t; ++i) {
      auto row = logits_.row(i).array();
      const Token target = targets[static_cast<std::size_t>(i)];
      row -= row.maxCoeff();
      const Scalar targetLogit = row(target);
      row = row.exp();
      const Scalar total = row.sum();
      sum += std::log(static_cast<double>(total)) - static_cast<double>(targetLogit);
      row /= total * static_cast<Scalar>(t);
      row(target) -= 1 / static_cast<Scalar>(t);
    }
    return sum / static_cast<double>(t);
  }

  /// Turns logits_ into the divergence's derivative by them, (softmax - teacher) / t.
  double divergence(const RowMatrix<Scalar>& teacher) {
    const Index t = logits_.rows();
    double sum = 0;
    for (Index i = 0; i < t; ++i) {
      auto row = logits_.row(i).array();
      const auto target = teacher.row(i).array();
      row -= row.maxCoeff();
      row -= std::log(row.exp().sum());
      constexpr Scalar kLeast = std::numeric_limits<Scalar>::min();  // 0 log 0 = 0
      sum += static_cast<double>((target * (target.max(kLeast).log() - row)).sum());
      row = (row.exp() - target) / static_cast<Scalar>(t);
    }
    return sum / static_cast<double>(t);
  }

  void backward(const Parameters<Scalar>& weights, std::span<const Token> tokens, Parameters<Scalar>& gradient) {
    // The embedding acts twice: here as the output matrix, at the end of this function as the input.
    linearWeightGradient(finalNorm_.y, logits_, gradient.embedding);
    dNormed_.setZero(logits_.rows(), config_.dim);
    addLinearInputGradient(weights.embedding, logits_, dNormed_);
    dStream_.setZero(logits_.rows(), config_.dim);
    finalNorm_.backward(weights.finalNorm, dNormed_, dStream_, gradient.finalNorm);
    for (std::size_t i = blocks_.size(); i-- > 0;) {
      feedForwardBackward(blocks_[i], weights.layers[i], gradient.layers[i]);
      attentionBackward(blocks_[i], weights.layers[i], gradient.layers[i]);
    }
    for (Index i = 0; i < dStream_.rows(); ++i) {
      gradient.embedding.row(tokens[static_cast<std::size_t>(i)]) += dStream_.row(i);
    }
  }

  template <class Layer>
  void feedForwardBackward(const Block& block, const Layer& w, Layer& gradient) {
    linearWeightGradient(block.swiglu.out, dStream_, gradient.w2);
    dMiddle_.setZero(dStream_.rows(), config_.hidden);
    addLinearInputGradient(w.w2, dStream_, dMiddle_);
    block.swiglu.backward(dMiddle_, dGate_, dUp_);
    linearWeightGradient(block.ffnNorm.y, dGate_, gradient.w1);
    linearWeightGradient(block.ffnNorm.y, dUp_, gradient.w3);
    dNormed_.setZero();
    addLinearInputGradient(w.w1, dGate_, dNormed_);
    addLinearInputGradient(w.w3, dUp_, dNormed_);
    block.ffnNorm.backward(w.ffnNorm, dNormed_, dStream_, gradient.ffnNorm);
  }

  template <class Layer>
  void attentionBackward(const Block& block, const Layer& w, Layer& gradient) {
    linearWeightGradient(block.attention.out, dStream_, gradient.wo);
    dMiddle_.setZero(dStream_.rows(), config_.queryDim());
    addLinearInputGradient(w.wo, dStream_, dMiddle_);
    block.attention.backward(config_, dMiddle_, dQ_, dK_, dV_);
    rotary_.turn(dQ_, -1);
    rotary_.turn(dK_, -1);
    linearWeightGradient(block.attentionNorm.y, dQ_, gradient.wq);
    linearWeightGradient(block.attentionNorm.y, dK_, gradient.wk);
    linearWeightGradient(block.attentionNorm.y, dV_, gradient.wv);
    dNormed_.setZero();
    addLinearInputGradient(w.wq, dQ_, dNormed_);
    addLinearInputGradient(w.wk, dK_, dNormed_);
    addLinearInputGradient(w.wv, dV_, dNormed_);
    block.attentionNorm.backward(w.attentionNorm, dNormed_, dStream_, gradient.attentionNorm);
  }

  Config config_;
  Rotary<Scalar> rotary_;
  std::vector<Block> blocks_;
  NormStep<Scalar> finalNorm_;
  RowMatrix<Scalar> stream_, update_, logits_;
  RowMatrix<Scalar> dStream_, dNormed_, dMiddle_, dGate_, dUp_, dQ_, dK_, dV_;
};

}  // namespace llama
