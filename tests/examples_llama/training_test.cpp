// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/training.hpp"

#include "../../examples/llama/byte_pair.hpp"

#include "files.hpp"
#include "testing.hpp"

#include <cmath>
#include <stdexcept>
#include <vector>

namespace llama::training_test {
namespace {

const Config kSmall = {
    .dim = 12, .hidden = 7, .layers = 2, .heads = 6, .kvHeads = 3, .headDim = 2, .vocab = 340, .context = 24};

Tokenizer smallTokenizer() {
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < 50; ++i) texts.push_back(writeStory(1, i).text);
  return testing::tokenizerOf(trainTokenizer(texts, kSmall.vocab));
}

/// Runs `action` with so many threads where there is OpenMP.
template <class Action>
void withThreads([[maybe_unused]] int threads, Action&& action) {
#ifdef _OPENMP
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  action();
  omp_set_num_threads(before);
#else
  action();
#endif
}

// The first step of Adam goes by the learning rate against each gradient's sign, however large that is; decay comes on
// top, and clipping, which scales a gradient of norm 5 to 1, changes nothing but epsilon's share.
TEST(AdamTest, FirstStepGoesByTheRate) {
  Eigen::VectorXf x = Eigen::Vector3f(1.f, 1.f, 1.f);
  Adam adam(Eigen::Vector3f(0.f, 0.f, 1.f), {.weightDecay = 0.5f});
  EXPECT_FLOAT_EQ(adam.step(x, Eigen::Vector3f(3.f, -4.f, 0.f), 0.01f), 5.f);
  EXPECT_FLOAT_EQ(x(0), 0.99f);
  EXPECT_FLOAT_EQ(x(1), 1.01f);
  EXPECT_FLOAT_EQ(x(2), 0.995f);
}

// Two steps by hand, with betas of 1/2: means g/2 and then g1/4 + g2/2, divided by 1/2 and 3/4.
TEST(AdamTest, SecondStepByHand) {
  Eigen::VectorXf x = Eigen::VectorXf::Zero(1);
  Adam adam(Eigen::VectorXf::Zero(1), {.beta1 = 0.5f, .beta2 = 0.5f, .epsilon = 0.f, .clip = 100.f});
  adam.step(x, Eigen::VectorXf::Constant(1, 2.f), 1.f);
  EXPECT_FLOAT_EQ(x(0), -1.f);
  adam.step(x, Eigen::VectorXf::Constant(1, -1.f), 1.f);
  const double mean = (2 / 4.0 - 1 / 2.0) / 0.75, square = (4 / 4.0 + 1 / 2.0) / 0.75;
  EXPECT_NEAR(x(0), -1 - mean / std::sqrt(square), 1e-6);
}

// The same, of gradients of 1/2 and -4, the second of which counts as -1.
TEST(AdamTest, AGradientOfGreaterNormIsScaledDownToTheBound) {
  Eigen::VectorXf x = Eigen::VectorXf::Zero(1);
  Adam adam(Eigen::VectorXf::Zero(1), {.beta1 = 0.5f, .beta2 = 0.5f, .epsilon = 0.f, .clip = 1.f});
  adam.step(x, Eigen::VectorXf::Constant(1, 0.5f), 1.f);
  EXPECT_FLOAT_EQ(adam.step(x, Eigen::VectorXf::Constant(1, -4.f), 1.f), 4.f);
  const double mean = (0.5 / 4 - 1 / 2.0) / 0.75, square = (0.25 / 4 + 1 / 2.0) / 0.75;
  EXPECT_NEAR(x(0), -1 - mean / std::sqrt(square), 1e-6);
}

TEST(AdamTest, LearningRateRisesAndFalls) {
  EXPECT_FLOAT_EQ(warmupCosine(0, 110, 10, 2.f), 0.2f);
  EXPECT_FLOAT_EQ(warmupCosine(9, 110, 10, 2.f), 2.f);
  EXPECT_FLOAT_EQ(warmupCosine(10, 110, 10, 2.f), 2.f);
  EXPECT_FLOAT_EQ(warmupCosine(60, 110, 10, 2.f), 1.05f);
  EXPECT_NEAR(warmupCosine(109, 110, 10, 2.f), 0.1, 0.001);
  EXPECT_FLOAT_EQ(warmupCosine(0, 1, 0, 2.f), 2.f);
}

TEST(TrainingTest, SequencesAreStoriesEndToEnd) {
  const Tokenizer tokenizer = smallTokenizer();
  const std::vector<Token> tokens = trainingSequence(tokenizer, 3, 5, 600);
  ASSERT_EQ(tokens.size(), 600u);
  const std::uint64_t stream = gosset::randomBits(3, 5);
  std::vector<Token> expected = tokenizer.encode(writeStory(stream, 0).text);
  const std::vector<Token> second = tokenizer.encode(writeStory(stream, 1).text);
  expected.insert(expected.end(), second.begin(), second.end());
  expected.resize(std::min<std::size_t>(expected.size(), 600));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), tokens.begin()));
  EXPECT_NE(trainingSequence(tokenizer, 3, 6, 600), tokens);
}

TEST(TrainingTest, GradientIsTheMeanWhateverTheThreads) {
  const Tokenizer tokenizer = smallTokenizer();
  Parameters<float> parameters(kSmall);
  initialize(parameters, 4);
  const auto sequence = [&](std::size_t i) { return trainingSequence(tokenizer, 9, i, 25); };
  Eigen::VectorXf expected = Eigen::VectorXf::Zero(parameters.values().size());
  double expectedLoss = 0;
  for (std::size_t i = 0; i < 5; ++i) {
    Parameters<float> gradient(kSmall);
    expectedLoss += Backprop<float>(kSmall).lossAndGradient(parameters, sequence(i), gradient) / 5;
    expected += gradient.values() / 5;
  }
  std::vector<Eigen::VectorXf> gradients;
  std::vector<double> losses;
  for (const int threads : {1, 2, 3}) {
    withThreads(threads, [&] {
      BatchBackprop batch(kSmall);
      losses.push_back(batch.lossAndGradient(parameters, 5, sequence));
      gradients.push_back(batch.gradient().values());
      losses.push_back(batch.lossAndGradient(parameters, 5, sequence));  // nothing stays behind
      gradients.push_back(batch.gradient().values());
    });
  }
  EXPECT_NEAR(losses[0], expectedLoss, 1e-12);
  EXPECT_LT((gradients[0] - expected).norm(), 1e-6f * expected.norm());
  for (std::size_t i = 1; i < losses.size(); ++i) {
    EXPECT_EQ(losses[i], losses[0]);
    EXPECT_EQ(gradients[i], gradients[0]);
  }
}

TEST(TrainingTest, TheLastQuarterOfStoriesIsHeldOut) {
  const std::string end = "<|endoftext|>";
  const auto split = [](const std::string& text) { return splitStories(text, "s.txt"); };
  const std::string first(60, 'a'), second(7, 'b');
  EXPECT_EQ(split(first + end + second), std::pair(first, second));  // the mark begins just there: at 60 of 80
  const std::string early(50, 'a');
  EXPECT_EQ(split(early + end + "bbbb" + end + "c"), std::pair(early + end + "bbbb", std::string("c")));
  const std::string late(100, 'a');
  EXPECT_EQ(split(late + end + "cc" + end), std::pair(late, "cc" + end));
  const std::string refused = "s.txt: stories divided by <|endoftext|> expected, found none in the last quarter";
  for (const std::string& text :
       {std::string(), std::string(80, 'a'), end + std::string(80, 'a'), first + end, first + end + " \n ", end}) {
    gosset::testing::expectThrows<gosset::FormatError>([&] { split(text); }, refused);
  }
}

TEST(TrainingTest, StoriesAreJoinedEachBehindABegin) {
  const Tokenizer tokenizer = smallTokenizer();
  const std::vector<Token> a = tokenizer.encode("Once upon a time."), b = tokenizer.encode("The end.");
  std::vector<Token> both = a;
  both.insert(both.end(), b.begin(), b.end());
  EXPECT_EQ(joinedTokens(tokenizer, "Once upon a time.<|endoftext|>The end."), both);
  EXPECT_EQ(a.front(), b.front());
  EXPECT_EQ(joinedTokens(tokenizer, "The end."), b);
  EXPECT_TRUE(joinedTokens(tokenizer, "").empty());
}

TEST(TrainingTest, WindowsReachBothEnds) {
  const std::vector<Token> tokens = {5, 6, 7, 8, 9};
  EXPECT_EQ(windowOf(tokens, 0, 3), (std::vector<Token>{5, 6, 7}));
  EXPECT_EQ(windowOf(tokens, 1, 3), (std::vector<Token>{6, 7, 8}));
  EXPECT_EQ(windowOf(tokens, 2, 3), (std::vector<Token>{5, 6, 7}));
  EXPECT_EQ(windowOf(tokens, ~std::uint64_t{0}, 4), (std::vector<Token>{5, 6, 7, 8}));
}

// Two sequences of 1 and 3 predictions count 1 to 3.
TEST(TrainingTest, LossIsPerToken) {
  Parameters<float> parameters(kSmall);
  initialize(parameters, 5);
  const std::vector<Token> a = {1, 260}, b = {1, 300, 7, 339};
  Backprop<float> single(kSmall);
  const double expected = (single.loss(parameters, a) + 3 * single.loss(parameters, b)) / 4;
  BatchBackprop batch(kSmall);
  EXPECT_NEAR(batch.loss(parameters, {a, b}), expected, 1e-12);
}

TEST(TrainingTest, ErrorsLeaveTheThreads) {
  const Parameters<float> zero(kSmall);
  BatchBackprop batch(kSmall);
  gosset::testing::expectThrows([&] { batch.loss(zero, {{1, 2}, {1, 340}}); }, "values below 340 expected, found 340");
}

TEST(TrainingTest, Learns) {
  const Tokenizer tokenizer = smallTokenizer();
  Parameters<float> parameters(kSmall);
  initialize(parameters, 6);
  Adam adam(decaying(kSmall));
  BatchBackprop batch(kSmall);
  std::vector<double> losses;
  for (std::size_t step = 0; step < 60; ++step) {
    losses.push_back(batch.lossAndGradient(
        parameters, 4, [&](std::size_t i) { return trainingSequence(tokenizer, 11, step * 4 + i, 25); }));
    adam.step(parameters.values(), batch.gradient().values(), 0.01f);
  }
  EXPECT_NEAR(losses.front(), std::log(340.0), 0.2);  // it knew nothing
  EXPECT_LT(losses.back(), 4.5);
}

TEST(TrainingTest, WeightDecayIsForLinearLayers) {
  const Eigen::VectorXf mask = decaying(kSmall);
  EXPECT_EQ(mask.sum(), 2 * (2 * 12 * (12 + 6) + 3 * 12 * 7));
  EXPECT_EQ(mask.head(340 * 12).sum(), 0.f);
}

}  // namespace
}  // namespace llama::training_test
