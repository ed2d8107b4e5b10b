// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/regex.hpp"

#include "testing.hpp"

namespace llama::regex_test {
namespace {

using gosset::testing::expectThrows;
using ::testing::ElementsAre;

std::vector<std::string> matches(const char* pattern, const std::string& text) {
  std::vector<std::string> found;
  Regex(pattern).forEachMatch(
      text, [&](std::size_t begin, std::size_t end) { found.push_back(text.substr(begin, end - begin)); });
  return found;
}

TEST(Oniguruma, WhatBothLanguagesReadAlikeStays) {
  for (const char* same :
       {"a|b", "(?i:'s|'t)", "[^\\r\\n\\p{L}]?\\p{L}+", "\\p{N}{1,3}", "\\p{^Lu}", "(?!x)(?<=y)", "\\x{20}", "\\x41",
        "\\[\\]\\\\", "a{2,}?", "[[:alpha:]-]", "[a-c\\]]", "\\pL", "(?<name>x)"}) {
    EXPECT_EQ(pcreFromOniguruma(same), same);
  }
}

TEST(Oniguruma, WhatMeansSomethingElseIsSaidInPcre) {
  EXPECT_EQ(pcreFromOniguruma("\\s\\S[^\\s]"), "\\p{White_Space}\\P{White_Space}[^\\p{White_Space}]");
  EXPECT_EQ(pcreFromOniguruma("\\d[\\D]"), "\\p{Nd}[\\P{Nd}]");
  EXPECT_EQ(pcreFromOniguruma("\\w\\W[\\w.]"),
            "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}][^\\p{L}\\p{M}\\p{Nd}\\p{Pc}][\\p{L}\\p{M}\\p{Nd}\\p{Pc}.]");
  EXPECT_EQ(pcreFromOniguruma("\\h[\\h]"), "[0-9A-Fa-f][0-9A-Fa-f]");
  EXPECT_EQ(pcreFromOniguruma("\\u4e00"), "\\x{4e00}");
  EXPECT_EQ(pcreFromOniguruma("a{,3}"), "a{0,3}");
  EXPECT_EQ(pcreFromOniguruma("a{b"), "a\\{b");
}

TEST(Oniguruma, WhatHasNoLikeIsRefusedByName) {
  const auto refused = [](const char* pattern, const std::string& text) {
    expectThrows([&] { pcreFromOniguruma(pattern); }, text);
  };
  refused("xy\\b", "regular expression \"xy\\b\": \\b at byte 2 cannot be read");
  refused("\\p{N}{1,3}+", "a count followed by '+' at byte 5 cannot be read");
  refused("a{2}?", "a count followed by '?'");
  refused("[a&&b]", "&& in brackets at byte 2");
  refused("[a[b]]", "brackets in brackets");
  refused("[]a]", "']' first in brackets");
  refused("[\\W]", "\\W in brackets");
  refused("[ab", "an open bracket without its closing one");
  refused("(?m:.)", "the flag m, x, s or u");
  refused("a\\", "a backslash with nothing behind it");
  refused("\\u12", "\\u without four hexadecimal digits");
  refused("\\p{L", "what has no '}'");
}

TEST(Regex, MatchesCharactersNotBytes) {
  EXPECT_THAT(matches("\\p{L}+|\\p{N}", "\xC3\xA9t\xC3\xA9 42"), ElementsAre("\xC3\xA9t\xC3\xA9", "4", "2"));
  EXPECT_THAT(matches("[[:alpha:]]+", "\xC3\xA9t\xC3\xA9 42"), ElementsAre("\xC3\xA9t\xC3\xA9"));
  EXPECT_THAT(matches("(?i:'ll)", "I'LL"), ElementsAre("'LL"));
  EXPECT_THAT(matches("\\s",
                      "a\xC2\x85"
                      "b\xC2\xA0"
                      "c\xE3\x80\x80"),
              ElementsAre("\xC2\x85", "\xC2\xA0", "\xE3\x80\x80"));                  // U+0085, U+00A0, U+3000
  EXPECT_THAT(matches("\\w+", "a\xCC\x81_1 \xC2\xBD"), ElementsAre("a\xCC\x81_1"));  // U+00BD is a number, no digit
  EXPECT_THAT(matches("^.|.$", "ab\ncd"), ElementsAre("a", "b", "c", "d"));
}

TEST(Regex, EmptyMatchesStandBetweenCharacters) {
  std::vector<std::size_t> at;
  Regex("(?=\\d)").forEachMatch(
      "a\xC3\xA9"
      "12",
      [&](std::size_t begin, std::size_t end) {
        EXPECT_EQ(begin, end);
        at.push_back(begin);
      });
  EXPECT_THAT(at, ElementsAre(3, 4));
  EXPECT_THAT(matches("b*", "abb"), ElementsAre("", "bb"));  // none at the end of the one before
}

TEST(Regex, SaysWhatItCannotRead) {
  expectThrows([] { Regex("(a"); }, "regular expression \"(a\": missing closing parenthesis");
  expectThrows([] { Regex("\\p{Nonsense}"); }, "regular expression \"\\p{Nonsense}\"");
}

TEST(Regex, APatternWithoutEndIsAnError) {
  expectThrows<std::runtime_error>(
      [] { matches("(a|a)+\\z", std::string(60, 'a') + "b"); },
      "regular expression \"(a|a)+\\z\" fails on a text of 61 bytes at byte 0: match limit");
}

TEST(Regex, ALongTextIsLinear) {
  const std::string spaces(1'000'000, ' ');
  EXPECT_EQ(matches("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", spaces).size(), 1u);
  EXPECT_EQ(matches("(?:ab)+", std::string(1'000'000, 'a') + "b").size(), 1u);
}

}  // namespace
}  // namespace llama::regex_test
