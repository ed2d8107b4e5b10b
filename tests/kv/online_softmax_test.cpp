// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/online_softmax.hpp>

#include "testing.hpp"

namespace gosset {
namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

/// The weighted mean of one query, scores and values coming `step` at a time.
Eigen::VectorXf inSteps(const Eigen::VectorXf& scores, const RowMatrixXf& values, Index step) {
  detail::OnlineSoftmax softmax(values.cols(), 1);
  for (Index first = 0; first < scores.size(); first += step) {
    const Index count = std::min(step, scores.size() - first);
    Eigen::VectorXf weights = scores.segment(first, count);
    softmax.weigh(0, weights);
    softmax.output() += values.middleRows(first, count).transpose() * weights;
  }
  return softmax.result();
}

TEST(OnlineSoftmax, StepsMakeNoDifference) {
  const RowMatrixXf values = testing::gaussian(65, 7);
  for (const float spread : {0.f, 1.f, 50.f, 1e6f}) {
    const Eigen::VectorXf scores = testing::gaussian(65, 1, 2) * spread;
    const Eigen::VectorXd weights = (scores.cast<double>().array() - static_cast<double>(scores.maxCoeff())).exp();
    const Eigen::VectorXd expected = values.transpose().cast<double>() * weights / weights.sum();
    for (const Index step : {1, 8, 65}) {
      EXPECT_LT((inSteps(scores, values, step).cast<double>() - expected).norm(), 1e-5) << spread << ' ' << step;
    }
  }
}

TEST(OnlineSoftmax, HiddenScoresWeighNothing) {
  const RowMatrixXf values = testing::gaussian(9, 7);
  Eigen::VectorXf scores = Eigen::VectorXf::Constant(9, kHidden);
  EXPECT_TRUE(inSteps(scores, values, 2).isZero(0));
  scores[4] = -1e30f;
  EXPECT_EQ(inSteps(scores, values, 2), values.row(4).transpose());
  detail::OnlineSoftmax softmax(1, 1);
  softmax.weigh(0, scores);
  EXPECT_EQ(scores.sum(), 1.f) << "exactly 0 where hidden";
}

}  // namespace
}  // namespace gosset
