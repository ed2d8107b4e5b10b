// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/quantize.hpp>

#include <gosset/codebook.hpp>
#include <gosset/rounding/stochastic.hpp>

#include "testing.hpp"

namespace gosset::quantize_test {
namespace {

using Int4 = Grouped<Asymmetric<4>, 8>;
using OneScale = PerTensor<Symmetric<8>>;  // is not quantized row by row

template <class T>
class Inputs : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, Float16, BFloat16>;
TYPED_TEST_SUITE(Inputs, Scalars);

TYPED_TEST(Inputs, AnyScalarInEitherOrder) {
  using Columns = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic>;
  using Rows = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (const Index rows : {1, 9, 65}) {  // blocks of 16
    const Columns w = testing::gaussian(rows, 63).template cast<TypeParam>();
    const auto expected = quantize<Int4>(w.template cast<float>());
    EXPECT_EQ(quantize<Int4>(w), expected);
    EXPECT_EQ(quantize<Int4>(Rows(w)), expected);
    EXPECT_EQ(quantize<Int4>(Rows(w.transpose()).transpose()), expected);
    EXPECT_EQ(quantize<Float16>(w), quantize<Float16>(w.template cast<float>()));
    EXPECT_EQ(quantize<Float16>(Rows(w)).dequantized(), w.template cast<Float16>().template cast<float>());
  }
}

TEST(Inputs, AnyDenseExpression) {
  const Eigen::MatrixXf w = testing::gaussian(33, 63);
  const auto expected = quantize<Int4>(w);
  Eigen::MatrixXf larger = Eigen::MatrixXf::Constant(36, 70, 99);
  larger.block(2, 3, 33, 63) = w;
  EXPECT_EQ(quantize<Int4>(larger.block(2, 3, 33, 63)), expected);
  EXPECT_EQ(quantize<Int4>(2 * w - w), expected);
  EXPECT_EQ(quantize<Int4>(w.array()), expected);
  EXPECT_EQ(quantize<Int4>(Eigen::MatrixXf::Identity(33, 33) * w), expected);
  const Eigen::Map<const Eigen::MatrixXf, 0, Eigen::OuterStride<>> strided(&larger(2, 3), 33, 63,
                                                                           Eigen::OuterStride<>(36));
  EXPECT_EQ(quantize<Int4>(strided), expected);
  std::vector<float> spread(33 * 63 * 2, 99);
  Eigen::Map<RowMatrixXf, 0, Eigen::Stride<Eigen::Dynamic, 2>> every_second(spread.data(), 33, 63, {126, 2});
  every_second = w;
  EXPECT_EQ(quantize<Int4>(every_second), expected);
  EXPECT_EQ(quantize<Float16>(every_second), quantize<Float16>(w));
  EXPECT_EQ(quantize<Float16>(larger.block(2, 3, 33, 63)), quantize<Float16>(w));
  EXPECT_EQ(quantize<Int4>(w.row(3)).dequantized(), expected.dequantized().row(3));
}

TEST(Quantize, AMatrixThatMayChangeBecomesTheSame) {
  const RowMatrixXf w = testing::gaussian(17, 65);
  EXPECT_EQ(quantize<Int4>(RowMatrixXf(w)), quantize<Int4>(w));
  EXPECT_EQ(quantize<OneScale>(RowMatrixXf(w)), quantize<OneScale>(w));
  EXPECT_EQ(quantize<Float16>(RowMatrixXf(w)), quantize<Float16>(w));
  const Stochastic rounding{.seed = 5};
  EXPECT_EQ(quantize<OneScale>(RowMatrixXf(w), rounding), quantize<OneScale>(w, rounding));
}

TEST(Quantize, ABareCodebookIsOneScaleForAll) {
  const RowMatrixXf w = testing::gaussian(7, 65);
  const auto bare = quantize<Symmetric<4>>(w);
  EXPECT_EQ(bare.dequantized(), quantize<PerTensor<Symmetric<4>>>(w).dequantized());
  EXPECT_EQ(bare.packed().formatName(), "Symmetric<4>");
}

TEST(Quantize, TheFitIsAnOption) {
  const RowMatrixXf w = testing::gaussian(7, 417);
  using F = PerChannel<Symmetric<3>>;
  const auto error = [&](const ScaleFit& fit) {
    return (quantize<F>(w, Nearest{}, {.fit = fit}).dequantized() - w).squaredNorm();
  };
  EXPECT_LT(error(LeastSquares{}), 0.8f * error(PublishedRule{}));
  EXPECT_LT(error(LeastSquares{}), error(Percentile{97}));
  EXPECT_LT(error(Percentile{97}), error(PublishedRule{}));
}

/// |w - what| is at most half a step, and what storage adds where its numbers have run out of range.
template <class Format>
void expectCovered(const RowMatrixXf& w) {
  const auto q = quantize<Format>(w);
  const RowMatrixXf values = q.dequantized();
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) {
      const Affine a = q.packed().affine(i, 0);
      const double error = std::abs(static_cast<double>(w(i, j)) - values(i, j));
      ASSERT_LE(error, 0.501 * a.scale + 0x1p-20 * static_cast<double>(w.row(i).cwiseAbs().maxCoeff()) + 0x1p-149)
          << Packed<Format>::formatName() << ": " << w(i, j) << " became " << values(i, j) << ", scale " << a.scale;
    }
  }
}

TEST(Quantize, MatricesOfAnyMagnitudeKeepTheirRelativeError) {
  const RowMatrixXf w = testing::gaussian(4, 64);
  const auto relative = [&](float magnitude) {
    const RowMatrixXf scaled = w * magnitude;
    return (quantize<PerChannel<Symmetric<8>>>(scaled).dequantized() - scaled).cwiseAbs().maxCoeff() / magnitude;
  };
  const float usual = relative(1);
  for (const float magnitude : {0x1p-100f, 0x1p-30f, 0x1p30f, 0x1p124f})
    EXPECT_EQ(relative(magnitude), usual) << magnitude;
}

TEST(Quantize, RowsOfVeryDifferentMagnitudes) {
  RowMatrixXf w = testing::gaussian(6, 64);
  for (const float ratio : {1e-3f, 1e-5f, 1e-10f, 1e-20f, 1e-30f}) {
    for (Index i = 1; i < 6; ++i) w.row(i) = testing::gaussian(1, 64, 7) * std::pow(ratio, static_cast<float>(i) / 5);
    expectCovered<PerChannel<Symmetric<8>>>(w);
    expectCovered<PerChannel<Symmetric<8>, float>>(w);
    expectCovered<PerChannel<Asymmetric<4>>>(w);
    expectCovered<PerChannel<Asymmetric<4>, BFloat16>>(w);
    expectCovered<PerChannel<Asymmetric<4>, float>>(w);
  }
}

TEST(Quantize, NearTheEndsOfFloat) {
  for (const float magnitude : {1e38f, 1.7e38f, 0x1p-126f, 0x1p-140f, 0x1p-149f}) {
    RowMatrixXf w(3, 5);
    w << 1, -1, 0.5f, 0, 0.25f,  //
        1, 1, 1, 1, 1,           //
        -0.5f, -0.25f, 0, 1, -0.f;
    w *= magnitude;
    const auto finite = [](const RowMatrixXf& values) { return values.allFinite(); };
    EXPECT_TRUE(finite(quantize<PerChannel<Symmetric<2>>>(w).dequantized())) << magnitude;
    EXPECT_TRUE(finite(quantize<PerChannel<Asymmetric<1>>>(w).dequantized())) << magnitude;
    EXPECT_TRUE(finite(quantize<PerChannel<LloydMax<4>>>(w, Stochastic{}).dequantized())) << magnitude;
    EXPECT_TRUE(finite(quantize<PerTensor<Ternary>>(w, Nearest{}, {.fit = LeastSquares{}}).dequantized())) << magnitude;
    expectCovered<PerChannel<Symmetric<8>>>(w);
    expectCovered<PerChannel<Asymmetric<4>>>(w);
  }
}

TEST(Quantize, TinyRowsBesideAHugeNumberEndAndStayFinite) {
  RowMatrixXf w = RowMatrixXf::Zero(3, 64);
  w(0, 0) = 1e30f;
  for (Index j = 0; j < 64; ++j) w(1, j) = 1e-18f * static_cast<float>(j % 3);  // denormal in units of the largest
  w(2, 5) = 4e-19f;
  for (const ScaleFit& fit : {ScaleFit{PublishedRule{}}, ScaleFit{Percentile{99}}, ScaleFit{LeastSquares{}}}) {
    const QuantizeOptions options{.fit = fit};
    EXPECT_TRUE((quantize<PerChannel<Asymmetric<2>, float>>(w, Nearest{}, options).dequantized().allFinite()));
    EXPECT_TRUE((quantize<PerChannel<Asymmetric<3>>>(w, Nearest{}, options).dequantized().allFinite()));
    EXPECT_TRUE((quantize<PerChannel<Symmetric<4>>>(w, Nearest{}, options).dequantized().allFinite()));
    EXPECT_TRUE((quantize<PerChannel<LloydMax<2>, float>>(w, Nearest{}, options).dequantized().allFinite()));
  }
}

TEST(Quantize, ConstantAndZeroRowsComeBackExactly) {
  RowMatrixXf w = testing::gaussian(5, 65);
  w.row(1).setZero();
  w.row(2).setConstant(0.75f);
  w.row(3).setConstant(-3);
  const auto exactRows = [&](const RowMatrixXf& values) { return values.middleRows(1, 3) == w.middleRows(1, 3); };
  EXPECT_TRUE(exactRows(quantize<PerChannel<Symmetric<4>>>(w).dequantized()));
  EXPECT_TRUE(exactRows(quantize<PerChannel<Asymmetric<2>>>(w).dequantized()));
  EXPECT_TRUE(exactRows(quantize<PerChannel<NormalFloat4>>(w).dequantized()));
  EXPECT_TRUE(exactRows(quantize<Grouped<LloydMax<4>, 8>>(w).dequantized()));
  EXPECT_TRUE(exactRows(quantize<PerChannel<Binary>>(w).dequantized()));
  EXPECT_TRUE(exactRows(quantize<PerChannel<Ternary>>(w, Stochastic{}).dequantized()));
  EXPECT_TRUE(quantize<Asymmetric<4>>(RowMatrixXf::Zero(3, 4)).dequantized().isZero(0));
}

TEST(QuantizeErrors, EmptyMatrices) {
  testing::expectThrows([] { (void)quantize<Int4>(Eigen::MatrixXf(0, 5)); }, "quantize: the matrix is empty (0 x 5)");
  testing::expectThrows([] { (void)quantize<Int4>(Eigen::MatrixXf(5, 0)); }, "quantize: the matrix is empty (5 x 0)");
  testing::expectThrows([] { (void)quantize<Float16>(Eigen::MatrixXf()); }, "quantize: the matrix is empty (0 x 0)");
  testing::expectThrows([] { (void)quantize<OneScale>(RowMatrixXf(5, 0)); }, "quantize: the matrix is empty (5 x 0)");
}

TEST(QuantizeErrors, NumbersThatAreNotFinite) {
  Eigen::MatrixXf w = Eigen::MatrixXf::Ones(3, 7);
  const auto refuses = [&](float value, const std::string& text) {
    w(2, 6) = value;
    testing::expectThrows([&] { (void)quantize<Int4>(w); },
                          "quantize: expected numbers that are finite in float, got " + text + " at (2, 6) of 3 x 7");
    testing::expectThrows([&] { (void)quantize<float>(w); }, "got " + text + " at (2, 6) of 3 x 7");
    const RowMatrixXf rows = w;
    testing::expectThrows([&] { (void)quantize<Int4>(RowMatrixXf(rows)); }, "got " + text + " at (2, 6) of 3 x 7");
    testing::expectThrows([&] { (void)quantize<OneScale>(RowMatrixXf(rows)); },
                          "quantize: expected numbers that are finite in float, got " + text + " at (2, 6) of 3 x 7");
  };
  refuses(std::numeric_limits<float>::quiet_NaN(), "nan");
  refuses(std::numeric_limits<float>::infinity(), "inf");
  refuses(-std::numeric_limits<float>::infinity(), "-inf");
}

TEST(QuantizeErrors, DoublesThatFloatCannotHold) {
  Eigen::MatrixXd w = Eigen::MatrixXd::Ones(2, 2);
  w(0, 1) = -1e39;
  testing::expectThrows([&] { (void)quantize<Int4>(w); }, "finite in float, got -inf at (0, 1) of 2 x 2");
}

TEST(QuantizeErrors, NumbersWhoseRoundedNeighboursFloatCannotHold) {
  testing::expectThrows([] { (void)quantize<Int4>(Eigen::MatrixXf::Constant(2, 2, -3e38f)); },
                        "quantize: the matrix holds a magnitude of 3e+38, beyond 2^127");
}

TEST(QuantizeErrors, Percentiles) {
  testing::expectThrows([] { (void)quantize<Int4>(Eigen::MatrixXf::Ones(2, 2), Nearest{}, {.fit = Percentile{12}}); },
                        "Percentile: expected a percentile in (50, 100], got 12");
  testing::expectThrows(
      [] { (void)quantize<OneScale>(RowMatrixXf(RowMatrixXf::Ones(2, 2)), Nearest{}, {.fit = Percentile{12}}); },
      "Percentile: expected a percentile in (50, 100], got 12");
}

}  // namespace
}  // namespace gosset::quantize_test
