// SPDX-License-Identifier: Apache-2.0
// What was moved from is an empty matrix; a move to itself changes nothing.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/channel_scales.hpp>
#include <gosset/rounding/gptq.hpp>
#include <gosset/rounding/outlier_columns.hpp>

#include "testing.hpp"

#include <sstream>
#include <type_traits>
#include <utility>

namespace gosset::moved_test {
namespace {

using testing::gaussian;

using Four = Grouped<Asymmetric<4>, 32>;

template <class Format>
QuantizedMatrix<Format> quantized() {
  const RowMatrixXf w = gaussian(20, 70, 1), x = gaussian(30, 70, 2);
  if constexpr ((Packed<Format>::kNeeds & kOutlierColumnsHook) != 0) {
    RowMatrixXf with_outliers = x;
    with_outliers.col(5) *= 100;
    return quantize<Format>(w, OutlierColumns(with_outliers));
  } else if constexpr ((Packed<Format>::kNeeds & kChannelScalesHook) != 0) {
    return quantize<Format>(w, ChannelScales(Eigen::VectorXf(Eigen::VectorXf::LinSpaced(70, 1, 9))));
  } else if constexpr ((Packed<Format>::kNeeds & kColumnOrderHook) != 0) {
    Hessian h(70);
    h.accumulate(x);
    return quantize<Format>(w, Gptq(h));
  } else {
    return quantize<Format>(w);
  }
}

template <class Matrix>
void expectEmpty(const Matrix& q) {
  EXPECT_EQ(q.rows(), 0);
  EXPECT_EQ(q.cols(), 0);
  EXPECT_EQ(q.dequantized().size(), 0);
  EXPECT_TRUE(q.owns());
  EXPECT_EQ(q.bitsPerWeight(), 0);
  EXPECT_TRUE(q == q);
  EXPECT_TRUE(q == Matrix());
  std::ostringstream text;
  text << q;
  testing::expectThrows([&] { (void)q.row(0); }, "");
}

template <class Format>
class Moved : public ::testing::Test {};
using Formats = ::testing::Types<float, Float16, Four, PerChannel<Symmetric<8>>, Symmetric<3>, PerTensor<Ternary>,
                                 Grouped<NormalFloat4, 7>, PerChannel<E8P>, LowRank<Four, 2>, LowRankFirst<Four, 2>,
                                 Outliers<Four, 50>, Incoherent<Four>, LlmInt8, ChannelScaled<Four>, ActOrder<Four>>;
TYPED_TEST_SUITE(Moved, Formats);

TYPED_TEST(Moved, LeavesAnEmptyMatrix) {
  using Matrix = QuantizedMatrix<TypeParam>;
  static_assert(std::is_nothrow_move_constructible_v<Matrix> && std::is_nothrow_move_assignable_v<Matrix>);
  const Matrix q = quantized<TypeParam>();
  Matrix from = q;
  Matrix to = std::move(from);
  EXPECT_TRUE(to == q);
  expectEmpty(from);
  const Eigen::MatrixXf y = from * Eigen::MatrixXf(0, 3);
  EXPECT_EQ(y.rows(), 0);
  EXPECT_EQ(y.cols(), 3);
  testing::expectThrows(
      [&] { (void)(from * Eigen::VectorXf::Ones(70)).eval(); },
      "gosset: QuantizedMatrix product: the matrix is 0 x 0, so the operand needs 0 rows, got 70 x 1");
  Matrix copy = from;
  expectEmpty(copy);
  from = std::move(to);
  EXPECT_TRUE(from == q);
  expectEmpty(to);
  to = from;
  EXPECT_TRUE(to == q);
}

TYPED_TEST(Moved, ToItselfChangesNothing) {
  auto q = quantized<TypeParam>();
  const auto before = q;
  auto& same = q;
  q = std::move(same);
  EXPECT_TRUE(q == before);
  const Eigen::MatrixXf x = gaussian(70, 3, 5);
  EXPECT_EQ(Eigen::MatrixXf(q * x), Eigen::MatrixXf(before * x));
  q = same;
  EXPECT_TRUE(q == before);
}

TYPED_TEST(Moved, PackedMatrixToo) {
  auto q = quantized<TypeParam>();
  const auto before = q;
  Packed<TypeParam> from = std::move(q).packed();
  expectEmpty(q);
  Packed<TypeParam> to = std::move(from);
  EXPECT_EQ(from.rows(), 0);
  EXPECT_EQ(from.cols(), 0);
  EXPECT_EQ(from.dequantized().size(), 0);
  EXPECT_TRUE(from.isValid());
  EXPECT_TRUE(QuantizedMatrix<TypeParam>(std::move(to)) == before);
}

TYPED_TEST(Moved, AnyMatrixToo) {
  AnyMatrix from(quantized<TypeParam>());
  const AnyMatrix before = from;
  AnyMatrix to = std::move(from);
  EXPECT_TRUE(to == before);
  expectEmpty(from);
  auto& same = to;
  to = std::move(same);
  EXPECT_TRUE(to == before);
}

}  // namespace
}  // namespace gosset::moved_test
