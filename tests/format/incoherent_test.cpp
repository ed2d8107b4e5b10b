// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/hadamard.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/theory.hpp>

#include "testing.hpp"

namespace gosset::incoherent_test {
namespace {

using testing::gaussian;

RowMatrixXf withOutliers(Index rows, Index cols) {
  RowMatrixXf w = gaussian(rows, cols, 3);
  w.col(cols / 2) *= 20.f;
  w(rows / 3, cols / 3) = 50.f;
  return w;
}

Hessian correlatedHessian(Index n) {
  RowMatrixXf x = gaussian(3 * n, n, 9);
  for (Index j = 1; j < n; ++j) x.col(j) = 0.8f * x.col(j - 1) + 0.6f * x.col(j);
  Hessian h(n);
  h.accumulate(x);
  return h;
}

/// 16-bit scales around 8-bit codes: fine enough to see that the basis comes back.
using Fine = Incoherent<PerChannel<Symmetric<8>>>;

TEST(Incoherent, ComesBackToTheOriginalBasisInEveryShape) {
  for (const Index rows : {1, 7, 9, 65, 172}) {
    for (const Index cols : testing::kOddSizes) {
      const RowMatrixXf w = gaussian(rows, cols);
      const auto q = quantize<Fine>(w, Nearest{}, {.seed = 5});
      EXPECT_EQ(q.rows(), rows);
      EXPECT_EQ(q.cols(), cols);
      EXPECT_LT(distortion(w, q.dequantized()).relative, 0.012) << rows << " x " << cols;
    }
  }
}

TEST(Incoherent, ProductsEqualThoseOfTheDequantizedMatrix) {
  for (const Index rows : {1, 9, 63, 172}) {
    for (const Index cols : {1, 8, 65, 172, 417}) {
      const auto q = quantize<Incoherent<E8P>>(gaussian(rows, cols), Nearest{}, {.seed = 8});
      const RowMatrixXf dense = q.dequantized();
      for (const Index columns : {1, 3, 9}) {
        const Eigen::MatrixXf x = gaussian(cols, columns, 2);
        const Eigen::MatrixXf y = q * x, expected = dense * x;
        EXPECT_LT((y - expected).norm(), 0.01f * expected.norm() + 1e-6f) << rows << " x " << cols << " x " << columns;
      }
    }
  }
}

/// What costs no whole matrix of floats: as the transposed product has them, for up to 16.
TEST(Incoherent, AFewRowsAreProductsWithTheTransposeAndMoreThoseOfTheWhole) {
  const auto q = quantize<Fine>(gaussian(48, 65), Nearest{}, {.seed = 5});
  const RowMatrixXf whole = q.dequantized();
  for (const Index count : {1, 16, 17, 47}) {
    for (const Index first : {Index{0}, 48 - count}) {
      Eigen::MatrixXf units = Eigen::MatrixXf::Zero(48, count), transposed = Eigen::MatrixXf::Zero(65, count);
      for (Index i = 0; i < count; ++i) units(first + i, i) = 1;
      q.packed().addTransposed(units, transposed);
      RowMatrixXf rows(count, 65);
      q.packed().decodeRows(first, count, rows);
      EXPECT_NE(RowMatrixXf(transposed.transpose()), whole.middleRows(first, count)) << "the same bits tell nothing";
      const RowMatrixXf expected = count <= 16 ? RowMatrixXf(transposed.transpose()) : whole.middleRows(first, count);
      EXPECT_EQ(rows, expected) << count << " from " << first << " on";
    }
  }
}

TEST(Incoherent, SpreadsOutliersOut) {
  const RowMatrixXf w = withOutliers(64, 172);
  const double plain = distortion(w, quantize<E8P>(w).dequantized()).relative;
  const double incoherent = distortion(w, quantize<Incoherent<E8P>>(w).dequantized()).relative;
  EXPECT_LT(incoherent, 0.6 * plain);
}

TEST(Incoherent, LeavesAGaussianAGaussian) {
  const RowMatrixXf w = gaussian(64, 172);
  const double relative = distortion(w, quantize<Incoherent<E8P>>(w).dequantized()).relative;
  EXPECT_NEAR(relative * relative, 0.0913, 0.006);
}

TEST(Incoherent, TheSeedIsKeptAndChosen) {
  const RowMatrixXf w = gaussian(24, 40);
  const auto a = quantize<Incoherent<E8P>>(w, Nearest{}, {.seed = 1});
  EXPECT_EQ(a, quantize<Incoherent<E8P>>(w, Nearest{}, {.seed = 1}));
  EXPECT_NE(a, quantize<Incoherent<E8P>>(w, Nearest{}, {.seed = 2}));
  EXPECT_EQ(Packed<Incoherent<E8P>>::formatName(), "Incoherent<E8P>");
  EXPECT_EQ((Packed<Incoherent<Grouped<E8P, 64>>>::formatName()), "Incoherent<Grouped<E8P, 64>>");
  EXPECT_EQ(a.bytes(), quantize<E8P>(w).bytes() + 8) << "the seed is counted";
}

TEST(Incoherent, ConstantZeroTinyAndHugeMatrices) {
  EXPECT_TRUE(quantize<Incoherent<E8P>>(RowMatrixXf::Zero(7, 9)).dequantized().isZero(0));
  for (const float scale : {1e-35f, 1e-10f, 1e10f, 1e35f}) {
    const RowMatrixXf w = gaussian(63, 65) * scale;
    EXPECT_LT(distortion(w / scale, quantize<Incoherent<E8P>>(w).dequantized() / scale).relative, 0.33) << scale;
  }
}

TEST(Incoherent, LdlqSeesTheHessianOfTheRotatedInputs) {
  for (const Index cols : {9, 65, 172, 256}) {
    const RowMatrixXf w = withOutliers(48, cols);
    const Hessian h = correlatedHessian(cols);
    const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), h); };
    const double nearest = loss(quantize<Incoherent<E8P>>(w));
    EXPECT_LT(loss(quantize<Incoherent<E8P>>(w, Ldlq(h))), 0.75 * nearest) << cols;
    EXPECT_LT(loss(quantize<Incoherent<PerChannel<Asymmetric<2>>>>(w, Gptq(h))),
              0.75 * loss(quantize<Incoherent<PerChannel<Asymmetric<2>>>>(w)))
        << cols;
  }
}

TEST(Incoherent, MoreBitsLoseLess) {
  const RowMatrixXf w = withOutliers(64, 172);
  const Hessian h = correlatedHessian(172);
  const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), h); };
  const double two = loss(quantize<Incoherent<E8P>>(w, Ldlq(h)));
  const double three = loss(quantize<Incoherent<E8PRvq3>>(w, Ldlq(h)));
  const double four = loss(quantize<Incoherent<E8PRvq4>>(w, Ldlq(h)));
  EXPECT_LT(three, 0.45 * two);
  EXPECT_LT(four, 0.45 * three);
}

TEST(Incoherent, MatricesTooLargeForItsBasisAreRefused) {
  RowMatrixXf w = gaussian(20, 70);
  const float most = 0x1p126f / std::sqrt(70.f) / w.norm();
  const Eigen::VectorXf x = gaussian(70, 1, 2);
  const auto q = quantize<Incoherent<E8P>>(w),
             large = quantize<Incoherent<E8P>>(w * std::exp2(std::floor(std::log2(most))));
  EXPECT_TRUE(large.dequantized().allFinite());
  const float unit = std::exp2(std::floor(std::log2(most)));
  EXPECT_EQ(large.dequantized() / unit, q.dequantized());
  EXPECT_EQ(Eigen::VectorXf(large * x), Eigen::VectorXf(q * x) * unit);
  testing::expectThrows([&] { (void)quantize<Incoherent<E8P>>(w * (2 * unit)); },
                        "quantize: the matrix, 20 x 70, has a norm of");
  w.setZero();
  w(3, 5) = 3.4e38f;
  testing::expectThrows(
      [&] { (void)quantize<Incoherent<E8P>>(w); },
      "gosset: quantize: the matrix, 20 x 70, has a norm of 3.4e+38, beyond the 1.01679e+37 up to which "
      "Incoherent turns it into its basis and back within float");
}

TEST(Incoherent, NestsInItself) {
  const RowMatrixXf w = gaussian(12, 20);
  const auto q = quantize<Incoherent<Incoherent<PerChannel<Symmetric<8>>>>>(w);
  EXPECT_LT(distortion(w, q.dequantized()).relative, 0.012);
}

}  // namespace
}  // namespace gosset::incoherent_test
