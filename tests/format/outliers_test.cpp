// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/outliers.hpp>

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/format/low_rank.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <tuple>
#include <utility>
#include <vector>

namespace gosset::outliers_test {
namespace {

using testing::gaussian;
using Backbone = Grouped<Asymmetric<2>, 64>;

/// A row with one number far out at either end.
RowMatrixXf withOutliers(Index rows, Index cols) {
  RowMatrixXf w = gaussian(rows, cols);
  for (Index row = 0; row < rows; ++row) {
    w(row, (7 * row) % cols) = 100.f + static_cast<float>(row);
    w(row, (7 * row + cols / 2) % cols) = -200.f;
  }
  return w;
}

TEST(Outliers, TheLargestAtBothEndsAreKept) {
  RowMatrixXf w = gaussian(1, 100).cwiseAbs();
  w(0, 17) = 50;
  w(0, 99) = 60;
  w(0, 0) = -70;
  w(0, 63) = -1;  // 40 per mille of 100: two at either end
  const auto q = quantize<Outliers<Backbone, 40>>(w);
  std::vector<Index> columns;
  q.packed().forEach([&](Index, Index col, float) { columns.push_back(col); });
  EXPECT_THAT(columns, ::testing::ElementsAre(0, 17, 63, 99));
  const RowMatrixXf back = q.dequantized();
  for (const Index col : columns) EXPECT_NEAR(back(0, col), w(0, col), std::abs(w(0, col)) / 2048);
}

TEST(Outliers, OneNumberFarOutHurtsNoOther) {
  for (const Index cols : {63, 65, 172, 417, 1000}) {
    const RowMatrixXf w = withOutliers(9, cols);
    const RowMatrixXf without = gaussian(9, cols);
    const float unspoilt = (quantize<Backbone>(without).dequantized() - without).norm();
    const float plain = (quantize<Backbone>(w).dequantized() - w).norm();
    const float kept = (quantize<Outliers<Backbone, 40>>(w).dequantized() - w).norm();
    EXPECT_LT(kept, 1.02f * unspoilt) << cols;
    EXPECT_GT(plain, 2 * unspoilt) << cols;
  }
}

/// Of ten numbers one at either end is kept; the other eight, of mean 4.5, are what stands for them inside.
TEST(Outliers, TheMeanIsThatOfTheNumbersThatStay) {
  RowMatrixXf w(2, 10);
  w << 1, 2, 100, 3, 4, 5, 6, -60, 7, 8,  //
      -8, -7, 6, -6, -5, -4, -90, -3, -2, -1;
  const auto q = quantize<Outliers<Float16, 200>>(w);
  std::vector<std::tuple<Index, Index, float>> kept;
  q.packed().forEach([&](Index row, Index col, float value) { kept.emplace_back(row, col, value); });
  EXPECT_EQ(kept, (std::vector<std::tuple<Index, Index, float>>{
                      {0, 2, 95.5f}, {0, 7, -64.5f}, {1, 2, 10.5f}, {1, 6, -85.5f}}));
  EXPECT_EQ(q.dequantized(), w);
}

/// Of ten numbers one at either end is kept: by what they count, 3 * 4 and -2 * 5, rather than by 10 and -7 alone.
TEST(Outliers, WhatAnInputCountsDecidesWhichAreKept) {
  struct Weighted : Nearest {
    Eigen::VectorXf outlierWeights(Index n) const {
      Eigen::VectorXf weights = Eigen::VectorXf::Ones(n);
      weights[4] = 4;
      weights[5] = 5;
      return weights;
    }
  };
  RowMatrixXf w(1, 10);
  w << 1, 10, -7, 0, 3, -2, 1, 1, 1, 1;
  std::vector<Index> columns;
  const auto q = quantize<Outliers<Float16, 200>>(w, Weighted{});
  q.packed().forEach([&](Index, Index col, float) { columns.push_back(col); });
  EXPECT_THAT(columns, ::testing::ElementsAre(4, 5));
  EXPECT_EQ(q.dequantized(), w);
}

/// round(n * permille / 2000) at either end, a half counting as a whole.
TEST(Outliers, CountsAreRounded) {
  const auto kept = [](auto format, Index cols) {
    Index count = 0;
    quantize<decltype(format)>(gaussian(1, cols)).packed().forEach([&](Index, Index, float) { ++count; });
    return count;
  };
  EXPECT_EQ(kept(Outliers<Float16, 20>{}, 49), 0);
  EXPECT_EQ(kept(Outliers<Float16, 20>{}, 50), 2);
  EXPECT_EQ(kept(Outliers<Float16, 20>{}, 149), 2);
  EXPECT_EQ(kept(Outliers<Float16, 20>{}, 150), 4);
  EXPECT_EQ(kept(Outliers<Float16, 1000>{}, 7), 6);
}

/// Columns are taken 1024 at a time, in blocks of 256, and rows 256 at a time.
TEST(Outliers, TransposedProductsOfManyColumnsAndRows) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{9, 1025}, {3, 3000}, {300, 1300}}) {
    const auto q = quantize<Outliers<Float16, 60>>(withOutliers(rows, cols));
    for (const Index columns : {1, 5}) {
      const Eigen::MatrixXf x = gaussian(rows, columns, 2), before = gaussian(cols, columns, 3);
      Eigen::MatrixXf y = before;
      q.packed().addTransposed(x, y);
      const Eigen::MatrixXd expected =
          q.dequantized().transpose().cast<double>() * x.cast<double>() + before.cast<double>();
      const Eigen::MatrixXd error = y.cast<double>() - expected;
      EXPECT_LT(error.cwiseAbs().maxCoeff(), 3e-6 * expected.cwiseAbs().maxCoeff()) << rows << " x " << cols;
      for (Index j = 0; j < cols; ++j) EXPECT_LT(error.row(j).norm(), 1e-5 * (1 + expected.row(j).norm())) << j;
    }
  }
}

TEST(Outliers, BlocksFullOfOutliers) {
  RowMatrixXf w = gaussian(3, 700, 5);
  w.leftCols(256) *= 1000;
  w.rightCols(100) *= 5000;
  const auto q = quantize<Outliers<Backbone, 600>>(w);
  Index count = 0;
  q.packed().forEach([&](Index, Index, float) { ++count; });
  EXPECT_EQ(count, 3 * 420);
  EXPECT_LT((q.dequantized() - w).norm(), 1e-3f * w.norm());
  EXPECT_TRUE(q.packed().isValid());
  const auto all = quantize<Outliers<Backbone, 1000>>(w);
  EXPECT_LT((all.dequantized() - w).norm(), 1e-3f * w.norm());
}

TEST(Outliers, ConstantZeroTinyAndHugeMatrices) {
  for (const float c : {0.f, 1.f, -3.5f, 1024.f}) {
    const RowMatrixXf w = RowMatrixXf::Constant(9, 65, c);
    EXPECT_EQ((quantize<Outliers<Backbone, 40>>(w).dequantized()), w);
  }
  const RowMatrixXf w = withOutliers(9, 65);
  const float expected = (quantize<Outliers<Backbone, 40>>(w).dequantized() - w).norm();
  for (const float scale : {0x1p-110f, 0x1p-20f, 0x1p20f, 0x1p110f}) {
    const RowMatrixXf back = quantize<Outliers<Backbone, 40>>(RowMatrixXf(w * scale)).dequantized() / scale;
    EXPECT_NEAR((back - w).norm(), expected, 1e-4f * expected) << scale;
  }
}

TEST(Outliers, ProductsEqualThoseOfTheDequantizedMatrix) {
  for (const Index rows : {1, 9, 65}) {
    for (const Index cols : testing::kOddSizes) {
      auto q = quantize<Outliers<Backbone, 40>>(withOutliers(rows, cols));
      q.setActivations(Activations::kFloat);
      for (const Index columns : {1, 3}) {
        const Eigen::MatrixXf x = gaussian(cols, columns, 2);
        const Eigen::MatrixXf y = q * x, expected = q.dequantized() * x;
        EXPECT_LE((y - expected).norm(), 1e-5f * (1 + expected.norm())) << rows << " x " << cols;
      }
    }
  }
}

TEST(Outliers, RowsAloneAreThoseOfTheWhole) {
  const auto q = quantize<Outliers<Backbone, 40>>(withOutliers(20, 65));
  const RowMatrixXf whole = q.dequantized();
  const Eigen::MatrixXf x = gaussian(65, 3, 2), y = whole * x;
  for (const Index first : {0, 3, 17}) {
    RowMatrixXf rows(3, 65);
    q.packed().decodeRows(first, 3, rows);
    EXPECT_EQ(rows, whole.middleRows(first, 3)) << first;
    Eigen::MatrixXf products = Eigen::MatrixXf::Zero(20, 3), expected = products;
    expected.middleRows(first, 3) = y.middleRows(first, 3);
    q.packed().multiplyRows(first, 3, x, products, Activations::kFloat);
    EXPECT_LT((products - expected).norm(), 1e-5f * y.norm()) << first;
  }
}

TEST(Outliers, EveryByteIsCounted) {
  // 20 per mille of 128: 1.28 at either end, one; of 1024: 10, and three counts besides.
  EXPECT_EQ((quantize<Outliers<Backbone, 20>>(gaussian(8, 128)).bytes()),
            quantize<Backbone>(gaussian(8, 128)).bytes() + 8 * 2 * 3 + 4);
  EXPECT_EQ((quantize<Outliers<Backbone, 20>>(gaussian(8, 1024)).bytes()),
            quantize<Backbone>(gaussian(8, 1024)).bytes() + 8 * (20 * 3 + 3 * 2) + 4);
  // Too short for one at either end: nothing is kept but the unit.
  EXPECT_EQ((quantize<Outliers<Backbone, 20>>(gaussian(8, 49)).bytes()),
            quantize<Backbone>(gaussian(8, 49)).bytes() + 4);
}

TEST(Outliers, TheShapeDecidesTheSizes) {
  using Both = LowRank<Outliers<Backbone, 20>, 3>;
  const auto q = quantize<Both>(gaussian(9, 600));
  const auto shaped = Packed<Both>::shaped(9, 600);
  EXPECT_EQ(shaped.bytes(), q.bytes());
  EXPECT_TRUE(shaped.dequantized().isZero(0));
  EXPECT_EQ(Packed<Both>::formatName(), "LowRank<Outliers<Grouped<Asymmetric<2>, 64>, 20>, 3>");
}

TEST(Outliers, FieldsThatLieAreFoundOut) {
  const auto damaged = [](std::string_view field, auto value) {
    auto packed = Packed<LowRank<Outliers<Backbone, 20>, 1>>::shaped(2, 300);
    EXPECT_TRUE(packed.isValid());
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == field) values[0] = static_cast<T>(value);
    });
    return packed.isValid();
  };
  EXPECT_FALSE(damaged("inner.counts", 700)) << "more than the row has";
  EXPECT_FALSE(damaged("inner.indices", 255)) << "beyond the last column, in the last block";
}

/// 20 per mille of 300: three at either end, and the second block of a row holds the columns from 256 on.
TEST(Outliers, CountsAndColumnsMayReachTheirEndsButNotBeyond) {
  const auto fault = [](std::uint16_t count, std::uint8_t last) {
    auto packed = Packed<Outliers<Backbone, 20>>::shaped(1, 300);
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == "counts") values[0] = static_cast<T>(count);
      if (name == "indices") values[5] = static_cast<T>(last);
    });
    return packed.fault();
  };
  EXPECT_EQ(fault(6, 0), "");
  EXPECT_EQ(fault(7, 0), "counts: expected at most 6 a row");
  EXPECT_EQ(fault(0, 43), "");
  EXPECT_EQ(fault(0, 44), "indices: expected columns below 300");
}

/// Products with the transpose take columns of a row for different.
TEST(Outliers, ColumnsRiseWithinARow) {
  const auto fault = [](std::uint8_t first, std::uint8_t second, float value) {
    auto packed = Packed<Outliers<Backbone, 20>>::shaped(2, 100);
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == "indices") values[0] = static_cast<T>(first), values[1] = static_cast<T>(second);
      if (name == "values") values[1] = static_cast<T>(value);
    });
    return packed.fault();
  };
  EXPECT_EQ(fault(3, 4, 1), "");
  EXPECT_EQ(fault(3, 3, 0), "");
  EXPECT_EQ(fault(3, 3, 1), "indices: expected columns that rise within a row");
  EXPECT_EQ(fault(4, 3, 0), "indices: expected columns that rise within a row");
}

}  // namespace
}  // namespace gosset::outliers_test
