// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/engine.hpp"

#include "../../examples/llama/checkpoint_llama2c.hpp"
#include "../../examples/llama/evaluate.hpp"
#include "../../examples/llama/formats.hpp"
#include "../../examples/llama/tokenizer_file.hpp"
#include "reference.hpp"

#include <map>

namespace llama::testing::engine_test {
namespace {

/// Logits of order one in float: a few hundred roundings, each of 6e-8.
constexpr double kTolerance = 1e-4;

struct Shape {
  const char* name;
  Config config;
  bool ownOutput;
};

std::vector<Shape> shapes() {
  Config wideHeads = smallConfig();
  wideHeads.headDim = 10;  // heads * headDim is 60, dim is 24
  wideHeads.ropeTheta = 500.f;
  wideHeads.normEps = 1e-2f;
  Config oneHead = smallConfig();
  oneHead.dim = 7;
  oneHead.heads = oneHead.kvHeads = 1;
  oneHead.headDim = 2;
  Config allHeads = smallConfig();
  allHeads.kvHeads = allHeads.heads;
  return {{"Grouped", smallConfig(), false},
          {"WideHeads", wideHeads, true},
          {"OneHead", oneHead, true},
          {"AllHeads", allHeads, false}};
}

class EngineShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(EngineShapes, LogitsAreThoseOfThePlainLoopsInDouble) {
  const Model model = randomModel(GetParam().config, GetParam().ownOutput);
  const auto tokens = randomTokens(model.config, 40);
  const Engine engine(floatModel(model));
  KvCache cache(model.config, 40);
  const Eigen::MatrixXf logits = engine.forward(tokens, cache);
  const Eigen::MatrixXd naive = naiveLogits(model, tokens);
  EXPECT_GT(naive.cwiseAbs().maxCoeff(), 1.0);
  EXPECT_LT((logits.cast<double>() - naive).cwiseAbs().maxCoeff(), kTolerance);
}

TEST_P(EngineShapes, OneTokenAtATimeIsAsAllAtOnce) {
  const Model model = randomModel(GetParam().config, GetParam().ownOutput);
  const auto tokens = randomTokens(model.config, 33);
  const Engine engine(floatModel(model));
  KvCache whole(model.config, 33), single(model.config, 48);
  const Eigen::MatrixXf logits = engine.forward(tokens, whole);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const Eigen::VectorXf last = engine.forwardLast({&tokens[t], 1}, single);
    ASSERT_LT((last - logits.col(static_cast<Index>(t))).cwiseAbs().maxCoeff(), kTolerance) << t;
  }
  EXPECT_EQ(single.size(), 33);
}

TEST_P(EngineShapes, AfterAPromptTheLogitsBehindItsLastTokenAreGiven) {
  const Model model = randomModel(GetParam().config, GetParam().ownOutput);
  const auto tokens = randomTokens(model.config, 9);
  const Engine engine(floatModel(model));
  KvCache all(model.config, 9), last(model.config, 9);
  const Eigen::MatrixXf logits = engine.forward(tokens, all);
  EXPECT_LT((engine.forwardLast(tokens, last) - logits.col(8)).cwiseAbs().maxCoeff(), kTolerance);
  EXPECT_GT((logits.col(0) - logits.col(8)).cwiseAbs().maxCoeff(), 0.1f);
}

TEST_P(EngineShapes, PiecesOfAnySizeAreAsAllAtOnce) {
  const Model model = randomModel(GetParam().config, GetParam().ownOutput);
  const auto tokens = randomTokens(model.config, 30);
  const Engine engine(floatModel(model));
  KvCache whole(model.config, 30), pieces(model.config, 30);
  const Eigen::MatrixXf logits = engine.forward(tokens, whole);
  Index at = 0;
  for (const Index size : {1, 7, 2, 20}) {
    const Eigen::MatrixXf part = engine.forward({tokens.data() + at, static_cast<std::size_t>(size)}, pieces);
    ASSERT_LT((part - logits.middleCols(at, size)).cwiseAbs().maxCoeff(), kTolerance);
    at += size;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EngineShapes, ::testing::ValuesIn(shapes()),
                         [](const auto& shape) { return std::string(shape.param.name); });

TEST(Engine, AClearedCacheForgets) {
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  KvCache cache(model.config, 16);
  const Eigen::MatrixXf first = engine.forward(randomTokens(model.config, 10), cache);
  cache.clear();
  const Eigen::MatrixXf again = engine.forward(randomTokens(model.config, 10), cache);
  EXPECT_EQ(first, again);
}

TEST(Engine, TheObserverHearsWhatEntersEachLinearLayer) {
  const Model model = randomModel(smallConfig(), true);
  const Engine engine(floatModel(model));
  KvCache cache(model.config, 5);
  std::map<std::string, Eigen::MatrixXf> heard;
  const Eigen::MatrixXf logits = engine.forward(
      randomTokens(model.config, 5), cache, [&](const std::string& name, const Eigen::Ref<const Eigen::MatrixXf>& x) {
        EXPECT_TRUE(heard.emplace(name, x).second) << name;
      });
  std::size_t layers = 0;
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf&) {
    ++layers;
    ASSERT_TRUE(heard.contains(info.name)) << info.name;
    EXPECT_EQ(heard[info.name].rows(), info.cols) << info.name;
    EXPECT_EQ(heard[info.name].cols(), 5) << info.name;
  });
  EXPECT_EQ(heard.size(), layers);
  EXPECT_EQ(layers, 15u);
  EXPECT_LT((*model.output * heard["lm_head.weight"] - logits).cwiseAbs().maxCoeff(), 1e-5f);
}

TEST(Engine, TellsWhatDoesNotFit) {
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  KvCache cache(model.config, 3);
  const std::vector<Token> two = {1, 2}, unknown = {31}, negative = {-1};
  engine.forward(two, cache);
  using gosset::testing::expectThrows;
  expectThrows([&] { engine.forward(two, cache); }, "4 tokens do not fit into a cache of 3");
  expectThrows([&] { engine.forward(unknown, cache); }, "token 31 is none of the 31 that the model knows");
  expectThrows([&] { engine.forward(negative, cache); }, "token -1 is none of the 31");
  expectThrows([&] { engine.forwardLast({}, cache); }, "at least one token is needed");
  EXPECT_EQ(cache.size(), 2);
}

TEST(PackModel, RoundsTheRestToHalvesAndVisitsEveryLinearLayer) {
  const Model model = randomModel(smallConfig(), true);
  Index visited = 0;
  const PackedModel packed = packModel(
      model, Floats::kFloat16,
      [&](const LinearInfo& info, const RowMatrixXf& weights) {
        EXPECT_EQ(visited, 0);
        EXPECT_EQ(info.name, embeddingName());
        return packEmbedding(info, weights, findEmbeddingFormat("fp16"), 1);
      },
      [&](const LinearInfo& info, const RowMatrixXf& weights) {
        EXPECT_EQ(weights.rows(), info.rows);
        EXPECT_EQ(weights.cols(), info.cols);
        visited += weights.size();
        return floatMatrix(weights);
      });
  EXPECT_EQ(visited, linearSize(model));
  EXPECT_EQ(packed.embedding.dequantized(), model.embedding.cast<Eigen::half>().cast<float>());
  EXPECT_EQ(packed.finalNorm, model.finalNorm.cast<Eigen::half>().cast<float>());
  EXPECT_EQ(packed.layers[1].w2.dequantized(), model.layers[1].w2);
  EXPECT_EQ(packed.output->dequantized(), *model.output);
}

TEST(Engine, PerplexityOfARealModelEqualsThatOfThePlainLoopsTo4Digits) {
  const auto data = gosset::testing::dataFolder();
  if (!data) GTEST_SKIP() << "no data folder";
  const Model model = readLlama2c(*data / "models/stories260K.bin");
  const Tokenizer tokenizer = readTokenizer(*data / "models/tok512.bin", model.config.vocab);
  const std::string text = readBytes(*data / "text/tinystories_400k.txt", 1 << 20);
  const auto sequences = sequencesOf(tokenizer, text, model.config.context, 500);

  const Engine engine(floatModel(model));
  QualityMeter meter;
  double naiveLoss = 0, worst = 0;
  runSequences(engine, sequences, [&](std::size_t i, const Eigen::MatrixXf& logits) {
    meter.add(sequences[i], logits, logits);
    const Eigen::MatrixXd naive = naiveLogits(model, sequences[i]);
    worst = std::max(worst, (naive - logits.cast<double>()).cwiseAbs().maxCoeff());
    for (Index t = 0; t + 1 < naive.cols(); ++t) {
      const Eigen::ArrayXd p = naive.col(t).array().exp();
      naiveLoss -= std::log(p(sequences[i][static_cast<std::size_t>(t + 1)]) / p.sum());
    }
  });
  const double naivePerplexity = std::exp(naiveLoss / static_cast<double>(meter.predicted()));
  RecordProperty("perplexity", std::to_string(naivePerplexity));
  EXPECT_GT(meter.predicted(), 400);
  EXPECT_NEAR(meter.quality().perplexity / naivePerplexity, 1.0, 1e-5);
  EXPECT_LT(worst, 1e-3);  // logits reach 20
}

TEST(Engine, WritesWhatLlama2cWritesWithTheSameModel) {
  const auto data = gosset::testing::dataFolder();
  if (!data) GTEST_SKIP() << "no data folder";
  const Model model = readLlama2c(*data / "models/stories260K.bin");
  const Tokenizer tokenizer = readTokenizer(*data / "models/tok512.bin", model.config.vocab);
  const Engine engine(floatModel(model));
  KvCache cache(model.config, 64);
  std::vector<Token> tokens = {*tokenizer.bos()};
  while (tokens.size() < 64) {
    const Eigen::VectorXf logits = engine.forwardLast({&tokens.back(), 1}, cache);
    tokens.push_back(static_cast<Token>(detail::argmax(logits)));
  }
  EXPECT_THAT(tokenizer.decode(tokens),
              ::testing::StartsWith("Once upon a time, there was a little girl named Lily. She "
                                    "loved to play outside in the park. One day, she saw a big"));
}

}  // namespace
}  // namespace llama::testing::engine_test
