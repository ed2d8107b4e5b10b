// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/pretokenizer.hpp"

#include "testing.hpp"

namespace llama::pretokenizer_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> pieces(const json& description, const std::string& text, bool atStart = true) {
  TextPieces parts;
  makePreTokenizer(description, "t")({text, atStart}, parts);
  std::vector<std::string> texts;
  for (const TextPiece& part : parts) texts.push_back(part.text);
  return texts;
}

json split(const json& pattern, const char* behavior, bool invert = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
}

// The examples of the library's documentation for its behaviors: "the-final--countdown" at "-".
TEST(Split, EachBehavior) {
  const json dash = {{"String", "-"}};
  const std::string text = "the-final--countdown";
  EXPECT_THAT(pieces(split(dash, "Removed"), text), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(pieces(split(dash, "Isolated"), text), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(pieces(split(dash, "MergedWithPrevious"), text), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(pieces(split(dash, "MergedWithNext"), text), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(pieces(split(dash, "Contiguous"), text), ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(Split, InvertedTheMatchesAreWhatIsKept) {
  const json word = {{"Regex", "[a-z]+"}};
  EXPECT_THAT(pieces(split(word, "Removed", true), "ab  cd1"), ElementsAre("ab", "cd"));
  EXPECT_THAT(pieces(split(word, "MergedWithPrevious", true), "ab  cd1"), ElementsAre("ab  ", "cd1"));
  EXPECT_THAT(pieces(split({{"Regex", "[a-z]"}}, "MergedWithNext", true), "-ab"), ElementsAre("-a", "b"));
  EXPECT_THAT(pieces(split({{"Regex", "[a-z]"}}, "MergedWithPrevious", true), "ab--"), ElementsAre("a", "b--"));
  EXPECT_THAT(pieces(split(word, "Isolated"), ""), IsEmpty());
  EXPECT_THAT(pieces(split({{"Regex", "(?=[0-9])"}}, "Isolated"), "a12"), ElementsAre("a", "1", "2"));
}

TEST(Split, TheWordsOfLlama3) {
  const json words = {{"Regex",
                       "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
                       "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}};
  EXPECT_THAT(pieces(split(words, "Isolated"), "I'LL pay 12345$!\n\n  now  "),
              ElementsAre("I", "'LL", " pay", " ", "123", "45", "$!\n\n", " ", " now", "  "));
}

TEST(ByteLevel, TheWordsOfGpt2InItsAlphabet) {
  const json byteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  EXPECT_THAT(pieces(byteLevel, "it's  12\n\xC3\xA9"), ElementsAre("it", "'s", "\xC4\xA0",
                                                                   "\xC4\xA0"
                                                                   "12",
                                                                   "\xC4\x8A", "\xC3\x83\xC2\xA9"));
  json prefixed = byteLevel;
  prefixed["add_prefix_space"] = true;
  EXPECT_THAT(pieces(prefixed, "a"), ElementsAre("\xC4\xA0"
                                                 "a"));
  EXPECT_THAT(pieces(prefixed, " a"), ElementsAre("\xC4\xA0"
                                                  "a"));
  prefixed["use_regex"] = false;
  EXPECT_THAT(pieces(prefixed, "a b"), ElementsAre("\xC4\xA0"
                                                   "a\xC4\xA0"
                                                   "b"));
}

TEST(ByteLevel, EveryByteHasACharacterOfItsOwn) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  EXPECT_EQ(fromByteLevel(toByteLevel(bytes)), bytes);
  EXPECT_EQ(toByteLevel("A ~\n"), "A\xC4\xA0~\xC4\x8A");
  EXPECT_EQ(toByteLevel("\xAD"), "\xC5\x83");  // the last: U+0143
  EXPECT_EQ(fromByteLevel("a b"), std::nullopt);
  EXPECT_EQ(fromByteLevel("\xC5\x84"), std::nullopt);
}

TEST(Metaspace, TheMarkComesFirstByItsScheme) {
  const auto metaspace = [](const char* scheme) -> json {
    return {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", scheme}, {"split", true}};
  };
  EXPECT_THAT(pieces(metaspace("always"), "a  b", false), ElementsAre("_a", "_", "_b"));
  EXPECT_THAT(pieces(metaspace("always"), " a"), ElementsAre("_a"));
  EXPECT_THAT(pieces(metaspace("first"), "a b"), ElementsAre("_a", "_b"));
  EXPECT_THAT(pieces(metaspace("first"), "a b", false), ElementsAre("a", "_b"));
  EXPECT_THAT(pieces(metaspace("never"), "a b"), ElementsAre("a", "_b"));
  json whole = metaspace("always");
  whole["split"] = false;
  EXPECT_THAT(pieces(whole, "a b"), ElementsAre("_a_b"));
  EXPECT_THAT(pieces({{"type", "Metaspace"}, {"replacement", "_"}, {"add_prefix_space", false}}, "a"),
              ElementsAre("a"));
}

TEST(PreTokenizer, TheOtherKinds) {
  const auto digits = [](bool each) -> json { return {{"type", "Digits"}, {"individual_digits", each}}; };
  EXPECT_THAT(pieces(digits(true), "a12\xC2\xBD"), ElementsAre("a", "1", "2", "\xC2\xBD"));
  EXPECT_THAT(pieces(digits(false), "a12b"), ElementsAre("a", "12", "b"));
  EXPECT_THAT(pieces({{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                     "a+\xE2\x80\xA6"
                     "b"),
              ElementsAre("a", "+\xE2\x80\xA6", "b"));
  EXPECT_THAT(pieces({{"type", "Punctuation"}}, "a$$"), ElementsAre("a", "$", "$"));
  EXPECT_THAT(pieces({{"type", "Whitespace"}}, "ab, c_1 "), ElementsAre("ab", ",", "c_1"));
  EXPECT_THAT(pieces({{"type", "WhitespaceSplit"}}, "ab,\tc "), ElementsAre("ab,", "c"));
  EXPECT_THAT(pieces(nullptr, "a b"), ElementsAre("a b"));
}

TEST(PreTokenizer, ASequenceCutsWhatWasCutAndRemembersTheBeginning) {
  const json sequence = {
      {"type", "Sequence"},
      {"pretokenizers", {split({{"String", ","}}, "Isolated"), split({{"String", " "}}, "Removed")}}};
  TextPieces parts;
  makePreTokenizer(sequence, "t")({"a b,c", true}, parts);
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[0].text, "a");
  EXPECT_TRUE(parts[0].atStart);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_FALSE(parts[i].atStart) << i;
  parts.clear();
  makePreTokenizer(split({{"String", "a"}}, "Removed"), "t")({"ab", true}, parts);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_FALSE(parts[0].atStart);
}

TEST(PreTokenizer, WhatIsNotKnownIsRefusedByName) {
  const auto refused = [](const json& description, const std::string& text) {
    expectThrows<FormatError>([&] { makePreTokenizer(description, "t.json: pre_tokenizer"); }, text);
  };
  refused({{"type", "UnicodeScripts"}},
          "t.json: pre_tokenizer: a pre-tokenizer of type \"UnicodeScripts\" cannot be read");
  refused({{"type", "Digits"}, {"groups", 3}}, "t.json: pre_tokenizer: the field \"groups\" is not known");
  refused(split({{"String", ""}}, "Isolated"), "t.json: pre_tokenizer.pattern: must not be empty");
  refused(split({{"Regex", "(a"}}, "Isolated"), "t.json: pre_tokenizer.pattern: regular expression \"(a\"");
  refused(split({{"String", "a"}}, "Kept"), "the behavior \"Kept\" is none of Removed, Isolated");
  refused(split({{"Glob", "a"}}, "Isolated"), "the field \"Glob\" is not known");
  refused({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}},
          "\"prepend_scheme\" must be always, first or never, found \"last\"");
  refused({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}, {"add_prefix_space", false}},
          "\"add_prefix_space\" is false, but \"prepend_scheme\" is \"first\"");
  refused({{"type", "Sequence"}, {"pretokenizers", {{{"type", "Bert"}}}}}, "pre_tokenizer.pretokenizers[0]: ");
  refused("ByteLevel", "t.json: pre_tokenizer: an object expected, found \"ByteLevel\"");
}

}  // namespace
}  // namespace llama::pretokenizer_test
