// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/ggml.hpp>
#include <gosset/scale/block_fit.hpp>

#include "testing.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace gosset::block_fit_test {
namespace {

using detail::BlockEffort;
using detail::fitBlock;

/// The weighted squared error of the nearest codes, number by number.
template <class F>
double errorOf(const BlockScales& s, const float* x, const float* weights) {
  using C = typename F::Levels;
  double error = 0;
  for (Index i = 0; i < F::kBlock; ++i) {
    const auto g = static_cast<std::size_t>(i / F::kGroup);
    const float scale = s.scaleOf(g), min = s.minOf(g);
    const auto code = C::encode(scale != 0 ? (x[i] + min) / scale : 0.f);
    const double d = static_cast<double>(x[i]) - static_cast<double>(scale * C::level(code) - min);
    error += static_cast<double>(weights[i]) * d * d;
  }
  return error;
}

/// The best of all scales on a fine grid, for layouts with one scale a block and no minimum.
template <class F>
double exhaustive(const float* x, const float* weights) {
  float most = 0;
  for (Index i = 0; i < F::kBlock; ++i) most = std::max(most, std::abs(x[i]));
  double least = std::numeric_limits<double>::infinity();
  for (int i = 1; i <= 20000; ++i) {
    for (const float sign : {1.f, -1.f}) {
      BlockScales s{.scale = F::stored(sign * most * static_cast<float>(i) / 10000), .scales = {1}};
      least = std::min(least, errorOf<F>(s, x, weights));
    }
  }
  return least;
}

TEST(BlockFit, OneScaleIsNearlyTheBestOfAll) {
  const std::vector<float> ones(256, 1.f);
  double quick = 0, thorough = 0, best = 0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const RowMatrixXf x = testing::gaussian(1, 32, seed);
    const auto error = [&](BlockEffort effort) {
      return errorOf<ggml::Q4_0>(fitBlock<ggml::Q4_0>(x.data(), ones.data(), effort), x.data(), ones.data());
    };
    quick += error(BlockEffort::kQuick);
    thorough += error(BlockEffort::kThorough);
    best += exhaustive<ggml::Q4_0>(x.data(), ones.data());
  }
  EXPECT_GE(thorough, best);
  EXPECT_GE(quick, thorough);
  EXPECT_LT(thorough, 1.04 * best);
  EXPECT_LT(quick, 1.05 * best);
}

TEST(BlockFit, WeightsSayWhatCounts) {
  const RowMatrixXf x = testing::gaussian(1, 256);
  std::vector<float> ones(256, 1.f), weights(256);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % 5 == 0 ? 1.f : 1e-4f;
  const auto check = [&]<class F>(std::type_identity<F>) {
    const auto plain = fitBlock<F>(x.data(), ones.data(), BlockEffort::kThorough);
    const auto weighted = fitBlock<F>(x.data(), weights.data(), BlockEffort::kThorough);
    EXPECT_LT(errorOf<F>(weighted, x.data(), weights.data()), 0.8 * errorOf<F>(plain, x.data(), weights.data()))
        << F::kName;
    EXPECT_LT(errorOf<F>(plain, x.data(), ones.data()), errorOf<F>(weighted, x.data(), ones.data())) << F::kName;
  };
  check(std::type_identity<ggml::Q2_K>{});
  check(std::type_identity<ggml::Q3_K>{});
  check(std::type_identity<ggml::Q4_K>{});
  check(std::type_identity<ggml::IQ4_XS>{});
}

TEST(BlockFit, IntegersStayInTheirRange) {
  const std::vector<float> ones(256, 1.f);
  const auto check = [&]<class F>(std::type_identity<F>) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      RowMatrixXf x = testing::gaussian(1, 256, seed);
      x.leftCols(64) *= std::ldexp(1.f, static_cast<int>(seed) - 10);  // groups of other sizes
      x.middleCols(100, 20).array() += static_cast<float>(seed);
      for (const BlockEffort effort : {BlockEffort::kQuick, BlockEffort::kThorough}) {
        const BlockScales s = fitBlock<F>(x.data(), ones.data(), effort);
        EXPECT_EQ(F::stored(s.scale), s.scale);
        EXPECT_EQ(F::stored(s.min), s.min);
        for (std::size_t g = 0; g < static_cast<std::size_t>(F::kBlock / F::kGroup); ++g) {
          EXPECT_GE(s.scales[g], F::kLeastStep);
          EXPECT_LE(s.scales[g], F::kMostStep);
          EXPECT_GE(s.mins[g], 0);
          EXPECT_LE(s.mins[g], F::kMostMin);
        }
        EXPECT_TRUE(F::kMostMin <= 1 || (s.scale >= 0 && s.min >= 0));
        EXPECT_LT(errorOf<F>(s, x.data(), ones.data()), 0.2 * static_cast<double>(x.squaredNorm()));
      }
    }
  };
  check(std::type_identity<ggml::Q2_K>{});
  check(std::type_identity<ggml::Q3_K>{});
  check(std::type_identity<ggml::Q4_K>{});
  check(std::type_identity<ggml::Q5_K>{});
  check(std::type_identity<ggml::Q6_K>{});
  check(std::type_identity<ggml::IQ4_XS>{});
}

TEST(BlockFit, NothingToFit) {
  const std::vector<float> ones(256, 1.f), none(256, 0.f);
  const auto check = [&]<class F>(std::type_identity<F>) {
    const BlockScales zero = fitBlock<F>(none.data(), ones.data(), BlockEffort::kThorough);
    EXPECT_EQ(errorOf<F>(zero, none.data(), ones.data()), 0) << F::kName;
    for (const float value : {1.f, -1.f}) {
      const std::vector<float> same(256, value);
      const BlockScales constant = fitBlock<F>(same.data(), ones.data(), BlockEffort::kThorough);
      EXPECT_LT(errorOf<F>(constant, same.data(), ones.data()), 1e-3) << F::kName << value;
    }
    const BlockScales idle = fitBlock<F>(ones.data(), none.data(), BlockEffort::kThorough);  // no number counts
    EXPECT_TRUE(std::isfinite(idle.scale) && std::isfinite(idle.min)) << F::kName;
  };
  check(std::type_identity<ggml::Q4_0>{});
  check(std::type_identity<ggml::Q4_1>{});
  check(std::type_identity<ggml::Q8_0>{});
  check(std::type_identity<ggml::TQ2_0>{});
  check(std::type_identity<ggml::Q2_K>{});
  check(std::type_identity<ggml::Q3_K>{});
  check(std::type_identity<ggml::Q4_K>{});
  check(std::type_identity<ggml::Q6_K>{});
}

TEST(GroupSums, ErrorIsThatOfTheDefinition) {
  const float x[] = {1.5f, -2, 0.25f, 3}, w[] = {1, 0.5f, 2, 0.125f}, l[] = {1, 0, 3, 2};
  double xx = 0, sum_x = 0, sum_w = 0, error = 0;
  detail::GroupSums sums;
  for (int i = 0; i < 4; ++i) {
    const double wi = static_cast<double>(w[i]), xi = static_cast<double>(x[i]), li = static_cast<double>(l[i]);
    xx += wi * xi * xi;
    sum_x += wi * xi;
    sum_w += wi;
    sums.ll += wi * li * li;
    sums.l += wi * li;
    sums.xl += wi * xi * li;
    const double d = xi - (0.75 * li - 0.5);
    error += wi * d * d;
  }
  EXPECT_NEAR(sums.error(0.75, 0.5, xx, sum_x, sum_w), error, 1e-12);
}

}  // namespace
}  // namespace gosset::block_fit_test
