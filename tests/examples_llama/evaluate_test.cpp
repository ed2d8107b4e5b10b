// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/evaluate.hpp"

#include "files.hpp"
#include "reference.hpp"

namespace llama::testing::evaluate_test {
namespace {

/// "a" .. "e" are tokens 4 .. 8, a space is 3.
Tokenizer letters() {
  return tokenizerOf(SentencePieces({{"<unk>", 0.f},
                                     {"<s>", 0.f},
                                     {"</s>", 0.f},
                                     {" ", 0.f},
                                     {"a", 0.f},
                                     {"b", 0.f},
                                     {"c", 0.f},
                                     {"d", 0.f},
                                     {"e", 0.f}}));
}

using Sequences = std::vector<Sequence>;

TEST(SequencesOf, StoriesAreCutOffAtTheContext) {
  const std::string text = "ab\n<|endoftext|>\n  cde \n<|endoftext|> \n <|endoftext|>e";
  EXPECT_EQ(sequencesOf(letters(), text, 10, 100), (Sequences{{1, 3, 4, 5}, {1, 3, 6, 7, 8}, {1, 3, 8}}));
  EXPECT_EQ(sequencesOf(letters(), text, 3, 100), (Sequences{{1, 3, 4}, {1, 3, 6}, {1, 3, 8}}));
  EXPECT_EQ(sequencesOf(letters(), text, 10, 7), (Sequences{{1, 3, 4, 5}, {1, 3, 6}}));
  EXPECT_EQ(sequencesOf(letters(), text, 10, 5), (Sequences{{1, 3, 4, 5}}));
}

TEST(SequencesOf, ATextWithoutStoriesIsCutIntoPieces) {
  EXPECT_EQ(sequencesOf(letters(), "abcde", 3, 100), (Sequences{{1, 3, 4}, {1, 5, 6}, {1, 7, 8}}));
  EXPECT_EQ(sequencesOf(letters(), "abcde", 3, 5), (Sequences{{1, 3, 4}, {1, 5}}));
}

TEST(SequencesOf, WhereThereIsNothingToPredictThereAreNone) {
  EXPECT_TRUE(sequencesOf(letters(), "", 10, 100).empty());
  EXPECT_TRUE(sequencesOf(letters(), " \n<|endoftext|>\n", 10, 100).empty());
  EXPECT_TRUE(sequencesOf(letters(), "abc", 10, 1).empty());
  EXPECT_TRUE(sequencesOf(letters(), "abc", 1, 100).empty());
}

/// Logits of 2 tokens with the probabilities p and 1 - p in each column, off by `shift`.
Eigen::MatrixXf twoLogits(const std::vector<double>& p, float shift) {
  Eigen::MatrixXf logits(2, static_cast<Index>(p.size()));
  for (std::size_t t = 0; t < p.size(); ++t) {
    logits.col(static_cast<Index>(t)) << static_cast<float>(std::log(p[t])), static_cast<float>(std::log(1 - p[t]));
  }
  return (logits.array() + shift).matrix();
}

TEST(QualityMeter, KnownProbabilitiesGiveKnownNumbers) {
  // The last column predicts what comes after the sequence, and does not count.
  const Sequence sequence = {0, 0, 1};
  const Eigen::MatrixXf reference = twoLogits({0.9, 0.5, 0.1}, 3.f), logits = twoLogits({0.8, 0.25, 0.7}, -50.f);
  QualityMeter meter;
  meter.add(sequence, reference, logits);
  const Quality q = meter.quality();
  EXPECT_EQ(meter.predicted(), 2);
  EXPECT_NEAR(q.perplexity, 1 / std::sqrt(0.8 * 0.75), 1e-6);
  const double first = 0.9 * std::log(0.9 / 0.8) + 0.1 * std::log(0.1 / 0.2);
  const double second = 0.5 * std::log(0.5 / 0.25) + 0.5 * std::log(0.5 / 0.75);
  EXPECT_NEAR(q.klDivergence, (first + second) / 2, 1e-6);
  EXPECT_EQ(q.top1Agreement, 0.5);  // 0 and 0, then 0 (the first of equals) and 1
}

TEST(QualityMeter, ThroughTheReferenceItselfNothingIsLost) {
  const Eigen::MatrixXf logits = 10 * gosset::testing::gaussian(31, 6);
  QualityMeter meter;
  meter.add({1, 2, 3, 4, 5, 6}, logits, logits);
  EXPECT_EQ(meter.quality().klDivergence, 0);
  EXPECT_EQ(meter.quality().top1Agreement, 1);
  EXPECT_GT(meter.quality().perplexity, 1);
}

TEST(QualityMeter, HugeLogitsStayFinite) {
  QualityMeter meter;
  meter.add({0, 0}, Eigen::MatrixXf{{1e30f, 0.f}, {-1e30f, 0.f}}, Eigen::MatrixXf{{1e4f, 0.f}, {0.f, 0.f}});
  EXPECT_EQ(meter.quality().perplexity, 1);
  EXPECT_NEAR(meter.quality().klDivergence, 0, 1e-200);
}

TEST(QualityMeter, WithoutPredictionsThereIsNoQuality) {
  QualityMeter meter;
  meter.add({0}, Eigen::MatrixXf::Zero(2, 1), Eigen::MatrixXf::Zero(2, 1));
  gosset::testing::expectThrows<std::logic_error>([&] { (void)meter.quality(); }, "no token was predicted");
}

TEST(RunSequences, EachBeginsAfresh) {
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  const Sequences sequences = {randomTokens(model.config, 7), randomTokens(model.config, 12),
                               randomTokens(model.config, 7)};
  Logits logits;
  runSequences(engine, sequences, [&](std::size_t i, const Eigen::MatrixXf& part) {
    EXPECT_EQ(i, logits.size());
    logits.push_back(part);
  });
  ASSERT_EQ(logits.size(), 3u);
  EXPECT_EQ(logits[1].cols(), 12);
  EXPECT_EQ(logits[0], logits[2]);
  EXPECT_LT((logits[0] - logits[1].leftCols(7)).cwiseAbs().maxCoeff(), 1e-4f);
}

TEST(DecodeSpeed, IsAFiniteNumberOfTokens) {
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  const double speed = decodeSpeed(engine, randomTokens(model.config, 5), 0);
  EXPECT_GT(speed, 0);
  EXPECT_TRUE(std::isfinite(speed));
}

}  // namespace
}  // namespace llama::testing::evaluate_test
