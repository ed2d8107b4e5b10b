// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine.hpp"
#include "quality.hpp"
#include "reference_logits.hpp"
#include "tokenizer.hpp"

#include <unistd.h>

#include <chrono>
#include <optional>
#include <span>

// Runs models over texts.
namespace llama {

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

inline constexpr const char* kContextHelp =
    "Most tokens of a sequence, the begin token included; else 2048, or the model's context where that is shorter";

/// How long sequences are: what was asked for, else 2048, in either case no more than the model's context. Throws
/// std::invalid_argument where more was asked for.
inline Index contextFor(const std::optional<Index>& asked, const Config& config) {
  constexpr Index kUsual = 2048;
  if (asked && *asked > config.context) {
    throw std::invalid_argument("--context: at most the model's " + std::to_string(config.context) +
                                " tokens expected, found " + std::to_string(*asked));
  }
  return asked.value_or(std::min(kUsual, config.context));
}

/// For people: what each sequence begins with.
inline std::string beginningText(const Tokenizer& tokenizer) {
  if (!tokenizer.bos()) return "no begin token";
  const std::string name = nlohmann::json(tokenizer.vocabulary().name(*tokenizer.bos()))
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return "each behind token " + std::to_string(*tokenizer.bos()) + ", " + name;
}

/// How many tokens are run at once, so that their logits take 32 MB at most.
inline Index pieceOf(const Config& config) { return std::clamp<Index>((Index{1} << 23) / config.vocab, 1, 512); }

/// Runs a sequence from where `cache` is, piece by piece, and calls use(first, logits) with the logits behind the
/// tokens from `first`: vocab x tokens of the piece.
template <class Use>
void runPieces(const Engine& engine, const Sequence& sequence, KvCache& cache, const Observer& observer, Use&& use) {
  const auto piece = static_cast<std::size_t>(pieceOf(engine.config()));
  const std::span<const Token> tokens(sequence);
  for (std::size_t at = 0; at < tokens.size(); at += piece) {
    use(static_cast<Index>(at),
        engine.forward(tokens.subspan(at, std::min(piece, tokens.size() - at)), cache, observer));
  }
}

/// The logits of each sequence, vocab x tokens: 4 bytes times vocab times tokens altogether.
using Logits = std::vector<Eigen::MatrixXf>;

/// Runs each sequence as a whole from its beginning and calls use(index, logits): for small vocabularies.
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

/// Tokens that have one before them.
inline Index predictedTokens(const std::vector<Sequence>& sequences) {
  Index tokens = 0;
  for (const Sequence& sequence : sequences) tokens += static_cast<Index>(sequence.size()) - 1;
  return tokens;
}

/// What to hold models against: the predictions of the float model on the same sequences, in a file.
class Reference {
 public:
  /// Takes the logits in `path` where there is such a file; else makes it by run(writer), which adds a column for every
  /// predicted token. Without a path the file is a temporary one. Throws gosset::FormatError where the file is another
  /// run's.
  template <class Run>
  Reference(const std::filesystem::path& path, const ReferenceKey& key, Run&& run)
      : reused_(!path.empty() && std::filesystem::exists(path)) {
    const std::filesystem::path file = path.empty() ? temporaryPath() : path;
    if (!reused_) {
      ReferenceWriter writer(file, key);
      run(writer);
      writer.commit();
    }
    logits_.emplace(file, key);
    std::error_code ignored;
    if (path.empty()) std::filesystem::remove(file, ignored);  // stays as long as it is mapped
  }

  bool reused() const { return reused_; }
  const ReferenceLogits& logits() const { return *logits_; }

 private:
  static std::filesystem::path temporaryPath() {
    static int number = 0;
    return std::filesystem::temp_directory_path() /
           ("gosset-reference-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
  }

  bool reused_;
  std::optional<ReferenceLogits> logits_;
};

/// Goes through the predicted tokens of sequences, in order, and calls begin() before each sequence, and
/// use(index, next, logits) for each token: `index` counts over all sequences, `next` came, logits: vocab. step() comes
/// after each sequence. run(sequence, use) runs one.
template <class Run, class Begin, class Use, class Step>
void forEachPrediction(const std::vector<Sequence>& sequences, Run&& run, Begin&& begin, Use&& use, Step&& step) {
  Index index = 0;
  for (const Sequence& sequence : sequences) {
    begin();
    run(sequence, [&](Index first, const Eigen::MatrixXf& logits) {
      for (Index t = 0; t < logits.cols() && first + t + 1 < static_cast<Index>(sequence.size()); ++t) {
        use(index++, sequence[static_cast<std::size_t>(first + t + 1)], logits.col(t));
      }
    });
    step();
  }
}

/// What runs sequences for forEachPrediction() in pieces, each from its beginning.
class PieceRunner {
 public:
  PieceRunner(const Engine& engine, const std::vector<Sequence>& sequences)
      : engine_(engine), cache_(engine.config(), longest(sequences)) {}

  template <class Use>
  void operator()(const Sequence& sequence, Use&& use) {
    cache_.clear();
    runPieces(engine_, sequence, cache_, {}, use);
  }

  static Index longest(const std::vector<Sequence>& sequences) {
    std::size_t size = 0;
    for (const Sequence& sequence : sequences) size = std::max(size, sequence.size());
    return static_cast<Index>(size);
  }

 private:
  const Engine& engine_;
  KvCache cache_;
};

/// The predictions that run(sequence, use) makes of `sequences`, kept in `path`, or taken from there. step() comes
/// after each sequence that is run.
template <class Run, class Step>
Reference makeReference(const std::filesystem::path& path, const ReferenceKey& key,
                        const std::vector<Sequence>& sequences, Run&& run, Step&& step) {
  return Reference(path, key, [&](ReferenceWriter& writer) {
    forEachPrediction(
        sequences, run, [] {},
        [&](Index, Token next, const Eigen::Ref<const Eigen::VectorXf>& logits) {
          writer.add(logits, detail::logSumExp(logits) - static_cast<double>(logits(next)));
        },
        step);
  });
}

/// The reference's own quality: its perplexity, and no divergence.
inline Quality ownQuality(const Reference& reference, Index predicted) {
  QualityMeter meter;
  for (Index i = 0; i < predicted; ++i) meter.addLoss(reference.logits().loss(i), 0, true);
  return meter.quality();
}

/// How far what run(sequence, use) predicts is from the reference.
template <class Run, class Step>
Quality measureQuality(const Reference& reference, const std::vector<Sequence>& sequences, Run&& run, Step&& step) {
  QualityMeter meter;
  forEachPrediction(
      sequences, run, [&] { meter.beginSequence(); },
      [&](Index index, Token next, const Eigen::Ref<const Eigen::VectorXf>& logits) {
        const ReferenceLogits::Column column = reference.logits().column(index);
        meter.add(next, column.logits, column.likeliest, logits);
      },
      step);
  return meter.quality();
}

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
