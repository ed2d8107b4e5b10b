// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tokenizer_sentencepiece.hpp"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Byte-pair encoding learnt from a text (Sennrich, Haddow and Birch 2016, algorithm 1): the most frequent pair of
// neighbours becomes a token, again and again.
namespace llama {

namespace detail {

/// A word, its space in front of it, as the tokens that it consists of so far.
struct SplitWord {
  std::vector<std::string> tokens;
  Index count = 0;
};

/// Where the word ends that begins at `begin`: a space perhaps, then letters only or no letters. No token will reach
/// over the end of a word.
inline std::size_t wordEnd(std::string_view line, std::size_t begin) {
  const auto isLetter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::size_t end = begin + (line[begin] == ' ' ? 1 : 0);
  if (end == line.size()) return end;
  const bool letters = isLetter(line[end]);
  while (end < line.size() && line[end] != ' ' && isLetter(line[end]) == letters) ++end;
  return end;
}

/// The words of all texts, as characters.
inline std::vector<SplitWord> splitWords(const std::vector<std::string>& texts) {
  std::map<std::string, Index> counts;
  for (const std::string& text : texts) {
    const std::string line = ' ' + text;
    for (std::size_t begin = 0, end = 0; begin < line.size(); begin = end) {
      end = wordEnd(line, begin);
      ++counts[line.substr(begin, end - begin)];
    }
  }
  std::vector<SplitWord> words;
  for (const auto& [word, count] : counts) {
    words.push_back({{}, count});
    for (const char c : word) words.back().tokens.emplace_back(1, c);
  }
  return words;
}

/// The joint text of the most frequent pair, of equally frequent ones the first in the alphabet; empty if there is
/// none.
inline std::string mostFrequentPair(const std::vector<SplitWord>& words) {
  std::map<std::string, Index> counts;
  for (const SplitWord& word : words) {
    for (std::size_t i = 0; i + 1 < word.tokens.size(); ++i) counts[word.tokens[i] + word.tokens[i + 1]] += word.count;
  }
  const auto best =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return best == counts.end() ? std::string() : best->first;
}

/// Joins neighbours that spell `joint`, from left to right, as SentencePieces will.
inline void joinPairs(const std::string& joint, std::vector<std::string>& tokens) {
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    if (tokens[i].size() + tokens[i + 1].size() != joint.size() || tokens[i] + tokens[i + 1] != joint) continue;
    tokens[i] = joint;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  }
}

}  // namespace detail

/// A tokenizer of `vocab` tokens, in the order that llama2.c's have: <unk>, <s>, </s>, the 256 bytes, then what the
/// texts (ASCII) teach: joint tokens, the most useful first, and after them single characters. Scores fall from 0.
/// Throws std::invalid_argument if `vocab` is too small for the characters or the texts are too few to fill it.
inline SentencePieces trainTokenizer(const std::vector<std::string>& texts, Index vocab) {
  std::vector<SentencePieces::Piece> pieces = {{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
  for (std::size_t byte = 0; byte < 256; ++byte) pieces.push_back({SentencePieces::byteName(byte), 0});

  std::vector<detail::SplitWord> words = detail::splitWords(texts);
  std::set<std::string> characters;
  for (const auto& word : words) characters.insert(word.tokens.begin(), word.tokens.end());
  const Index room = vocab - static_cast<Index>(pieces.size() + characters.size());
  gosset::detail::require(room >= 0, "vocab must be at least ", vocab - room, " for this text, found ", vocab);

  float score = 0;
  for (Index i = 0; i < room; ++i) {
    const std::string joint = detail::mostFrequentPair(words);
    gosset::detail::require(!joint.empty(), "the text has too few words for a vocab of ", vocab);
    for (auto& word : words) detail::joinPairs(joint, word.tokens);
    pieces.push_back({joint, score--});
  }
  for (const std::string& character : characters) pieces.push_back({character, score--});
  return SentencePieces(std::move(pieces));
}

}  // namespace llama
