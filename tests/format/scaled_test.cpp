// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/scaled.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/theory/gaussian_quantizers.hpp>

#include "testing.hpp"

#include <map>

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
