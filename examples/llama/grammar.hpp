// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "grammar_text.hpp"

#include <gosset/core/random.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// A grammar of little stories, for a language model small enough to ship: few words, but agreement over long range.
// Who the story is about, what is whose, where it was kept, what colour it has, how many there are and when it all
// happens are chosen once and come back many sentences later.
namespace llama {

/// Which pairs of hero and thing a story may be about: one pair in eight is kept from the training text, so that the
/// held-out text can ask whether the model knows the language or has learnt the stories by heart.
enum class Pairs { kSeen, kHeldOut };

struct Story {
  std::string text;  ///< one line
  double nats = 0;   ///< -log of the probability of the choices made: its mean bounds the entropy of a story from above
};

namespace detail {

struct Agreement {
  std::string_view wordClass, he, him, his, kid;
};
inline constexpr Agreement kAgreements[] = {{"she", "she", "her", "her", "girl"},
                                            {"he", "he", "him", "his", "boy"},
                                            {"it", "it", "it", "its", ""},
                                            {"they", "they", "them", "their", ""}};

/// The form `name` that agrees with a word of the class, in a story of that tense.
inline std::string_view agreeing(std::string_view wordClass, std::string_view name, bool past) {
  if (name == "given") return wordClass.substr(0, wordClass.find(' '));
  if (name == "left") return wordClass.substr(wordClass.find(' ') + 1);
  const bool many = wordClass == "they";
  if (name == "are") return many ? "are" : "is";
  if (name == "is") return past ? (many ? "were" : "was") : (many ? "are" : "is");
  if (name == "has") return past ? "had" : (many ? "have" : "has");
  if (name == "a") return many ? "some" : "a";
  for (const Agreement& forms : kAgreements) {
    if (forms.wordClass != wordClass) continue;
    if (name == "he") return forms.he;
    if (name == "him") return forms.him;
    if (name == "his") return forms.his;
    if (name == "kid") return forms.kid;
  }
  throw std::logic_error("the grammar asks for ." + std::string(name) + " of class '" + std::string(wordClass) + "'");
}

inline const Words& wordList(std::string_view name) {
  const auto list = wordLists().find(name);
  if (list == wordLists().end()) throw std::logic_error("the grammar has no list " + std::string(name));
  return list->second;
}

/// How many small letters the text begins with.
inline std::size_t nameLength(std::string_view text) {
  return static_cast<std::size_t>(std::find_if(text.begin(), text.end(), [](char c) { return c < 'a' || c > 'z'; }) -
                                  text.begin());
}

/// One pair in eight, spread evenly over heroes and things.
inline bool isHeldOut(std::size_t person, std::size_t thing) { return (3 * person + 5 * thing) % 8 == 0; }

/// Writes one story; its choices are a pure function of the seed.
class StoryWriter {
 public:
  StoryWriter(std::uint64_t seed, Pairs pairs) : seed_(seed), pairs_(pairs) {}

  Story write() {
    past_ = choose({"present", "past"}) == 1;
    expand(opening());
    expand(plots()[choose(plots())]);
    expand(ending());
    return std::move(story_);
  }

 private:
  struct Bound {
    std::string list;
    std::size_t index;  // in the list
    std::string word;
    std::string_view wordClass;
  };

  /// The place of one alternative, each equally likely. Alternatives that read the same count as one.
  std::size_t choose(const Words& alternatives) {
    const std::size_t chosen = static_cast<std::size_t>(gosset::randomBits(seed_, draws_++) % alternatives.size());
    const auto same = std::count(alternatives.begin(), alternatives.end(), alternatives[chosen]);
    story_.nats += std::log(static_cast<double>(alternatives.size()) / static_cast<double>(same));
    return chosen;
  }

  void expand(std::string_view text) {
    while (!text.empty()) {
      const std::size_t plain = std::min(text.find_first_of("{[$#"), text.size());
      story_.text += text.substr(0, plain);
      text.remove_prefix(plain);
      if (text.empty()) return;
      text.remove_prefix(expandMark(text));
    }
  }

  /// text begins with a mark; gives the mark's length.
  std::size_t expandMark(std::string_view text) {
    if (text[0] == '$') return 1 + expandVariable(text.substr(1));
    if (text[0] == '#') return 1 + expandFresh(text.substr(1));
    return expandAlternatives(text);
  }

  /// text begins after the #; gives the length of the name.
  std::size_t expandFresh(std::string_view text) {
    const std::size_t end = nameLength(text);
    const Words& words = wordList(text.substr(0, end));
    expand(words[choose(words)]);
    return end;
  }

  /// text begins with { or [; gives the length of the bracket.
  std::size_t expandAlternatives(std::string_view text) {
    Words alternatives;
    std::size_t depth = 0, begin = 1, i = 0;
    for (;; ++i) {
      const char c = text.at(i);
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if ((c == '|' && depth == 1) || depth == 0) {
        alternatives.push_back(text.substr(begin, i - begin));
        begin = i + 1;
      }
      if (depth == 0) break;
    }
    expand(text[0] == '[' ? alternatives.at(past_ ? 1 : 0) : alternatives[choose(alternatives)]);
    return i + 1;
  }

  /// text begins after the $; gives the length of the name and form.
  std::size_t expandVariable(std::string_view text) {
    std::size_t end = text.find_first_of("123456789") + 1;
    std::string name(text.substr(0, end));
    const bool capital = std::isupper(static_cast<unsigned char>(name[0])) != 0;
    name[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(name[0])));
    const Bound& bound = bind(name);
    std::string word = bound.word;
    const std::string_view rest = text.substr(end);
    const std::size_t formLength = rest.substr(0, 1) == "." ? nameLength(rest.substr(1)) : 0;
    if (formLength > 0) {
      word = agreeing(bound.wordClass, rest.substr(1, formLength), past_);
      end += 1 + formLength;
    }
    if (capital) word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
    story_.text += word;
    return end;
  }

  /// What the variable stands for in this story, chosen now if it is new.
  const Bound& bind(const std::string& name) {
    if (const auto known = bound_.find(name); known != bound_.end()) return known->second;
    const std::string list = name.substr(0, name.size() - 1);
    const Words& entries = wordList(list);
    std::vector<std::size_t> free;
    Words words;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (!isFree(name, list, i)) continue;
      free.push_back(i);
      words.push_back(entries[i]);
    }
    const std::size_t index = free[choose(words)];
    const std::string_view entry = entries[index];
    const std::size_t colon = std::min(entry.find(':'), entry.size());
    const std::string_view wordClass = entry.substr(std::min(colon + 1, entry.size()));
    return bound_[name] = Bound{list, index, expanded(entry.substr(0, colon)), wordClass};
  }

  bool isFree(const std::string& name, const std::string& list, std::size_t index) const {
    for (const auto& [other, bound] : bound_) {
      if (bound.list == list && bound.index == index) return false;
    }
    return name != "thing1" || isHeldOut(bound_.at("person1").index, index) == (pairs_ == Pairs::kHeldOut);
  }

  std::string expanded(std::string_view text) {
    std::string outer = std::exchange(story_.text, {});
    expand(text);
    return std::exchange(story_.text, std::move(outer));
  }

  std::uint64_t seed_, draws_ = 0;
  Pairs pairs_;
  bool past_ = false;
  std::map<std::string, Bound> bound_;
  Story story_;
};

}  // namespace detail

/// Story number `index` of the endless stream `seed`.
inline Story writeStory(std::uint64_t seed, std::uint64_t index, Pairs pairs = Pairs::kSeen) {
  return detail::StoryWriter(gosset::randomBits(seed, index), pairs).write();
}

/// The first `count` stories of a stream that is kept from training: every other one, the first included, is about a
/// pair of hero and thing that no story with Pairs::kSeen is about.
inline std::vector<Story> heldOutStories(std::uint64_t seed, std::uint64_t count) {
  std::vector<Story> stories;
  for (std::uint64_t i = 0; i < count; ++i) {
    stories.push_back(writeStory(seed, i, i % 2 == 0 ? Pairs::kHeldOut : Pairs::kSeen));
  }
  return stories;
}

/// One text, a line a story, with the line <|endoftext|> between stories.
inline std::string joined(const std::vector<Story>& stories) {
  std::string text;
  for (const Story& story : stories) text += (text.empty() ? "" : "<|endoftext|>\n") + story.text + '\n';
  return text;
}

}  // namespace llama
