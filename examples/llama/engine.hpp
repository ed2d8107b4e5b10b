// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kv_cache.hpp"
#include "layers.hpp"
#include "packed_model.hpp"

#include <functional>
#include <memory>
#include <span>
#include <stdexcept>

// The forward pass. Activations are held one token a column. What a family of models does otherwise than others is a
// fact of the config here, and of nothing else.
namespace llama {

/// Called with the name of each linear layer and the activations that enter it (inputs x tokens): calibration listens
/// here. The layers that share an input (wq, wk, wv; w1, w3) are each called; an expert's hear the tokens that take it,
/// its router all of them.
using Observer = std::function<void(const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& inputs)>;

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

  /// One block alone. x: dim x tokens, what comes out of the block before for tokens that follow those in `cache`, to
  /// which the block adds them; they count once the caller advances it. Returns what the next block gets.
  Eigen::MatrixXf throughBlock(std::size_t block, Eigen::MatrixXf x, KvCache& cache,
                               const Observer& observer = {}) const {
    const std::vector<detail::Rotations> turns = detail::allRotations(model_.config, cache.size(), x.cols());
    return through(block, std::move(x), turns, cache, observer);
  }

  /// The logits behind what comes out of the last block, dim x tokens: vocab x tokens.
  Eigen::MatrixXf logits(const Eigen::MatrixXf& x, const Observer& observer = {}) const {
    return project(detail::rmsNorm(x, model_.finalNorm, model_.config.normEps), observer);
  }

 private:
  using Layer = PackedModel::Layer;

  Eigen::MatrixXf hiddenStates(std::span<const Token> tokens, KvCache& cache, const Observer& observer) const {
    Eigen::MatrixXf x = embed(tokens, cache);
    const std::vector<detail::Rotations> turns = detail::allRotations(model_.config, cache.size(), x.cols());
    for (std::size_t i = 0; i < model_.layers.size(); ++i) x = through(i, std::move(x), turns, cache, observer);
    cache.advance(x.cols());
    return detail::rmsNorm(x, model_.finalNorm, model_.config.normEps);
  }

  Eigen::MatrixXf through(std::size_t i, Eigen::MatrixXf x, const std::vector<detail::Rotations>& turns, KvCache& cache,
                          const Observer& observer) const {
    const Config& c = model_.config;
    const Layer& layer = model_.layers[i];
    const Eigen::MatrixXf a = detail::rmsNorm(x, layer.attentionNorm, c.normEps);
    x += normed(attention(i, a, turns, cache, observer), layer.attentionPostNorm);
    const Eigen::MatrixXf f = detail::rmsNorm(x, layer.ffnNorm, c.normEps);
    x += normed(c.block(i).experts ? experts(i, f, observer) : feedForward(i, f, observer), layer.ffnPostNorm);
    return x;
  }

  /// By a norm that there may not be.
  Eigen::MatrixXf normed(Eigen::MatrixXf x, const Eigen::VectorXf& norm) const {
    return norm.size() == 0 ? x : detail::rmsNorm(x, norm, model_.config.normEps);
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
    return model_.config.embeddingScale * x.transpose();
  }

  /// One linear layer, heard by the observer, and its bias, if it has one.
  static Eigen::MatrixXf apply(const gosset::AnyMatrix& matrix, const std::string& name, const Eigen::MatrixXf& x,
                               const Observer& observer, const Eigen::VectorXf& bias = {}) {
    if (observer) observer(name, x);
    Eigen::MatrixXf y = product(matrix, x);
    if (bias.size() > 0) y.colwise() += bias;
    return y;
  }

  static Eigen::MatrixXf product(const gosset::AnyMatrix& matrix, const Eigen::MatrixXf& x) {
    Eigen::MatrixXf y(matrix.rows(), x.cols());
    matrix.multiply(x, y);
    return y;
  }

  Eigen::MatrixXf attention(std::size_t index, const Eigen::MatrixXf& x, const std::vector<detail::Rotations>& turns,
                            KvCache& cache, const Observer& observer) const {
    const Config& c = model_.config;
    const Layer& layer = model_.layers[index];
    const std::string name = observer ? blockName(index) + "self_attn." : std::string();
    Eigen::MatrixXf q = apply(layer.wq, name + "q_proj.weight", x, observer, layer.bq);
    Eigen::MatrixXf k = apply(layer.wk, name + "k_proj.weight", x, observer, layer.bk);
    const Eigen::MatrixXf v = apply(layer.wv, name + "v_proj.weight", x, observer, layer.bv);
    if (c.headNorms) {
      detail::normHeads(q, layer.qNorm, c.normEps);
      detail::normHeads(k, layer.kNorm, c.normEps);
    }
    if (const Index rope = c.block(index).rope; rope != Block::kNoRope) {
      detail::rotate(q, turns[static_cast<std::size_t>(rope)], c.headDim);
      detail::rotate(k, turns[static_cast<std::size_t>(rope)], c.headDim);
    }
    cache.append(index, k, v);
    return apply(layer.wo, name + "o_proj.weight", lookBack(index, q, cache), observer, layer.bo);
  }

  /// softmax(K^T q) V for each query head, scores scaled and capped: heads * headDim x tokens.
  Eigen::MatrixXf lookBack(std::size_t index, const Eigen::MatrixXf& q, const KvCache& cache) const {
    if (cache.compressed()) return cache.compressed()->attend(index, q);
    const Config& c = model_.config;
    const Index past = cache.size(), group = c.heads / c.kvHeads, window = c.block(index).window;
    const Index first = std::max<Index>(past + 1 - std::min(window, past + 1), 0);  // that the first query sees
    const Index seen = past + q.cols() - first;
    Eigen::MatrixXf out(q.rows(), q.cols());
    Eigen::MatrixXf scores(seen, q.cols());
    for (Index head = 0; head < c.heads; ++head) {
      const auto rows = head * c.headDim;
      scores.noalias() = c.scoreScale() * cache.keys(index, head / group, c.headDim, seen, first).transpose() *
                         q.middleRows(rows, c.headDim);
      detail::softCap(scores, c.scoreCap);
      detail::causalSoftmax(scores, past, first, window);
      out.middleRows(rows, c.headDim).noalias() = cache.values(index, head / group, c.headDim, seen, first) * scores;
    }
    return out;
  }

  Eigen::MatrixXf feedForward(std::size_t index, const Eigen::MatrixXf& x, const Observer& observer) const {
    const Layer& layer = model_.layers[index];
    const std::string name = observer ? blockName(index) + "mlp." : std::string();
    const Eigen::MatrixXf gate = apply(layer.w1, name + "gate_proj.weight", x, observer, layer.b1);
    const Eigen::MatrixXf up = apply(layer.w3, name + "up_proj.weight", x, observer, layer.b3);
    const Eigen::MatrixXf between = detail::activated(gate, model_.config.activation).cwiseProduct(up);
    return apply(layer.w2, name + "down_proj.weight", between, observer, layer.b2);
  }

  /// One expert, whose tensors' names begin with `name`.
  Eigen::MatrixXf expert(const PackedModel::FeedForward& network, const std::string& name, const Eigen::MatrixXf& x,
                         const Observer& observer) const {
    const Eigen::MatrixXf gate = apply(network.w1, name + "gate_proj.weight", x, observer);
    const Eigen::MatrixXf up = apply(network.w3, name + "up_proj.weight", x, observer);
    const Eigen::MatrixXf between = detail::activated(gate, model_.config.activation).cwiseProduct(up);
    return apply(network.w2, name + "down_proj.weight", between, observer);
  }

  /// The weighted sum of the experts that each token takes, and of the one that all take.
  Eigen::MatrixXf experts(std::size_t index, const Eigen::MatrixXf& x, const Observer& observer) const {
    const Config& c = model_.config;
    const Layer& layer = model_.layers[index];
    if (observer) observer(routerName(index), x);
    const Eigen::MatrixXf logits = layer.router * x;
    std::vector<std::vector<detail::Choice>> takers(layer.experts.size());  // of each expert: token, weight
    for (Index t = 0; t < x.cols(); ++t) {
      for (const auto& [expert, weight] : detail::chosenExperts(logits.col(t), c.experts)) {
        takers[static_cast<std::size_t>(expert)].emplace_back(t, weight);
      }
    }
    Eigen::MatrixXf sum = Eigen::MatrixXf::Zero(c.dim, x.cols());
    for (std::size_t e = 0; e < takers.size(); ++e) {
      if (takers[e].empty()) continue;
      Eigen::MatrixXf inputs(c.dim, static_cast<Index>(takers[e].size()));
      for (std::size_t i = 0; i < takers[e].size(); ++i) inputs.col(static_cast<Index>(i)) = x.col(takers[e][i].first);
      const Eigen::MatrixXf outputs = expert(layer.experts[e], observer ? expertName(index, e) : "", inputs, observer);
      for (std::size_t i = 0; i < takers[e].size(); ++i) {
        sum.col(takers[e][i].first) += takers[e][i].second * outputs.col(static_cast<Index>(i));
      }
    }
    if (c.experts.sharedHidden > 0) {
      const Eigen::RowVectorXf gate = layer.sharedGate * x;
      const std::string name = observer ? blockName(index) + "mlp.shared_expert." : "";
      sum += expert(layer.shared, name, x, observer) * (1.f + (-gate.array()).exp()).inverse().matrix().asDiagonal();
    }
    return sum;
  }

  Eigen::MatrixXf project(const Eigen::MatrixXf& x, const Observer& observer) const {
    Eigen::MatrixXf logits =
        model_.output ? apply(*model_.output, outputName(), x, observer) : product(model_.embedding, x);
    detail::softCap(logits, model_.config.logitCap);
    return logits;
  }

  PackedModel model_;
};

}  // namespace llama
