// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/scaled.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/theory/gaussian_quantizers.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>

namespace gosset::scaled_test {
namespace {

/// The bytes of each stored array.
template <class Format>
std::map<std::string, Index> fieldBytes(const Packed<Format>& packed) {
  std::map<std::string, Index> bytes;
  packed.visitFields(
      [&](std::string_view name, auto values) { bytes[std::string(name)] = static_cast<Index>(values.size_bytes()); });
  return bytes;
}

TEST(Scaled, BytesCountedByHand) {
  using Fields = std::map<std::string, Index>;
  EXPECT_EQ((fieldBytes(Packed<Grouped<Symmetric<3>, 64>>::shaped(7, 417))),
            (Fields{{"codes", 7 * (26 * 4 + 1 + 13 * 4 + 1)}, {"scales", 7 * 7 * 2}, {"unit", 4}}));
  // Planes of 2 bits, 16 columns in 4 bytes, and of 1 bit, 32 columns in 4 bytes; a byte for the last column in each.
  EXPECT_EQ((fieldBytes(Packed<Grouped<Asymmetric<4>, 32, BFloat16>>::shaped(9, 65))),
            (Fields{{"codes", 9 * (8 * 4 + 1)}, {"scales", 9 * 3 * 2}, {"zeros", 9 * 3 * 2}, {"unit", 4}}));
  EXPECT_EQ((fieldBytes(Packed<PerChannel<Binary, float>>::shaped(63, 9))),
            (Fields{{"codes", 63 * 4}, {"scales", 63 * 4}, {"unit", 4}}));
  EXPECT_EQ((fieldBytes(Packed<PerTensor<Ternary>>::shaped(8, 1))), (Fields{{"codes", 8}, {"scales", 2}, {"unit", 4}}));
  EXPECT_EQ((fieldBytes(Packed<Asymmetric<8>>::shaped(1, 172))),
            (Fields{{"codes", 172}, {"scales", 2}, {"zeros", 2}, {"unit", 4}}));
}

TEST(Scaled, ValuesAreThoseOfCodesAndScales) {
  using F = Grouped<Asymmetric<5>, 8>;
  for (const Index cols : testing::kOddSizes) {
    const auto packed = Packed<F>::quantize(testing::gaussian(7, cols), Nearest{}, {});
    const auto codes = packed.codes();
    const RowMatrixXf values = packed.dequantized();
    for (Index i = 0; i < 7; ++i) {
      for (Index j = 0; j < cols; ++j) {
        const Affine a = packed.affine(i, j / 8);
        ASSERT_EQ(values(i, j), a.scale * (static_cast<float>(codes(i, j)) - a.zero));
      }
    }
  }
}

TEST(Scaled, NamesAreTheFormats) {
  EXPECT_EQ((Packed<Grouped<NormalFloat4, 64>>::formatName()), "Grouped<NormalFloat4, 64>");
  EXPECT_EQ(Packed<NormalFloat4>::formatName(), "NormalFloat4");
}

// Mean squared errors on N(0,1), against the exact values and those that an independent program measured.
double mseOf(const RowMatrixXf& w, const RowMatrixXf& values) {
  return (w - values).cast<double>().squaredNorm() / static_cast<double>(w.size());
}

/// The error of a format on rows x 4096 Gaussian numbers.
template <class Format>
double measuredMse(Index rows, const ScaleFit& fit = PublishedRule{}) {
  static const RowMatrixXf w = testing::gaussian(256, 4096, 3);
  return mseOf(w.topRows(rows), quantize<Format>(w.topRows(rows), Nearest{}, {.fit = fit}).dequantized());
}

/// Within sampling error: squared errors spread by 1 to 2 times their mean.
void near(double measured, double exact) { EXPECT_NEAR(measured, exact, 0.012 * exact); }

TEST(ScaledQuality, OneScaleForAGaussianReachesTheExactMinimum) {
  near(measuredMse<Symmetric<2>>(32, LeastSquares{}), uniformQuantizer(3).mse);
  near(measuredMse<Symmetric<4>>(32, LeastSquares{}), uniformQuantizer(15).mse);
  near(measuredMse<Asymmetric<2>>(32, LeastSquares{}), 0.11885);
  near(measuredMse<Asymmetric<4>>(32, LeastSquares{}), 0.01154);
  near(measuredMse<Binary>(32), 0.36338);
  near(measuredMse<LloydMax<1>>(32), 0.36338);
  near(measuredMse<LloydMax<2>>(32), 0.11748);
  near(measuredMse<LloydMax<3>>(32), 0.03455);
  near(measuredMse<LloydMax<4>>(32), 0.00950);
  near(measuredMse<Ternary>(32, LeastSquares{}), lloydMax(3).mse);
  near(measuredMse<NormalFloat4>(32, LeastSquares{}), 0.00990);
}

TEST(ScaledQuality, EightBitsAtTheBestStep) {
  // The rare numbers beyond the last level carry a tenth of this error, so that it spreads more.
  EXPECT_NEAR(measuredMse<Asymmetric<8>>(32, LeastSquares{}), 8.77e-5, 0.06 * 8.77e-5);
}

TEST(ScaledQuality, GroupsOfAGaussian) {
  near(measuredMse<Grouped<NormalFloat4, 64>>(256), 0.00847);
  near(measuredMse<Grouped<Asymmetric<2>, 32>>(256), 0.1543);
  near(measuredMse<Grouped<Asymmetric<3>, 32>>(256), 0.0281);
  near(measuredMse<Grouped<Asymmetric<4>, 32>>(256), 0.00611);
  near(measuredMse<Grouped<Asymmetric<2>, 128>>(256), 0.2504);
  near(measuredMse<Grouped<Asymmetric<3>, 128>>(256), 0.0457);
  near(measuredMse<Grouped<Asymmetric<4>, 128>>(256), 0.00995);
  EXPECT_NEAR((measuredMse<Grouped<Asymmetric<8>, 32>>(256)), 2.1e-5, 0.05e-5 + 0.012 * 2.1e-5);
  EXPECT_NEAR((measuredMse<Grouped<Asymmetric<8>, 128>>(256)), 3.4e-5, 0.05e-5 + 0.012 * 3.4e-5);
}

/// Levels of a user's own, which no kernel knows.
struct OwnLevels {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 2, kLevels = 4;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;
  static float level(Code q) { return std::ldexp(q < 2 ? -1.f : 1.f, q == 0 || q == 3 ? 0 : -2); }
  static Code encode(float x) { return static_cast<Code>(x < -0.625f ? 0 : x < 0 ? 1 : x < 0.625f ? 2 : 3); }
  static std::string name() { return "OwnLevels"; }
};
static_assert(!detail::TileCodebook<OwnLevels>);

/// Blocks of rows are 16: rows that begin and end within them are those of the whole.
template <class F>
void expectAnyRows() {
  const auto packed = quantize<F>(testing::gaussian(40, 9)).packed();
  const RowMatrixXf whole = packed.dequantized();
  const Eigen::MatrixXf x = testing::gaussian(9, 2, 2), y = whole * x;
  for (Index first = 0; first < 40; first += 3) {
    for (Index count = 1; count <= 40 - first; ++count) {
      RowMatrixXf rows(count, 9);
      packed.decodeRows(first, count, rows);
      ASSERT_EQ(rows, whole.middleRows(first, count)) << count << " from " << first << " on";
      Eigen::MatrixXf products = Eigen::MatrixXf::Zero(40, 2), expected = products;
      expected.middleRows(first, count) = y.middleRows(first, count);
      packed.multiplyRows(first, count, x, products);
      ASSERT_LT((products - expected).norm(), 1e-5f * y.norm()) << count << " from " << first << " on";
    }
  }
}

TEST(Scaled, AnyRowsAreThoseOfTheWhole) {
  expectAnyRows<Grouped<Asymmetric<4>, 8>>();
  expectAnyRows<Grouped<OwnLevels, 4>>();
}

/// The last block has 5 rows; a matrix of 21 rounds activations, one of 5 would not.
TEST(Scaled, WhetherActivationsAreRoundedIsUpToTheWholeMatrix) {
  const auto packed = quantize<PerChannel<Symmetric<8>>>(testing::gaussian(21, 96)).packed();
  const Eigen::MatrixXf x = testing::gaussian(96, 1, 2);
  Eigen::MatrixXf y(21, 1), exact(21, 1), rows(21, 1);
  packed.multiply(x, y, Activations::kRounded);
  packed.multiply(x, exact, Activations::kFloat);
  EXPECT_NE(y.bottomRows(5), exact.bottomRows(5));
  packed.multiplyRows(16, 5, x, rows, Activations::kRounded);
  EXPECT_EQ(rows.bottomRows(5), y.bottomRows(5));
}

/// Kernels cut tiles of 32 columns in two: of a group of 48 the matrix has 40, the last 8 in the first half of a tile.
TEST(Scaled, AGroupMayBeWiderThanTheMatrix) {
  const auto q = quantize<Grouped<Asymmetric<4>, 48>>(testing::gaussian(20, 40));
  const Eigen::MatrixXf x = testing::gaussian(40, 1, 2), expected = q.dequantized() * x;
  for (const Activations how : {Activations::kFloat, Activations::kRounded}) {
    Eigen::MatrixXf y(20, 1);
    q.packed().multiply(x, y, how);
    EXPECT_LT((y - expected).norm(), (how == Activations::kFloat ? 1e-5f : 0.02f) * expected.norm());
  }
}

/// Kernels round x in steps of some 2^-22 of it, which times the matrix's unit must not leave the range of float.
TEST(Scaled, TransposedProductsOfTinyMatricesLoseNothingAndAreAdded) {
  using F = Grouped<Asymmetric<4>, 32>;
  const RowMatrixXf w = testing::gaussian(20, 40);
  for (const Index tokens : {1, 20}) {
    const Eigen::MatrixXf x = testing::gaussian(20, tokens, 2), before = testing::gaussian(40, tokens, 3);
    Eigen::MatrixXf y = before, tiny = before * 0x1p-116f;
    quantize<F>(w).packed().addTransposed(x, y);
    quantize<F>(RowMatrixXf(w * 0x1p-80f)).packed().addTransposed(x * 0x1p-36f, tiny);
    EXPECT_LT((tiny * 0x1p116f - y).norm(), 1e-5f * y.norm()) << tokens;
  }
}

TEST(Scaled, MagnitudesUpTo2To127AreHeld) {
  const RowMatrixXf w = RowMatrixXf::Constant(2, 3, -0x1p127f);
  EXPECT_EQ(quantize<PerChannel<Binary>>(w).dequantized(), w);
  testing::expectThrows([&] { (void)quantize<PerChannel<Binary>>(RowMatrixXf(w * 1.0000002f)); },
                        "beyond 2^127, up to which the values of its codes are finite in float");
}

/// E8P has codes of eight columns. What fills up the last may be anything, but is found from zeros on.
TEST(Scaled, NumbersOfAPaddedCodeComeBackNoWorseThanBesideZeros) {
  const RowMatrixXf w = testing::gaussian(200, 3);
  const auto packed = quantize<PerChannel<E8P>>(w).packed();
  const RowMatrixXf values = packed.dequantized();
  for (Index row = 0; row < w.rows(); ++row) {
    Eigen::RowVectorXf padded = Eigen::RowVectorXf::Zero(8), beside(8);
    padded.head(3) = w.row(row);
    const Affine a = packed.affine(row, 0);
    decode<E8P>(encode<E8P>(padded.data(), a), a, beside.data());
    EXPECT_LE((values.row(row) - w.row(row)).norm(), (beside.head(3) - w.row(row)).norm() * 1.00001f) << row;
  }
}

TEST(Scaled, FaultsOfItsFields) {
  using F = Grouped<Asymmetric<4>, 32>;  // of 9 columns the second half of a byte is no code's
  const auto fault = [](std::string_view field, auto value) {
    auto packed = Packed<F>::shaped(3, 9);
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == field) std::fill(values.begin(), values.end(), static_cast<T>(value));
    });
    return packed.fault();
  };
  EXPECT_EQ(quantize<F>(testing::gaussian(3, 9)).packed().fault(), "");
  EXPECT_EQ(fault("none", 0), "");
  EXPECT_EQ(fault("unit", 0.25f), "");
  for (const float unit : {0.f, -1.f, 3.f, 0.75f}) EXPECT_EQ(fault("unit", unit), "unit: expected a power of two");
  EXPECT_EQ(fault("scales", 0.f), "");
  EXPECT_EQ(fault("scales", -1.f), "scales: expected none below 0");
  EXPECT_EQ(fault("zeros", -1.f), "");
  EXPECT_EQ(fault("codes", 255), "codes: expected zeros in the bits that belong to no code");
}

TEST(Scaled, SmallMatricesMeetActivationsAsTheyAre) {
  for (const auto& [rows, cols, rounded] : {std::tuple{15, 96, false}, {16, 31, false}, {16, 32, true}}) {
    const auto packed = quantize<PerChannel<Symmetric<8>>>(testing::gaussian(rows, cols)).packed();
    const Eigen::MatrixXf x = testing::gaussian(cols, 1, 2);
    Eigen::MatrixXf y(rows, 1), exact(rows, 1);
    packed.multiply(x, y, Activations::kRounded);
    packed.multiply(x, exact, Activations::kFloat);
    EXPECT_EQ(y != exact, rounded) << rows << " x " << cols;
  }
}

}  // namespace
}  // namespace gosset::scaled_test
