// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/backprop.hpp"

#include "testing.hpp"

#include <cmath>
#include <vector>

namespace llama::backprop_test {
namespace {

using gosset::testing::expectThrows;
using gosset::testing::normal;

// Odd sizes throughout; 40 tokens need two blocks of attention rows, the second one not full.
const Config kTiny = {
    .dim = 12, .hidden = 7, .layers = 2, .heads = 6, .kvHeads = 3, .headDim = 2, .vocab = 11, .context = 40};

template <class Scalar>
void fillNormal(Parameters<Scalar>& parameters, std::uint64_t seed) {
  for (Index i = 0; i < parameters.values().size(); ++i) {
    parameters.values()(i) = static_cast<Scalar>(0.4 * normal(seed, static_cast<std::uint64_t>(i)));
  }
}

std::vector<Token> someTokens(const Config& config, std::size_t count) {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<Token>(gosset::randomBits(3, i) % static_cast<std::uint64_t>(config.vocab)));
  }
  return tokens;
}

/// The loss of a model whose parameter `i` is moved by `by`.
double lossMoved(Backprop<double>& backprop, Parameters<double>& parameters, const std::vector<Token>& tokens, Index i,
                 double by) {
  const double kept = parameters.values()(i);
  parameters.values()(i) = kept + by;
  const double loss = backprop.loss(parameters, tokens);
  parameters.values()(i) = kept;
  return loss;
}

class GradientTest : public ::testing::TestWithParam<std::size_t> {};

// Every parameter's derivative, against the difference quotient (f(x + h) - f(x - h)) / 2h in double, whose own error
// is about h^2 + 1e-16 / h.
TEST_P(GradientTest, EqualsDifferenceQuotients) {
  const std::vector<Token> tokens = someTokens(kTiny, GetParam());
  Parameters<double> parameters(kTiny), gradient(kTiny);
  fillNormal(parameters, 1);
  Backprop<double> backprop(kTiny);
  backprop.lossAndGradient(parameters, tokens, gradient);
  const double step = 1e-5;
  double largest = 0;
  for (Index i = 0; i < parameters.values().size(); ++i) {
    const double quotient =
        (lossMoved(backprop, parameters, tokens, i, step) - lossMoved(backprop, parameters, tokens, i, -step)) /
        (2 * step);
    ASSERT_NEAR(gradient.values()(i), quotient, 1e-8) << "parameter " << i;
    largest = std::max(largest, std::abs(quotient));
  }
  EXPECT_GT(largest, 0.01);  // there was something to get wrong
}

INSTANTIATE_TEST_SUITE_P(Lengths, GradientTest, ::testing::Values(2, 9, 41));

TEST(BackpropTest, PredictionsAreTheSoftmaxThatTheLossIsOf) {
  const std::vector<Token> tokens = someTokens(kTiny, 9);
  Parameters<double> parameters(kTiny);
  fillNormal(parameters, 1);
  Backprop<double> backprop(kTiny);
  const RowMatrix<double> p = backprop.predictions(parameters, tokens);
  ASSERT_EQ(p.rows(), 8);
  double loss = 0;
  for (Index i = 0; i < 8; ++i) {
    EXPECT_NEAR(p.row(i).sum(), 1, 1e-14);
    loss -= std::log(p(i, tokens[static_cast<std::size_t>(i + 1)])) / 8;
  }
  EXPECT_NEAR(backprop.loss(parameters, tokens), loss, 1e-12);
}

// The divergence from a teacher's predictions: none from its own, and its derivative by differences.
TEST(BackpropTest, LearnsFromATeacher) {
  const std::vector<Token> tokens = someTokens(kTiny, 9);
  Parameters<double> parameters(kTiny), teacher(kTiny), gradient(kTiny), unused(kTiny);
  fillNormal(parameters, 1);
  fillNormal(teacher, 2);
  Backprop<double> backprop(kTiny);
  const RowMatrix<double> target = backprop.predictions(teacher, tokens);
  const double loss = backprop.divergenceAndGradient(parameters, tokens, target, gradient);
  EXPECT_GT(loss, 0.1);
  EXPECT_NEAR(backprop.divergenceAndGradient(teacher, tokens, target, unused), 0, 1e-13);
  EXPECT_LT(unused.values().norm(), 1e-12);
  const double step = 1e-5;
  for (Index i = 0; i < parameters.values().size(); i += 7) {
    const double kept = parameters.values()(i);
    parameters.values()(i) = kept + step;
    const double above = backprop.divergenceAndGradient(parameters, tokens, target, unused);
    parameters.values()(i) = kept - step;
    const double below = backprop.divergenceAndGradient(parameters, tokens, target, unused);
    parameters.values()(i) = kept;
    ASSERT_NEAR(gradient.values()(i), (above - below) / (2 * step), 1e-8) << "parameter " << i;
  }
  // A word that the teacher rules out counts nothing.
  RowMatrix<double> sure = RowMatrix<double>::Zero(8, 11);
  sure.col(4).setOnes();
  EXPECT_NEAR(backprop.divergenceAndGradient(parameters, tokens, sure, unused),
              -backprop.predictions(parameters, tokens).col(4).array().log().mean(), 1e-12);
}

TEST(BackpropTest, FloatGradientIsTheDoubleOneRounded) {
  const std::vector<Token> tokens = someTokens(kTiny, 41);
  Parameters<double> parameters(kTiny), gradient(kTiny);
  Parameters<float> floats(kTiny), floatGradient(kTiny);
  fillNormal(parameters, 2);
  floats.values() = parameters.values().cast<float>();
  const double loss = Backprop<double>(kTiny).lossAndGradient(parameters, tokens, gradient);
  const double floatLoss = Backprop<float>(kTiny).lossAndGradient(floats, tokens, floatGradient);
  EXPECT_NEAR(floatLoss, loss, 1e-5);
  EXPECT_LT((floatGradient.values().cast<double>() - gradient.values()).norm(), 1e-5 * gradient.values().norm());
}

// With all weights zero every token is as likely as any other.
TEST(BackpropTest, LossOfNoKnowledgeIsLogVocab) {
  const Parameters<double> zero(kTiny);
  EXPECT_NEAR(Backprop<double>(kTiny).loss(zero, someTokens(kTiny, 10)), std::log(11.0), 1e-14);
}

TEST(BackpropTest, LaterTokensDoNotChangeEarlierPredictions) {
  Parameters<double> parameters(kTiny);
  fillNormal(parameters, 5);
  Backprop<double> backprop(kTiny);
  std::vector<Token> tokens = someTokens(kTiny, 40);
  const auto sumOfFirst = [&](std::size_t predictions) {
    return backprop.loss(parameters, std::span(tokens).first(predictions + 1)) * static_cast<double>(predictions);
  };
  // The loss of 35 predictions is that of the first 33, plus two more: their parts must be positive.
  EXPECT_GT(sumOfFirst(34), sumOfFirst(33));
  EXPECT_GT(sumOfFirst(35), sumOfFirst(34));
  const double before = sumOfFirst(33);
  tokens[39] = (tokens[39] + 1) % 11;
  EXPECT_EQ(sumOfFirst(33), before);
}

// Buffers kept from a longer sequence must not leak into a shorter one.
TEST(BackpropTest, ForgetsTheSequenceBefore) {
  Parameters<double> parameters(kTiny), fresh(kTiny), reused(kTiny);
  fillNormal(parameters, 6);
  const std::vector<Token> tokens = someTokens(kTiny, 41);
  const std::span<const Token> few = std::span(tokens).subspan(7, 9);
  Backprop<double> backprop(kTiny);
  backprop.lossAndGradient(parameters, tokens, reused);
  EXPECT_EQ(backprop.lossAndGradient(parameters, few, reused),
            Backprop<double>(kTiny).lossAndGradient(parameters, few, fresh));
  EXPECT_EQ(reused.values(), fresh.values());
}

TEST(BackpropTest, RejectsTokensThatDoNotFit) {
  const Parameters<double> zero(kTiny);
  Backprop<double> backprop(kTiny);
  expectThrows([&] { backprop.loss(zero, someTokens(kTiny, 1)); }, "tokens: 2 to 41 expected, found 1");
  expectThrows([&] { backprop.loss(zero, someTokens(kTiny, 42)); }, "tokens: 2 to 41 expected, found 42");
  expectThrows([&] { backprop.loss(zero, std::vector<Token>{1, 11}); }, "tokens: values below 11 expected, found 11");
  expectThrows([&] { backprop.loss(zero, std::vector<Token>{-1, 3}); }, "tokens: values below 11 expected, found -1");
}

TEST(ParametersTest, CountsAndOrdersItsParts) {
  Parameters<float> parameters(kTiny);
  EXPECT_EQ(Parameters<float>::count(kTiny), 11 * 12 + 2 * (2 * 12 + 2 * 12 * (12 + 6) + 3 * 12 * 7) + 12);
  EXPECT_EQ(parameters.values().size(), Parameters<float>::count(kTiny));
  Index linears = 0;
  parameters.forEachLinear([&](auto& w) { w.setConstant(static_cast<float>(++linears)); });
  EXPECT_EQ(linears, 14);
  EXPECT_EQ(parameters.layers[1].w2(11, 6), 14.f);
  const Parameters<float> moved = std::move(parameters);
  EXPECT_EQ(moved.layers[0].wq(11, 11), 1.f);
  EXPECT_EQ(moved.values().sum(), moved.layers[0].wq.size() * (1 + 4 + 8 + 11) +
                                      moved.layers[0].wk.size() * (2 + 3 + 9 + 10) +
                                      moved.layers[0].w1.size() * (5 + 6 + 7 + 12 + 13 + 14));
}

// toModel() must not mix up matrices of the same shape.
TEST(ParametersTest, ModelHasEachMatrixInItsPlace) {
  Parameters<float> parameters(kTiny);
  fillNormal(parameters, 4);
  const Model model = toModel(parameters);
  EXPECT_EQ(model.config, kTiny);
  EXPECT_EQ(model.embedding, parameters.embedding);
  EXPECT_EQ(model.finalNorm, parameters.finalNorm);
  EXPECT_FALSE(model.output.has_value());
  ASSERT_EQ(model.layers.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& from = parameters.layers[i];
    const auto& to = model.layers[i];
    EXPECT_EQ(to.attentionNorm, from.attentionNorm);
    EXPECT_EQ(to.wq, from.wq);
    EXPECT_EQ(to.wk, from.wk);
    EXPECT_EQ(to.wv, from.wv);
    EXPECT_EQ(to.wo, from.wo);
    EXPECT_EQ(to.ffnNorm, from.ffnNorm);
    EXPECT_EQ(to.w1, from.w1);
    EXPECT_EQ(to.w2, from.w2);
    EXPECT_EQ(to.w3, from.w3);
  }
}

}  // namespace
}  // namespace llama::backprop_test
