// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/candidates.hpp>
#include <gosset/scale/level_codes.hpp>
#include <gosset/scale/level_sums.hpp>
#include <gosset/scale/rules.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace gosset::GOSSET_ABI {

/// A search for the least sum of squared errors: many clipping ranges, then the best of them and its neighbours refined
/// by least squares over the codes until nothing changes. Never worse than the published rule.
struct LeastSquares {};

namespace detail {

/// The numbers of a group in whole blocks of a codebook: rows of `width` numbers each, filled up with zeros that count
/// for nothing where width is no multiple of kDim.
template <Codebook C>
class Blocks {
 public:
  Blocks(std::span<const float> x, Index width)
      : width_(static_cast<std::size_t>(width)),
        padded_(static_cast<std::size_t>(ceilDiv(width, C::kDim) * C::kDim)),
        all_(x) {
    if (padded_ == width_) return;
    filled_.resize(x.size() / width_ * padded_);
    for (std::size_t row = 0; row * width_ < x.size(); ++row) {
      std::copy_n(x.data() + row * width_, width_, filled_.data() + row * padded_);
    }
    all_ = filled_;
  }
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;

  std::span<const float> all() const { return all_; }

  /// Sets to 0 what stands at the places of zeros among values first .. first + count of all().
  void clearPadding(std::size_t first, std::size_t count, float* values) const {
    if (padded_ == width_) return;
    for (std::size_t row = first / padded_; row * padded_ < first + count; ++row) {
      const std::size_t begin = std::max(first, row * padded_ + width_);
      const std::size_t end = std::min(first + count, (row + 1) * padded_);
      if (begin < end) std::fill(values + (begin - first), values + (end - first), 0.f);
    }
  }

 private:
  std::size_t width_, padded_;
  std::span<const float> all_;
  std::vector<float> filled_;
};

/// How a map does on a group: its squared error, and the sums that the least-squares scale and zero point for the same
/// codes follow from: of l and v, each level less the middle level and each number less the numbers' mean, or plain
/// levels and numbers where there is no zero point.
struct Outcome {
  Affine affine;
  double error = std::numeric_limits<double>::infinity();
  double levels = 0, values = 0;           ///< sum l, sum v; only with a zero point
  double level_squares = 0, products = 0;  ///< sum l^2, sum l v
};

template <Codebook C, StorageScalar T>
class LeastSquaresSearch {
 public:
  /// x: rows of `width` numbers each.
  LeastSquaresSearch(std::span<const float> x, Index width) : blocks_(x, width), x_(x), range_(extremes(x)) {
    if constexpr (kHasZero) {
      mean_ = static_cast<float>(sumOfDifferences(x_.data(), size(), 0) / static_cast<double>(size()));
      for (Index first = 0; first < size(); first += kChunk) {
        values_ += sumOfDifferences(x_.data() + first, std::min(kChunk, size() - first), mean_);
      }
    }
  }

  Affine result() {
    offer(affineByRule<C, T>(x_, range_));
    if (best_.error == 0) return best_.affine;
    if constexpr (QuickCodebook<C>) {
      constexpr bool kSigns = C::kLevels == 2 && C::level(0) == -C::level(1);
      if (!kSigns) searchBySixteen();  // of signs no scale changes a code
      refine();
    } else {
      if constexpr (C::kRule == ScaleRule::kMinMax) {
        scanRanges();
      } else {
        scanReaches();
      }
      refine();
      if (offerNeighbours()) refine();  // out of the local minimum that this leads to
    }
    return best_.affine;
  }

 private:
  static constexpr bool kHasZero = hasZeroPoint<C>();
  static constexpr bool kSumsByVectors = ConstexprLevels<C> && (RoundsToWholeLevels<C> || CountsThresholds<C>);
  static constexpr Index kChunk = C::kDim == 1 ? 256 : 64 * C::kDim;  ///< numbers that go through at a time
  using Floats = simd::Vec<float>;
  static constexpr Index kLanes = simd::kLanes<float>;

  Index size() const { return static_cast<Index>(x_.size()); }
  static Affine storedMap(const Affine& a) {
    return {static_cast<float>(storeNearest<T>(a.scale)), static_cast<float>(storeNearest<T>(a.zero))};
  }

  /// Keeps the map if it is better than the best so far.
  bool offer(const Affine& a) {
    const Outcome outcome = outcomeOf(a);
    if (!(outcome.error < best_.error)) return false;
    best_ = outcome;
    return true;
  }

  /// Its error is infinite where it is found to be no less than the best one's.
  Outcome outcomeOf(const Affine& a) const {
    if (!std::isfinite(a.scale) || !std::isfinite(a.zero)) return {};
    if constexpr (kSumsByVectors) return outcomeByVectors(a);
    return outcomeByCodes(a);
  }

  /// By encoding and decoding.
  Outcome outcomeByCodes(const Affine& a) const {
    typename C::Code codes[kChunk / C::kDim];
    float levels[kChunk];
    Outcome outcome{.affine = a, .error = 0};
    const std::span<const float> all = blocks_.all();
    for (std::size_t first = 0; first < all.size(); first += kChunk) {
      const std::span<const float> x = all.subspan(first, std::min<std::size_t>(kChunk, all.size() - first));
      const Index count = static_cast<Index>(x.size()) / C::kDim;
      encodeRun<C>(x.data(), count, a, codes);
      decodeRun<C>(codes, count, Affine{1, 0}, levels);
      blocks_.clearPadding(first, x.size(), levels);
      outcome.error += squaredError(x, levels, a);
      if (!(outcome.error < best_.error)) return {};
      addProducts(outcome, x, levels);
    }
    return outcome;
  }

  /// The same, bit for bit.
  Outcome outcomeByVectors(const Affine& a) const requires kSumsByVectors {
    Outcome outcome{.affine = a, .error = 0, .values = values_};
    for (std::size_t first = 0; first < x_.size(); first += kChunk) {
      const std::span<const float> x = x_.subspan(first, std::min<std::size_t>(kChunk, x_.size() - first));
      const LevelSums sums = levelSums(levelsOfSums(), x.data(), static_cast<Index>(x.size()), a, mean_);
      outcome.error += sums.error;
      if (!(outcome.error < best_.error)) return {};
      outcome.level_squares += sums.squares;
      outcome.products += sums.products;
      outcome.levels += sums.levels;
    }
    return outcome;
  }

  static LevelsOfSums levelsOfSums() requires kSumsByVectors {
    constexpr float kFirst = C::level(0), kLast = C::level(static_cast<typename C::Code>(C::kLevels - 1));
    LevelsOfSums levels{C::kHasZero, kFirst, kLast, middle(), nullptr, nullptr};
    if constexpr (!RoundsToWholeLevels<C>) {
      static constexpr std::array<float, 16> kThresholds = sixteenThresholds<C>(), kTable = sixteenLevels<C>();
      levels.thresholds = kThresholds.data();
      levels.levels = kTable.data();
    }
    return levels;
  }

  /// Sixteen maps at a time by nearly right errors; only the best is offered.
  void searchBySixteen() requires QuickCodebook<C> {
    if (!std::isfinite(range_.max - range_.min)) return;
    static constexpr QuickLevels kLevels = quickLevels<C>();
    constexpr std::size_t kFew = 1024;
    alignas(64) float few[kFew];
    std::vector<float> many(x_.size() > kFew ? (x_.size() + 15) / 16 * 16 : 0);
    const SearchedGroup group{x_.data(), size(), range_.min, range_.max, mean_, many.empty() ? few : many.data()};
    offer(storedMap(searchLevels(group, kLevels)));
  }

  static constexpr float middle() {
    if constexpr (kHasZero) return middleLevel<C>();
    return 0;
  }

  /// Values are rounded before they are subtracted, whatever a compiler would fuse.
  static double squaredError(std::span<const float> x, const float* levels, Affine a) {
    const auto count = static_cast<Index>(x.size());
    float values[kChunk];
    Index done = 0;
    for (; done + kLanes <= count; done += kLanes) {
      const auto steps = simd::load<Floats>(levels + done) - simd::splat<Floats>(a.zero);
      simd::store(values + done, simd::unfused(simd::splat<Floats>(a.scale) * steps));
    }
    for (; done < count; ++done) values[done] = simd::unfused(a.scale * (levels[done] - a.zero));
    return sumOfSquares(count, [&](Index i) { return x[static_cast<std::size_t>(i)] - values[i]; });
  }

  void addProducts(Outcome& outcome, std::span<const float> x, const float* levels) const {
    const auto count = static_cast<Index>(x.size());
    const auto level = [&](Index i) { return levels[i] - middle(); };
    const auto number = [&](Index i) { return x[static_cast<std::size_t>(i)] - mean_; };
    outcome.level_squares += sumOfSquares(count, level);
    outcome.products += sumOfProducts(count, [&](Index i) { return std::array<float, 2>{level(i), number(i)}; });
    if constexpr (kHasZero) {
      outcome.levels += sumOf(count, level);
      outcome.values += sumOf(count, number);
    }
  }

  /// The least-squares scale (and zero point) for the codes of the best map: v ~ scale * l, or a line fitted to (l, v).
  Affine refitted() const {
    const Outcome& o = best_;
    const auto n = static_cast<double>(size());
    double scale = o.products / o.level_squares, zero = 0;
    if constexpr (kHasZero) {  // fused by name, so that no compiler decides it
      scale = std::fma(n, o.products, -(o.levels * o.values)) / std::fma(n, o.level_squares, -(o.levels * o.levels));
      const double offset = std::fma(-scale, o.levels, o.values) / n + static_cast<double>(mean_);
      zero = static_cast<double>(middle()) - offset / scale;
    }
    if (!(scale > 0) || !std::isfinite(static_cast<float>(scale)) || !std::isfinite(static_cast<float>(zero))) {
      return o.affine;
    }
    return storedMap({static_cast<float>(scale), static_cast<float>(zero)});
  }

  void refine() {
    for (int pass = 0; pass < 16; ++pass) {
      if (!offer(refitted())) break;
    }
  }

  /// Maps close to the best. Whether one was better.
  bool offerNeighbours() {
    bool better = false;
    const Affine a = best_.affine;
    for (const float factor : {0.96f, 0.97f, 0.98f, 0.99f, 1.01f, 1.02f, 1.03f, 1.04f}) {
      better = offer(storedMap({a.scale * factor, a.zero})) || better;
    }
    return better;
  }

  /// a + share * (b - a): the product is exact in double, fused or not.
  static float between(float a, float b, float share) {
    return static_cast<float>(static_cast<double>(a) + static_cast<double>(share) * static_cast<double>(b - a));
  }

  struct Best {
    std::size_t place;
    double error;
  };

  /// The best of mapAt(0) .. mapAt(15), by nearly right errors.
  template <class MapAt>
  Best bestOf(const MapAt& mapAt) const {
    std::array<double, kCandidates> errors;
    for (std::size_t k = 0; k < kCandidates; ++k) errors[k] = outcomeOf(mapAt(k)).error;
    const auto least = std::min_element(errors.begin(), errors.end());
    return {static_cast<std::size_t>(least - errors.begin()), *least};
  }

  /// Where the best of a scan may lie.
  struct Window {
    float low, high;
  };

  /// The window of sixteen values of which a scan found the one at `place`: between its neighbours.
  template <class At>
  static Window around(std::size_t place, std::size_t last, const At& at) {
    return {at(place > 0 ? place - 1 : 0), at(std::min(place + 1, last))};
  }

  /// Of sixteen values in a window, which becomes the space between the neighbours of the best, that one.
  template <class MapOf>
  float scan(Window& window, const MapOf& mapOf) const {
    const auto at = [w = window](std::size_t k) { return between(w.low, w.high, static_cast<float>(k + 1) / 17); };
    const std::size_t place = bestOf([&](std::size_t k) { return mapOf(at(k)); }).place;
    window = around(place, kCandidates - 1, at);
    return at(place);
  }

  /// Clips at magnitudes from the largest down to half the root mean square.
  void scanReaches() {
    constexpr float kEighth = 1.0905077f, kQuarter = 1.1892071f;  // 2^(1/8), 2^(1/4)
    constexpr int kMostSteps = 100;  // to 2^-25: and denormal numbers, which stop shrinking, end the loop too
    const float least = rootMeanSquare(x_) / 2;
    float reach = range_.absMax();
    for (int i = 0; i < kMostSteps && reach > least; ++i, reach /= kQuarter) {
      offer(storedMap({reach / largestPoint(), 0}));
    }
    const float middle = best_.affine.scale;
    offer(storedMap({middle * kEighth, 0}));
    offer(storedMap({middle / kEighth, 0}));
  }

  /// The largest level; of the order of the points' root mean square, where there are no levels.
  static constexpr float largestPoint() {
    if constexpr (ScalarCodebook<C>) {
      return largestLevel<C>();
    } else {
      return 1 / C::kGaussianScale;
    }
  }

  /// Draws the ends of the range in towards the mean, until the range is as wide as the standard deviation: by 8 x 8
  /// shares, then each end by itself, twice.
  void scanRanges() {
    const double squares = sumOfSquares(size(), [&](Index i) { return x_[static_cast<std::size_t>(i)] - mean_; });
    const auto deviation = static_cast<float>(std::sqrt(squares / static_cast<double>(size())));
    const float least = std::min(1.f, deviation / (range_.max - range_.min));
    const auto shareAt = [&](std::size_t k) { return between(least, 1, static_cast<float>(k * k) / 49); };
    const auto mapOf = [&](float low_share, float high_share) {
      const float low = between(mean_, range_.min, low_share), high = between(mean_, range_.max, high_share);
      const float scale = (high - low) / static_cast<float>(C::kLevels - 1);
      return Affine{scale, -low / scale};
    };
    Best best{0, std::numeric_limits<double>::infinity()};
    for (std::size_t first = 0; first < 64; first += kCandidates) {
      const auto found = bestOf([&](std::size_t k) { return mapOf(shareAt((first + k) / 8), shareAt(k % 8)); });
      if (found.error < best.error) best = {first + found.place, found.error};
    }
    Window low = around(best.place / 8, 7, shareAt), high = around(best.place % 8, 7, shareAt);
    float low_share = shareAt(best.place / 8), high_share = shareAt(best.place % 8);
    for (int pass = 0; pass < 2; ++pass) {
      low_share = scan(low, [&](float share) { return mapOf(share, high_share); });
      high_share = scan(high, [&](float share) { return mapOf(low_share, share); });
    }
    offer(storedMap(mapOf(low_share, high_share)));
  }

  Blocks<C> blocks_;
  std::span<const float> x_;
  Extremes range_;
  float mean_ = 0;     ///< only with a zero point
  double values_ = 0;  ///< the same
  Outcome best_;
};

}  // namespace detail

/// x: rows of `row` numbers each (all of them one row by default), without padding; a codebook of several numbers fills
/// up each row by zeros, which count for nothing.
template <Codebook C, StorageScalar T>
Affine fitAffine(LeastSquares, std::span<const float> x, Index row = 0) {
  if constexpr (detail::CodesEachNumber<C>) {
    return fitAffine<typename C::Element, T>(LeastSquares{}, x, row);
  } else {
    return detail::LeastSquaresSearch<C, T>(x, row > 0 ? row : static_cast<Index>(x.size())).result();
  }
}

}  // namespace gosset::GOSSET_ABI
