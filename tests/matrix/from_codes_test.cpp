// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/from_codes.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::from_codes_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Codes = Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Codes codesBelow(Index rows, Index cols, unsigned count, std::uint64_t seed = 1) {
  Codes codes(rows, cols);
  for (Index i = 0; i < codes.size(); ++i) {
    codes.data()[i] = static_cast<std::uint8_t>(randomBits(seed, static_cast<std::uint64_t>(i)) % count);
  }
  return codes;
}

TEST(FromCodes, ValuesAreScaleTimesCodeMinusZero) {
  using F = Grouped<Asymmetric<4>, 32>;
  for (const Index cols : testing::kOddSizes) {
    const Index groups = ceilDiv(cols, 32);
    const Codes codes = codesBelow(19, cols, 16);
    RowMatrixXf scales(19, groups), zeros(19, groups);
    for (Index i = 0; i < scales.size(); ++i) {  // 16-bit floats of any magnitude
      scales.data()[i] =
          static_cast<float>(Float16(std::ldexp(1.f + static_cast<float>(i % 7) / 8, static_cast<int>(i % 20) - 12)));
      zeros.data()[i] = static_cast<float>(i % 16) - 0.5f;
    }
    const auto q = fromCodes<F>(codes, scales, zeros);
    const RowMatrixXf w = q.dequantized();
    for (Index row = 0; row < 19; ++row) {
      for (Index j = 0; j < cols; ++j) {
        EXPECT_EQ(w(row, j), scales(row, j / 32) * (static_cast<float>(codes(row, j)) - zeros(row, j / 32)));
      }
    }
    EXPECT_EQ(q.packed().codes(), codes);
  }
}

TEST(FromCodes, TakesApartAndPutsTogether) {
  using F = PerChannel<Symmetric<5>>;
  const auto q = quantize<F>(gaussian(33, 65) * 1e-3f);
  RowMatrixXf scales(33, 1);
  for (Index row = 0; row < 33; ++row) scales(row, 0) = q.packed().affine(row, 0).scale;
  EXPECT_EQ(fromCodes<F>(q.packed().codes(), scales).dequantized(), q.dequantized());

  const auto e8 = quantize<E8P>(gaussian(9, 20));  // 20 numbers in 3 codes
  const RowMatrixXf scale = RowMatrixXf::Constant(1, 1, e8.packed().affine(0, 0).scale);
  EXPECT_EQ(fromCodes<E8P>(e8.packed().codes(), scale, RowMatrixXf(), 20).dequantized(), e8.dequantized());
  EXPECT_EQ(fromCodes<PerTensor<E8P>>(e8.packed().codes(), scale).cols(), 24);
}

TEST(FromCodes, ScalesOfAnyMagnitudeComeOutRight) {
  using F = PerChannel<Symmetric<8>>;
  const Codes codes = codesBelow(4, 9, 255);
  for (const float magnitude : {1e-30f, 1e-8f, 1.f, 1e8f, 1e30f}) {
    RowMatrixXf scales(4, 1);
    scales << magnitude, magnitude * 1.7f, 0.f, magnitude / 3;
    const RowMatrixXf w = fromCodes<F>(codes, scales).dequantized();
    for (Index row = 0; row < 4; ++row) {
      for (Index j = 0; j < 9; ++j) {
        const float expected = scales(row, 0) * (static_cast<float>(codes(row, j)) - 127);
        EXPECT_NEAR(w(row, j), expected, std::abs(expected) * 0x1p-11f) << magnitude;
      }
    }
  }
}

TEST(FromCodes, ScalesThatAre16BitFloatsStayWhateverStandsBesideThem) {
  const RowMatrixXf scales = Eigen::Vector2f(0x1p-24f, 65504.f), zeros = RowMatrixXf::Zero(2, 1);
  const RowMatrixXf w = fromCodes<PerChannel<Asymmetric<4>>>(Codes::Constant(2, 3, 15), scales, zeros).dequantized();
  EXPECT_EQ(w, 15 * scales.replicate(1, 3));
}

TEST(FromCodes, TakesWiderIntegersAndEitherOrder) {
  using F = PerChannel<Asymmetric<3>>;
  const Eigen::Matrix<std::uint32_t, Eigen::Dynamic, Eigen::Dynamic> wide = codesBelow(5, 7, 8).cast<std::uint32_t>();
  const Eigen::MatrixXd scales = Eigen::MatrixXd::Constant(5, 1, 0.5), zeros = Eigen::MatrixXd::Constant(5, 1, 4);
  EXPECT_EQ(fromCodes<F>(wide, scales, zeros).dequantized()(2, 3), 0.5f * (static_cast<float>(wide(2, 3)) - 4));
}

TEST(FromCodes, SaysWhatIsWrong) {
  using F = Grouped<Asymmetric<4>, 32>;
  const Codes codes = codesBelow(3, 40, 16);
  const RowMatrixXf ones = RowMatrixXf::Ones(3, 2);
  expectThrows([&] { (void)fromCodes<F>(Codes(), ones, ones); }, "fromCodes: codes: expected");
  expectThrows([&] { (void)fromCodes<F>(codes, ones, ones, 41); },
               "fromCodes: codes: expected 41 codes in each of at least 1 row for 41 columns, got 3 x 40");
  expectThrows([&] { (void)fromCodes<F>(codes, ones, ones, 39); },
               "fromCodes: codes: expected 39 codes in each of at least 1 row for 39 columns, got 3 x 40");
  expectThrows([&] { (void)fromCodes<F>(codes, RowMatrixXf::Ones(3, 1), ones); },
               "fromCodes: scales: expected 3 x 2, got 3 x 1");
  expectThrows([&] { (void)fromCodes<F>(codes, ones); }, "fromCodes: zeros: expected 3 x 2, got 0 x 0");
  expectThrows([&] { (void)fromCodes<PerChannel<Symmetric<4>>>(codesBelow(3, 40, 15), RowMatrixXf::Ones(3, 1), ones); },
               "fromCodes: zeros: expected 0 x 0, got 3 x 2");
  RowMatrixXf bad = ones;
  bad(2, 1) = -1;
  expectThrows([&] { (void)fromCodes<F>(codes, bad, ones); },
               "fromCodes: scales: expected finite numbers >= 0, got -1 at (2, 1)");
  bad(2, 1) = std::numeric_limits<float>::quiet_NaN();
  expectThrows([&] { (void)fromCodes<F>(codes, bad, ones); },
               "fromCodes: scales: expected finite numbers >= 0, got nan");
  expectThrows([&] { (void)fromCodes<F>(codes, ones, bad); },
               "fromCodes: zeros: expected finite numbers that Float16 holds");
  bad(2, 1) = 1e6f;
  expectThrows([&] { (void)fromCodes<F>(codes, ones, bad); }, "got 1e+06 at (2, 1)");
  bad(2, 1) = 3e38f;
  expectThrows([&] { (void)fromCodes<F>(codes, bad, ones); }, "fromCodes: scales: they give magnitudes of");
  // Points of E8P count as 8, so that scales go up to 2^124.
  const Codes zeros = codesBelow(1, 2, 1);
  EXPECT_EQ((fromCodes<PerTensor<E8P, float>>(zeros, RowMatrixXf::Constant(1, 1, 0x1p124f)).rows()), 1);
  expectThrows([&] { (void)fromCodes<PerTensor<E8P, float>>(zeros, RowMatrixXf::Constant(1, 1, 0x1.8p124f)); },
               "fromCodes: scales: they give magnitudes of");
  // Levels 0 .. 15 less 15 go down to -15, those less 0 up to 15.
  for (const float zero : {0.f, 15.f}) {
    const auto from = [&](float scale) {
      return fromCodes<PerChannel<Asymmetric<4>, float>>(zeros, RowMatrixXf::Constant(1, 1, scale),
                                                         RowMatrixXf::Constant(1, 1, zero));
    };
    EXPECT_EQ(from(0x1p123f).dequantized(), RowMatrixXf::Constant(1, 2, -0x1p123f * zero));
    expectThrows([&] { (void)from(0x1p124f); }, "fromCodes: scales: they give magnitudes of");
  }
  Codes wrong = codes;
  wrong(1, 7) = 16;
  expectThrows([&] { (void)fromCodes<F>(wrong, ones, ones); },
               "fromCodes: codes: expected codes of Asymmetric<4>, below 16, got 16 at (1, 7)");
  wrong(1, 7) = 3;
  expectThrows([&] { (void)fromCodes<PerTensor<Ternary>>(codesBelow(3, 4, 4, 3), RowMatrixXf::Ones(1, 1)); },
               "expected codes of Ternary, below 3, got 3 at");
  expectThrows([&] { (void)fromCodes<PerTensor<Trits5>>(Codes::Constant(1, 2, 243), RowMatrixXf::Ones(1, 1)); },
               "expected codes of Trits5, below 243, got 243 at (0, 0)");
}

}  // namespace
}  // namespace gosset::from_codes_test
