// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <gosset/io/json.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <queue>
#include <string_view>
#include <unordered_map>

namespace llama {

/// Byte-pair encoding as SentencePiece does it and llama2.c stores it: a text is cut into characters, then the two
/// neighbours whose joint token has the highest score become that token, until no two can be joined. A character that
/// is no token stands as its bytes.
class Tokenizer {
 public:
  static constexpr Token kUnknown = 0;
  static constexpr Token kBegin = 1;  ///< begins every text
  static constexpr Token kEnd = 2;

  struct Piece {
    std::string text;
    float score = 0.f;
  };

  explicit Tokenizer(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
    for (std::size_t i = 0; i < pieces_.size(); ++i) ids_.emplace(pieces_[i].text, static_cast<Token>(i));
    for (std::size_t byte = 0; byte < 256; ++byte) bytes_[byte] = idOf(byteName(byte)).value_or(kUnknown);
  }

  Index size() const { return static_cast<Index>(pieces_.size()); }
  const std::vector<Piece>& pieces() const { return pieces_; }

  /// The tokens of `text`, after kBegin. A text that is not empty is read as if a space stood before it.
  std::vector<Token> encode(std::string_view text) const {
    std::vector<Token> tokens = {kBegin};
    if (text.empty()) return tokens;
    std::vector<Token> characters;
    if (const auto space = idOf(" ")) characters.push_back(*space);
    appendCharacters(text, characters);
    mergeInto(characters, tokens);
    return tokens;
  }

  /// The text that `token` adds behind `previous`: the space that encode() put in front is taken away again.
  std::string decode(Token previous, Token token) const {
    if (token < 0 || token >= size() || token == kBegin || token == kEnd) return {};
    const std::string& text = pieces_[static_cast<std::size_t>(token)].text;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (bytes_[byte] == token && text == byteName(byte)) return std::string(1, static_cast<char>(byte));
    }
    return previous == kBegin && text.starts_with(' ') ? text.substr(1) : text;
  }

  std::string decode(const std::vector<Token>& tokens) const {
    std::string text;
    Token previous = kUnknown;
    for (const Token token : tokens) {
      text += decode(previous, token);
      previous = token;
    }
    return text;
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  /// A list of tokens in which neighbours find each other after merges.
  struct Link {
    Token token = kUnknown;
    std::size_t before = kNone, after = kNone;
    bool merged = false;  ///< it is now part of the link before it
  };
  /// Two neighbours that may be joined. It is stale once either of them has changed.
  struct Merge {
    float score = 0.f;
    std::size_t left = 0, right = 0;
    Token leftToken = kUnknown, rightToken = kUnknown, joined = kUnknown;
    /// The highest score comes first, among equals the leftmost.
    bool operator<(const Merge& other) const { return score != other.score ? score < other.score : left > other.left; }
  };

  static std::string byteName(std::size_t byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    return std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">";
  }

  std::optional<Token> idOf(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

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
      if (const auto id = idOf(std::string(character))) {
        tokens.push_back(*id);
        continue;
      }
      for (const char byte : character) tokens.push_back(bytes_[static_cast<unsigned char>(byte)]);
    }
  }

  /// Merges `characters` and appends what is left to `tokens`. n log n: each merge looks at its two neighbours only.
  void mergeInto(const std::vector<Token>& characters, std::vector<Token>& tokens) const {
    const std::size_t n = characters.size();
    std::vector<Link> links(n);
    std::priority_queue<Merge> queue;
    const auto offer = [&](std::size_t left, std::size_t right) {
      if (left == kNone || right == kNone) return;
      const Token a = links[left].token, b = links[right].token;
      const auto joined = idOf(pieces_[static_cast<std::size_t>(a)].text + pieces_[static_cast<std::size_t>(b)].text);
      if (!joined) return;
      queue.push({pieces_[static_cast<std::size_t>(*joined)].score, left, right, a, b, *joined});
    };
    for (std::size_t i = 0; i < n; ++i) links[i] = {characters[i], i == 0 ? kNone : i - 1, i + 1 == n ? kNone : i + 1};
    for (std::size_t i = 0; i + 1 < n; ++i) offer(i, i + 1);
    while (!queue.empty()) {
      const Merge merge = queue.top();
      queue.pop();
      Link& left = links[merge.left];
      Link& right = links[merge.right];
      const bool stale = left.merged || right.merged || left.after != merge.right || left.token != merge.leftToken ||
                         right.token != merge.rightToken;
      if (stale) continue;
      left.token = merge.joined;
      left.after = right.after;
      right.merged = true;
      if (left.after != kNone) links[left.after].before = merge.left;
      offer(left.before, merge.left);
      offer(merge.left, left.after);
    }
    for (const Link& link : links) {
      if (!link.merged) tokens.push_back(link.token);
    }
  }

  std::vector<Piece> pieces_;
  std::unordered_map<std::string, Token> ids_;
  std::array<Token, 256> bytes_{};
};

namespace detail {

constexpr std::uintmax_t kLongestTokenizer = std::uintmax_t{1} << 28;

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
inline Tokenizer parseTokenizer(std::string_view bytes, Index vocab, const std::string& source) {
  std::size_t at = 0;
  const auto longest = detail::numberAt<std::int32_t>(bytes, at, source);
  std::vector<Tokenizer::Piece> pieces;
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
  return Tokenizer(std::move(pieces));
}

/// The bytes that parseTokenizer() reads.
inline std::string tokenizerBytes(const Tokenizer& tokenizer) {
  std::string bytes;
  const auto append = [&bytes](auto number) { bytes.append(reinterpret_cast<const char*>(&number), sizeof(number)); };
  std::size_t longest = 0;
  for (const auto& piece : tokenizer.pieces()) longest = std::max(longest, piece.text.size());
  append(static_cast<std::int32_t>(longest));
  for (const auto& piece : tokenizer.pieces()) {
    append(piece.score);
    append(static_cast<std::int32_t>(piece.text.size()));
    bytes += piece.text;
  }
  return bytes;
}

namespace detail {

/// A token's text as llama2.c has it: a space where SentencePiece writes U+2581.
inline std::string withSpaces(std::string_view text) {
  constexpr std::string_view kMark = "\xE2\x96\x81";
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const bool mark = text.substr(at).starts_with(kMark);
    result += mark ? ' ' : text[at];
    at += mark ? kMark.size() : 1;
  }
  return result;
}

/// What a file holds, cut short for a message.
inline std::string shortText(const nlohmann::json& json) { return json.dump().substr(0, 80); }

/// A merge is "left right" or ["left", "right"].
inline std::string mergedText(const nlohmann::json& merge, const std::string& source) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return merge[0].get<std::string>() + merge[1].get<std::string>();
  }
  const std::string both = merge.is_string() ? merge.get<std::string>() : std::string();
  const std::size_t space = both.find(' ');
  if (space == std::string::npos) fail(source, ": each merge must be a pair of strings, found ", shortText(merge));
  return both.substr(0, space) + both.substr(space + 1);
}

}  // namespace detail

/// Hugging Face's tokenizer.json of the kind that Llama 1 and 2 have: a BPE model converted from SentencePiece, with
/// byte fallback. A token's score is how early a merge makes it. Throws gosset::FormatError on any other kind.
inline Tokenizer parseHuggingFaceTokenizer(std::string_view text, Index vocab, const std::string& source) {
  using nlohmann::json;
  const json root = gosset::parseJson(text, source);
  check(root.is_object() && root.contains("model") && root["model"].is_object(), source,
        ": a JSON object with a \"model\" expected");
  const json& model = root["model"];
  const auto has = [&model](const char* key, const json& value) { return model.contains(key) && model[key] == value; };
  check(has("type", "BPE") && has("byte_fallback", true), source,
        ": only BPE with byte fallback, as of Llama 1 and 2, can be read; give another tokenizer");
  check(model.contains("vocab") && model["vocab"].is_object() && model.contains("merges") && model["merges"].is_array(),
        source, ": the model needs \"vocab\" and \"merges\"");

  std::unordered_map<std::string, float> scores;
  for (const json& merge : model["merges"]) {
    scores.emplace(detail::withSpaces(detail::mergedText(merge, source)), -static_cast<float>(scores.size()));
  }
  std::vector<Tokenizer::Piece> pieces(static_cast<std::size_t>(vocab));
  const auto place = [&](const std::string& name, const json& id) {
    const bool known = id.is_number_unsigned() && id.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab);
    if (!known) {
      fail(source, ": token \"", name, "\" has id ", detail::shortText(id), ", the model knows ", vocab, " tokens");
    }
    const std::string spaced = detail::withSpaces(name);
    const auto score = scores.find(spaced);
    pieces[id.get<std::size_t>()] = {spaced, score == scores.end() ? 0.f : score->second};
  };
  for (const auto& [name, id] : model["vocab"].items()) place(name, id);
  if (root.contains("added_tokens") && root["added_tokens"].is_array()) {
    for (const json& added : root["added_tokens"]) {
      const bool whole = added.is_object() && added.contains("content") && added["content"].is_string();
      if (!whole || !added.contains("id")) {
        fail(source, ": each added token needs \"content\" and \"id\", found ", detail::shortText(added));
      }
      place(added["content"].get<std::string>(), added["id"]);
    }
  }
  return Tokenizer(std::move(pieces));
}

/// Reads either kind: files named *.json are Hugging Face's, all others llama2.c's.
inline Tokenizer readTokenizer(const std::filesystem::path& path, Index vocab) {
  const std::string bytes = readBytes(path, detail::kLongestTokenizer);
  const bool json = path.extension() == ".json";
  return json ? parseHuggingFaceTokenizer(bytes, vocab, path.string()) : parseTokenizer(bytes, vocab, path.string());
}

}  // namespace llama
