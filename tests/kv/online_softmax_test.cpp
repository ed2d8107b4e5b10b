// SPDX-License-Identifier: Apache-2.0
#include <gosset/kv/online_softmax.hpp>

#include "testing.hpp"

#include <initializer_list>
#include <utility>

namespace gosset::online_softmax_test {
namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

/// The weighted mean of one query, scores and values coming `step` at a time.
Eigen::VectorXf inSteps(const Eigen::VectorXf& scores, const RowMatrixXf& values, Index step) {
  detail::OnlineSoftmax softmax(values.cols(), 1);
  for (Index first = 0; first < scores.size(); first += step) {
    const Index count = std::min(step, scores.size() - first);
    Eigen::VectorXf weights = scores.segment(first, count);
    softmax.weigh(0, weights.data(), count);
    softmax.output() += values.middleRows(first, count).transpose() * weights;
  }
  return softmax.result(0);
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
  softmax.weigh(0, scores.data(), 9);
  EXPECT_EQ(scores.sum(), 1.f) << "exactly 0 where hidden";
}

TEST(OnlineSoftmax, StartsOver) {
  const RowMatrixXf values = testing::gaussian(9, 7);
  detail::OnlineSoftmax softmax(7, 2);
  Eigen::VectorXf weights = Eigen::VectorXf::Constant(9, 100.f);
  softmax.weigh(1, weights.data(), 9);
  softmax.output().col(1) += values.transpose() * weights;
  EXPECT_FALSE(softmax.result(1).isZero(0));
  softmax.reset(7, 2);
  EXPECT_TRUE(softmax.result(1).isZero(0));
}

TEST(OnlineSoftmax, MergedSumsAreThoseOfAll) {
  const RowMatrixXf values = testing::gaussian(40, 7);
  const Eigen::VectorXf scores = 4 * testing::gaussian(40, 1, 2).col(0);
  const auto over = [&](std::initializer_list<std::pair<Index, Index>> stretches, auto& softmax) {
    for (const auto& [from, to] : stretches) {
      Eigen::VectorXf weights = scores.segment(from, to - from);
      softmax.weigh(0, weights.data(), weights.size());
      softmax.output().col(0) += values.middleRows(from, to - from).transpose() * weights;
    }
  };
  detail::OnlineSoftmax whole(7, 1), first(7, 1), second(7, 1), none(7, 1);
  over({{0, 40}}, whole);
  over({{0, 11}, {11, 23}}, first);
  over({{23, 40}}, second);
  none.merge(first);
  none.merge(detail::OnlineSoftmax(7, 1));
  none.merge(second);
  EXPECT_LT((none.result(0) - whole.result(0)).norm(), 1e-6f * whole.result(0).norm());
  first.merge(second);
  EXPECT_EQ(first.result(0), none.result(0)) << "nothing changes nothing";
  float bad[] = {std::nanf("")};
  detail::OnlineSoftmax nan(7, 1);
  nan.weigh(0, bad, 1);
  first.merge(nan);
  EXPECT_FALSE(first.exists(0));
  EXPECT_TRUE(second.exists(0));
  nan.merge(second);
  EXPECT_FALSE(nan.exists(0));
}

TEST(ExpOfNegative, FollowsExp) {
  const auto check = [](float x, double bound) {
    const float y = detail::expOfNegative(simd::splat<simd::Floats>(x))[0];
    const double expected = std::exp(static_cast<double>(x));
    EXPECT_LE(std::abs(static_cast<double>(y) - expected), bound * expected) << x;
  };
  for (int i = 0; i <= 8700; ++i) check(static_cast<float>(-i) * 0.01f, 3 * 0x1p-24);
  EXPECT_EQ(detail::expOfNegative(simd::Floats{})[0], 1.f);
  EXPECT_EQ(detail::expOfNegative(simd::splat<simd::Floats>(-87.5f))[0], 0.f);
  EXPECT_EQ(detail::expOfNegative(simd::splat<simd::Floats>(kHidden))[0], 0.f);
  EXPECT_TRUE(std::isnan(detail::expOfNegative(simd::splat<simd::Floats>(std::nanf("")))[0]));
}

}  // namespace
}  // namespace gosset::online_softmax_test
