// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"
#include "utf8.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Texts as tokens. tokenizer_sentencepiece.hpp and tokenizer_json.hpp read the two kinds of file; load.hpp picks one.
namespace llama {

/// A vocabulary and its rules, as a file has them. Const operations are safe from many threads.
class Vocabulary {
 public:
  enum class Kind { kLlama2c, kHuggingFace };

  virtual ~Vocabulary() = default;
  virtual Kind kind() const = 0;
  /// The bytes of the file it was read from, or of one that is read as the same.
  virtual std::string file() const = 0;
  /// Every token is below.
  virtual Index size() const = 0;
  /// The tokens of a text, nothing put around them.
  virtual std::vector<Token> encode(std::string_view text) const = 0;
  /// What a token adds to a text, in bytes, which need not be whole characters; `first`: no text is before it.
  virtual std::string bytes(Token token, bool first) const = 0;
  /// The token with exactly this name, such as "</s>".
  virtual std::optional<Token> find(std::string_view name) const = 0;
  virtual std::string name(Token token) const = 0;
  /// Whether a token steers the model and is no part of a text.
  virtual bool isSpecial(Token token) const = 0;
};

/// What stands around texts: special_tokens.hpp finds it in the files beside a model.
struct TextFrame {
  std::optional<Token> bos;    ///< before each text; a model without one gets none
  std::vector<Token> eos;      ///< any of them ends what a model writes
  std::string chatTemplate{};  ///< the model's own, in Jinja; empty where it has none
};

/// A vocabulary and what stands around texts. Copies share the vocabulary.
class Tokenizer {
 public:
  Tokenizer(std::shared_ptr<const Vocabulary> vocabulary, TextFrame frame)
      : vocabulary_(std::move(vocabulary)), frame_(std::move(frame)) {}

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const TextFrame& frame() const { return frame_; }
  Index size() const { return vocabulary_->size(); }
  std::optional<Token> bos() const { return frame_.bos; }
  bool isEnd(Token token) const { return std::find(frame_.eos.begin(), frame_.eos.end(), token) != frame_.eos.end(); }

  /// The tokens of `text` behind bos(), where there is one.
  std::vector<Token> encode(std::string_view text) const {
    std::vector<Token> tokens = vocabulary_->encode(text);
    if (frame_.bos) tokens.insert(tokens.begin(), *frame_.bos);
    return tokens;
  }

  /// The text of `tokens`, without those that are special, bos() and ends. Bytes that are no UTF-8 are U+FFFD in it.
  std::string decode(std::span<const Token> tokens) const;

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  TextFrame frame_;
};

/// The text of tokens that come one by one, as whole characters: a character whose bytes are several tokens comes with
/// the last of them.
class TextStream {
 public:
  /// `tokenizer` must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  std::string add(Token token) {
    const Vocabulary& vocabulary = tokenizer_->vocabulary();
    if (token < 0 || token >= vocabulary.size() || vocabulary.isSpecial(token)) return {};
    if (token == tokenizer_->bos() || tokenizer_->isEnd(token)) return {};
    const std::string bytes = vocabulary.bytes(token, first_);
    first_ = false;
    return characters_.add(bytes);
  }
  /// What was held back.
  std::string finish() { return characters_.finish(); }

 private:
  const Tokenizer* tokenizer_;
  Utf8Stream characters_;
  bool first_ = true;
};

inline std::string Tokenizer::decode(std::span<const Token> tokens) const {
  TextStream stream(*this);
  std::string text;
  for (const Token token : tokens) text += stream.add(token);
  return text + stream.finish();
}

}  // namespace llama
