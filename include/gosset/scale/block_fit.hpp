// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/block_scales.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

// The search for the scales of a block, in both steps: each group's by itself first, then the block's and the integers
// of the groups together. The error is sum_i w_i (x_i - value_i)^2. For given levels l the values are linear in scale
// and minimum, so that five sums of a group,
//
//   sum w l^2, sum w l, sum w x l, sum w x, sum w,
//
// tell the error of any scale and minimum for these levels, and the best ones (least squares). Sums run in double over
// eight lanes, of products that are exact there: the same bits on every machine.
namespace gosset::GOSSET_ABI::detail {

/// How much of the range of scales is tried.
enum class BlockEffort {
  kQuick,    ///< each group's scale searched; the block's follows from the largest
  kThorough  ///< the block's scale searched as well, and each group's integers again under each
};

/// A product that no compiler makes part of a sum.
inline double times(double a, double b) { return simd::unfused(a * b); }

/// The levels that the numbers of a group get under a scale and a minimum, as sums.
struct GroupSums {
  double ll = 0, l = 0, xl = 0;

  /// sum w (x - (scale l - min))^2, of which xx = sum w x^2, x = sum w x, w = sum w.
  double error(double scale, double min, double xx, double x, double w) const {
    const double squares = times(times(scale, scale), ll) + times(times(min, min), w) - times(2 * times(scale, min), l);
    return xx + squares - 2 * times(scale, xl) + 2 * times(min, x);
  }
};

template <BlockScaled F>
class BlockFit {
 public:
  using C = typename F::Levels;
  static constexpr Index kBlock = F::kBlock, kGroup = F::kGroup;
  static constexpr std::size_t kGroups = static_cast<std::size_t>(kBlock / kGroup);

  /// x, weights: kBlock numbers, weights not negative.
  BlockFit(const float* x, const float* weights) : x_(x), w_(weights) {
    for (Index i = 0; i < kBlock; ++i) wx_[static_cast<std::size_t>(i)] = weights[i] * x[i];
    for (std::size_t g = 0; g < kGroups; ++g) {
      Doubles xx, wx, w;
      forLanes(g, [&](Index i, int part) {
        const Wide product = lanes(wx_.data() + i);
        xx.part[part] += product * lanes(x_ + i);
        wx.part[part] += product;
        w.part[part] += lanes(w_ + i);
      });
      xx_[g] = sum(xx);
      sum_x_[g] = sum(wx);
      sum_w_[g] = sum(w);
    }
  }

  BlockScales result(BlockEffort effort) {
    for (std::size_t g = 0; g < kGroups; ++g) wanted_[g] = bestOfGroup(g, effort == BlockEffort::kQuick ? 12 : 36);
    float largest = 0, largest_min = 0;
    for (const Line& line : wanted_) {
      if (std::abs(line.scale) > std::abs(largest)) largest = line.scale;
      if (std::abs(line.min) > std::abs(largest_min)) largest_min = line.min;
    }
    if (F::stored(1.5f) != 1.5f) {  // powers of two: the nearest need not be the best
      for (const float share : {0.5f, 1.f, 2.f}) offer(largest, largest_min, share);
    } else if (kMostStep == 1 || effort == BlockEffort::kQuick) {
      offer(largest, largest_min, 1);
    } else {
      constexpr int kTries = 12;  // the largest scale gets the last integers, or is cut
      for (int i = 0; i < kTries; ++i) offer(largest, largest_min, 1.05f - 0.03f * static_cast<float>(i));
    }
    if (kMostStep > 1 && F::kLeastStep < 0) offer(-largest, largest_min, 1);
    refine(effort == BlockEffort::kThorough ? 6 : 3);
    return best_;
  }

 private:
  static constexpr bool kHasMin = F::kMostMin > 0, kAnyMin = F::kMostMin == 1;
  static constexpr int kLeastStep = F::kLeastStep, kMostStep = F::kMostStep;
  static constexpr int kLanes = 8, kWide = std::min(simd::kLanes<double>, kLanes);
  using Floats = simd::Vec<float, kWide>;
  using Wide = simd::Vec<double, kWide>;
  /// Sums in eight lanes, in as many registers as they need.
  struct Doubles {
    Wide part[kLanes / kWide] = {};
  };

  struct Line {
    float scale = 0, min = 0;
  };
  struct Fitted {
    Line line;
    double error;
  };

  static Wide lanes(const float* at) { return __builtin_convertvector(simd::load<Floats>(at), Wide); }
  static double sum(const Doubles& sums) {
    double v[kLanes];
    std::memcpy(v, &sums, sizeof(v));
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) v[i] += v[i + half];
    }
    return v[0];
  }
  /// visit(i, part) for the numbers from i on that a register takes, whose sums are this part's.
  template <class Visit>
  static void forLanes(std::size_t group, const Visit& visit) {
    const Index first = static_cast<Index>(group) * kGroup;
    for (Index i = first; i < first + kGroup; i += kLanes) {
      simd::unroll<kLanes / kWide>([&](int part) __attribute__((always_inline)) { visit(i + part * kWide, part); });
    }
  }

  /// The levels nearest to the numbers of a group, as sums.
  GroupSums encoded(std::size_t group, float scale, float min) const {
    const float divisor = scale != 0 ? scale : std::numeric_limits<float>::infinity();
    Doubles ll, l, xl;
    forLanes(group, [&](Index i, int part) {
      float levels[kWide];
      for (int k = 0; k < kWide; ++k) levels[k] = C::level(C::encode((x_[i + k] + min) / divisor));
      const Wide level = lanes(levels), weighted = lanes(w_ + i) * level;
      ll.part[part] += weighted * level;
      l.part[part] += weighted;
      xl.part[part] += lanes(wx_.data() + i) * level;
    });
    return {sum(ll), sum(l), sum(xl)};
  }

  double errorOf(std::size_t g, const GroupSums& sums, float scale, float min) const {
    return sums.error(static_cast<double>(scale), static_cast<double>(min), xx_[g], sum_x_[g], sum_w_[g]);
  }

  /// The best scale and minimum for levels that are given.
  Fitted solved(std::size_t g, const GroupSums& s) const {
    double scale = s.ll > 0 ? s.xl / s.ll : 0, min = 0;
    if constexpr (kHasMin) {
      const double determinant = times(s.ll, sum_w_[g]) - times(s.l, s.l);
      if (!(s.ll > 0) && sum_w_[g] > 0 && (kAnyMin || sum_x_[g] <= 0)) min = -sum_x_[g] / sum_w_[g];
      if (determinant > 0) {
        const double both = (times(s.xl, sum_w_[g]) - times(sum_x_[g], s.l)) / determinant;
        const double offset = (times(both, s.l) - sum_x_[g]) / sum_w_[g];
        if (both > 0 && (kAnyMin || offset >= 0)) {
          scale = both;
          min = offset;
        }
      }
    }
    const Line line = {static_cast<float>(scale), static_cast<float>(min)};
    return {line, errorOf(g, s, line.scale, line.min)};
  }

  /// The best of many scales of one group, as if all floats could be stored.
  Line bestOfGroup(std::size_t g, int tries) const {
    Fitted best = {{}, xx_[g]};
    const auto tryLine = [&](Line line) {
      const Fitted found = solved(g, encoded(g, line.scale, line.min));
      if (found.error < best.error) best = found;
    };
    const auto [low, high] =
        std::minmax_element(x_ + static_cast<Index>(g) * kGroup, x_ + static_cast<Index>(g + 1) * kGroup);
    constexpr float kLeast = C::kLevels <= 4 ? 0.3f : C::kLevels <= 8 ? 0.5f : C::kLevels <= 32 ? 0.65f : 0.9f;
    for (int i = 0; i < tries; ++i) {
      const float share = 1.08f - (1.08f - kLeast) * static_cast<float>(i) / static_cast<float>(tries - 1);
      if constexpr (kHasMin) {
        const float bottom = kAnyMin ? *low : std::min(*low, 0.f), range = std::max(*high - bottom, 0.f);
        const float scale = range * share / static_cast<float>(C::kLevels - 1), cut = range * (1 - share);
        for (const float from : {0.f, 0.5f, 1.f}) tryLine({scale, -bottom - from * cut});
      } else {
        const float most = std::max(*high, -*low), end = -C::level(0);
        tryLine({most / end * share, 0});
        if constexpr (C::level(0) + C::level(C::kLevels - 1) != 0) tryLine({-most / end * share, 0});
      }
    }
    for (int pass = 0; pass < 3 && best.error > 0; ++pass) {
      const double before = best.error;
      tryLine(best.line);
      if (!(best.error < before)) break;
    }
    return best.line;
  }

  /// The integer that brings unit * integer nearest to x.
  static int stepsOf(float x, float unit, int least, int most) {
    if (unit == 0) return least > 0 ? least : 0;
    const float steps = std::clamp(x / unit, static_cast<float>(least), static_cast<float>(most));
    return static_cast<int>(std::nearbyint(steps));
  }

  /// Keeps the block's scale for which the group with the largest has `share` times its last integer, if it is better.
  void offer(float largest, float largest_min, float share) {
    const int end = -kLeastStep > kMostStep ? kLeastStep : kMostStep;
    BlockScales scales;
    scales.scale = F::stored(largest / (static_cast<float>(end) * share));
    if constexpr (kHasMin) scales.min = F::stored(largest_min / static_cast<float>(F::kMostMin));
    double error = 0;
    for (std::size_t g = 0; g < kGroups; ++g) error += chooseSteps(g, scales);
    keep(scales, error);
  }

  bool keep(const BlockScales& scales, double error) {
    if (!(error < least_)) return false;
    least_ = error;
    best_ = scales;
    return true;
  }

  /// The best integers of a group under the block's scales: its error.
  double chooseSteps(std::size_t g, BlockScales& scales) const {
    double least = std::numeric_limits<double>::infinity();
    int best = 0, best_min = 0;
    const int middle = stepsOf(wanted_[g].scale, scales.scale, kLeastStep, kMostStep);
    for (int step = std::max(middle - 1, kLeastStep); step <= std::min(middle + 1, kMostStep); ++step) {
      const float scale = scales.scale * static_cast<float>(step);
      int min = kHasMin ? stepsOf(wanted_[g].min, scales.min, kAnyMin ? 1 : 0, F::kMostMin) : 0;
      for (int pass = 0; pass < 2; ++pass) {
        const float offset = scales.min * static_cast<float>(min);
        const GroupSums sums = encoded(g, scale, offset);
        if (const double error = errorOf(g, sums, scale, offset); error < least) {
          least = error;
          best = step;
          best_min = min;
        }
        if constexpr (!kHasMin || kAnyMin) break;
        if (!(sum_w_[g] > 0)) break;
        const double better = (times(static_cast<double>(scale), sums.l) - sum_x_[g]) / sum_w_[g];
        const int next = stepsOf(static_cast<float>(better), scales.min, 0, F::kMostMin);
        if (next == min) break;
        min = next;
      }
    }
    scales.scales[g] = static_cast<std::int8_t>(best);
    scales.mins[g] = static_cast<std::int8_t>(best_min);
    return least;
  }

  /// Least-squares scale and minimum of the block for the levels and integers of the best, and again.
  void refine(int passes) {
    for (int pass = 0; pass < passes && least_ > 0; ++pass) {
      double ll = 0, l = 0, w = 0, xl = 0, x = 0;
      for (std::size_t g = 0; g < kGroups; ++g) {
        const GroupSums s = encoded(g, best_.scaleOf(g), best_.minOf(g));
        const double step = best_.scales[g], min = best_.mins[g];
        ll += times(times(step, step), s.ll);
        l += times(times(step, min), s.l);
        w += times(times(min, min), sum_w_[g]);
        xl += times(step, s.xl);
        x += times(min, sum_x_[g]);
      }
      if (!(ll > 0)) return;
      BlockScales next = best_;
      const double determinant = times(ll, w) - times(l, l);
      if (kHasMin && determinant > 0) {
        const double scale = (times(xl, w) - times(x, l)) / determinant;
        next.scale = F::stored(static_cast<float>(scale));
        next.min = F::stored(static_cast<float>((times(scale, l) - x) / w));
      } else {
        next.scale = F::stored(static_cast<float>((xl + times(static_cast<double>(best_.min), l)) / ll));
      }
      if ((!kAnyMin && next.min < 0) || (kHasMin && next.scale < 0)) return;
      double kept = 0, error = 0;
      for (std::size_t g = 0; g < kGroups; ++g) {
        kept += errorOf(g, encoded(g, next.scaleOf(g), next.minOf(g)), next.scaleOf(g), next.minOf(g));
      }
      const bool better = keep(next, kept);
      for (std::size_t g = 0; g < kGroups; ++g) error += chooseSteps(g, next);
      if (!keep(next, error) && !better) return;
    }
  }

  const float* x_;
  const float* w_;
  std::array<float, static_cast<std::size_t>(kBlock)> wx_;
  std::array<double, kGroups> xx_, sum_x_, sum_w_;
  std::array<Line, kGroups> wanted_;
  BlockScales best_;
  double least_ = std::numeric_limits<double>::infinity();
};

/// The scales of a block of F::kBlock numbers, and its weights, with a least weighted squared error.
template <BlockScaled F>
BlockScales fitBlock(const float* x, const float* weights, BlockEffort effort) {
  return BlockFit<F>(x, weights).result(effort);
}

}  // namespace gosset::GOSSET_ABI::detail
