// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/grammar.hpp"

#include "testing.hpp"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace llama::grammar_test {
namespace {

using gosset::testing::hashBytes;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kStories = 2000;

std::set<std::string> textsOf(std::string_view list) {
  std::set<std::string> texts;
  for (const std::string_view entry : detail::wordList(list)) texts.emplace(entry.substr(0, entry.find(':')));
  return texts;
}

std::string classOf(std::string_view list, const std::string& word) {
  for (const std::string_view entry : detail::wordList(list)) {
    if (entry.starts_with(word + ':')) return std::string(entry.substr(word.size() + 1));
  }
  ADD_FAILURE() << word << " is not in the list " << list;
  return {};
}

std::vector<std::string> wordsOf(const std::string& text) {
  static const std::regex letters("[A-Za-z]+");
  return {std::sregex_token_iterator(text.begin(), text.end(), letters), std::sregex_token_iterator()};
}

/// What the opening says: "... named Mia. Mia has a big red kite. ..."
struct Opening {
  bool past = false;
  std::string hero, thing;
};

Opening openingOf(const std::string& story) {
  static const std::regex pattern(
      R"(^[A-Z][a-z ]* there (is|was) a [a-z]+ [a-z]+ named ([A-Z][a-z]+)\. \2 (has|had) (a|some) ([a-z ]+)\. )");
  std::smatch found;
  if (!std::regex_search(story, found, pattern)) {
    ADD_FAILURE() << "no opening: " << story;
    return {};
  }
  EXPECT_EQ(found[1] == "was", found[3] == "had");
  std::istringstream words(found[5].str());
  const std::set<std::string> things = textsOf("thing");
  std::string word;
  while (words >> word && !things.contains(word)) {
  }
  EXPECT_EQ(found[4] == "some", classOf("thing", word) == "they") << story;
  return {found[1] == "was", found[2], word};
}

std::size_t indexIn(std::string_view list, const std::string& word) {
  const auto& entries = detail::wordList(list);
  return static_cast<std::size_t>(
      std::find_if(entries.begin(), entries.end(), [&](auto entry) { return entry.starts_with(word + ':'); }) -
      entries.begin());
}

TEST(GrammarTest, SameSeedSameStoryEverywhere) {
  std::string text;
  for (std::uint64_t i = 0; i < 100; ++i) text += writeStory(7, i).text;
  EXPECT_EQ(hashBytes(text.data(), text.size()), 15574984222955117617u);
  EXPECT_NE(writeStory(7, 0).text, writeStory(8, 0).text);
  EXPECT_NE(writeStory(7, 0).text, writeStory(7, 1).text);
}

// Every mark was expanded, in every plot and alternative that 2000 stories meet.
TEST(GrammarTest, StoriesAreCleanText) {
  static const std::regex clean(R"([A-Za-z ,.!?"]+)"), lowerStart(R"([.!?] [a-z])"), vowelAfterA(R"(\b[Aa] [aeiou])");
  for (std::uint64_t i = 0; i < kStories; ++i) {
    const std::string text = writeStory(1, i).text;
    EXPECT_TRUE(std::regex_match(text, clean)) << text;
    EXPECT_THAT(text, Not(HasSubstr("  ")));
    EXPECT_TRUE(text.ends_with('.') || text.ends_with('"')) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '"') % 2, 0) << text;
    EXPECT_FALSE(std::regex_search(text, lowerStart)) << text;
    EXPECT_FALSE(std::regex_search(text, vowelAfterA)) << text;
    EXPECT_LT(text.size(), 1200u);
  }
}

TEST(GrammarTest, StoriesDiffer) {
  std::set<std::string> texts;
  for (std::uint64_t i = 0; i < kStories; ++i) texts.insert(writeStory(1, i).text);
  EXPECT_EQ(texts.size(), kStories);
}

// A story in the past has no verb in the present outside of what is said, and the other way round.
TEST(GrammarTest, KeepsItsTense) {
  static const std::regex speech(R"("[^"]*")");
  const std::set<std::string> present = {"is",   "has",   "goes",  "looks", "says",
                                         "asks", "takes", "comes", "gives", "are"};
  const std::set<std::string> past = {"was", "had", "went", "looked", "said", "asked", "took", "came", "gave", "were"};
  for (std::uint64_t i = 0; i < kStories; ++i) {
    const std::string text = writeStory(2, i).text;
    const std::set<std::string>& wrong = openingOf(text).past ? present : past;
    for (const std::string& word : wordsOf(std::regex_replace(text, speech, ""))) {
      EXPECT_FALSE(wrong.contains(word)) << word << " in: " << text;
    }
  }
}

// Nobody else than the hero and one friend is named, and "there she was" agrees with the thing.
TEST(GrammarTest, KeepsItsPeopleAndThings) {
  const std::set<std::string> people = textsOf("person"), things = textsOf("thing");
  for (std::uint64_t i = 0; i < kStories; ++i) {
    const std::string text = writeStory(3, i).text;
    const Opening opening = openingOf(text);
    std::set<std::string> named, seen;
    std::map<std::string, std::string> colours;
    for (const std::string& word : wordsOf(text)) {
      if (people.contains(word)) named.insert(word);
      if (things.contains(word)) seen.insert(word);
    }
    EXPECT_EQ(named.size(), 2u) << text;
    EXPECT_TRUE(named.contains(opening.hero));
    EXPECT_TRUE(seen.contains(opening.thing));
    EXPECT_LE(seen.size(), 2u) << text;  // its own, and in one plot the friend's
    const bool many = classOf("thing", opening.thing) == "they";
    EXPECT_FALSE(
        std::regex_search(text, std::regex("here " + std::string(many ? "it" : "they") + " (is|was|are|were)!")))
        << text;
  }
}

// The number left is what was found less what was given.
TEST(GrammarTest, Counts) {
  const std::vector<std::string> numbers = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight"};
  const auto valueOf = [&](const std::string& word) {
    return std::find(numbers.begin(), numbers.end(), word) - numbers.begin();
  };
  static const std::regex counting(R"((?:finds|found) (\w+) \w+ (\w+) .*(?:gives|gave) (\w+) \2 to .*I have (\w+) \2)");
  int counted = 0;
  for (std::uint64_t i = 0; i < kStories; ++i) {
    const std::string text = writeStory(4, i).text;
    std::smatch found;
    if (!std::regex_search(text, found, counting)) continue;
    ++counted;
    EXPECT_EQ(valueOf(found[1]), valueOf(found[3]) + valueOf(found[4])) << text;
    EXPECT_LT(valueOf(found[1]), 9);
  }
  EXPECT_GT(counted, 200);  // one plot in seven
}

TEST(GrammarTest, TrainingTextHasNoHeldOutPair) {
  std::set<std::pair<std::string, std::string>> seen, heldOut;
  for (std::uint64_t i = 0; i < kStories; ++i) {
    const Opening a = openingOf(writeStory(5, i, Pairs::kSeen).text);
    const Opening b = openingOf(writeStory(5, i, Pairs::kHeldOut).text);
    EXPECT_FALSE(detail::isHeldOut(indexIn("person", a.hero), indexIn("thing", a.thing)));
    seen.emplace(a.hero, a.thing);
    heldOut.emplace(b.hero, b.thing);
  }
  for (const auto& pair : heldOut) EXPECT_FALSE(seen.contains(pair)) << pair.first << ' ' << pair.second;
  EXPECT_EQ(heldOut.size(), 32u * 32u / 8u);  // all of them were met
}

TEST(GrammarTest, HeldOutTextAlternatesAndIsDivided) {
  const std::vector<Story> stories = heldOutStories(9, 6);
  ASSERT_EQ(stories.size(), 6u);
  EXPECT_EQ(stories[2].text, writeStory(9, 2, Pairs::kHeldOut).text);
  EXPECT_EQ(stories[3].text, writeStory(9, 3, Pairs::kSeen).text);
  EXPECT_EQ(joined({{"One.", 0}, {"Two.", 0}}), "One.\n<|endoftext|>\nTwo.\n");
  EXPECT_EQ(joined({}), "");
}

// The nats are the surprise of the choices: a text that is one of n equally likely ones has log n of them. The
// opening's numbers are known from the lists; a whole story has those of more choices on top.
TEST(GrammarTest, NatsMeasureTheChoices) {
  const double lists =
      std::log(32.0) + std::log(28.0) + std::log(12.0) + std::log(10.0);  // hero, thing, colour, temper
  for (std::uint64_t i = 0; i < 100; ++i) {
    const double nats = writeStory(6, i).nats;
    EXPECT_GT(nats, lists + std::log(2.0) + std::log(7.0));  // and tense and plot
    EXPECT_LT(nats, 120);
  }
}

}  // namespace
}  // namespace llama::grammar_test
