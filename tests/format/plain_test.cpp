// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/plain.hpp>

#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/stochastic.hpp>

#include "testing.hpp"

namespace gosset::plain_test {
namespace {

template <class T>
class Plain : public ::testing::Test {};
using Floats = ::testing::Types<Float16, BFloat16, float>;
TYPED_TEST_SUITE(Plain, Floats);

TYPED_TEST(Plain, NumbersAreRoundedOnce) {
  for (const Index cols : testing::kOddSizes) {
    const RowMatrixXf w = testing::gaussian(9, cols);
    const auto q = quantize<TypeParam>(w);
    EXPECT_EQ(q.dequantized(), w.template cast<TypeParam>().template cast<float>());
    for (const Index row : {0, 5, 8}) EXPECT_EQ(q.row(row), q.dequantized().row(row));
    EXPECT_EQ(q.bytes(), 9 * cols * static_cast<Index>(sizeof(TypeParam)));
    EXPECT_EQ(q.bitsPerWeight(), 8.0 * sizeof(TypeParam));
  }
}

TYPED_TEST(Plain, ProductsAreThoseOfTheWidenedMatrix) {
  for (const Index rows : {1, 31, 32, 33, 172, 300}) {
    const auto q = quantize<TypeParam>(testing::gaussian(rows, 65));
    for (const Index tokens : {3, 1}) {
      const Eigen::MatrixXf x = testing::gaussian(65, tokens, 2), y = q * x;
      EXPECT_LE((y - q.dequantized() * x).norm(), 1e-6 * y.norm());
      for (const Index first : {Index{0}, rows / 3, rows - 1}) {  // the same bits, whichever rows are asked for
        const Index count = (rows - first + 1) / 2;
        Eigen::MatrixXf expected = Eigen::MatrixXf::Constant(rows, tokens, 77), some = expected;
        expected.middleRows(first, count) = y.middleRows(first, count);
        q.multiplyRows(first, count, x, some);
        EXPECT_EQ(some, expected) << rows << " rows, " << count << " from " << first << " on";
      }
    }
  }
}

TYPED_TEST(Plain, TheLargestNumberFits) {
  const float largest = StorageTraits<TypeParam>::kMax;
  const Eigen::MatrixXf w = Eigen::MatrixXf::Constant(1, 2, -largest);
  EXPECT_EQ(quantize<TypeParam>(w).dequantized(), w);
}

TEST(PlainErrors, NumbersBeyondTheRangeAreRefused) {
  testing::expectThrows([] { (void)quantize<Float16>(Eigen::MatrixXf::Constant(2, 2, -65520.f)); },
                        "quantize: the matrix holds a magnitude of 65520, beyond the 65504 that Float16 can hold");
  testing::expectThrows([] { (void)quantize<BFloat16>(Eigen::MatrixXf::Constant(2, 2, 3.4e38f)); },
                        "that BFloat16 can hold");
}

TEST(PlainErrors, MatricesTooSmallForTheirDigitsAreRefused) {
  testing::expectThrows(
      [] { (void)quantize<Float16>(Eigen::MatrixXf::Constant(2, 2, 1e-10f)); },
      "gosset: quantize: the largest magnitude of the matrix is 1e-10, of which Float16 holds 0: it has "
      "not all its digits for numbers so small");
  testing::expectThrows([] { (void)quantize<BFloat16>(Eigen::MatrixXf::Constant(2, 2, 1.5e-40f)); },
                        "of which BFloat16 holds");
  // Below 2^-14 Float16 holds multiples of 2^-24: of 700.4 and 900.3 such units all but 1 / 1750 and 1 / 3001, where a
  // half unit in the last of its eleven digits is 1 / 2048.
  testing::expectThrows([] { (void)quantize<Float16>(Eigen::MatrixXf::Constant(2, 2, 700.4f * 0x1p-24f)); },
                        "of which Float16 holds");
  EXPECT_EQ(quantize<Float16>(Eigen::MatrixXf::Constant(1, 1, 900.3f * 0x1p-24f)).dequantized()(0, 0), 900 * 0x1p-24f);
  Eigen::MatrixXf w = Eigen::MatrixXf::Constant(1, 3, 0x1p-24f);  // held exactly
  EXPECT_EQ(quantize<Float16>(w).dequantized(), w);
  w << 1, 0x1p-14f, 1e-10f;
  EXPECT_EQ(quantize<Float16>(w).dequantized(), RowMatrixXf(Eigen::RowVector3f(1, 0x1p-14f, 0)));
  w.setConstant(0x1p-149f);
  EXPECT_EQ(quantize<float>(w).dequantized(), w);
  w.setZero();
  EXPECT_EQ(quantize<Float16>(w).dequantized(), w);
}

/// There are no codes to choose: quantize() refuses other roundings when a program is compiled.
static_assert(Packed<Float16>::rounds<Nearest>() == HowRounded::kWell);
static_assert(Packed<Float16>::rounds<Stochastic>() == HowRounded::kNearestOnly);

TEST(PlainErrors, Names) {
  EXPECT_EQ(Packed<Float16>::formatName(), "Float16");
  EXPECT_EQ(Packed<BFloat16>::formatName(), "BFloat16");
  EXPECT_EQ(Packed<float>::formatName(), "float");
}

}  // namespace
}  // namespace gosset::plain_test
