// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config.hpp"

#include <Eigen/Core>
#include <memory>
#include <utility>
#include <vector>

namespace llama {

/// Keys and values of all layers in a form that attention reads as it is; kv.hpp makes them.
class CompressedKv {
 public:
  virtual ~CompressedKv() = default;
  /// Adds keys and values of one layer: kvDim x tokens.
  virtual void append(std::size_t layer, const Eigen::MatrixXf& keys, const Eigen::MatrixXf& values) = 0;
  /// softmax(K^T q) V of the newest tokens' queries (heads * headDim x tokens), scores with the config's scale and cap,
  /// over the tokens that the layer's window leaves.
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

  /// The keys or values of kv head `head` of `tokens` tokens from number `first` on: headDim x tokens.
  auto keys(std::size_t layer, Index head, Index headDim, Index tokens, Index first = 0) const {
    return keys_[layer].block(head * headDim, first, headDim, tokens);
  }
  auto values(std::size_t layer, Index head, Index headDim, Index tokens, Index first = 0) const {
    return values_[layer].block(head * headDim, first, headDim, tokens);
  }

 private:
  std::unique_ptr<CompressedKv> compressed_;
  std::vector<Eigen::MatrixXf> keys_, values_;
  Index size_ = 0;
  Index capacity_ = 0;
};

}  // namespace llama
