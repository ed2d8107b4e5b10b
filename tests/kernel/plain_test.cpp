// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/plain.hpp>

#include "testing.hpp"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace gosset::GOSSET_ABI::detail::plain_test {
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

TYPED_TEST(PlainProductTest, RowsMayStandApart) {
  using Matrix = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix w = testing::gaussian(9, 172).cast<TypeParam>();
  const Eigen::VectorXf x = testing::gaussian(65, 1, 2);
  Eigen::VectorXf y(9);
  multiplyPlain(w.data() + 100, 9, 65, 172, x.data(), y.data());
  const Eigen::VectorXf expected = w.middleCols(100, 65).template cast<float>() * x;
  EXPECT_LE((y - expected).norm(), 4e-6f * expected.norm());
}

TYPED_TEST(PlainProductTest, TransposedInEveryShape) {
  using Matrix = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (const Index m : testing::kOddSizes) {
    for (const Index n : testing::kOddSizes) {
      for (const Index tokens : {1, 2, 4, 15}) {
        if (m * n * tokens > 65 * 172 * 4) continue;
        const Matrix w = testing::gaussian(m, n + 3).cast<TypeParam>();
        const Eigen::MatrixXf x = testing::gaussian(m + 1, tokens, 2), before = testing::gaussian(n + 2, tokens, 3);
        Eigen::MatrixXf y = before;
        addPlainTransposed(w.data(), m, n, n + 3, x.data(), tokens, m + 1, y.data(), n + 2);
        const Eigen::MatrixXd expected =
            w.leftCols(n).transpose().template cast<double>() * x.topRows(m).cast<double>() +
            before.topRows(n).cast<double>();
        ASSERT_LE((y.topRows(n).template cast<double>() - expected).norm(), 4e-6 * (1 + expected.norm()))
            << m << " x " << n << " x " << tokens;
        ASSERT_EQ(y.bottomRows(2), before.bottomRows(2));
      }
    }
  }
}

TYPED_TEST(PlainProductTest, NumbersAreNarrowedAsOneByOne) {
  const std::string before = instructionSet();
  std::vector<float> x;
  for (const float around : {1.f, 3.f, -0.1f, 65504.f, 0x1p-14f, -0x1p-20f, 0x1p-24f, 0x1p-25f, 0.f, -0.f}) {
    for (const float ulps : {0.f, 0x1p-11f, 0x1p-12f, 3 * 0x1p-12f, -0x1p-12f, 0x1p-8f, 3 * 0x1p-9f, 0x1p-22f}) {
      if (std::abs(around) < 65504 || ulps == 0) x.push_back(around + around * ulps);
    }
  }
  for (const std::string& set : instructionSets()) {
    useInstructionSet(set);
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{17}, x.size()}) {
      std::vector<TypeParam> y(n + 1, TypeParam(77));
      narrow(x.data(), static_cast<Index>(n), y.data());
      for (std::size_t i = 0; i < n; ++i) {
        const auto expected = static_cast<TypeParam>(x[i]);
        ASSERT_EQ(std::memcmp(&y[i], &expected, sizeof expected), 0) << set << ": " << x[i];
      }
      ASSERT_EQ(y[n], TypeParam(77));
    }
  }
  useInstructionSet(before);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::plain_test
