// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/fit.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

// What range the activations of a layer take, seen batch by batch, for static quantization: scales that are fixed
// before the first request comes. Observers take any dense expression, refuse NaN and infinities, and those of parts of
// the data merge into that of all of it.
namespace gosset::GOSSET_ABI {

/// A closed range of numbers.
struct ValueRange {
  float min;
  float max;

  friend bool operator==(const ValueRange&, const ValueRange&) = default;
};

/// The affine map of a codebook whose published rule is absmax or min-max for numbers in this range.
template <ScalarCodebook C, StorageScalar T = float>
Affine affineOf(const ValueRange& range) {
  static_assert(C::kRule == ScaleRule::kAbsMax || C::kRule == ScaleRule::kMinMax,
                "affineOf(range): the codebook must take its scale from a range, as Symmetric and Asymmetric do");
  const std::array<float, 2> ends = {range.min, range.max};
  return fitAffine<C, T>(PublishedRule{}, ends);
}

namespace detail {

/// Calls visit for each number of a batch. Errors: std::invalid_argument where one is not finite; then nothing was
/// visited.
template <DenseExpression Batch, class Visit>
void forFinite(const char* observer, const Batch& batch, const Visit& visit) {
  const Eigen::MatrixXf x = batch.derived().matrix().template cast<float>();
  require(x.allFinite(), observer, ": the batch holds NaN, an infinity or a number that float cannot hold");
  for (const float value : x.reshaped()) visit(value);
}

}  // namespace detail

/// The least and the greatest number seen.
class MinMaxObserver {
 public:
  template <DenseExpression Batch>
  void observe(const Batch& batch) {
    detail::forFinite("MinMaxObserver", batch, [&](float value) { merge({value, value}); });
  }

  void merge(const MinMaxObserver& other) { merge(other.range_); }

  /// Errors: std::invalid_argument where nothing was seen.
  ValueRange range() const {
    detail::require(range_.min <= range_.max, "MinMaxObserver: expected at least one number to have been observed");
    return range_;
  }

 private:
  void merge(const ValueRange& other) {
    range_.min = std::min(range_.min, other.min);
    range_.max = std::max(range_.max, other.max);
  }

  ValueRange range_ = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
};

/// The exponential moving average of the batches' least and greatest numbers: range += rate * (batch's - range), the
/// first batch being taken as it is. Merging averages two ranges in proportion to the batches seen.
/// Source: Jacob et al., CVPR 2018, section 3.1.
class MovingAverageObserver {
 public:
  /// Errors: std::invalid_argument where the rate is not in (0, 1].
  explicit MovingAverageObserver(double rate = 0.01) : rate_(rate) {
    detail::require(rate > 0 && rate <= 1, "MovingAverageObserver: expected a rate in (0, 1], got ", rate);
  }

  /// An empty batch changes nothing.
  template <DenseExpression Batch>
  void observe(const Batch& batch) {
    if (batch.size() == 0) return;
    MinMaxObserver seen;
    seen.observe(batch);
    blend(seen.range().min, seen.range().max, batches_ == 0 ? 1 : rate_);
    ++batches_;
  }

  void merge(const MovingAverageObserver& other) {
    if (other.batches_ == 0) return;
    batches_ += other.batches_;
    blend(other.min_, other.max_, static_cast<double>(other.batches_) / static_cast<double>(batches_));
  }

  /// Errors: std::invalid_argument where nothing was seen.
  ValueRange range() const {
    detail::require(batches_ > 0, "MovingAverageObserver: expected at least one number to have been observed");
    return {static_cast<float>(min_), static_cast<float>(max_)};
  }

 private:
  void blend(double min, double max, double share) {
    min_ = std::fma(share, min - min_, min_);
    max_ = std::fma(share, max - max_, max_);
  }

  double rate_;
  double min_ = 0, max_ = 0;
  Index batches_ = 0;
};

/// A histogram over [-2^e, 2^e) in 4096 bins of equal width, e growing with the numbers that come: then neighbouring
/// bins join in pairs, which is exact. So the histogram depends on the set of numbers alone, not on their order or on
/// how they were divided before a merge.
class HistogramObserver {
 public:
  static constexpr int kBins = 4096;

  HistogramObserver() : counts_(kBins, 0) {}

  template <DenseExpression Batch>
  void observe(const Batch& batch) {
    extremes_.observe(batch);
    if (batch.size() == 0) return;
    cover(extremes_.range());
    const double per_width = std::ldexp(1.0, -exponent_);
    detail::forFinite("HistogramObserver", batch, [&](float value) {
      ++counts_[index(static_cast<int>(std::floor(static_cast<double>(value) * per_width)))];
    });
    total_ += static_cast<std::int64_t>(batch.size());
  }

  void merge(const HistogramObserver& other) {
    if (other.total_ == 0) return;
    HistogramObserver theirs = other;
    extremes_.merge(other.extremes_);
    growTo(std::max(exponent_, theirs.exponent_));
    theirs.growTo(exponent_);
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += theirs.counts_[i];
    total_ += theirs.total_;
  }

  std::int64_t total() const { return total_; }
  double binWidth() const { return std::ldexp(1.0, exponent_); }
  /// Bin i covers [(i - 2048) * binWidth(), (i - 2047) * binWidth()).
  const std::vector<std::int64_t>& counts() const { return counts_; }

  /// All of it. Errors, as of all below: std::invalid_argument where nothing was seen.
  ValueRange range() const { return extremes_.range(); }

  /// From the (100 - percent)th percentile to the percentth, interpolated within bins.
  /// Errors: std::invalid_argument where percent is not in (50, 100].
  ValueRange percentile(double percent) const {
    detail::require(percent > 50 && percent <= 100, "HistogramObserver: expected a percentile in (50, 100], got ",
                    percent);
    return {quantile(1 - percent / 100), quantile(percent / 100)};
  }

  /// The range under which codebook C has the least mean squared error, numbers standing at the middle of their bins.
  template <ScalarCodebook C>
  ValueRange leastSquares() const {
    return bestRange([&](const ValueRange& range) { return squaredError<C>(range); }, C::kRule == ScaleRule::kMinMax);
  }

  /// The range under which the histogram after quantization by C says most about the one before: least Kullback-Leibler
  /// divergence, clipped numbers being counted in the last bins within. Source: Migacz, "8-bit inference with
  /// TensorRT", GTC 2017; with the bins above and any codebook in place of 128 levels.
  template <ScalarCodebook C>
  ValueRange leastDivergence() const {
    return bestRange([&](const ValueRange& range) { return divergence<C>(range); }, C::kRule == ScaleRule::kMinMax);
  }

 private:
  static constexpr int kHalf = kBins / 2;

  static std::size_t index(int bin) { return static_cast<std::size_t>(bin + kHalf); }

  double middleOf(std::size_t i) const { return (static_cast<double>(i) - kHalf + 0.5) * binWidth(); }

  /// Widens the bins until the range lies within them.
  void cover(const ValueRange& range) {
    const float magnitude = std::max(range.max, -range.min);
    int exponent = exponent_;
    while (static_cast<double>(magnitude) >= std::ldexp(static_cast<double>(kHalf), exponent)) ++exponent;
    growTo(exponent);
  }

  void growTo(int exponent) {
    const int shift = std::min(exponent - exponent_, 30);
    exponent_ = exponent;
    if (shift == 0) return;
    std::vector<std::int64_t> joined(kBins, 0);
    for (int bin = -kHalf; bin < kHalf; ++bin) joined[index(bin >> shift)] += counts_[index(bin)];
    counts_ = std::move(joined);
  }

  float quantile(double share) const {
    const ValueRange all = range();
    const double wanted = share * static_cast<double>(total_);
    double below = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const auto count = static_cast<double>(counts_[i]);
      if (count > 0 && below + count >= wanted) {
        const double place = std::max(0.0, wanted - below) / count;
        const double value = (static_cast<double>(i) - kHalf + place) * binWidth();
        return std::clamp(static_cast<float>(value), all.min, all.max);
      }
      below += count;
    }
    return all.max;
  }

  /// Tries shares of the full range, then of each end by itself where the codebook has two.
  template <class Loss>
  ValueRange bestRange(const Loss& loss, bool two_ends) const {
    constexpr int kSteps = 100;
    const ValueRange all = range();
    ValueRange best = all;
    double least = std::numeric_limits<double>::infinity();
    const auto offer = [&](const ValueRange& candidate) {
      const double value = loss(candidate);
      if (!(value < least)) return;
      least = value;
      best = candidate;
    };
    const auto share = [](int step) { return static_cast<float>(step) / kSteps; };
    for (int step = kSteps; step > 0; --step) offer({all.min * share(step), all.max * share(step)});
    if (!two_ends) return best;
    for (int step = kSteps; step > 0; --step) offer({all.min * share(step), best.max});
    for (int step = kSteps; step > 0; --step) offer({best.min, all.max * share(step)});
    return best;
  }

  template <ScalarCodebook C>
  double squaredError(const ValueRange& range) const {
    const Affine a = affineOf<C>(range);
    double sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] == 0) continue;
      const double error = middleOf(i) - static_cast<double>(detail::decoded<C>(static_cast<float>(middleOf(i)), a));
      sum += simd::unfused(static_cast<double>(counts_[i]) * (error * error));
    }
    return sum;
  }

  template <ScalarCodebook C>
  double divergence(const ValueRange& range) const {
    const auto bin = [&](float value) {
      return index(static_cast<int>(std::floor(static_cast<double>(value) / binWidth())));
    };
    const std::size_t first = bin(range.min), last = bin(range.max);
    const Affine a = affineOf<C>(range);
    // What a code stands for afterwards: its numbers spread evenly over the bins that held any.
    std::vector<double> mass(C::kLevels, 0), occupied(C::kLevels, 0);
    std::vector<std::size_t> code_of(counts_.size(), 0);
    double inside = 0;
    for (std::size_t i = first; i <= last; ++i) {
      if (counts_[i] == 0) continue;
      const auto middle = static_cast<float>(middleOf(i));
      const std::size_t code = code_of[i] = encode<C>(&middle, a);
      mass[code] += static_cast<double>(counts_[i]);
      occupied[code] += 1;
      inside += static_cast<double>(counts_[i]);
    }
    if (inside == 0) return std::numeric_limits<double>::infinity();
    const auto all = static_cast<double>(total_);
    double below = 0, above = 0;
    for (std::size_t i = 0; i < first; ++i) below += static_cast<double>(counts_[i]);
    for (std::size_t i = last + 1; i < counts_.size(); ++i) above += static_cast<double>(counts_[i]);
    double sum = 0;
    for (std::size_t i = first; i <= last; ++i) {
      const double clipped = (i == first ? below : 0) + (i == last ? above : 0);
      const double p = (static_cast<double>(counts_[i]) + clipped) / all;
      if (p == 0) continue;
      const double floor = 0.5 / all;  // for an end bin that only clipped numbers fill
      const double q = counts_[i] == 0 ? floor : std::max(floor, mass[code_of[i]] / occupied[code_of[i]] / inside);
      sum += simd::unfused(p * std::log(p / q));
    }
    return sum;
  }

  MinMaxObserver extremes_;
  std::vector<std::int64_t> counts_;
  std::int64_t total_ = 0;
  int exponent_ = -160;  ///< of the bins' width; so small that any number but 0 widens it
};

}  // namespace gosset::GOSSET_ABI
