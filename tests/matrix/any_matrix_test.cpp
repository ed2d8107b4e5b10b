// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/any_matrix.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <memory>
#include <sstream>
#include <string_view>
#include <vector>

namespace gosset::any_matrix_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using Int4 = Grouped<Asymmetric<4>, 32>;

TEST(AnyMatrix, DoesWhatItsMatrixDoes) {
  for (const Index m : testing::kOddSizes) {
    auto q = quantize<Int4>(gaussian(m, 65));
    const AnyMatrix any(q);
    const Eigen::MatrixXf x = gaussian(65, 3, 2), z = gaussian(m, 2, 3);
    EXPECT_EQ(any.rows(), m);
    EXPECT_EQ(any.cols(), 65);
    EXPECT_EQ(any.format(), "Grouped<Asymmetric<4>, 32>");
    EXPECT_EQ(any.bytes(), q.bytes());
    EXPECT_EQ(any.bitsPerWeight(), q.bitsPerWeight());
    EXPECT_EQ(any * x, q * x);
    EXPECT_EQ(any * x.col(0), q * x.col(0));
    static_assert(std::is_same_v<decltype(any * Eigen::VectorXf()), Eigen::VectorXf>);
    static_assert(std::is_same_v<decltype(any * Eigen::MatrixXd()), Eigen::MatrixXd>);
    EXPECT_EQ(any.transpose() * z, q.transpose() * z);
    EXPECT_EQ(z.transpose() * any, z.transpose() * q);
    EXPECT_EQ(any.row(m - 1), q.row(m - 1));
    EXPECT_EQ(any.dequantized(), q.dequantized());
    Eigen::MatrixXf y(m, 3), rows(m, 3);
    any.multiply(x, y);
    EXPECT_EQ(y, any * x);
    any.multiplyRows(0, m, x, rows);
    EXPECT_EQ(rows, y);
    EXPECT_TRUE(any.owns() && any.hasIndependentRows() && any.hasFastProduct());
  }
}

TEST(AnyMatrix, ActivationsComeAlongAndCanBeChanged) {
  auto q = quantize<Int4>(gaussian(65, 96));
  const Eigen::VectorXf x = gaussian(96, 1, 2);
  q.setActivations(Activations::kFloat);
  AnyMatrix any(q);
  EXPECT_EQ(any.activations(), Activations::kFloat);
  EXPECT_EQ(any * x, q * x);
  any.setActivations(Activations::kRoundedPerToken);
  q.setActivations(Activations::kRoundedPerToken);
  EXPECT_EQ(any * x, q * x);
}

TEST(AnyMatrix, IsEqualInFormatShapeAndBits) {
  const RowMatrixXf w = gaussian(9, 64);
  const AnyMatrix a(quantize<Int4>(w)), b(quantize<Int4>(w)), c(quantize<Int4>(-w)),
      d(quantize<Grouped<Asymmetric<4>, 64>>(w));
  EXPECT_EQ(a, b);
  EXPECT_FALSE(a == c);
  EXPECT_FALSE(a == d);
  EXPECT_FALSE(a == AnyMatrix());
  EXPECT_EQ(AnyMatrix(), AnyMatrix());
  const AnyMatrix copy = a;
  EXPECT_EQ(copy, a);
  EXPECT_EQ(copy.as<Int4>(), a.as<Int4>()) << "copies share the codes";
  EXPECT_EQ(a.as<Float16>(), nullptr);
}

TEST(AnyMatrix, OfTheSameBitsInAnotherFormatOrShapeItIsAnother) {
  const AnyMatrix zeros(quantize<Float16>(RowMatrixXf::Zero(2, 3)));
  EXPECT_EQ(zeros, AnyMatrix(quantize<Float16>(RowMatrixXf::Zero(2, 3))));
  EXPECT_FALSE(zeros == AnyMatrix(quantize<BFloat16>(RowMatrixXf::Zero(2, 3))));
  EXPECT_FALSE(zeros == AnyMatrix(quantize<Float16>(RowMatrixXf::Zero(3, 2))));
  EXPECT_FALSE(zeros == AnyMatrix(quantize<Float16>(RowMatrixXf::Zero(1, 6))));
}

TEST(AnyMatrix, OwnsNothingWhereItShowsOthersMemory) {
  const auto numbers = std::make_shared<std::vector<Float16>>(6, Float16(2.5f));
  Packed<Float16> packed = quantize<Float16>(gaussian(2, 3)).packed();
  Packed<Float16>::fields(packed, [&](std::string_view, auto& values) { values.show(*numbers, numbers); });
  const AnyMatrix view{QuantizedMatrix<Float16>(packed)};
  EXPECT_FALSE(view.owns());
  EXPECT_EQ(view.dequantized(), RowMatrixXf::Constant(2, 3, 2.5f));
}

TEST(AnyMatrix, EmptyIsOfNoFormat) {
  const AnyMatrix empty;
  EXPECT_EQ(empty.rows(), 0);
  EXPECT_EQ(empty.cols(), 0);
  EXPECT_EQ(empty.format(), "");
  EXPECT_EQ(empty.bytes(), 0);
  EXPECT_EQ(empty.bitsPerWeight(), 0);
  EXPECT_EQ(empty.dequantized().size(), 0);
  EXPECT_TRUE(empty.owns());
  EXPECT_TRUE(empty.hasIndependentRows());
  EXPECT_FALSE(empty.hasFastProduct());
  AnyMatrix changed;
  changed.setActivations(Activations::kFloat);
  EXPECT_EQ(changed.activations(), Activations::kFloat);
  expectThrows([&] { (void)(empty * Eigen::VectorXf(3)); }, "AnyMatrix: the matrix is empty and of no format");
  expectThrows([&] { (void)empty.row(0); }, "AnyMatrix: the matrix is empty and of no format");
}

TEST(AnyMatrix, ChecksShapesAsItsMatrixDoes) {
  const AnyMatrix any(quantize<Incoherent<E8P>>(gaussian(9, 40)));
  Eigen::MatrixXf y(9, 2);
  expectThrows([&] { any.multiply(gaussian(39, 2), y); },
               "multiply: the matrix is 9 x 40, so x needs 40 rows, got 39 x 2");
  expectThrows([&] { (void)(any * gaussian(39, 2)); }, "multiply: the matrix is 9 x 40, so x needs 40 rows");
  expectThrows([&] { (void)any.row(9); }, "decodeRows: expected rows within 0 .. 9, got 1 from 9 on");
  EXPECT_FALSE(any.hasIndependentRows());
}

TEST(AnyMatrix, PrintsWhatItIs) {
  std::ostringstream text, empty;
  text << AnyMatrix(quantize<Float16>(gaussian(2, 3)));
  empty << AnyMatrix();
  EXPECT_EQ(text.str(), "Float16, 2 x 3, 16 bits a weight, 12 bytes");
  EXPECT_EQ(empty.str(), "empty");
}

}  // namespace
}  // namespace gosset::any_matrix_test
