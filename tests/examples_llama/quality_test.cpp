// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/quality.hpp"

#include "testing.hpp"

#include <cmath>

namespace llama::quality_test {
namespace {

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

/// A meter of `sequences`: each the divergences of its tokens.
QualityMeter meterOf(const std::vector<std::vector<double>>& sequences) {
  QualityMeter meter;
  for (const auto& sequence : sequences) {
    meter.beginSequence();
    for (const double divergence : sequence) meter.addLoss(0, divergence, true);
  }
  return meter;
}

// Two sequences, means 1 and 3, of 2 and 1 tokens: m = 5 / 3, s - m n = 2 - 10/3 and 3 - 5/3, so 2 (4/3)^2 2 / 9.
TEST(QualityMeter, TheErrorIsThatOfARatioOfSums) {
  const Quality q = meterOf({{1, 1}, {3}}).quality();
  EXPECT_DOUBLE_EQ(q.klDivergence, 5.0 / 3);
  EXPECT_DOUBLE_EQ(q.klError, std::sqrt(2 * 2 * 16.0 / 9) / 3);
}

TEST(QualityMeter, SequencesOfOneTokenHaveTheTextbooksError) {
  // 1, 2, 3, 4: deviation sqrt(5/3), divided by sqrt(4).
  EXPECT_DOUBLE_EQ(meterOf({{1}, {2}, {3}, {4}}).quality().klError, std::sqrt(5.0 / 3) / 2);
}

TEST(QualityMeter, TokensThatAgreeWithinASequenceAreNoMoreThanOne) {
  std::vector<std::vector<double>> once, often;
  for (std::uint64_t i = 0; i < 50; ++i) {
    once.push_back({std::abs(gosset::testing::normal(3, i))});
    often.emplace_back(100, once.back()[0]);
  }
  EXPECT_NEAR(meterOf(often).quality().klError, meterOf(once).quality().klError, 1e-12);
}

TEST(QualityMeter, ALongSequenceIsManyBlocks) {
  std::vector<double> sequence(2 * QualityMeter::kBlock, 1.0);
  EXPECT_EQ(meterOf({sequence}).quality().klError, 0);
  std::fill(sequence.begin() + QualityMeter::kBlock, sequence.end(), 3.0);
  EXPECT_DOUBLE_EQ(meterOf({sequence}).quality().klError, 1);  // two blocks with means 1 and 3
  sequence.resize(QualityMeter::kBlock);
  EXPECT_TRUE(std::isnan(meterOf({sequence}).quality().klError));  // one block tells nothing of others
  EXPECT_TRUE(std::isnan(meterOf({{}, {1, 2}, {}}).quality().klError));
}

// The mean of 40 sequences of correlated tokens, 2000 times: the error said is the deviation found.
TEST(QualityMeter, TheErrorIsHowFarTheMeanIsOff) {
  std::uint64_t draw = 0;
  double sum = 0, squares = 0, said = 0;
  constexpr int kTrials = 2000;
  for (int trial = 0; trial < kTrials; ++trial) {
    QualityMeter meter;
    for (int i = 0; i < 40; ++i) {
      meter.beginSequence();
      const double story = gosset::testing::normal(5, draw++);
      const int tokens = 5 + static_cast<int>(gosset::randomBits(6, draw) % 20);
      for (int t = 0; t < tokens; ++t) meter.addLoss(0, 10 + story + gosset::testing::normal(5, draw++), true);
    }
    const Quality q = meter.quality();
    sum += q.klDivergence;
    squares += q.klDivergence * q.klDivergence;
    said += q.klError;
  }
  const double deviation = std::sqrt(squares / kTrials - (sum / kTrials) * (sum / kTrials));
  EXPECT_NEAR(said / kTrials / deviation, 1, 0.05);
}

TEST(QualityMeter, TheQuantileLeavesOneTokenOfAThousand) {
  std::vector<double> sequence;
  for (int i = 1; i <= 999; ++i) sequence.push_back(i);
  EXPECT_EQ(meterOf({sequence}).quality().klQuantile, 999);
  sequence.push_back(1000);
  EXPECT_EQ(meterOf({sequence}).quality().klQuantile, 999);
  for (int i = 1001; i <= 5000; ++i) sequence.insert(sequence.begin(), i);
  EXPECT_EQ(meterOf({sequence}).quality().klQuantile, 4995);
  EXPECT_EQ(meterOf({{7}}).quality().klQuantile, 7);
}

TEST(LossText, KeepsItsColumns) {
  EXPECT_EQ(lossText({1.5, 0.25, 0.0125, 3, 1}), "     1.5000   0.25000  0.01250   3.0000");
  EXPECT_EQ(lossText({12345678, 0.25, std::nan(""), 3, 1}), "  1.235e+07   0.25000        -   3.0000");
}

}  // namespace
}  // namespace llama::quality_test
