// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"
#include "regex.hpp"

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// The "added_tokens" of a tokenizer.json: strings that are tokens wherever a text has them, before anything else is
// done to it.
namespace llama {

struct AddedToken {
  Token id = 0;
  std::string content;
  bool singleWord = false;  ///< only where no word goes on before or behind it
  bool lstrip = false;      ///< takes the white space before it in
  bool rstrip = false;      ///< and that behind it
  bool normalized = false;  ///< looked for in the normalized text, in its own normalized form
  bool special = false;     ///< steers the model; no part of a decoded text
};

/// A part of a text: a token, or text that holds none.
struct TextSegment {
  std::optional<Token> token;
  std::string_view text;
};

/// Finds the tokens in a text: of those that match at the leftmost place the longest, then on behind it.
class AddedTokenFinder {
 public:
  AddedTokenFinder() : nodes_(1) {}

  /// `content`: what to look for; an empty one is never found.
  void add(const AddedToken& token, const std::string& content) {
    if (content.empty()) return;
    std::size_t node = 0;
    for (const char c : content) {
      const auto [child, isNew] = nodes_[node].children.emplace(c, nodes_.size());
      node = child->second;
      if (isNew) nodes_.emplace_back();
    }
    if (!nodes_[node].token) {
      nodes_[node].token = tokens_.size();
      tokens_.push_back(token);
    }
    begins_[static_cast<unsigned char>(content[0])] = true;
  }

  std::vector<TextSegment> segments(std::string_view text) const {
    std::vector<TextSegment> result;
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto [token, size] = longestAt(text, at);
      if (token == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at, end = at + size;
      at = end;
      if (begin < done) continue;  // inside the white space that the token before has taken in
      if (token->singleWord && (endsInWord(text.substr(0, begin)) || beginsWithWord(text.substr(end)))) continue;
      if (token->lstrip) begin = std::max(done, beforeBlanks(text, begin));
      if (token->rstrip) end = behindBlanks(text, end);
      if (begin > done) result.push_back({std::nullopt, text.substr(done, begin - done)});
      result.push_back({token->id, text.substr(begin, end - begin)});
      done = end;
    }
    if (done < text.size()) result.push_back({std::nullopt, text.substr(done)});
    return result;
  }

 private:
  struct Node {
    std::map<char, std::size_t> children;
    std::optional<std::size_t> token;
  };

  std::pair<const AddedToken*, std::size_t> longestAt(std::string_view text, std::size_t at) const {
    const AddedToken* found = nullptr;
    std::size_t size = 0, node = 0;
    if (!begins_[static_cast<unsigned char>(text[at])]) return {found, size};
    for (std::size_t i = at; i < text.size(); ++i) {
      const auto child = nodes_[node].children.find(text[i]);
      if (child == nodes_[node].children.end()) break;
      node = child->second;
      if (!nodes_[node].token) continue;
      found = &tokens_[*nodes_[node].token];
      size = i + 1 - at;
    }
    return {found, size};
  }

  static bool matches(const Regex& pattern, std::string_view text) {
    bool found = false;
    pattern.forEachMatch(text, [&](std::size_t, std::size_t) { found = true; });
    return found;
  }
  static std::size_t lastCharacter(std::string_view text) {
    std::size_t at = text.size();
    while (at > 0 && (static_cast<unsigned char>(text[--at]) & 0xC0u) == 0x80u) continue;
    return at;
  }
  static bool isWord(std::string_view character) {
    static const Regex word("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]");
    return matches(word, character);
  }
  static bool isBlank(std::string_view character) {
    static const Regex blank("\\s");
    return matches(blank, character);
  }
  static bool endsInWord(std::string_view text) { return !text.empty() && isWord(text.substr(lastCharacter(text))); }
  static bool beginsWithWord(std::string_view text) {
    return !text.empty() && isWord(text.substr(0, characterAt(text, 0).size));
  }
  static std::size_t beforeBlanks(std::string_view text, std::size_t at) {
    while (at > 0) {
      const std::size_t last = lastCharacter(text.substr(0, at));
      if (!isBlank(text.substr(last, at - last))) break;
      at = last;
    }
    return at;
  }
  static std::size_t behindBlanks(std::string_view text, std::size_t at) {
    while (at < text.size()) {
      const std::size_t size = characterAt(text, at).size;
      if (!isBlank(text.substr(at, size))) break;
      at += size;
    }
    return at;
  }

  std::vector<Node> nodes_;
  std::vector<AddedToken> tokens_;
  std::array<bool, 256> begins_{};
};

}  // namespace llama
