// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "adam.hpp"
#include "backprop.hpp"
#include "evaluate.hpp"
#include "grammar.hpp"
#include "tokenizer.hpp"

#include <gosset/core/random.hpp>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <cstdint>
#include <exception>
#include <memory>
#include <numbers>
#include <vector>

// Batches, and one training step over many threads. The results do not depend on how many there are.
namespace llama {

/// Training sequence number `index` of a seed: stories, each behind a begin token, until there are `length` tokens.
inline std::vector<Token> trainingSequence(const Tokenizer& tokenizer, std::uint64_t seed, std::uint64_t index,
                                           std::size_t length) {
  std::vector<Token> tokens;
  const std::uint64_t stream = gosset::randomBits(seed, index);
  for (std::uint64_t story = 0; tokens.size() < length; ++story) {
    const std::vector<Token> more = tokenizer.encode(writeStory(stream, story).text);
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  tokens.resize(length);
  return tokens;
}

/// Stories to learn from and, behind these, stories to try the model on: the last quarter of a text by its bytes, from
/// the next <|endoftext|> on. Throws gosset::FormatError, which begins with `source`, where either would be empty.
inline std::pair<std::string, std::string> splitStories(const std::string& text, const std::string& source) {
  const std::size_t end = text.find(kEndOfText, text.size() - text.size() / 4);
  check(end != std::string::npos && end > 0 && !detail::trimmed(text.substr(end + kEndOfText.size())).empty(), source,
        ": stories divided by ", kEndOfText, " expected, found none in the last quarter");
  return {text.substr(0, end), text.substr(end + kEndOfText.size())};
}

/// The tokens of all stories of a text, each behind a begin token.
inline std::vector<Token> joinedTokens(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<Token> tokens;
  for (const Sequence& story : sequencesOf(tokenizer, text, Index{1} << 40, Index{1} << 40)) {
    tokens.insert(tokens.end(), story.begin(), story.end());
  }
  return tokens;
}

/// `length` neighbours of the tokens, of which there are more, from a place that `bits` chooses.
inline std::vector<Token> windowOf(const std::vector<Token>& tokens, std::uint64_t bits, std::size_t length) {
  const auto at = static_cast<std::ptrdiff_t>(bits % (tokens.size() - length));
  return {tokens.begin() + at, tokens.begin() + at + static_cast<std::ptrdiff_t>(length)};
}

/// Fresh parameters: norms 1, all else normal with deviation 0.04, smaller in the layers that add to the stream, so
/// that its variance does not grow with the number of layers.
inline void initialize(Parameters<float>& parameters, std::uint64_t seed) {
  std::uint64_t drawn = 0;
  const auto fill = [&](auto& matrix, double deviation) {
    for (Index i = 0; i < matrix.size(); ++i) {
      const double u = static_cast<double>(gosset::randomUniform(seed, drawn++)) + 0x1p-25;
      const double angle = 2 * std::numbers::pi * static_cast<double>(gosset::randomUniform(seed, drawn++));
      matrix.data()[i] = static_cast<float>(deviation * std::sqrt(-2 * std::log(u)) * std::cos(angle));
    }
  };
  constexpr double kDeviation = 0.04;
  const double adding = kDeviation / std::sqrt(2.0 * static_cast<double>(parameters.layers.size()));
  fill(parameters.embedding, kDeviation);
  for (auto& layer : parameters.layers) {
    for (auto* w : {&layer.wq, &layer.wk, &layer.wv, &layer.w1, &layer.w3}) fill(*w, kDeviation);
    for (auto* w : {&layer.wo, &layer.w2}) fill(*w, adding);
    layer.attentionNorm.setOnes();
    layer.ffnNorm.setOnes();
  }
  parameters.finalNorm.setOnes();
}

/// Weight decay applies to the linear layers alone.
inline Eigen::VectorXf decaying(const Config& config) {
  Parameters<float> mask(config);
  mask.forEachLinear([](auto& matrix) { matrix.setOnes(); });
  return mask.values();
}

/// Losses and mean gradients of many sequences. Each sequence has a gradient of its own, and these are added in the
/// order of the sequences, whichever threads computed them.
class BatchBackprop {
 public:
  explicit BatchBackprop(const Config& config) : config_(config), mean_(config) {
#ifdef _OPENMP
    const int threads = omp_get_max_threads();
#else
    const int threads = 1;
#endif
    for (int i = 0; i < threads; ++i) workers_.emplace_back(config);
  }

  /// The sum over sequences of their mean loss a token times their tokens, divided by all tokens: the loss a token.
  double loss(const Parameters<float>& weights, const std::vector<std::vector<Token>>& sequences) {
    std::vector<double> losses(sequences.size());
    forEach(sequences.size(), [&](Backprop<float>& worker, std::size_t i) {
      losses[i] = worker.loss(weights, sequences[i]) * static_cast<double>(sequences[i].size() - 1);
    });
    double sum = 0;
    std::size_t predicted = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      sum += losses[i];
      predicted += sequences[i].size() - 1;
    }
    return sum / static_cast<double>(predicted);
  }

  /// The mean loss of sequences of equal length; gradient() is then its derivative. With a teacher, the loss is the
  /// divergence from its predictions. makeSequence(i) may be called from any thread.
  template <class MakeSequence>
  double lossAndGradient(const Parameters<float>& weights, std::size_t count, MakeSequence&& makeSequence,
                         const Parameters<float>* teacher = nullptr) {
    while (gradients_.size() < count) gradients_.push_back(std::make_unique<Parameters<float>>(config_));
    std::vector<double> losses(count);
    forEach(count, [&](Backprop<float>& worker, std::size_t i) {
      const std::vector<Token> sequence = makeSequence(i);
      losses[i] = teacher == nullptr ? worker.lossAndGradient(weights, sequence, *gradients_[i])
                                     : worker.divergenceAndGradient(
                                           weights, sequence, worker.predictions(*teacher, sequence), *gradients_[i]);
    });
    double sum = 0;
    mean_.values().setZero();
    for (std::size_t i = 0; i < count; ++i) {
      sum += losses[i];
      mean_.values() += gradients_[i]->values();
    }
    mean_.values() /= static_cast<float>(count);
    return sum / static_cast<double>(count);
  }
  Parameters<float>& gradient() { return mean_; }

 private:
  /// work(worker, i) for i in 0 .. count - 1; the first exception, if any, is thrown on.
  template <class Work>
  void forEach(std::size_t count, Work&& work) {
    std::exception_ptr failure;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic)
#endif
    for (std::size_t i = 0; i < count; ++i) {
      try {
#ifdef _OPENMP
        work(workers_[static_cast<std::size_t>(omp_get_thread_num())], i);
#else
        work(workers_[0], i);
#endif
      } catch (...) {
#ifdef _OPENMP
#pragma omp critical
#endif
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

  Config config_;
  std::vector<Backprop<float>> workers_;  // one a thread
  std::vector<std::unique_ptr<Parameters<float>>> gradients_;
  Parameters<float> mean_;
};

}  // namespace llama
