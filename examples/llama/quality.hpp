// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

// How well a model predicts a text, and how far its predictions are from those of another.
namespace llama {

using Sequence = std::vector<Token>;

namespace detail {

/// log(sum(exp(x))) in double.
inline double logSumExp(const Eigen::Ref<const Eigen::VectorXf>& x) {
  const double largest = static_cast<double>(x.maxCoeff());
  return largest + std::log((x.cast<double>().array() - largest).exp().sum());
}

/// sum p (log p - log q) for p, q the softmax of two columns of logits.
inline double divergence(const Eigen::Ref<const Eigen::VectorXf>& p, const Eigen::Ref<const Eigen::VectorXf>& q) {
  const Eigen::ArrayXd logP = p.cast<double>().array() - logSumExp(p);
  const Eigen::ArrayXd logQ = q.cast<double>().array() - logSumExp(q);
  return (logP.exp() * (logP - logQ)).sum();
}

inline Index argmax(const Eigen::Ref<const Eigen::VectorXf>& x) {
  Index at = 0;
  x.maxCoeff(&at);
  return at;
}

}  // namespace detail

/// Over the predicted tokens: each token of a sequence but its first.
struct Quality {
  double perplexity = 0;     ///< exp of the mean negative log-likelihood
  double klDivergence = 0;   ///< from the reference's predictions, in nats: the mean
  double klError = 0;        ///< the mean's standard error; NaN where the text is too short to tell
  double klQuantile = 0;     ///< what 99.9% of the tokens do not exceed; of fewer than 1000, the greatest
  double top1Agreement = 0;  ///< how often the likeliest token is the reference's likeliest
};

/// Gathers Quality over sequences.
///
/// Neighbouring tokens have alike divergences (a hard sentence, a name that the quantized model has lost), so that an
/// error computed as if each token stood for itself would be too small. It is computed over blocks: each sequence, and
/// of a longer one each kBlock tokens. With n_b tokens and a sum s_b in block b, N tokens in all and the mean m, it is
/// sqrt(B / (B - 1) sum_b (s_b - m n_b)^2) / N: that of a ratio of sums over B blocks drawn at random (Cochran 1977,
/// "Sampling techniques", section 6.4). What correlates blocks of one long text is not in it.
class QualityMeter {
 public:
  static constexpr Index kBlock = 256;

  /// What follows is another text.
  void beginSequence() { blocks_.emplace_back(); }

  /// The token `next` came; `reference`, `logits`: vocab, for that place. `likeliest`: the reference's.
  void add(Token next, const Eigen::Ref<const Eigen::VectorXf>& reference, Index likeliest,
           const Eigen::Ref<const Eigen::VectorXf>& logits) {
    addLoss(detail::logSumExp(logits) - static_cast<double>(logits(next)), detail::divergence(reference, logits),
            likeliest == detail::argmax(logits));
  }

  /// The same where the loss, the divergence and whether the likeliest tokens agree are known.
  void addLoss(double loss, double divergence, bool agrees) {
    if (blocks_.empty() || blocks_.back().tokens == kBlock) blocks_.emplace_back();
    blocks_.back().sum += divergence;
    ++blocks_.back().tokens;
    divergences_.push_back(divergence);
    logLoss_ += loss;
    agreed_ += agrees ? 1 : 0;
  }

  /// A whole sequence; reference, logits: vocab x tokens of it.
  void add(const Sequence& sequence, const Eigen::MatrixXf& reference, const Eigen::MatrixXf& logits) {
    beginSequence();
    for (Index t = 0; t + 1 < logits.cols(); ++t) {
      add(sequence[static_cast<std::size_t>(t + 1)], reference.col(t), detail::argmax(reference.col(t)), logits.col(t));
    }
  }

  Index predicted() const { return static_cast<Index>(divergences_.size()); }

  /// Throws std::logic_error where nothing has been predicted.
  Quality quality() const {
    if (divergences_.empty()) throw std::logic_error("llama: no token was predicted");
    const auto n = static_cast<double>(predicted());
    double sum = 0;
    for (const double divergence : divergences_) sum += divergence;
    return {std::exp(logLoss_ / n), sum / n, standardError(sum / n), quantile(), static_cast<double>(agreed_) / n};
  }

 private:
  struct Block {
    double sum = 0;
    Index tokens = 0;
  };

  double standardError(double mean) const {
    double squares = 0, blocks = 0;
    for (const Block& block : blocks_) {
      if (block.tokens == 0) continue;
      const double off = block.sum - mean * static_cast<double>(block.tokens);
      squares += off * off;
      ++blocks;
    }
    if (blocks < 2) return std::numeric_limits<double>::quiet_NaN();
    return std::sqrt(blocks / (blocks - 1) * squares) / static_cast<double>(predicted());
  }

  double quantile() const {
    std::vector<double> sorted = divergences_;
    const std::size_t above = sorted.size() / 1000;
    const auto at = sorted.end() - 1 - static_cast<std::ptrdiff_t>(above);
    std::nth_element(sorted.begin(), at, sorted.end());
    return *at;
  }

  std::vector<double> divergences_;
  std::vector<Block> blocks_;
  double logLoss_ = 0;
  Index agreed_ = 0;
};

/// Four columns of a table: perplexity, divergence, its standard error, its quantile.
inline std::string lossText(const Quality& q) {
  constexpr double kWide = 1e6;  // what has more digits would push the columns aside
  char text[96], error[24] = "-";
  if (std::isfinite(q.klError)) std::snprintf(error, sizeof(error), "%.5f", q.klError);
  std::snprintf(text, sizeof(text), q.perplexity < kWide ? "%11.4f %9.5f %8s %8.4f" : "%11.3e %9.5f %8s %8.4f",
                q.perplexity, q.klDivergence, error, q.klQuantile);
  return text;
}

}  // namespace llama
