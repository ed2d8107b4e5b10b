// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine.hpp"
#include "tokenizer.hpp"

#include <chrono>

// How well a model predicts a text, and how far its predictions are from those of another.
namespace llama {

using Sequence = std::vector<Token>;

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

namespace detail {

inline std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

/// At least the first `count` tokens of a text, where it has so many; of a long one, the rest is not looked at. The cut
/// is so far behind that the tokens are those of the whole text.
inline Sequence firstTokens(const Tokenizer& tokenizer, std::string_view text, Index count) {
  constexpr std::size_t kFarBehind = 1000;
  const auto wanted = static_cast<std::size_t>(count) + kFarBehind;
  for (std::size_t size = 8 * wanted;; size *= 2) {
    while (size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0u) == 0x80u) ++size;
    Sequence tokens = tokenizer.vocabulary().encode(text.substr(0, size));
    if (size >= text.size() || tokens.size() >= wanted) return tokens;
  }
}

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

/// Cuts a text into what a model reads at once: the stories between <|endoftext|>, without the blanks around them,
/// each behind the tokenizer's begin token, if it has one, and cut off after `longest` tokens. A text without
/// <|endoftext|> is one long story, whose later parts follow as sequences of their own. Stops at `budget` tokens;
/// sequences have 2 tokens at least.
inline std::vector<Sequence> sequencesOf(const Tokenizer& tokenizer, std::string_view text, Index longest,
                                         Index budget) {
  std::vector<Sequence> sequences;
  const Sequence begin = tokenizer.bos() ? Sequence{*tokenizer.bos()} : Sequence();
  const auto before = static_cast<Index>(begin.size());
  const bool oneStory = text.find(kEndOfText) == std::string_view::npos;
  while (!text.empty() && budget >= 2) {
    const std::size_t end = std::min(text.find(kEndOfText), text.size());
    const Sequence story = detail::firstTokens(tokenizer, detail::trimmed(text.substr(0, end)), budget);
    text.remove_prefix(std::min(end + kEndOfText.size(), text.size()));
    const auto tokens = static_cast<Index>(story.size());
    Index at = 0;
    do {
      const Index take = std::min({tokens - at, longest - before, budget - before});
      if (before + take < 2) break;
      sequences.push_back(begin);
      const auto first = story.begin() + static_cast<std::ptrdiff_t>(at);
      sequences.back().insert(sequences.back().end(), first, first + static_cast<std::ptrdiff_t>(take));
      at += take;
      budget -= before + take;
    } while (oneStory && at < tokens);
  }
  return sequences;
}

/// The logits of each sequence, vocab x tokens: 4 bytes times vocab times tokens altogether.
using Logits = std::vector<Eigen::MatrixXf>;

/// Runs each sequence from its beginning and calls use(index, logits).
template <class Use>
void runSequences(const Engine& engine, const std::vector<Sequence>& sequences, Use&& use) {
  std::size_t longest = 0;
  for (const Sequence& sequence : sequences) longest = std::max(longest, sequence.size());
  KvCache cache(engine.config(), static_cast<Index>(longest));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    cache.clear();
    use(i, engine.forward(sequences[i], cache));
  }
}

/// Means over the predicted tokens: each token of a sequence but its first.
struct Quality {
  double perplexity = 0;     ///< exp of the mean negative log-likelihood
  double klDivergence = 0;   ///< from the reference's predictions, in nats
  double top1Agreement = 0;  ///< how often the likeliest token is the reference's likeliest
};

/// Gathers Quality over sequences.
class QualityMeter {
 public:
  /// reference, logits: vocab x tokens of `sequence`.
  void add(const Sequence& sequence, const Eigen::MatrixXf& reference, const Eigen::MatrixXf& logits) {
    for (Index t = 0; t + 1 < logits.cols(); ++t) {
      const Token next = sequence[static_cast<std::size_t>(t + 1)];
      const auto column = logits.col(t);
      logLoss_ += detail::logSumExp(column) - static_cast<double>(column(next));
      divergence_ += detail::divergence(reference.col(t), column);
      agreed_ += detail::argmax(reference.col(t)) == detail::argmax(column) ? 1 : 0;
      ++predicted_;
    }
  }

  Index predicted() const { return predicted_; }
  /// Throws std::logic_error where nothing has been predicted.
  Quality quality() const {
    if (predicted_ == 0) throw std::logic_error("llama: no token was predicted");
    const auto n = static_cast<double>(predicted_);
    return {std::exp(logLoss_ / n), divergence_ / n, static_cast<double>(agreed_) / n};
  }

 private:
  double logLoss_ = 0;
  double divergence_ = 0;
  Index agreed_ = 0;
  Index predicted_ = 0;
};

/// Tokens a second when they come one by one, as while text is written: the fastest of the passes over `sequence`
/// (its first 128 tokens) that fit into `seconds`, and of one at least.
inline double decodeSpeed(const Engine& engine, const Sequence& sequence, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const std::size_t tokens = std::min<std::size_t>(sequence.size(), 128);
  KvCache cache(engine.config(), static_cast<Index>(tokens));
  double fastest = std::numeric_limits<double>::infinity();
  const Clock::time_point begin = Clock::now();
  do {
    cache.clear();
    const Clock::time_point start = Clock::now();
    for (std::size_t t = 0; t < tokens; ++t) engine.forwardLast({&sequence[t], 1}, cache);
    fastest = std::min(fastest, since(start));
  } while (since(begin) < seconds);
  return static_cast<double>(tokens) / fastest;
}

}  // namespace llama
