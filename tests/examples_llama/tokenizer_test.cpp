// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/tokenizer.hpp"

#include "files.hpp"

namespace llama::testing::tokenizer_test {
namespace {

using Tokens = std::vector<Token>;

/// Tokens that are bytes or words as they stand; 0 is special.
class Words : public Vocabulary {
 public:
  explicit Words(std::vector<std::string> words) : words_(std::move(words)) {}

  Kind kind() const override { return Kind::kHuggingFace; }
  std::string file() const override { return {}; }
  Index size() const override { return static_cast<Index>(words_.size()); }
  std::vector<Token> encode(std::string_view) const override { return {3, 4}; }
  std::string bytes(Token token, bool first) const override { return (first ? "^" : "") + name(token); }
  std::optional<Token> find(std::string_view) const override { return std::nullopt; }
  std::string name(Token token) const override { return words_[static_cast<std::size_t>(token)]; }
  bool isSpecial(Token token) const override { return token == 0; }

 private:
  std::vector<std::string> words_;
};

Tokenizer words(TextFrame frame) {
  return {std::make_shared<const Words>(std::vector<std::string>{"<x>", "<b>", "<e>", "a", "\xE2", "\x82\xAC"}), frame};
}

TEST(Tokenizer, PutsTheBeginTokenOnlyWhereThereIsOne) {
  EXPECT_EQ(words({1, {2}}).encode("x"), (Tokens{1, 3, 4}));
  EXPECT_EQ(words({std::nullopt, {2}}).encode("x"), (Tokens{3, 4}));
  EXPECT_EQ(words({5, {}}).bos(), 5);
}

TEST(Tokenizer, AnyOfItsEndsIsAnEnd) {
  const Tokenizer t = words({1, {2, 4}});
  EXPECT_TRUE(t.isEnd(2));
  EXPECT_TRUE(t.isEnd(4));
  EXPECT_FALSE(t.isEnd(1));
  EXPECT_FALSE(words({1, {}}).isEnd(2));
}

TEST(Tokenizer, WhatSteersTheModelIsNoText) {
  const Tokenizer t = words({1, {2}});
  EXPECT_EQ(t.decode(Tokens{1, 0, 3, 2, 3, -1, 6}), "^aa");
  EXPECT_EQ(words({}).decode(Tokens{1, 2}), "^<b><e>");
}

TEST(TextStream, ACharacterComesWhole) {
  const Tokenizer t = words({1, {2}});
  TextStream stream(t);
  EXPECT_EQ(stream.add(3), "^a");
  EXPECT_EQ(stream.add(4), "");  // the first byte of three
  EXPECT_EQ(stream.add(0), "");
  EXPECT_EQ(stream.add(5), "\xE2\x82\xAC");
  EXPECT_EQ(stream.add(4), "");
  EXPECT_EQ(stream.finish(), kReplacementCharacter);
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(t.decode(Tokens{3, 4, 3, 5}),
            "^a\xEF\xBF\xBD"
            "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

}  // namespace
}  // namespace llama::testing::tokenizer_test
