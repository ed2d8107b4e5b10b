// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/plain.hpp>

#include "testing.hpp"

namespace gosset::detail {
namespace {

template <class T>
class PlainProductTest : public ::testing::Test {};
using Stored = ::testing::Types<Float16, BFloat16, float>;
TYPED_TEST_SUITE(PlainProductTest, Stored);

TYPED_TEST(PlainProductTest, EveryShape) {
  using Matrix = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (const Index m : testing::kOddSizes) {
    for (const Index n : testing::kOddSizes) {
      const Matrix w = testing::gaussian(m, n).cast<TypeParam>();
      const Eigen::VectorXf x = testing::gaussian(n, 1, 2);
      Eigen::VectorXf y = Eigen::VectorXf::Constant(m + 1, 77);
      multiplyPlain(w.data(), m, n, x.data(), y.data());
      const Eigen::VectorXd expected = w.template cast<double>() * x.cast<double>();
      ASSERT_LE((y.head(m).cast<double>() - expected).norm(), 4e-6 * (1 + expected.norm())) << m << " x " << n;
      ASSERT_EQ(y(m), 77);
    }
  }
}

}  // namespace
}  // namespace gosset::detail
