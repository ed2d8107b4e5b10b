// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format/mixed_columns.hpp>
#include <gosset/matrix.hpp>
#include <gosset/theory.hpp>

#include "testing.hpp"

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace gosset::mixed_columns_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Int8 = PerChannel<Symmetric<8>>;
using Columns = std::vector<std::uint32_t>;

/// Uniform in [-1, 1], with the columns `large` times 50.
RowMatrixXf activations(Index tokens, Index inputs, const Columns& large) {
  RowMatrixXf x = RowMatrixXf::Ones(tokens, inputs);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = 2 * randomUniform(4, static_cast<std::uint64_t>(i)) - 1;
  for (const auto j : large) x.col(j) *= 50.f;
  return x;
}

TEST(OutlierColumns, AreThoseThatReachTheThreshold) {
  Eigen::MatrixXf x(2, 5);
  x << 1, -6, 2, 5.9f, 0, 0, 1, -7, 3, 0;
  EXPECT_EQ(OutlierColumns{x}.columns(), (Columns{1, 2}));
  EXPECT_EQ((OutlierColumns{x, {.threshold = 7.f}}.columns()), (Columns{2}));
  EXPECT_EQ((OutlierColumns{x, {.threshold = 7.5f}}.columns()), Columns{});
  // Maxima 1, 6, 7, 5.9, 0: the median is 5.9.
  EXPECT_EQ((OutlierColumns{x, {.threshold = 1.1f, .relative_to_median = true}}.columns()), (Columns{2}));
  EXPECT_EQ((OutlierColumns{x * 1e-6f, {.threshold = 1.1f, .relative_to_median = true}}.columns()), (Columns{2}));
  EXPECT_EQ((OutlierColumns{RowMatrixXf::Zero(2, 5), {.relative_to_median = true}}.columns()), Columns{});
}

TEST(OutlierColumns, TheMedianOfAnEvenNumberIsTheLowerOne) {
  const auto columns = [](const Eigen::RowVectorXf& x, float threshold) {
    return OutlierColumns{x, {.threshold = threshold, .relative_to_median = true}}.columns();
  };
  const Eigen::RowVector4f x(8, -2, 1, 3);  // 2
  EXPECT_EQ(columns(x, 1.5f), (Columns{0, 3}));
  EXPECT_EQ(columns(x, 1.6f), (Columns{0}));
  EXPECT_EQ(columns(x, 4), (Columns{0}));
  EXPECT_EQ(columns(x, 4.1f), Columns{});
  EXPECT_EQ(columns(Eigen::RowVector2f(-5, 1), 5), (Columns{0}));
}

TEST(LlmInt8, KeepsOutlierColumnsInSixteenBits) {
  RowMatrixXf w = gaussian(9, 65);
  w.col(3) *= 3.f;  // so that it decides no scale of the others
  const auto q = quantize<LlmInt8>(w, OutlierColumns{activations(20, 65, {3, 64})});
  const RowMatrixXf dense = q.dequantized();
  for (const Index j : {3, 64}) EXPECT_LT((dense.col(j) - w.col(j)).cwiseAbs().maxCoeff(), 8 * 0x1p-11f);
  RowMatrixXf rest = w;
  rest.col(3).setZero();
  rest.col(64).setZero();
  RowMatrixXf others = dense;
  others.col(3).setZero();
  others.col(64).setZero();
  EXPECT_EQ(others, quantize<Int8>(rest).dequantized());
  EXPECT_EQ(q.bytes(), quantize<Int8>(w).bytes() + 2 * 4 + 9 * 2 * 2 + 4) << "indices, values and the unit are counted";
}

TEST(LlmInt8, WithoutOutliersIsTheInnerFormat) {
  const RowMatrixXf w = gaussian(9, 65);
  const auto q = quantize<LlmInt8>(w, OutlierColumns{activations(20, 65, {})});
  EXPECT_EQ(q.dequantized(), quantize<Int8>(w).dequantized());
  EXPECT_EQ(q.packed().columns().size(), 0u);
}

TEST(LlmInt8, ProductsEqualThoseOfTheDequantizedMatrix) {
  for (const Index rows : {1, 9, 63}) {
    for (const Index cols : testing::kOddSizes) {
      const RowMatrixXf tokens = activations(7, cols, {static_cast<std::uint32_t>(cols / 2)});
      auto q = quantize<LlmInt8>(gaussian(rows, cols), OutlierColumns{tokens});
      q.setActivations(Activations::kFloat);
      const RowMatrixXf dense = q.dequantized();
      for (const Index columns : {1, 3}) {
        const Eigen::MatrixXf x = tokens.topRows(columns).transpose();
        const Eigen::MatrixXf y = q * x, expected = dense * x;
        EXPECT_LT((y - expected).norm(), 1e-5f * expected.norm() + 1e-6f) << rows << " x " << cols;
      }
    }
  }
}

TEST(LlmInt8, LosesLessThanEightBitsAlone) {
  const RowMatrixXf w = gaussian(64, 172), x = activations(60, 172, {11, 100});
  const RowMatrixXf exact = w * x.transpose();
  const auto error = [&](const auto& q) { return (q.dequantized() * x.transpose() - exact).norm() / exact.norm(); };
  EXPECT_LT(error(quantize<LlmInt8>(w, OutlierColumns{x})), 0.25f * error(quantize<Int8>(w)));
}

TEST(LlmInt8, AllColumnsAndAnyMagnitude) {
  for (const float magnitude : {1e-38f, 1e-10f, 1.f, 1e10f, 1e37f}) {
    const RowMatrixXf w = gaussian(7, 9) * magnitude;
    for (const RowMatrixXf& x : {activations(3, 9, {2}), RowMatrixXf(RowMatrixXf::Constant(3, 9, 7.f))}) {
      const auto q = quantize<LlmInt8>(w, OutlierColumns{x});
      EXPECT_LT(distortion(w / magnitude, q.dequantized() / magnitude).relative, 0.01) << magnitude;
    }
  }
}

TEST(MixedColumns, TakesOtherFormatsAndNames) {
  using Wide = MixedColumns<Grouped<Asymmetric<2>, 32>, BFloat16>;
  const RowMatrixXf w = gaussian(7, 40), x = activations(20, 40, {5});
  const auto q = quantize<Wide>(w, OutlierColumns{x});
  EXPECT_LT((q * x.transpose() - q.dequantized() * x.transpose()).norm(), 1e-5f * (w * x.transpose()).norm());
  EXPECT_LT((q.dequantized() - w).col(5).cwiseAbs().maxCoeff(), 4 * 0x1p-8f);
  EXPECT_EQ(Packed<Wide>::formatName(), "MixedColumns<Grouped<Asymmetric<2>, 32>, BFloat16>");
  EXPECT_EQ(Packed<LlmInt8>::formatName(), "MixedColumns<PerChannel<Symmetric<8>>>");
  EXPECT_TRUE(Packed<LlmInt8>::shaped(3, 4).dequantized().isZero(0));
}

/// Keeps the change of basis that it is given.
struct Following : Nearest {
  BasisChange* change;
  std::vector<std::uint32_t> outlierColumns(Index) const { return {1}; }
  Following inBasis(const BasisChange& given) const {
    *change = given;
    return *this;
  }
};

/// The column meets no input, and correlates with none; 5 is the mean of 2, 4 and 9.
TEST(MixedColumns, TheRoundingIsToldThatItsColumnsTakeNoPart) {
  BasisChange change;
  Following rounding;
  rounding.change = &change;
  (void)quantize<LlmInt8>(gaussian(4, 3), rounding);
  Eigen::MatrixXd h(3, 3), expected(3, 3);
  h << 2, 1, 3, 1, 4, 5, 3, 5, 9;
  expected << 2, 0, 3, 0, 5, 0, 3, 0, 9;
  change.hessian(h);
  EXPECT_EQ(h, expected);
  RowMatrixXf x(2, 3), without(2, 3);
  x << 1, 2, 3, 4, 5, 6;
  without << 1, 0, 3, 4, 0, 6;
  change.tokens(x);
  EXPECT_EQ(x, without);
}

TEST(MixedColumns, FaultsOfTheirFields) {
  const auto shaped = [](Index columns, Index values) {
    return Packed<LlmInt8>::shaped(3, 4, [=](std::string_view name) { return name == "columns" ? columns : values; });
  };
  const auto fault = [&](std::uint32_t first, std::uint32_t second, float unit) {
    auto packed = shaped(2, 6);
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == "columns") values[0] = static_cast<T>(first), values[1] = static_cast<T>(second);
      if (name == "unit") values[0] = static_cast<T>(unit);
    });
    return packed.fault();
  };
  EXPECT_EQ(fault(0, 3, 1), "");
  EXPECT_EQ(fault(0, 4, 1), "columns: expected rising numbers below 4");
  EXPECT_EQ(fault(2, 2, 1), "columns: expected rising numbers below 4");
  EXPECT_EQ(fault(2, 1, 1), "columns: expected rising numbers below 4");
  EXPECT_EQ(fault(0, 3, 0), "unit: expected a positive number");
  EXPECT_EQ(shaped(1, 2).fault(), "values: expected 3 for each of 1 columns");
  auto more = shaped(1, 3);
  Packed<LlmInt8>::fields(more, []<class T>(std::string_view name, T& field) {
    if constexpr (std::is_same_v<T, StoredArray<Float16>>) {
      if (name == "values") field = T(4);
    }
  });
  EXPECT_EQ(more.fault(), "values: expected 3 for each of 1 columns");
}

TEST(MixedColumns, AFileThatClaimsMoreThanFitsGetsNoMoreMemory) {
  const auto packed = Packed<LlmInt8>::shaped(3, 4, [](std::string_view) { return Index{1} << 40; });
  EXPECT_EQ(packed.columns().size(), 4u);
  EXPECT_EQ(packed.bytes(), Packed<LlmInt8>::shaped(3, 4).bytes() + 4 * 4 + 3 * 4 * 2);
}

TEST(OutlierColumns, RefuseWhatTheyCannotUse) {
  const RowMatrixXf x = gaussian(4, 5);
  expectThrows([&] { OutlierColumns(x, {.threshold = 0}); }, "OutlierColumns: expected a threshold > 0, got 0");
  expectThrows([&] { OutlierColumns{RowMatrixXf(0, 5)}; }, "OutlierColumns: the matrix is empty (0 x 5)");
  expectThrows([&] { OutlierColumns{RowMatrixXf(x / 0.f)}; }, "OutlierColumns: expected numbers that are finite");
  expectThrows([&] { (void)quantize<LlmInt8>(gaussian(3, 6), OutlierColumns{x}); },
               "OutlierColumns: expected a matrix of 5 inputs, as the activations have, got 6");
}

}  // namespace
}  // namespace gosset::mixed_columns_test
