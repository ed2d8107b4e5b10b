// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/by_sensitivity.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/outliers.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "testing.hpp"

#include <set>

namespace gosset::by_sensitivity_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Dense = Grouped<LloydMax<3>, 32>;  // its error depends little on what is kept beside it
using Sparse = Outliers<Dense, 40>;

/// Inputs of which every fourth is ten times as loud.
Hessian unevenHessian(Index n) {
  RowMatrixXf x = gaussian(4 * n, n, 3);
  for (Index j = 0; j < n; j += 4) x.col(j) *= 10.f;
  Hessian h(n);
  h.accumulate(x);
  return h;
}

TEST(BySensitivity, WeightsAreTheRootsOfTheDiagonal) {
  Eigen::Matrix3d h = Eigen::Matrix3d::Zero();
  h.diagonal() << 4, 0, 1;
  EXPECT_EQ(BySensitivity(Hessian::fromMatrix(h)).outlierWeights(3), Eigen::Vector3f(1, 0, 0.5f));
  EXPECT_EQ(BySensitivity(Hessian(3)).outlierWeights(3), Eigen::Vector3f::Ones());
  h.diagonal() << 4, -9, 1;
  EXPECT_EQ(BySensitivity(Hessian::fromMatrix(h)).outlierWeights(3), Eigen::Vector3f(1, 0, 0.5f)) << "less than 0 is 0";
  const BasisChange reversed{.hessian = [](Eigen::MatrixXd& m) { m = m.reverse().eval(); }, .tokens = {}};
  EXPECT_EQ(inBasis(BySensitivity(Hessian::fromMatrix(h)), reversed).outlierWeights(3), Eigen::Vector3f(0.5f, 0, 1));
  expectThrows([&] { BySensitivity(Hessian(3)).outlierWeights(4); },
               "BySensitivity: expected a matrix of 3 inputs, as the Hessian has, got 4");
  expectThrows([&] { (void)quantize<Sparse>(gaussian(3, 63), BySensitivity(Hessian(65))); },
               "BySensitivity: expected a matrix of 65 inputs, as the Hessian has, got 63");
}

TEST(BySensitivity, KeepsTheNumbersThatCountMost) {
  Eigen::RowVectorXf w = Eigen::RowVectorXf::Zero(50);
  w[3] = 1;
  w[7] = 2;
  w[20] = -1;
  w[30] = -3;
  Eigen::MatrixXd h = Eigen::MatrixXd::Identity(50, 50);
  h(3, 3) = h(20, 20) = 100;
  const auto kept = [&](const auto& rounding) {
    std::set<Index> columns;
    const auto q = quantize<Sparse>(w, rounding);
    q.packed().forEach([&](Index, Index col, float) { columns.insert(col); });
    return columns;
  };
  EXPECT_EQ(kept(Nearest{}), (std::set<Index>{7, 30}));
  EXPECT_EQ(kept(BySensitivity(Hessian::fromMatrix(h))), (std::set<Index>{3, 20}));
}

TEST(BySensitivity, EqualInputsChangeNothing) {
  const RowMatrixXf w = gaussian(9, 172);
  const Hessian h = Hessian::fromMatrix(Eigen::MatrixXd::Identity(172, 172));
  EXPECT_EQ(quantize<Sparse>(w, BySensitivity(h)), quantize<Sparse>(w));
}

TEST(BySensitivity, LosesLessOfTheOutput) {
  for (const Index cols : {63, 172, 417}) {
    const RowMatrixXf w = gaussian(33, cols);
    const Hessian h = unevenHessian(cols);
    const auto loss = [&](const auto& rounding) {
      return proxyLoss(w, quantize<Sparse>(w, rounding).dequantized(), h);
    };
    EXPECT_LT(loss(BySensitivity(h)), loss(Nearest{})) << cols;
    EXPECT_LT(loss(BySensitivity(h, Gptq(h))), 0.9 * loss(Gptq(h))) << cols;
    EXPECT_LT(loss(BySensitivity(h, Gptq(h))), 0.95 * loss(BySensitivity(h))) << cols;
  }
}

}  // namespace
}  // namespace gosset::by_sensitivity_test
