// SPDX-License-Identifier: Apache-2.0
#include <gosset/matrix/eigen_product.hpp>

#include <gosset/codebook.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <string>
#include <utility>

namespace gosset::eigen_product_test {
namespace {

using Format = Grouped<Asymmetric<4>, 20>;  // whose products round no activations

class EigenProduct : public ::testing::Test {
 protected:
  const QuantizedMatrix<Format> q = quantize<Format>(testing::gaussian(33, 65));
  const Eigen::MatrixXf w = q.dequantized();
  const Eigen::VectorXf x = testing::gaussian(65, 1, 2);
  const Eigen::MatrixXf X = testing::gaussian(65, 7, 3);
  const Eigen::VectorXf z = testing::gaussian(33, 1, 4);

  template <class A, class B>
  static void expectClose(const A& actual, const B& expected) {
    const Eigen::MatrixXf a = actual;
    const Eigen::MatrixXf b = expected;
    ASSERT_EQ(a.rows(), b.rows());
    ASSERT_EQ(a.cols(), b.cols());
    EXPECT_LE((a - b).cwiseAbs().maxCoeff(), 1e-4f) << "of about " << b.cwiseAbs().maxCoeff();
  }
};

TEST_F(EigenProduct, VectorsAndMatricesInEitherOrder) {
  const RowMatrixXf rows = X;
  expectClose(q * x, w * x);
  expectClose(q * X, w * X);
  expectClose(q * rows, w * X);
  const Eigen::Matrix<float, 65, 3> fixed = X.leftCols<3>();
  expectClose(q * fixed, w * fixed);
  const RowMatrixXf target = q * X;
  expectClose(target, w * X);
}

TEST_F(EigenProduct, OperandsMayBeExpressionsBlocksAndMaps) {
  const Eigen::MatrixXf transposed = X.transpose();
  expectClose(q * transposed.transpose(), w * X);
  expectClose(q * (2 * x - X.col(0)), w * (2 * x - X.col(0)));
  expectClose(q * X.col(2), w * X.col(2));
  expectClose(q * transposed.row(2).transpose(), w * X.col(2));
  expectClose(q * X.middleCols(1, 3), w * X.middleCols(1, 3));
  expectClose(q * (X * X.transpose() * x), w * (X * X.transpose() * x));
  expectClose(q * Eigen::VectorXf::Ones(65), w.rowwise().sum());
  const Eigen::Map<const Eigen::VectorXf, 0, Eigen::InnerStride<>> strided(X.data(), 65, Eigen::InnerStride<>(7));
  expectClose(q * strided, w * strided);
  const Eigen::Map<const Eigen::MatrixXf, 0, Eigen::OuterStride<>> wide(X.data(), 65, 3, Eigen::OuterStride<>(130));
  expectClose(q * wide, w * wide);
}

TEST_F(EigenProduct, AdditionSubtractionAndScaling) {
  Eigen::VectorXf y = z;
  y.noalias() += q * x;
  expectClose(y, z + w * x);
  y = z;
  y += q * x;
  expectClose(y, z + w * x);
  y -= q * x;
  expectClose(y, z);
  y.noalias() -= q * x;
  expectClose(y, z - w * x);
  y.noalias() = q * x;
  expectClose(y, w * x);
  expectClose(2 * (q * x) + z, 2 * (w * x) + z);
  expectClose(z - q * x, z - w * x);
  expectClose((q * x).cwiseProduct(z), (w * x).cwiseProduct(z));
  expectClose((q * X).transpose(), (w * X).transpose());
  expectClose(-(q * X), -(w * X));
  EXPECT_NEAR((q * x).dot(z), (w * x).dot(z), 1e-3f);
  EXPECT_NEAR((q * x).norm(), (w * x).norm(), 1e-4f);
}

TEST_F(EigenProduct, TargetsMayBeBlocksAndMaps) {
  Eigen::MatrixXf target = Eigen::MatrixXf::Constant(40, 10, 5);
  target.block(2, 1, 33, 7) = q * X;
  expectClose(target.block(2, 1, 33, 7), w * X);
  target.block(2, 1, 33, 7).noalias() += q * X;
  expectClose(target.block(2, 1, 33, 7), 2 * (w * X));
  EXPECT_TRUE((target.topRows(2).array() == 5.f).all() && (target.rightCols(2).array() == 5.f).all());
  RowMatrixXf transposed(7, 33);
  transposed.transpose() = q * X;
  expectClose(transposed, (w * X).transpose());
}

TEST_F(EigenProduct, AnOperandMayBeTheTarget) {
  const auto square = quantize<Format>(testing::gaussian(65, 65));
  const Eigen::MatrixXf dense = square.dequantized();
  Eigen::VectorXf y = x;
  y = square * y;
  expectClose(y, dense * x);
  y = x;
  y += square * y;
  expectClose(y, x + dense * x);
  Eigen::MatrixXf Y = X;
  Y = square * Y;
  expectClose(Y, dense * X);
  Y = X;
  Y = Y - square * Y;
  expectClose(Y, X - dense * X);
  Y = X;
  Y.leftCols(3) = square * Y.rightCols(3);
  expectClose(Y.leftCols(3), dense * X.rightCols(3));
  Eigen::MatrixXf resized = x;
  resized = q * resized;
  expectClose(resized, w * x);
}

TEST_F(EigenProduct, TemporariesDoNotDangle) {
  const auto y = quantize<Format>(testing::gaussian(33, 65)) * x;  // a value: the matrix is gone after this line
  expectClose(y, w * x);
  const auto of_expression = q * (2 * x);  // Eigen keeps light expressions by value
  expectClose(of_expression, w * (2 * x));
}

TEST_F(EigenProduct, OtherScalarsComeBackInTheirOwnType) {
  const Eigen::VectorXd y = q * x.cast<double>();
  expectClose(y.cast<float>(), w * x);
  const Eigen::Matrix<Float16, Eigen::Dynamic, 1> halves = q * x.cast<Float16>();
  expectClose(halves.cast<float>(), (w * x.cast<Float16>().cast<float>()).cast<Float16>().cast<float>());
  const Eigen::Matrix<BFloat16, Eigen::Dynamic, Eigen::Dynamic> brains = q * X.cast<BFloat16>();
  expectClose(brains.cast<float>(), (w * X.cast<BFloat16>().cast<float>()).cast<BFloat16>().cast<float>());
  static_assert(decltype(y)::ColsAtCompileTime == 1);
}

TEST_F(EigenProduct, ArraysAreTakenAsMatrices) {
  expectClose(q * x.array(), w * x);
  expectClose((q * x.array().cast<double>()).cast<float>(), w * x);
}

TEST_F(EigenProduct, NoColumnsAndOneColumn) {
  const Eigen::MatrixXf nothing(65, 0);
  const Eigen::MatrixXf y = q * nothing;
  EXPECT_EQ(y.rows(), 33);
  EXPECT_EQ(y.cols(), 0);
  const auto column = quantize<PerTensor<Symmetric<8>>>(testing::gaussian(33, 1));
  expectClose(column * Eigen::RowVectorXf::Ones(5), column.dequantized() * Eigen::RowVectorXf::Ones(5));
  const auto row = quantize<PerTensor<Symmetric<8>>>(testing::gaussian(1, 65));
  expectClose(row * x, row.dequantized() * x);
  expectClose(row * X, row.dequantized() * X);
}

TEST_F(EigenProduct, TheSameBitsOnAnyNumberOfThreads) {
  for (const Index rows : {7, 33, 172}) {
    for (const Index cols : {65, 417}) {
      const auto matrix = quantize<Format>(testing::gaussian(rows, cols));
      for (const Index tokens : {1, 9, 400}) {
        const Eigen::MatrixXf operand = testing::gaussian(cols, tokens);
        Eigen::setNbThreads(1);
        const Eigen::MatrixXf one = matrix * operand;
        Eigen::setNbThreads(2);
        const Eigen::MatrixXf two = matrix * operand;
        EXPECT_TRUE(one == two) << rows << " x " << cols << " times " << tokens;
      }
    }
  }
  Eigen::setNbThreads(0);
}

TEST_F(EigenProduct, OperandsThatDoNotFitAreRefused) {
  testing::expectThrows([&] { (void)(q * z); },
                        "QuantizedMatrix product: the matrix is 33 x 65, so the operand needs 65 rows, got 33 x 1");
  testing::expectThrows([&] { (void)(q * X.transpose()); }, "needs 65 rows, got 7 x 65");
  testing::expectThrows([&] { (void)(quantize<Format>(w) * z.cast<double>()); }, "needs 65 rows, got 33 x 1");
}

/// As the product has it where NDEBUG leaves out Eigen's own assertion.
TEST_F(EigenProduct, TargetsThatDoNotFitAreRefused) {
  using Product = Eigen::internal::generic_product_impl<QuantizedMatrix<Format>, Eigen::MatrixXf, PackedShape,
                                                        Eigen::DenseShape, Eigen::GemmProduct>;
  for (const auto& [rows, cols] : {std::pair(33, 8), std::pair(34, 7)}) {
    Eigen::MatrixXf target = Eigen::MatrixXf::Zero(rows, cols);
    testing::expectThrows([&] { Product::scaleAndAddTo(target, q, X, 1); },
                          "QuantizedMatrix product: expected a target of 33 x 7, got " + std::to_string(rows) + " x " +
                              std::to_string(cols));
  }
}

}  // namespace
}  // namespace gosset::eigen_product_test
