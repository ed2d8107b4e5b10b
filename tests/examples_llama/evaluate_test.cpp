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

TEST(RunPieces, PiecesAreTheWhole) {
  Config config = smallConfig();
  config.vocab = 1 << 22;  // two tokens are a piece
  EXPECT_EQ(pieceOf(config), 2);
  config.vocab = 1 << 24;
  EXPECT_EQ(pieceOf(config), 1);
  EXPECT_EQ(pieceOf(smallConfig()), 512);

  config = smallConfig();
  config.context = 700;
  const Model model = randomModel(config, true);
  const Engine engine(floatModel(model));
  const Sequence sequence = randomTokens(config, 600);
  KvCache whole(config, 600), cache(config, 600);
  const Eigen::MatrixXf expected = engine.forward(sequence, whole);
  std::vector<Index> firsts;
  Index heard = 0;
  const Observer observer = [&](const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& x) {
    if (name == outputName()) heard += x.cols();
  };
  runPieces(engine, sequence, cache, observer, [&](Index first, const Eigen::MatrixXf& logits) {
    firsts.push_back(first);
    EXPECT_LT((logits - expected.middleCols(first, logits.cols())).cwiseAbs().maxCoeff(), 1e-4f);
  });
  EXPECT_EQ(firsts, (std::vector<Index>{0, 512}));
  EXPECT_EQ(heard, 600);
}

TEST(FirstTokens, OfALongTextTheRestIsNotLookedAt) {
  const std::string text(100000, 'a');
  const Sequence all = detail::firstTokens(letters(), text, 200000), some = detail::firstTokens(letters(), text, 50);
  EXPECT_EQ(all.size(), 100001u);  // a space is before it
  EXPECT_GE(some.size(), 1050u);
  EXPECT_LT(some.size(), 20000u);
  EXPECT_TRUE(std::equal(some.begin(), some.begin() + 50, all.begin()));
  std::string wide;
  for (int i = 0; i < 40000; ++i) wide += "\xE2\x82\xAC";  // three bytes, never cut in two
  const Sequence bytes = detail::firstTokens(letters(), wide, 100);
  EXPECT_LT(bytes.size(), 20000u);
  EXPECT_EQ(bytes.size() % 3, 1u);  // a space, and three bytes for each
}

TEST(SequencesOf, WithoutABeginTokenThereIsNone) {
  const Tokenizer plain(std::make_shared<const SentencePieces>(
                            std::vector<SentencePieces::Piece>{{"<unk>", 0.f}, {"a", 0.f}, {"b", 0.f}, {"c", 0.f}}),
                        {});
  EXPECT_EQ(sequencesOf(plain, "abc", 2, 100), (Sequences{{1, 2}}));  // one token alone predicts nothing
  EXPECT_EQ(sequencesOf(plain, "ab<|endoftext|>c<|endoftext|>bca", 10, 100), (Sequences{{1, 2}, {2, 3, 1}}));
}

TEST(ContextFor, IsTheModelsOrShorter) {
  Config config = smallConfig();
  EXPECT_EQ(contextFor(std::nullopt, config), 48);
  EXPECT_EQ(contextFor(7, config), 7);
  config.context = 131072;
  EXPECT_EQ(contextFor(std::nullopt, config), 2048);
  EXPECT_EQ(contextFor(131072, config), 131072);
  gosset::testing::expectThrows([&] { contextFor(131073, config); },
                                "--context: at most the model's 131072 tokens expected, found 131073");
}

TEST(BeginningText, NamesTheToken) {
  EXPECT_EQ(beginningText(letters()), "each behind token 1, \"<s>\"");
  EXPECT_EQ(beginningText(Tokenizer(std::make_shared<const SentencePieces>(std::vector<SentencePieces::Piece>{}), {})),
            "no begin token");
}

TEST(MeasureQuality, OfTheModelItselfNothingIsLostButTheRounding) {
  const Model model = randomModel(smallConfig(), false), other = randomModel(smallConfig(), false, 77);
  const Engine engine(floatModel(model)), another(floatModel(other));
  const Sequences sequences = {randomTokens(model.config, 30, 1), randomTokens(model.config, 2, 2),
                               randomTokens(model.config, 48, 3)};
  ASSERT_EQ(predictedTokens(sequences), 77);
  QualityMeter exact;
  Logits logits, others;
  runSequences(engine, sequences, [&](std::size_t, Eigen::MatrixXf part) { logits.push_back(std::move(part)); });
  runSequences(another, sequences, [&](std::size_t, Eigen::MatrixXf part) { others.push_back(std::move(part)); });
  for (std::size_t i = 0; i < 3; ++i) exact.add(sequences[i], logits[i], others[i]);

  const ReferenceKey key{"m", tokensHash(sequences), "in pieces", 31, 77};
  int steps = 0;
  const Reference reference = makeReference({}, key, sequences, PieceRunner(engine, sequences), [&] { ++steps; });
  EXPECT_EQ(steps, 3);
  EXPECT_FALSE(reference.reused());
  const Quality own = measureQuality(reference, sequences, PieceRunner(engine, sequences), [&] { ++steps; });
  EXPECT_EQ(steps, 6);
  EXPECT_LT(own.klDivergence, 1e-8);
  EXPECT_EQ(own.top1Agreement, 1);
  EXPECT_NEAR(ownQuality(reference, 77).perplexity, own.perplexity, 1e-5);
  const Quality off = measureQuality(reference, sequences, PieceRunner(another, sequences), [] {});
  EXPECT_NEAR(off.klDivergence, exact.quality().klDivergence, 1e-5);
  EXPECT_NEAR(off.klError, exact.quality().klError, 1e-5);
  EXPECT_EQ(off.top1Agreement, exact.quality().top1Agreement);
}

TEST(Reference, IsMadeOnceAndForOneRun) {
  const TemporaryFolder folder;
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  const Sequences sequences = {randomTokens(model.config, 9)};
  const fs::path path = folder / "reference";
  ReferenceKey key{"m", tokensHash(sequences), "in pieces", 31, 8};
  int runs = 0;
  const auto make = [&] {
    return makeReference(path, key, sequences, PieceRunner(engine, sequences), [&] { ++runs; }).reused();
  };
  EXPECT_FALSE(make());
  EXPECT_TRUE(make());
  EXPECT_EQ(runs, 1);
  key.model = "another";
  gosset::testing::expectThrows<gosset::FormatError>(
      make, "reference: holds the logits of another run, whose \"model\" is \"m\"; here it is \"another\"; remove");
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
