// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/transposed.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/matrix/quantize.hpp>

#include "testing.hpp"

#include <cmath>
#include <limits>

namespace gosset::transposed_rounded_test {
namespace {

using testing::gaussian;

template <class Format>
class TransposedRounded : public ::testing::Test {};
using Formats =
    ::testing::Types<Kivi<2, 64>, Kivi<2, 32>, Kivi<3, 32>, Kivi<4, 64>, Kivi<8, 64>, Grouped<Symmetric<4>, 32>,
                     PerChannel<E8P>, Grouped<E8PRvq3, 64>, PerChannel<E8PRvq4>, Grouped<LloydMax<3>, 64>, Kivi<4, 24>,
                     PerTensor<Ternary>, Gear<3, 32, 2, 40>, LowRankFirst<PerChannel<E8P>, 2, std::int8_t>>;
TYPED_TEST_SUITE(TransposedRounded, Formats);

template <class Format>
Packed<Format> packedMatrix(Index rows, Index cols) {
  RowMatrixXf w = gaussian(rows, cols, 1);
  w.array() += 0.5f;
  return Packed<Format>::quantize(std::move(w), Nearest{}, {});
}

/// Of codes of up to 2 bits, and of points of E8, x' is rounded to one byte, else to two.
template <class Format>
constexpr bool isOneByte() {
  if constexpr (requires { typename Format::Inner; }) {
    return isOneByte<typename Format::Inner>();
  } else {
    return bitsOfCodes<typename Format::Codebook>() <= 2 || Format::Codebook::kDim == 8;
  }
}

/// Against the product in double, per number of y: what rounding x' to 1 / 65278 of the largest of a group can cost, or
/// to 1 / 254 where codes are counted from their middle, and what floats do.
TYPED_TEST(TransposedRounded, IsNearTheProduct) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {16, 32}, {7, 63}, {65, 172}, {128, 417}, {417, 65}}) {
    for (const Index columns : {1, 2, 3, 4, 7, 33}) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << cols << ", " << columns);
      const auto packed = packedMatrix<TypeParam>(rows, cols);
      const Eigen::MatrixXf x = gaussian(rows, columns, 2), start = gaussian(cols, columns, 3);
      Eigen::MatrixXf y = start;
      packed.computeTransposedRounded(x, y);
      const Eigen::MatrixXd w = packed.dequantized().template cast<double>();
      const Eigen::MatrixXd expected = start.cast<double>() + w.transpose() * x.cast<double>();
      const double step = isOneByte<TypeParam>() ? 1e-2 : 3e-4;
      const double most = step * std::sqrt(static_cast<double>(rows)) * w.cwiseAbs().maxCoeff();
      EXPECT_LT((y.cast<double>() - expected).cwiseAbs().maxCoeff(), most * x.cwiseAbs().maxCoeff());
    }
  }
}

TYPED_TEST(TransposedRounded, ZeroAddsNothing) {
  const auto packed = packedMatrix<TypeParam>(65, 100);
  const Eigen::MatrixXf start = gaussian(100, 2, 3);
  Eigen::MatrixXf y = start;
  packed.computeTransposedRounded(Eigen::MatrixXf::Zero(65, 2), y);
  EXPECT_EQ(y, start);
}

/// Rows whose groups hold one number have large scales, but the codes of it are 0.
TEST(TransposedRounded, ConstantsAreExact) {
  const RowMatrixXf w = Eigen::VectorXf::LinSpaced(40, -3.f, 4.f).replicate(1, 64).cast<Float16>().cast<float>();
  const auto packed = Packed<Kivi<8, 64>>::quantize(w, Nearest{}, {});
  const Eigen::MatrixXf x = gaussian(40, 1, 2);
  Eigen::MatrixXf y = Eigen::MatrixXf::Zero(64, 1);
  packed.computeTransposedRounded(x, y);
  EXPECT_LT((y - packed.dequantized().transpose() * x).norm(), 1e-5f * y.norm());
}

TYPED_TEST(TransposedRounded, WhatIsNotFiniteComesOut) {
  const auto packed = packedMatrix<TypeParam>(65, 100);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Eigen::MatrixXf x = gaussian(65, 2, 2), y = Eigen::MatrixXf::Zero(100, 2);
    x(3, 1) = bad;
    packed.computeTransposedRounded(x, y);
    EXPECT_TRUE(y.col(0).allFinite());
    EXPECT_FALSE(y.col(1).allFinite());
  }
}

/// In lanes of a chunk that others share a unit with.
TYPED_TEST(TransposedRounded, TinyAndLargeNumbers) {
  const auto packed = packedMatrix<TypeParam>(65, 100);
  const Eigen::MatrixXf x = gaussian(65, 1, 2);
  Eigen::MatrixXf y = Eigen::MatrixXf::Zero(100, 1);
  packed.computeTransposedRounded(x, y);
  for (const float scale : {0x1p-90f, 0x1p-40f, 0x1p60f}) {
    Eigen::MatrixXf scaled = Eigen::MatrixXf::Zero(100, 1);
    packed.computeTransposedRounded(x * scale, scaled);
    EXPECT_LT((scaled / scale - y).norm(), (isOneByte<TypeParam>() ? 3e-2f : 1e-3f) * y.norm()) << scale;
  }
}

}  // namespace
}  // namespace gosset::transposed_rounded_test
