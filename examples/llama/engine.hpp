// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "packed_model.hpp"

#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>

// The forward pass. Activations are held one token a column.
namespace llama {

/// Keys and values of all layers in a form that attention reads as it is; kv.hpp makes them.
class CompressedKv {
 public:
  virtual ~CompressedKv() = default;
  /// Adds keys and values of one layer: kvDim x tokens.
  virtual void append(std::size_t layer, const Eigen::MatrixXf& keys, const Eigen::MatrixXf& values) = 0;
  /// softmax(K^T q / sqrt(headDim)) V of the newest tokens' queries: heads * headDim x tokens.
  virtual Eigen::MatrixXf attend(std::size_t layer, const Eigen::MatrixXf& q) const = 0;
  virtual void clear() = 0;
  /// Bytes kept for all layers.
  virtual Index bytes() const = 0;
};

/// Keys and values of the tokens seen so far: what attention looks back at.
class KvCache {
 public:
  /// Room for `capacity` tokens, in floats unless `compressed` holds them.
  KvCache(const Config& config, Index capacity, std::unique_ptr<CompressedKv> compressed = nullptr)
      : compressed_(std::move(compressed)), capacity_(capacity) {
    const auto layers = static_cast<std::size_t>(config.layers);
    keys_.assign(compressed_ ? 0 : layers, Eigen::MatrixXf(config.kvDim(), capacity));
    values_ = keys_;
  }

  Index size() const { return size_; }
  Index capacity() const { return capacity_; }
  void clear() {
    size_ = 0;
    if (compressed_) compressed_->clear();
  }
  /// Null where keys and values are floats.
  const CompressedKv* compressed() const { return compressed_.get(); }

  /// Puts keys and values of one layer (kvDim x tokens) behind those seen; they count once advance() is called.
  void append(std::size_t layer, const Eigen::MatrixXf& keys, const Eigen::MatrixXf& values) {
    if (compressed_) return compressed_->append(layer, keys, values);
    keys_[layer].middleCols(size_, keys.cols()) = keys;
    values_[layer].middleCols(size_, values.cols()) = values;
  }
  void advance(Index tokens) { size_ += tokens; }

  /// The first `tokens` keys or values of kv head `head`: headDim x tokens.
  auto keys(std::size_t layer, Index head, Index headDim, Index tokens) const {
    return keys_[layer].block(head * headDim, 0, headDim, tokens);
  }
  auto values(std::size_t layer, Index head, Index headDim, Index tokens) const {
    return values_[layer].block(head * headDim, 0, headDim, tokens);
  }

 private:
  std::unique_ptr<CompressedKv> compressed_;
  std::vector<Eigen::MatrixXf> keys_, values_;
  Index size_ = 0;
  Index capacity_ = 0;
};

/// Called with the name of each linear layer and the activations that enter it (inputs x tokens): calibration listens
/// here. The layers that share an input (wq, wk, wv; w1, w3) are each called.
using Observer = std::function<void(const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& inputs)>;

namespace detail {

/// Divides each column by its root mean square and scales its rows (Zhang and Sennrich 2019, "Root mean square layer
/// normalization").
inline Eigen::MatrixXf rmsNorm(const Eigen::MatrixXf& x, const Eigen::VectorXf& scale, float eps) {
  const Eigen::RowVectorXf meanSquare = x.colwise().squaredNorm() / static_cast<float>(x.rows());
  const Eigen::RowVectorXf inverse = (meanSquare.array() + eps).sqrt().inverse();
  return scale.asDiagonal() * x * inverse.asDiagonal();
}

/// Cosines and sines of one forward pass: headDim / 2 x tokens.
struct Rotations {
  Eigen::MatrixXf cosine, sine;
};

/// The angles of rotary embedding: pair i at position p turns by p * theta^(-2i / headDim) (Su et al. 2021, "RoFormer",
/// section 3.2.2).
inline Rotations rotations(const Config& config, Index firstPosition, Index tokens) {
  const Index pairs = config.headDim / 2;
  Rotations r{Eigen::MatrixXf(pairs, tokens), Eigen::MatrixXf(pairs, tokens)};
  for (Index i = 0; i < pairs; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.headDim);
    const double frequency = std::pow(static_cast<double>(config.ropeTheta), exponent);
    for (Index t = 0; t < tokens; ++t) {
      const double angle = static_cast<double>(firstPosition + t) * frequency;
      r.cosine(i, t) = static_cast<float>(std::cos(angle));
      r.sine(i, t) = static_cast<float>(std::sin(angle));
    }
  }
  return r;
}

/// Turns each pair of neighbouring rows of each head; x: heads * headDim x tokens.
inline void rotate(Eigen::MatrixXf& x, const Rotations& r) {
  const Index pairs = r.cosine.rows();
  for (Index t = 0; t < x.cols(); ++t) {
    for (Index pair = 0; pair < x.rows() / 2; ++pair) {
      float& a = x(2 * pair, t);
      float& b = x(2 * pair + 1, t);
      const float c = r.cosine(pair % pairs, t), s = r.sine(pair % pairs, t);
      const float turned = a * c - b * s;
      b = a * s + b * c;
      a = turned;
    }
  }
}

/// Softmax of each column, of which column t may see the first `past + t + 1` rows only.
inline void causalSoftmax(Eigen::MatrixXf& scores, Index past) {
  for (Index t = 0; t < scores.cols(); ++t) {
    auto seen = scores.col(t).head(past + t + 1);
    seen = (seen.array() - seen.maxCoeff()).exp().matrix().eval();
    seen /= seen.sum();
    scores.col(t).tail(scores.rows() - past - t - 1).setZero();
  }
}

/// x * sigmoid(x), the gate of SwiGLU (Shazeer 2020, "GLU variants improve transformer").
inline Eigen::MatrixXf silu(const Eigen::MatrixXf& x) { return x.array() / (1.f + (-x.array()).exp()); }

}  // namespace detail

/// Runs a model. Const operations are safe from many threads, each with a cache of its own.
class Engine {
 public:
  explicit Engine(PackedModel model) : model_(std::move(model)) {}

  const Config& config() const { return model_.config; }
  const PackedModel& model() const { return model_; }

  /// The logits behind each of `tokens`, which follow those in `cache` and are added to it: vocab x tokens.
  /// Throws std::invalid_argument for a token that the model does not know, or more tokens than the cache has room for.
  Eigen::MatrixXf forward(std::span<const Token> tokens, KvCache& cache, const Observer& observer = {}) const {
    return project(hiddenStates(tokens, cache, observer), observer);
  }

  /// The logits behind the last of `tokens` alone: what a prompt needs.
  Eigen::VectorXf forwardLast(std::span<const Token> tokens, KvCache& cache) const {
    if (tokens.empty()) throw std::invalid_argument("llama: at least one token is needed");
    return project(hiddenStates(tokens, cache, {}).rightCols(1), {});
  }

 private:
  using Layer = PackedModel::Layer;

  Eigen::MatrixXf hiddenStates(std::span<const Token> tokens, KvCache& cache, const Observer& observer) const {
    const Config& c = model_.config;
    const Index past = cache.size();
    Eigen::MatrixXf x = embed(tokens, cache);
    const detail::Rotations turns = detail::rotations(c, past, x.cols());
    for (std::size_t i = 0; i < model_.layers.size(); ++i) {
      const Layer& layer = model_.layers[i];
      const Eigen::MatrixXf a = detail::rmsNorm(x, layer.attentionNorm, c.normEps);
      x += attention(i, a, turns, cache, observer);
      const Eigen::MatrixXf f = detail::rmsNorm(x, layer.ffnNorm, c.normEps);
      x += feedForward(i, f, observer);
    }
    cache.advance(x.cols());
    return detail::rmsNorm(x, model_.finalNorm, c.normEps);
  }

  Eigen::MatrixXf embed(std::span<const Token> tokens, const KvCache& cache) const {
    const auto count = static_cast<Index>(tokens.size());
    if (count > cache.capacity() - cache.size()) {
      throw std::invalid_argument("llama: " + std::to_string(cache.size() + count) +
                                  " tokens do not fit into a cache of " + std::to_string(cache.capacity()));
    }
    RowMatrixXf x(count, model_.config.dim);
    for (Index t = 0; t < count; ++t) {
      const Token token = tokens[static_cast<std::size_t>(t)];
      if (token < 0 || token >= model_.config.vocab) {
        throw std::invalid_argument("llama: token " + std::to_string(token) + " is none of the " +
                                    std::to_string(model_.config.vocab) + " that the model knows");
      }
      model_.embedding.decodeRows(token, 1, x.middleRows(t, 1));
    }
    return x.transpose();
  }

  /// One linear layer, heard by the observer.
  static Eigen::MatrixXf apply(const gosset::AnyMatrix& matrix, const std::string& name, const Eigen::MatrixXf& x,
                               const Observer& observer) {
    if (observer) observer(name, x);
    return product(matrix, x);
  }

  static Eigen::MatrixXf product(const gosset::AnyMatrix& matrix, const Eigen::MatrixXf& x) {
    Eigen::MatrixXf y(matrix.rows(), x.cols());
    matrix.multiply(x, y);
    return y;
  }

  Eigen::MatrixXf attention(std::size_t index, const Eigen::MatrixXf& x, const detail::Rotations& turns, KvCache& cache,
                            const Observer& observer) const {
    const Layer& layer = model_.layers[index];
    const std::string name = observer ? blockName(index) + "self_attn." : std::string();
    Eigen::MatrixXf q = apply(layer.wq, name + "q_proj.weight", x, observer);
    Eigen::MatrixXf k = apply(layer.wk, name + "k_proj.weight", x, observer);
    const Eigen::MatrixXf v = apply(layer.wv, name + "v_proj.weight", x, observer);
    detail::rotate(q, turns);
    detail::rotate(k, turns);
    cache.append(index, k, v);
    return apply(layer.wo, name + "o_proj.weight", lookBack(index, q, cache), observer);
  }

  /// softmax(K^T q / sqrt(headDim)) V for each query head: heads * headDim x tokens.
  Eigen::MatrixXf lookBack(std::size_t index, const Eigen::MatrixXf& q, const KvCache& cache) const {
    if (cache.compressed()) return cache.compressed()->attend(index, q);
    const Config& c = model_.config;
    const Index past = cache.size(), seen = past + q.cols(), group = c.heads / c.kvHeads;
    const float scale = 1.f / std::sqrt(static_cast<float>(c.headDim));
    Eigen::MatrixXf out(q.rows(), q.cols());
    Eigen::MatrixXf scores(seen, q.cols());
    for (Index head = 0; head < c.heads; ++head) {
      const auto rows = head * c.headDim;
      scores.noalias() =
          scale * cache.keys(index, head / group, c.headDim, seen).transpose() * q.middleRows(rows, c.headDim);
      detail::causalSoftmax(scores, past);
      out.middleRows(rows, c.headDim).noalias() = cache.values(index, head / group, c.headDim, seen) * scores;
    }
    return out;
  }

  Eigen::MatrixXf feedForward(std::size_t index, const Eigen::MatrixXf& x, const Observer& observer) const {
    const Layer& layer = model_.layers[index];
    const std::string name = observer ? blockName(index) + "mlp." : std::string();
    const Eigen::MatrixXf gate = apply(layer.w1, name + "gate_proj.weight", x, observer);
    const Eigen::MatrixXf up = apply(layer.w3, name + "up_proj.weight", x, observer);
    return apply(layer.w2, name + "down_proj.weight", detail::silu(gate).cwiseProduct(up), observer);
  }

  Eigen::MatrixXf project(const Eigen::MatrixXf& x, const Observer& observer) const {
    if (model_.output) return apply(*model_.output, outputName(), x, observer);
    return product(model_.embedding, x);
  }

  PackedModel model_;
};

}  // namespace llama
