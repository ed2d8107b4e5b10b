// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/grid.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace gosset::grid_test {
namespace {

TEST(Grid, GroupsCoverARowWithoutOverlap) {
  for (const Index cols : testing::kOddSizes) {
    const Grid<Grouped<Binary, 8>> grid(3, cols, PublishedRule{});
    EXPECT_EQ(grid.groups(), (cols + 7) / 8);
    EXPECT_EQ(grid.cols(), cols);
    Index covered = 0;
    for (Index g = 0; g < grid.groups(); ++g) {
      EXPECT_EQ(grid.begin(g), covered);
      for (Index col = grid.begin(g); col < grid.end(g); ++col) EXPECT_EQ(grid.groupOf(col), g);
      covered = grid.end(g);
    }
    EXPECT_EQ(covered, cols);
  }
}

TEST(Grid, RowsOfAGridHaveTheirOwnScales) {
  const RowMatrixXf w = testing::gaussian(9, 17);
  Grid<Grouped<Asymmetric<3>, 8>> whole(9, 17, PublishedRule{}), filled(9, 17, PublishedRule{});
  whole.fitAll(w);
  const auto part = whole.rowsOf(4, 3);
  EXPECT_EQ(part.rows(), 3);
  for (Index row = 0; row < 3; ++row) {
    for (Index group = 0; group < 3; ++group) EXPECT_EQ(part.affine(row, group), whole.affine(4 + row, group));
  }
  for (const auto& [first, count] : {std::pair<Index, Index>(0, 4), {4, 3}, {7, 2}}) {
    auto band = filled.rowsOf(first, count);
    band.fitAll(w.middleRows(first, count));
    filled.setRowsOf(first, band);
  }
  for (Index row = 0; row < 9; ++row) {
    for (Index group = 0; group < 3; ++group) EXPECT_EQ(filled.affine(row, group), whole.affine(row, group));
  }
}

TEST(Grid, RowsOfAGridKeepTheScaleOfAll) {
  const RowMatrixXf w = testing::gaussian(9, 17);
  Grid<PerTensor<Asymmetric<3>>> whole(9, 17, PublishedRule{});
  whole.fitAll(w);
  auto part = whole.rowsOf(4, 3);
  part.fitAll(w.middleRows(4, 3));
  part.fitGroup(0, 5 * w.middleRows(4, 3));
  EXPECT_EQ(part.affine(0, 0), whole.affine(0, 0));
  const Affine before = whole.affine(0, 0);
  whole.setRowsOf(4, part);
  EXPECT_EQ(whole.affine(8, 0), before);
  whole.fitAll(5 * w);  // the whole is fitted as ever
  EXPECT_NE(whole.affine(0, 0), before);
}

TEST(Grid, ScalesAreThoseOfEachGroup) {
  RowMatrixXf w(2, 5);
  w << 1, -2, 3, 4, -8,  //
      0.5f, 0, 16, 0, 0;
  Grid<Grouped<Symmetric<2>, 2>> grouped(2, 5, PublishedRule{});
  grouped.fitAll(w);
  const float expected[2][3] = {{2, 4, 8}, {0.5f, 16, 0}};
  for (Index row = 0; row < 2; ++row) {
    for (Index g = 0; g < 3; ++g) EXPECT_EQ(grouped.affine(row, g).scale, expected[row][g]) << row << ' ' << g;
  }
  EXPECT_EQ(grouped.affines().size(), 6u);

  Grid<PerChannel<Symmetric<2>>> channels(2, 5, PublishedRule{});
  channels.fitAll(w);
  EXPECT_EQ(channels.affine(0, 0).scale, 8);
  EXPECT_EQ(channels.affine(1, 0).scale, 16);

  Grid<PerTensor<Symmetric<2>>> tensor(2, 5, PublishedRule{});
  tensor.fitAll(w);
  EXPECT_EQ(tensor.affine(0, 0).scale, 16);
  EXPECT_EQ(tensor.affine(1, 0).scale, 16);
  EXPECT_EQ(tensor.affines().size(), 1u);
}

TEST(Grid, OneGroupCanBeFittedAgain) {
  RowMatrixXf w = RowMatrixXf::Ones(3, 6);
  Grid<Grouped<Symmetric<2>, 3>> grid(3, 6, PublishedRule{});
  grid.fitAll(w);
  grid.fitGroup(1, w.middleCols(3, 3) * 4);
  for (Index row = 0; row < 3; ++row) {
    EXPECT_EQ(grid.affine(row, 0).scale, 1);
    EXPECT_EQ(grid.affine(row, 1).scale, 4);
  }
}

TEST(Grid, RowsAreEncodedGroupByGroup) {
  RowMatrixXf w(1, 5);
  w << 1, -2, 3, 4, -8;
  Grid<Grouped<Symmetric<2>, 2>> grid(1, 5, PublishedRule{});
  grid.fitAll(w);
  std::uint8_t codes[16] = {};  // as many as are written at a time in longer rows, which compilers reckon with
  grid.encodeRow(0, w.data(), codes);
  EXPECT_THAT(std::vector(codes, codes + 6), ::testing::ElementsAre(1, 0, 2, 2, 0, 0));  // 1 / 2 ties, to the level 0
}

constexpr Index kWidths[] = {1, 2, 4, 5, 6, 8, 9, 11, 12, 63, 65, 172, 417};
const ScaleFit kFits[] = {PublishedRule{}, Percentile{90}, LeastSquares{}};

/// w as a format hands it to a rounding: filled up with zeros to whole codes.
template <Codebook C>
RowMatrixXf padded(const RowMatrixXf& w) {
  RowMatrixXf result = RowMatrixXf::Zero(w.rows(), ceilDiv(w.cols(), C::kDim) * C::kDim);
  result.leftCols(w.cols()) = w;
  return result;
}

template <ScaledFormat F>
Grid<F> fittedGrid(const RowMatrixXf& w, const ScaleFit& fit) {
  Grid<F> grid(w.rows(), w.cols(), fit);
  grid.fitAll(padded<typename F::Codebook>(w));
  return grid;
}

template <Codebook C>
Affine fitOf(const ScaleFit& fit, const RowMatrixXf& real) {
  return fitAffine<C, Float16>(fit, {real.data(), static_cast<std::size_t>(real.size())}, real.cols());
}

template <class C>
class PaddedGrid : public ::testing::Test {};
using Vectors = ::testing::Types<E8P, E81B, E8PRvq3, Trits5>;
TYPED_TEST_SUITE(PaddedGrid, Vectors);

TYPED_TEST(PaddedGrid, ScalesAreThoseOfTheRealNumbers) {
  constexpr Index kGroup = 2 * TypeParam::kDim, kRows = 3;
  for (const Index n : kWidths) {
    const RowMatrixXf w = testing::gaussian(kRows, n, static_cast<std::uint64_t>(n));
    for (const ScaleFit& fit : kFits) {
      if (std::holds_alternative<LeastSquares>(fit) && n > 65) continue;  // slow, and nothing new
      const auto tensor = fittedGrid<PerTensor<TypeParam>>(w, fit);
      EXPECT_EQ(tensor.affine(0, 0), fitOf<TypeParam>(fit, w)) << n;
      const auto channels = fittedGrid<PerChannel<TypeParam>>(w, fit);
      const auto groups = fittedGrid<Grouped<TypeParam, kGroup>>(w, fit);
      for (Index row = 0; row < kRows; ++row) {
        EXPECT_EQ(channels.affine(row, 0), fitOf<TypeParam>(fit, w.row(row))) << n;
        for (Index g = 0; g < groups.groups(); ++g) {
          const Index width = std::min(kGroup, n - g * kGroup);
          EXPECT_EQ(groups.affine(row, g), fitOf<TypeParam>(fit, w.block(row, g * kGroup, 1, width))) << n << ' ' << g;
        }
      }
    }
  }
}

TYPED_TEST(PaddedGrid, AGroupFittedAloneIsTheSameInAnyOrderOfItsCodes) {
  using C = TypeParam;
  for (const Index n : {Index{1}, Index{9}, Index{13}, Index{3 * C::kDim - 1}}) {
    const RowMatrixXf w = padded<C>(testing::gaussian(3, n));
    RowMatrixXf reversed = w;
    for (Index col = 0; col < w.cols(); col += C::kDim) {
      reversed.middleCols(w.cols() - C::kDim - col, C::kDim) = w.middleCols(col, C::kDim);
    }
    const auto expect = [&](auto grid, auto again) {
      grid.fitGroup(0, w);
      again.fitGroup(0, reversed, 0);
      for (Index row = 0; row < 3; ++row) {
        EXPECT_NEAR(again.affine(row, 0).scale, grid.affine(row, 0).scale, 1e-3f * grid.affine(row, 0).scale) << n;
      }
    };
    expect(Grid<PerChannel<C>>(3, n, PublishedRule{}), Grid<PerChannel<C>>(3, n, PublishedRule{}));
    expect(Grid<PerTensor<C>>(3, n, PublishedRule{}), Grid<PerTensor<C>>(3, n, PublishedRule{}));
  }
}

/// Points (-8, 0, 0, 0), (1, 1, 1, 1), (1.625, 1.375, ..) and (2, 1.5, ..).
struct Stairs {
  using Code = std::uint8_t;
  static constexpr int kDim = 4;
  static constexpr int kBits = 2;
  static constexpr ScaleRule kRule = ScaleRule::kRootMeanSquare;
  static constexpr float kGaussianScale = 1;
  static constexpr float kFirst[] = {-8, 1, 1.625f, 2}, kOthers[] = {0, 1, 1.375f, 1.5f};
  static std::string name() { return "Stairs"; }
  static Code encode(const float* x) {
    std::vector<float> errors;
    for (Code q = 0; q < 4; ++q) {
      float y[4], error = 0;
      decode(q, y);
      for (int i = 0; i < 4; ++i) error += std::abs(x[i] - y[i]) * std::abs(x[i] - y[i]);
      errors.push_back(error);
    }
    return static_cast<Code>(std::min_element(errors.begin(), errors.end()) - errors.begin());
  }
  static void decode(Code q, float* y) {
    y[0] = kFirst[q];
    std::fill_n(y + 1, 3, kOthers[q]);
  }
};

/// With zeros beside it 2 is nearest to the point of ones; with ones to the next; with what that has, to the last.
TEST(Grid, APaddedCodeClimbsAsLongAsItComesNearer) {
  Grid<PerTensor<Stairs>> grid(1, 5, PublishedRule{});
  grid.setAffine(0, 0, {1, 0});
  const auto codes = [&](float last) {
    const float w[] = {2, 0, 0, 0, last, 0, 0, 0};
    std::uint8_t found[2];
    grid.encodeRow(0, w, found);
    return std::vector<int>(found, found + 2);
  };
  EXPECT_EQ(codes(2), (std::vector<int>{1, 3})) << "zeros that are no padding count";
  EXPECT_EQ(codes(1), (std::vector<int>{1, 1}));
  EXPECT_EQ(codes(-7), (std::vector<int>{1, 0}));
}

/// With a zero beside it the last code would be the point of ones; as it is no number of the matrix, the next is
/// nearer.
TEST(Grid, OnePaddedNumberDoesNotCountEither) {
  Grid<PerTensor<Stairs>> grid(1, 7, PublishedRule{});
  grid.setAffine(0, 0, {1, 0});
  const float w[] = {1, 1, 1, 1, 1.5f, 1.3f, 1.3f, 0};
  std::uint8_t found[2];
  grid.encodeRow(0, w, found);
  EXPECT_EQ(found[0], 1);
  EXPECT_EQ(found[1], 2);
}

TEST(Grid, PaddedScalesByHand) {
  RowMatrixXf w(2, 2);
  w << 3, -4, 0, 2;  // root mean squares sqrt(25 / 2) and sqrt(2), of all sqrt(29 / 4); mean magnitudes 3.5, 1 and 9/4
  const auto near = [](float value) { return static_cast<float>(storeNearest<Float16>(value * E8P::kGaussianScale)); };
  const auto channels = fittedGrid<PerChannel<E8P>>(w, PublishedRule{});
  EXPECT_EQ(channels.affine(0, 0).scale, near(std::sqrt(12.5f)));
  EXPECT_EQ(channels.affine(1, 0).scale, near(std::sqrt(2.f)));
  EXPECT_EQ(fittedGrid<PerTensor<E8P>>(w, PublishedRule{}).affine(1, 0).scale, near(std::sqrt(7.25f)));
  EXPECT_EQ(fittedGrid<PerChannel<Trits5>>(w, PublishedRule{}).affine(0, 0).scale, 3.5f);
  EXPECT_EQ(fittedGrid<PerTensor<Trits5>>(w, PublishedRule{}).affine(0, 0).scale, 2.25f);
}

TEST(Grid, Trits5HasTheScalesOfTernary) {
  for (const Index n : kWidths) {
    const RowMatrixXf w = testing::gaussian(3, n);
    for (const ScaleFit& fit : kFits) {
      const auto expect = [&](const auto& trits, const auto& ternary) {
        ASSERT_EQ(trits.groups(), ternary.groups());
        for (std::size_t i = 0; i < trits.affines().size(); ++i) EXPECT_EQ(trits.affines()[i], ternary.affines()[i]);
      };
      expect(fittedGrid<PerTensor<Trits5>>(w, fit), fittedGrid<PerTensor<Ternary>>(w, fit));
      expect(fittedGrid<PerChannel<Trits5>>(w, fit), fittedGrid<PerChannel<Ternary>>(w, fit));
      expect(fittedGrid<Grouped<Trits5, 20>>(w, fit), fittedGrid<Grouped<Ternary, 20>>(w, fit));
    }
  }
}

TEST(Grid, ScalesFromElsewhereAreRoundedAndTakeTheUnit) {
  Grid<Grouped<Asymmetric<4>, 4>> grid(2, 7, PublishedRule{}, 0.25f);
  EXPECT_EQ(grid.unit(), 0.25f);
  EXPECT_EQ((Grid<PerTensor<Ternary>>(1, 1, PublishedRule{}).unit()), 1);
  grid.setScale(1, 1, 0.1f, 2.3f);
  EXPECT_EQ(grid.affine(1, 1).scale, static_cast<float>(static_cast<Float16>(0.4f)));
  EXPECT_EQ(grid.affine(1, 1).zero, static_cast<float>(static_cast<Float16>(2.3f)));
  EXPECT_EQ(grid.affine(1, 0), Affine{});
  grid.setScale(0, 0, 1e30f, -1e30f);
  EXPECT_EQ(grid.affine(0, 0), (Affine{65504, -65504}));
  grid.setScale(0, 0, 0, 0);
  EXPECT_EQ(grid.affine(0, 0), Affine{});
  Grid<PerTensor<Symmetric<4>, float>> tensor(2, 7, PublishedRule{}, 2);
  tensor.setScale(1, 0, 3, 5);
  EXPECT_EQ(tensor.affine(0, 0), (Affine{1.5f, 0})) << "without a zero point";
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  testing::expectThrows([&] { grid.setScale(0, 0, -1, 0); }, "Grid::setScale: expected a scale that is finite and not");
  testing::expectThrows([&] { grid.setScale(0, 0, kInfinity, 0); }, "got inf and 0");
  testing::expectThrows([&] { grid.setScale(0, 0, 1, -kInfinity); }, "got 1 and -inf");
}

}  // namespace
}  // namespace gosset::grid_test
