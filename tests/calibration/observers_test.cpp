// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/observers.hpp>
#include <gosset/codebook.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::observers_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

template <class Observer>
Observer seeing(const std::vector<RowMatrixXf>& batches) {
  Observer observer;
  for (const auto& batch : batches) observer.observe(batch);
  return observer;
}

std::vector<RowMatrixXf> threeBatches() {
  return {gaussian(7, 9, 1) * 1e-3f, gaussian(20, 9, 2), RowMatrixXf(gaussian(1, 9, 3) * 300.f)};
}

TEST(MinMaxObserver, SeesTheEnds) {
  Eigen::Matrix<double, 2, 2> a;
  a << 1, -2, 0, 5;
  MinMaxObserver observer;
  observer.observe(a);
  EXPECT_EQ(observer.range(), (ValueRange{-2, 5}));
  observer.observe(Eigen::RowVector2f(7, -0.f));
  observer.observe(RowMatrixXf(0, 3));
  EXPECT_EQ(observer.range(), (ValueRange{-2, 7}));
}

TEST(MinMaxObserver, PartsMergeIntoTheWhole) {
  const auto batches = threeBatches();
  MinMaxObserver merged = seeing<MinMaxObserver>({batches[2]});
  merged.merge(seeing<MinMaxObserver>({batches[0], batches[1]}));
  merged.merge(MinMaxObserver{});
  EXPECT_EQ(merged.range(), seeing<MinMaxObserver>(batches).range());
}

TEST(MovingAverageObserver, FollowsSlowly) {
  MovingAverageObserver observer(0.25);
  observer.observe(Eigen::RowVector2f(-4, 8));
  EXPECT_EQ(observer.range(), (ValueRange{-4, 8}));
  observer.observe(Eigen::RowVector2f(0, 16));
  EXPECT_EQ(observer.range(), (ValueRange{-3, 10}));
  observer.observe(RowMatrixXf(3, 0));
  EXPECT_EQ(observer.range(), (ValueRange{-3, 10}));
  MovingAverageObserver other(0.25);
  other.observe(Eigen::RowVector2f(-9, 4));
  observer.merge(other);  // two batches and one
  EXPECT_EQ(observer.range(), (ValueRange{-5, 8}));
  observer.merge(MovingAverageObserver{});
  EXPECT_EQ(observer.range(), (ValueRange{-5, 8}));
}

TEST(HistogramObserver, CountsInBinsOfAPowerOfTwo) {
  HistogramObserver observer;
  observer.observe(Eigen::RowVector4f(2047.5f, -2048.f, 0, -0.f));
  EXPECT_EQ(observer.binWidth(), 2) << "-2048 is the first number that bins of 1 would hold, but 2048 is not";
  EXPECT_EQ(observer.counts()[2048 + 1023], 1);
  EXPECT_EQ(observer.counts()[2048 - 1024], 1);
  EXPECT_EQ(observer.counts()[2048], 2);
  EXPECT_EQ(observer.total(), 4);
  EXPECT_EQ(observer.range(), (ValueRange{-2048, 2047.5f}));
}

TEST(HistogramObserver, DependsOnTheNumbersAlone) {
  const auto b = threeBatches();
  const auto whole = seeing<HistogramObserver>({b[0], b[1], b[2]});
  const auto backwards = seeing<HistogramObserver>({b[2], b[1], b[0]});
  auto merged = seeing<HistogramObserver>({b[1]});
  merged.merge(seeing<HistogramObserver>({b[2]}));
  merged.merge(seeing<HistogramObserver>({b[0]}));
  merged.merge(HistogramObserver{});
  auto other_way = seeing<HistogramObserver>({b[0]});
  other_way.merge(seeing<HistogramObserver>({b[2], b[1]}));
  for (const auto& observer : {backwards, merged, other_way}) {
    EXPECT_EQ(observer.counts(), whole.counts());
    EXPECT_EQ(observer.binWidth(), whole.binWidth());
    EXPECT_EQ(observer.total(), whole.total());
    EXPECT_EQ(observer.range(), whole.range());
  }
}

TEST(HistogramObserver, PercentilesOfARamp) {
  Eigen::VectorXf ramp = Eigen::VectorXf::LinSpaced(100001, -1, 3);
  HistogramObserver observer;
  observer.observe(ramp);
  const ValueRange middle = observer.percentile(99);
  EXPECT_NEAR(middle.min, -0.96, 0.002);
  EXPECT_NEAR(middle.max, 2.96, 0.002);
  EXPECT_EQ(observer.percentile(100), (ValueRange{-1, 3}));
}

TEST(HistogramObserver, LeastSquaresFindsTheOptimalStepOfAGaussian) {
  HistogramObserver observer;
  observer.observe(gaussian(1000, 500));
  // Optimal uniform steps for N(0, 1): 0.3350 for 16 levels, 0.5860 for 8, 0.9957 for 4.
  EXPECT_NEAR(affineOf<Asymmetric<4>>(observer.leastSquares<Asymmetric<4>>()).scale, 0.3350, 0.012);
  EXPECT_NEAR(affineOf<Asymmetric<3>>(observer.leastSquares<Asymmetric<3>>()).scale, 0.5860, 0.02);
  EXPECT_NEAR(affineOf<Asymmetric<2>>(observer.leastSquares<Asymmetric<2>>()).scale, 0.9957, 0.04);
  EXPECT_LT(observer.leastSquares<Symmetric<4>>().max, observer.range().max);
}

TEST(HistogramObserver, LeastDivergenceCutsOutliersOff) {
  RowMatrixXf x = gaussian(1000, 100);
  x(0, 0) = 30;
  x(0, 1) = -30;
  HistogramObserver observer;
  observer.observe(x);
  const ValueRange symmetric = observer.leastDivergence<Symmetric<4>>();
  EXPECT_LT(symmetric.max, 12);
  EXPECT_GT(symmetric.max, 1.5);
  const ValueRange asymmetric = observer.leastDivergence<Asymmetric<4>>();
  EXPECT_LT(asymmetric.max - asymmetric.min, 24);
}

TEST(Observers, ConstantZeroTinyAndHugeNumbers) {
  constexpr float kMax = std::numeric_limits<float>::max(), kMin = std::numeric_limits<float>::denorm_min();
  for (const float value : {0.f, 1.f, -3.f, kMin, -kMin, kMax, -kMax}) {
    HistogramObserver observer;
    observer.observe(RowMatrixXf::Constant(3, 3, value));
    for (const ValueRange& range : {observer.range(), observer.percentile(99.9), observer.leastSquares<Asymmetric<4>>(),
                                    observer.leastDivergence<Symmetric<8>>()}) {
      EXPECT_TRUE(std::isfinite(range.min) && std::isfinite(range.max) && range.min <= range.max) << value;
    }
    EXPECT_EQ(observer.percentile(99.9), (ValueRange{value, value}));
  }
}

TEST(Observers, GiveAffineMaps) {
  EXPECT_EQ((affineOf<Symmetric<8>>(ValueRange{-127, 3})), (Affine{1, 0}));
  EXPECT_EQ((affineOf<Asymmetric<8>>(ValueRange{-55, 200})), (Affine{1, 55}));
}

TEST(Observers, RefuseWhatTheyCannotUse) {
  const Eigen::RowVector2f bad(1, std::numeric_limits<float>::quiet_NaN());
  MinMaxObserver min_max;
  MovingAverageObserver average;
  HistogramObserver histogram;
  expectThrows([&] { min_max.observe(bad); }, "MinMaxObserver: the batch holds NaN");
  expectThrows([&] { average.observe(bad); }, "the batch holds NaN");
  expectThrows([&] { histogram.observe(bad); }, "the batch holds NaN");
  expectThrows([&] { min_max.range(); }, "MinMaxObserver: expected at least one number to have been observed");
  expectThrows([&] { average.range(); }, "MovingAverageObserver: expected at least one number");
  expectThrows([&] { histogram.leastSquares<Symmetric<8>>(); }, "expected at least one number");
  expectThrows([&] { MovingAverageObserver(0); }, "MovingAverageObserver: expected a rate in (0, 1], got 0");
  expectThrows([&] { histogram.percentile(50); }, "HistogramObserver: expected a percentile in (50, 100], got 50");
}

}  // namespace
}  // namespace gosset::observers_test
