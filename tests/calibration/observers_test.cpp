// SPDX-License-Identifier: Apache-2.0
#include <gosset/calibration/observers.hpp>
#include <gosset/codebook.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <utility>
#include <vector>

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
  MovingAverageObserver merged = other;
  merged.merge(observer);  // one batch and two
  EXPECT_NEAR(merged.range().min, -5, 1e-5);
  EXPECT_NEAR(merged.range().max, 8, 1e-5);
  merged.merge(other);  // three and one
  EXPECT_NEAR(merged.range().min, -6, 1e-5);
  EXPECT_NEAR(merged.range().max, 7, 1e-5);
  observer.merge(other);  // two and one
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

TEST(HistogramObserver, PercentilesByHand) {
  HistogramObserver observer;  // bins of 2^-9, as 2048 of 2^-10 end at 2
  observer.observe(Eigen::RowVector4f(0.5f, 1.5f, 2.5f, 3.5f));
  EXPECT_EQ(observer.binWidth(), 0x1p-9);
  // 2.5 and 1.5 of 4 numbers: half of the third's bin, and of the second's.
  EXPECT_EQ(observer.percentile(62.5), (ValueRange{1.5f + 0x1p-10f, 2.5f + 0x1p-10f}));
  EXPECT_EQ(observer.percentile(75), (ValueRange{0.5f + 0x1p-9f, 2.5f + 0x1p-9f}));
  EXPECT_EQ(observer.percentile(100), (ValueRange{0.5f, 3.5f}));
  HistogramObserver negative;
  negative.observe(Eigen::RowVector4f(-0.5f, -1.5f, -2.5f, -3.5f));
  EXPECT_EQ(negative.percentile(62.5), (ValueRange{-2.5f + 0x1p-10f, -1.5f + 0x1p-10f}));
  EXPECT_EQ(negative.percentile(87.5), (ValueRange{-3.5f + 0x1p-10f, -0.5f}));
}

/// Numbers and how often they come.
using Counted = std::vector<std::pair<float, Index>>;

HistogramObserver observed(const Counted& numbers) {
  HistogramObserver observer;
  for (const auto& [value, count] : numbers) observer.observe(Eigen::RowVectorXf::Constant(count, value));
  return observer;
}

/// Counts that fall to both sides of 0, and the same with a few numbers far out on one.
std::vector<Counted> hills(int steps, float step, Index least, const std::function<double(int)>& height,
                           const std::pair<float, Index>& below, const std::pair<float, Index>& above) {
  Counted hill;
  for (int i = -steps; i <= steps; ++i) {
    hill.emplace_back(step * static_cast<float>(i), least + std::lround(1000 * height(i)));
  }
  std::vector<Counted> hills(3, hill);
  hills[1].push_back(below);
  hills[2].push_back(above);
  return hills;
}

/// The documented search by any loss: shares of the full range, then of either end; of equal ones the widest.
template <ScalarCodebook C, class Loss>
ValueRange searched(const ValueRange& all, const Loss& loss) {
  std::vector<float> shares;
  for (int percent = 100; percent >= 1; --percent) shares.push_back(static_cast<float>(percent) / 100);
  std::vector<ValueRange> tried;
  std::vector<double> losses;
  const auto best = [&] { return tried[static_cast<std::size_t>(std::ranges::min_element(losses) - losses.begin())]; };
  const auto add = [&](float min, float max) {
    tried.push_back({min, max});
    losses.push_back(loss(tried.back()));
  };
  for (const float share : shares) add(all.min * share, all.max * share);
  if (C::kRule != ScaleRule::kMinMax) return best();
  const float high = best().max;
  for (const float share : shares) add(all.min * share, high);
  const float low = best().min;
  for (const float share : shares) add(low, all.max * share);
  return best();
}

/// Where the range ends by hand: at all of it, within, and at the last share; outliers of either sign.
TEST(HistogramObserver, LeastSquaresByHand) {
  // A number in the middle of a bin, whose width is 2^-4 where the largest is below 128, and 2^-4 / 2 that of the bin.
  const auto at = [](float value) { return value + (value > 0 ? 0x1p-5f : -0x1p-5f); };
  for (const float sign : {1.f, -1.f}) {
    const auto largest = [&](const Counted& numbers) {
      const ValueRange range = observed(numbers).leastSquares<Symmetric<2>>();  // -1, 0 and 1
      return sign > 0 ? range.max : -range.min;
    };
    EXPECT_EQ(largest({{sign * at(100), 9}, {0.f, 5}}), at(100));
    EXPECT_EQ(largest({{sign * at(100), 1}, {-sign * at(50), 100000}}), 0.5f * at(100));
    EXPECT_EQ(largest({{sign * at(100), 1}, {sign * at(1), 1000000}}), 0.01f * at(100)) << "the last share";
  }
}

TEST(HistogramObserver, LeastSquaresIsThatOfAnExhaustiveSearch) {
  const auto check = [&]<ScalarCodebook C>(const Counted& numbers, C) {
    const HistogramObserver observer = observed(numbers);
    const ValueRange all = observer.range();
    const double width = observer.binWidth();
    const auto error = [&](const ValueRange& range) {
      const Affine a = affineOf<C>(range);
      double sum = 0;
      for (const auto& [value, count] : numbers) {
        const auto middle = static_cast<float>((std::floor(static_cast<double>(value) / width) + 0.5) * width);
        float back;
        decode<C>(encode<C>(&middle, a), a, &back);
        sum += static_cast<double>(count) * std::pow(static_cast<double>(middle) - static_cast<double>(back), 2);
      }
      return sum;
    };
    EXPECT_EQ(observer.leastSquares<C>(), searched<C>(all, error));
  };
  const auto bell = [](int i) { return std::exp(-i * i / 16.0); };
  for (const Counted& numbers : hills(12, 0.31f, 1, bell, {-11.f, 2}, {17.f, 3})) {
    check(numbers, Symmetric<3>{});
    check(numbers, Asymmetric<2>{});
    check(numbers, Asymmetric<3>{});
  }
}

/// KL divergence from what was counted, the clipped numbers in the last bins, to what the codes say of it: each code's
/// numbers even over the bins that held any. Bin by bin, from the numbers.
template <ScalarCodebook C>
double divergence(const Counted& numbers, double width, const ValueRange& range) {
  const auto bin = [&](float value) { return static_cast<Index>(std::floor(static_cast<double>(value) / width)); };
  const Index first = bin(range.min), last = bin(range.max);
  const Affine a = affineOf<C>(range);
  double all = 0, inside = 0;
  std::map<Index, double> before, held;                         // by bin: with what was clipped, and without
  std::map<typename C::Code, std::pair<double, double>> codes;  // numbers and bins
  const auto codeOf = [&](Index i) {
    const auto middle = static_cast<float>((static_cast<double>(i) + 0.5) * width);
    return encode<C>(&middle, a);
  };
  for (const auto& [value, count] : numbers) {
    all += static_cast<double>(count);
    before[std::clamp(bin(value), first, last)] += static_cast<double>(count);
    if (bin(value) >= first && bin(value) <= last) held[bin(value)] += static_cast<double>(count);
  }
  for (const auto& [i, count] : held) {
    inside += count;
    codes[codeOf(i)].first += count;
    codes[codeOf(i)].second += 1;
  }
  if (inside == 0) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (const auto& [i, count] : before) {
    const double p = count / all;
    double q = 0.5 / all;
    if (held.contains(i)) q = std::max(q, codes[codeOf(i)].first / codes[codeOf(i)].second / inside);
    sum += p * std::log(p / q);
  }
  return sum;
}

TEST(HistogramObserver, LeastDivergenceIsThatOfAnExhaustiveSearch) {
  const auto check = [&]<ScalarCodebook C>(const Counted& numbers, C) {
    const HistogramObserver observer = observed(numbers);
    const double width = observer.binWidth();
    const auto loss = [&](const ValueRange& range) { return divergence<C>(numbers, width, range); };
    const ValueRange found = observer.leastDivergence<C>();
    EXPECT_EQ(found, (searched<C>(observer.range(), loss)));
    return found;
  };
  const auto steep = [](int i) { return 2 * std::exp(-std::abs(i) / 2.5); };
  for (const Counted& numbers : hills(15, 0.27f, 2, steep, {-9.f, 40}, {13.f, 60})) {
    check(numbers, Symmetric<2>{});
    check(numbers, Symmetric<3>{});
    check(numbers, Asymmetric<2>{});
  }
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {  // so few that what an empty bin counts decides
    Counted few;
    for (std::uint64_t i = 0; i < 12; ++i) {
      few.emplace_back(static_cast<float>(testing::normal(seed, i)), 1 + static_cast<Index>(randomBits(seed, i) % 4));
    }
    check(few, Symmetric<3>{});
  }
  // As many of each of three numbers: nothing is lost at the full range.
  EXPECT_EQ(check({{-2.f, 7}, {0.f, 7}, {2.f, 7}}, Symmetric<2>{}), (ValueRange{-2, 2}));
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
