// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>

// llama2.c's float32 checkpoints, little-endian throughout:
//   offset  0  7 int32: dim, hidden, layers, heads, kv heads, vocab, context;
//              a negative vocab means that the output matrix is not the embedding
//   offset 28  float32: embedding (vocab x dim); then for all layers in turn rms_att, then for all layers wq, and so on
//              wk, wv, wo, rms_ffn, w1, w2, w3; rms_final; two tables of context x head_dim / 2 for the rotary
//              embedding, which nothing reads; the output matrix if it is its own
namespace llama {

static_assert(std::endian::native == std::endian::little, "checkpoints are read as little-endian numbers");

namespace detail {

/// Hands out the matrices of a checkpoint one after the other.
class FloatCursor {
 public:
  explicit FloatCursor(const char* floats) : next_(floats) {}

  RowMatrixXf matrix(Index rows, Index cols) {
    const Eigen::Map<const RowMatrixXf> map(reinterpret_cast<const float*>(next_), rows, cols);
    next_ += static_cast<std::size_t>(rows * cols) * sizeof(float);
    return map;
  }
  Eigen::VectorXf vector(Index size) { return matrix(1, size).transpose(); }
  void skip(Index count) { next_ += static_cast<std::size_t>(count) * sizeof(float); }

 private:
  const char* next_;
};

inline std::uint64_t llama2cFloats(const Config& c, bool ownOutput) {
  const auto u = [](Index value) { return static_cast<std::uint64_t>(value); };
  const std::uint64_t attention = u(c.dim) * u(2 * c.queryDim() + 2 * c.kvDim());
  const std::uint64_t perLayer = attention + 3 * u(c.dim) * u(c.hidden) + 2 * u(c.dim);
  return u(c.vocab) * u(c.dim) * (ownOutput ? 2 : 1) + u(c.layers) * perLayer + u(c.dim) + u(c.context) * u(c.headDim);
}

inline void checkFinite(const Model& model, const std::string& source) {
  const auto checkOne = [&](const std::string& name, const auto& numbers) {
    const auto wrong = notFinite(numbers);
    check(!wrong, source, ": ", name, ": finite weights expected, found ", wrong.value_or(""));
  };
  checkOne(embeddingName(), model.embedding);
  forEachFloat(model, [&](const FloatInfo& info, const auto& numbers) { checkOne(info.name, numbers); });
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) { checkOne(info.name, weights); });
}

}  // namespace detail

/// Reads llama2.c's .bin. Throws gosset::FormatError if it is missing, its length is not what its sizes ask for, or a
/// weight is not finite.
inline Model readLlama2c(const std::filesystem::path& path) {
  const std::string bytes = readBytes(path, std::numeric_limits<std::uintmax_t>::max());
  const std::string source = path.string();
  constexpr std::size_t kHeader = 7 * sizeof(std::int32_t);
  check(bytes.size() >= kHeader, source, ": a llama2.c checkpoint begins with ", kHeader, " bytes of sizes, found ",
        bytes.size(), " bytes");
  std::int32_t header[7];
  std::memcpy(header, bytes.data(), kHeader);

  Model model;
  Config& c = model.config;
  c.dim = header[0];
  c.hidden = header[1];
  c.layers = header[2];
  c.heads = header[3];
  c.kvHeads = header[4];
  c.vocab = std::abs(static_cast<Index>(header[5]));
  c.context = header[6];
  check(c.heads >= 1 && c.dim >= 1 && c.dim % c.heads == 0, source, ": dim (", c.dim, ") must be a multiple of heads (",
        c.heads, ")");
  c.headDim = c.dim / c.heads;
  checkConfig(c, source);
  const bool ownOutput = header[5] < 0;
  const std::uint64_t expected = kHeader + detail::llama2cFloats(c, ownOutput) * sizeof(float);
  check(bytes.size() == expected, source, ": its sizes ask for ", expected, " bytes, found ", bytes.size());

  detail::FloatCursor cursor(bytes.data() + kHeader);
  model.layers.resize(static_cast<std::size_t>(c.layers));
  model.embedding = cursor.matrix(c.vocab, c.dim);
  for (auto& layer : model.layers) layer.attentionNorm = cursor.vector(c.dim);
  for (auto& layer : model.layers) layer.wq = cursor.matrix(c.queryDim(), c.dim);
  for (auto& layer : model.layers) layer.wk = cursor.matrix(c.kvDim(), c.dim);
  for (auto& layer : model.layers) layer.wv = cursor.matrix(c.kvDim(), c.dim);
  for (auto& layer : model.layers) layer.wo = cursor.matrix(c.dim, c.queryDim());
  for (auto& layer : model.layers) layer.ffnNorm = cursor.vector(c.dim);
  for (auto& layer : model.layers) layer.w1 = cursor.matrix(c.hidden, c.dim);
  for (auto& layer : model.layers) layer.w2 = cursor.matrix(c.dim, c.hidden);
  for (auto& layer : model.layers) layer.w3 = cursor.matrix(c.hidden, c.dim);
  model.finalNorm = cursor.vector(c.dim);
  cursor.skip(c.context * c.headDim);
  if (ownOutput) model.output = cursor.matrix(c.vocab, c.dim);
  detail::checkFinite(model, source);
  return model;
}

}  // namespace llama
