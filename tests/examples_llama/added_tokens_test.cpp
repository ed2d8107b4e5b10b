// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/added_tokens.hpp"

#include "testing.hpp"

namespace llama::added_tokens_test {
namespace {

/// "[7:<x>]" for a token, the text itself for what is between.
std::string shown(const std::vector<AddedToken>& tokens, const std::string& text) {
  AddedTokenFinder finder;
  for (const AddedToken& token : tokens) finder.add(token, token.content);
  std::string result;
  for (const TextSegment& segment : finder.segments(text)) {
    result += segment.token ? "[" + std::to_string(*segment.token) + ":" + std::string(segment.text) + "]"
                            : std::string(segment.text);
  }
  return result;
}

TEST(AddedTokens, TheLongestAtTheLeftmostPlace) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "ab"}, {.id = 2, .content = "abcd"}, {.id = 3, .content = "bc"}};
  EXPECT_EQ(shown(tokens, "xabcabcdbc"), "x[1:ab]c[2:abcd][3:bc]");
  EXPECT_EQ(shown(tokens, "a"), "a");
  EXPECT_EQ(shown(tokens, ""), "");
  EXPECT_EQ(shown({}, "ab"), "ab");
  EXPECT_EQ(shown({{.id = 1, .content = ""}}, "ab"), "ab");
}

TEST(AddedTokens, TheyTakeWhiteSpaceIn) {
  EXPECT_EQ(shown({{.id = 1, .content = "<m>", .lstrip = true}}, "a \n<m> b"), "a[1: \n<m>] b");
  EXPECT_EQ(shown({{.id = 1, .content = "<m>", .rstrip = true}}, "a <m>\xC2\xA0 b"), "a [1:<m>\xC2\xA0 ]b");
  EXPECT_EQ(shown({{.id = 1, .content = "<m>", .lstrip = true, .rstrip = true}}, "<m>  <m>"), "[1:<m>  ][1:<m>]");
}

TEST(AddedTokens, NoneIsFoundInTheWhiteSpaceThatAnotherHasTakenIn) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<m>", .rstrip = true}, {.id = 2, .content = " "}};
  EXPECT_EQ(shown(tokens, " <m>  a "), "[2: ][1:<m>  ]a[2: ]");
}

TEST(AddedTokens, ASingleWordStandsAlone) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "the", .singleWord = true}};
  EXPECT_EQ(shown(tokens, "the then bathe _the (the) the\xC3\xA9"), "[1:the] then bathe _the ([1:the]) the\xC3\xA9");
}

}  // namespace
}  // namespace llama::added_tokens_test
