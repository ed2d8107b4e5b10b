// SPDX-License-Identifier: Apache-2.0
#include <gosset/rounding/basis_hessian.hpp>

#include "testing.hpp"

namespace gosset::basis_hessian_test {
namespace {

/// To twice H, and to H with 1 more everywhere, in either order.
TEST(BasisHessian, ChangesComeInTheOrderInWhichTheyWereAskedFor) {
  Eigen::MatrixXd h(2, 2);
  h << 4, 1, 1, 3;
  const BasisChange twice{.hessian = [](Eigen::MatrixXd& m) { m *= 2; }, .tokens = {}};
  const BasisChange more{.hessian = [](Eigen::MatrixXd& m) { m.array() += 1; }, .tokens = {}};
  const BasisHessian plain(Hessian::fromMatrix(h));
  Eigen::Matrix2d expected;
  expected << 9, 3, 3, 7;
  EXPECT_EQ(plain.inBasis(twice).inBasis(more).matrix(), expected);
  expected << 10, 4, 4, 8;
  EXPECT_EQ(plain.inBasis(more).inBasis(twice).matrix(), expected);
  expected << 20, 8, 8, 16;
  EXPECT_EQ(plain.inBasis(more).inBasis(twice).inBasis(twice).matrix(), expected);
  EXPECT_EQ(plain.matrix(), h) << "others are left as they are";
  EXPECT_EQ(plain.inBasis(twice).size(), 2);
}

}  // namespace
}  // namespace gosset::basis_hessian_test
