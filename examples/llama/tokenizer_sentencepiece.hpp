// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "merges.hpp"
#include "tokenizer.hpp"

#include <array>
#include <cstring>
#include <unordered_map>

// The tokenizers of llama2.c.
namespace llama {

/// Byte-pair encoding as SentencePiece does it and llama2.c stores it: a text is cut into characters, then the two
/// neighbours whose joint token has the highest score become that token, until no two can be joined. A character that
/// is no token stands as its bytes; bytes that are no UTF-8 are tokens like any other.
class SentencePieces : public Vocabulary {
 public:
  struct Piece {
    std::string text;
    float score = 0.f;
  };

  explicit SentencePieces(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
    for (std::size_t i = 0; i < pieces_.size(); ++i) ids_.emplace(pieces_[i].text, static_cast<Token>(i));
    for (std::size_t byte = 0; byte < 256; ++byte) bytes_[byte] = find(byteName(byte)).value_or(kUnknown);
  }

  const std::vector<Piece>& pieces() const { return pieces_; }

  Kind kind() const override { return Kind::kLlama2c; }
  std::string file() const override;
  Index size() const override { return static_cast<Index>(pieces_.size()); }

  /// A text that is not empty is read as if a space stood before it.
  std::vector<Token> encode(std::string_view text) const override {
    std::vector<Token> tokens;
    if (text.empty()) return tokens;
    if (const auto space = find(" ")) tokens.push_back(*space);
    appendCharacters(text, tokens);
    mergeNeighbours(tokens, [&](Token a, Token b) -> std::optional<Merge> {
      const auto joined = find(text_(a) + text_(b));
      if (!joined) return std::nullopt;
      return Merge{-static_cast<double>(pieces_[static_cast<std::size_t>(*joined)].score), *joined};
    });
    return tokens;
  }

  /// The space that encode() put in front is taken away again.
  std::string bytes(Token token, bool first) const override {
    const std::string& text = text_(token);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (bytes_[byte] == token && text == byteName(byte)) return std::string(1, static_cast<char>(byte));
    }
    return first && text.starts_with(' ') ? text.substr(1) : text;
  }

  std::optional<Token> find(std::string_view name) const override {
    const auto found = ids_.find(std::string(name));
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string name(Token token) const override { return text_(token); }
  bool isSpecial(Token) const override { return false; }

  /// The name of a byte: <0x00> to <0xFF>.
  static std::string byteName(std::size_t byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    return std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">";
  }

 private:
  static constexpr Token kUnknown = 0;

  const std::string& text_(Token token) const { return pieces_[static_cast<std::size_t>(token)].text; }

  /// Bytes of the UTF-8 character at `at`; a stray byte counts as a character.
  static std::size_t characterSize(std::string_view text, std::size_t at) {
    constexpr std::size_t kLongest = 4;
    std::size_t size = 1;
    while (size < kLongest && at + size < text.size() &&
           (static_cast<unsigned char>(text[at + size]) & 0xC0u) == 0x80u) {
      ++size;
    }
    return size;
  }

  void appendCharacters(std::string_view text, std::vector<Token>& tokens) const {
    for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
      size = characterSize(text, at);
      const std::string_view character = text.substr(at, size);
      if (const auto id = find(character)) {
        tokens.push_back(*id);
        continue;
      }
      for (const char byte : character) tokens.push_back(bytes_[static_cast<unsigned char>(byte)]);
    }
  }

  std::vector<Piece> pieces_;
  std::unordered_map<std::string, Token> ids_;
  std::array<Token, 256> bytes_{};
};

namespace detail {

template <class Number>
Number numberAt(std::string_view bytes, std::size_t& at, const std::string& source) {
  check(bytes.size() - at >= sizeof(Number), source, ": the tokenizer is cut off at byte ", at);
  Number number;
  std::memcpy(&number, bytes.data() + at, sizeof(Number));
  at += sizeof(Number);
  return number;
}

}  // namespace detail

/// llama2.c's tokenizer, little-endian: int32 longest token; then for each token float32 score, int32 length, bytes.
/// Throws gosset::FormatError unless `bytes` hold exactly `vocab` tokens.
inline std::shared_ptr<const SentencePieces> parseLlama2cTokenizer(std::string_view bytes, Index vocab,
                                                                   const std::string& source) {
  std::size_t at = 0;
  const auto longest = detail::numberAt<std::int32_t>(bytes, at, source);
  std::vector<SentencePieces::Piece> pieces;
  while (at < bytes.size()) {
    const auto score = detail::numberAt<float>(bytes, at, source);
    const auto length = detail::numberAt<std::int32_t>(bytes, at, source);
    check(score == score, source, ": token ", pieces.size(), " has no score (NaN)");
    check(length >= 0 && length <= longest && static_cast<std::size_t>(length) <= bytes.size() - at, source, ": token ",
          pieces.size(), " at byte ", at, " claims a length of ", length, " (the longest is ", longest, ", and ",
          bytes.size() - at, " bytes follow)");
    pieces.push_back({std::string(bytes.substr(at, static_cast<std::size_t>(length))), score});
    at += static_cast<std::size_t>(length);
  }
  check(static_cast<Index>(pieces.size()) == vocab, source, ": the model knows ", vocab, " tokens, the tokenizer ",
        pieces.size());
  return std::make_shared<const SentencePieces>(std::move(pieces));
}

/// The bytes that parseLlama2cTokenizer() reads.
inline std::string SentencePieces::file() const {
  std::string bytes;
  const auto append = [&bytes](auto number) { bytes.append(reinterpret_cast<const char*>(&number), sizeof(number)); };
  std::size_t longest = 0;
  for (const Piece& piece : pieces_) longest = std::max(longest, piece.text.size());
  append(static_cast<std::int32_t>(longest));
  for (const Piece& piece : pieces_) {
    append(piece.score);
    append(static_cast<std::int32_t>(piece.text.size()));
    bytes += piece.text;
  }
  return bytes;
}

/// What llama2.c puts around texts: its files do not say, it has tokens 1 and 2 written down (run.c, encode() and
/// generate()). A vocabulary of fewer has none.
inline TextFrame llama2cFrame(const Vocabulary& vocabulary) {
  constexpr Token kBegin = 1, kEnd = 2;
  if (vocabulary.size() <= kEnd) return {};
  return {kBegin, {kBegin, kEnd}};
}

}  // namespace llama
