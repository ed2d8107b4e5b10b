// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/byte_pair.hpp"

#include "files.hpp"
#include "testing.hpp"

#include <string>
#include <vector>

namespace llama::byte_pair_test {
namespace {

using gosset::testing::expectThrows;
using ::testing::ElementsAre;

constexpr Index kFirstLearnt = 259;  // after <unk>, <s>, </s> and the bytes

std::vector<std::string> textsOf(const SentencePieces& tokenizer, Index first) {
  std::vector<std::string> texts;
  for (Index i = first; i < tokenizer.size(); ++i)
    texts.push_back(tokenizer.pieces()[static_cast<std::size_t>(i)].text);
  return texts;
}

// " ab" four times, " abc" twice, " b" three times: the pair ab is met 6 times, as " a" is, but comes later in the
// alphabet (a space is before all letters). So " a", then " ab", then " b".
TEST(BytePairTest, LearnsTheMostFrequentPairsFirst) {
  const std::vector<std::string> texts = {"ab ab abc b", "ab b abc", "ab b"};
  const SentencePieces tokenizer = trainTokenizer(texts, kFirstLearnt + 3 + 4);
  EXPECT_THAT(textsOf(tokenizer, kFirstLearnt), ElementsAre(" a", " ab", " b", " ", "a", "b", "c"));
  EXPECT_EQ(tokenizer.pieces()[kFirstLearnt].score, 0.f);
  EXPECT_EQ(tokenizer.pieces()[kFirstLearnt + 6].score, -6.f);
  EXPECT_THAT(tokenizer.encode("abc b"), ElementsAre(kFirstLearnt + 1, kFirstLearnt + 6, kFirstLearnt + 2));
}

TEST(BytePairTest, BeginsAsLlama2cDoes) {
  const SentencePieces tokenizer = trainTokenizer({"a"}, kFirstLearnt + 2);
  const auto& pieces = tokenizer.pieces();
  EXPECT_EQ(pieces[0].text, "<unk>");
  EXPECT_EQ(pieces[1].text, "<s>");
  EXPECT_EQ(pieces[2].text, "</s>");
  EXPECT_EQ(pieces[3].text, "<0x00>");
  EXPECT_EQ(pieces[3 + 0xAB].text, "<0xAB>");
  EXPECT_EQ(pieces[258].text, "<0xFF>");
}

TEST(BytePairTest, TokensStayInsideWords) {
  const std::vector<std::string> texts(5, "so so, \"so!\" so so.");
  for (const std::string& piece : textsOf(trainTokenizer(texts, kFirstLearnt + 11), kFirstLearnt)) {
    EXPECT_EQ(piece.find(' ', 1), std::string::npos) << piece;
    const bool letters = piece.find_first_of("so") != std::string::npos;
    EXPECT_FALSE(letters && piece.find_first_of(",.\"!") != std::string::npos) << piece;
  }
}

TEST(BytePairTest, EncodesAnyTextWithoutLoss) {
  const SentencePieces tokenizer = trainTokenizer({"the cat sat on the mat", "the dog sat"}, kFirstLearnt + 25);
  for (const std::string text : {"the cat sat on the mat", "a  the ", "Zoo\n\t\xC3\xA9 the!", " the"}) {
    EXPECT_EQ(testing::tokenizerOf(tokenizer).decode(tokenizer.encode(text)), text);
  }
  EXPECT_LT(tokenizer.encode("the cat sat").size(), 9u);
}

TEST(BytePairTest, RejectsAVocabThatDoesNotFit) {
  expectThrows([] { trainTokenizer({"abc"}, 262); }, "vocab must be at least 263 for this text, found 262");
  expectThrows([] { trainTokenizer({"ab"}, 263 + 2); }, "the text has too few words for a vocab of 265");
  EXPECT_EQ(trainTokenizer({"ab"}, 262 + 2).size(), 264);  // " a", " ab" and three characters
  EXPECT_EQ(trainTokenizer({}, 259).size(), 259);
}

}  // namespace
}  // namespace llama::byte_pair_test
