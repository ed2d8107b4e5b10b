// SPDX-License-Identifier: Apache-2.0
// Every operation of every format, held to the matrix of floats that it stands for.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

#include "testing.hpp"

namespace gosset {
namespace {

using testing::expectThrows;
using testing::gaussian;

using Int4 = Grouped<Asymmetric<4>, 32>;
/// No kernel, and whole codes that do not fill a row.
using Trio = Grouped<E8P, 24>;

/// Whatever hooks a format needs.
struct Everything : Nearest {
  static constexpr unsigned kOptionalHooks = kChannelScalesHook | kOutlierColumnsHook;
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial&) const {
    return Eigen::VectorXf::LinSpaced(w.cols(), 1.f, 3.f);
  }
  std::vector<std::uint32_t> outlierColumns(Index n) const {
    if (n < 3) return {};
    return {1, static_cast<std::uint32_t>(n - 1)};
  }
};

template <class F>
class Operations : public ::testing::Test {};
using Formats =
    ::testing::Types<Float16, float, E8P, PerChannel<Symmetric<8>>, Int4, Trio, Grouped<Trits5, 20>, Incoherent<Int4>,
                     ChannelScaled<Int4>, Outliers<Int4, 40>, MixedColumns<Int4>, LowRank<Int4, 3>,
                     LowRankFirst<Int4, 2, std::int8_t>, Incoherent<ChannelScaled<Outliers<MixedColumns<Int4>, 30>>>>;
TYPED_TEST_SUITE(Operations, Formats);

TYPED_TEST(Operations, AgreeWithTheFloatsTheyStandFor) {
  for (const Index m : {1, 9, 65, 300}) {
    for (const Index n : {1, 8, 63, 172}) {
      const auto q = quantize<TypeParam>(gaussian(m, n) * 50.f, Everything{});
      const auto& packed = q.packed();
      const RowMatrixXf w = packed.dequantized();
      const auto near = [&](const auto& a, const auto& b) { return (a - b).norm() <= 2e-5f * (1 + b.norm()); };
      for (const Index t : {1, 5, 20}) {
        const Eigen::MatrixXf x = gaussian(n, t, 2), z = gaussian(m, t, 3);
        Eigen::MatrixXf y(m, t), rows = Eigen::MatrixXf::Constant(m, t, 7);
        packed.multiply(x, y, Activations::kFloat);
        EXPECT_TRUE(near(y, (w * x).eval())) << m << " x " << n;
        for (Index first = 0; first < m;) {  // pieces that begin and end anywhere
          const Index count = std::min<Index>(first % 3 == 0 ? 17 : 40, m - first);
          packed.multiplyRows(first, count, x, rows, Activations::kFloat);
          first += count;
        }
        EXPECT_TRUE(near(rows, y)) << m << " x " << n;
        Eigen::MatrixXf back = gaussian(n, t, 4);
        const Eigen::MatrixXf expected = back + w.transpose() * z;
        packed.addTransposed(z, back);
        EXPECT_TRUE(near(back, expected)) << m << " x " << n;
      }
      for (const Index i : {Index{0}, m / 2, m - 1}) EXPECT_TRUE(near(q.row(i), w.row(i))) << i;
      RowMatrixXf part(std::min<Index>(m, 20), n);
      packed.decodeRows(m - part.rows(), part.rows(), part);
      EXPECT_TRUE(near(part, w.bottomRows(part.rows()).eval()));
      RowMatrixXf into(m, n);
      q.dequantizeTo(into);
      EXPECT_EQ(into, w);
      EXPECT_TRUE(packed.isValid() && packed.owns());
    }
  }
}

TYPED_TEST(Operations, RowsMultipliedAlonePutTogetherAreTheProduct) {
  const auto q = quantize<TypeParam>(gaussian(417, 96), Everything{});
  for (const Index t : {1, 3}) {
    const Eigen::MatrixXf x = gaussian(96, t, 2);
    Eigen::MatrixXf whole(417, t), rows(417, t);
    q.multiply(x, whole);
    for (Index first = 0; first < 417; first += kRowBlock) {
      q.multiplyRows(first, std::min<Index>(kRowBlock, 417 - first), x, rows);
    }
    EXPECT_EQ(rows, whole);
  }
}

TYPED_TEST(Operations, RefuseShapesThatDoNotFit) {
  const auto q = quantize<TypeParam>(gaussian(9, 40), Everything{});
  const Eigen::MatrixXf x = gaussian(40, 2), small = gaussian(39, 2);
  Eigen::MatrixXf y(9, 2), wrong(8, 2), narrow(9, 1), back(40, 2);
  RowMatrixXf w(9, 41);
  expectThrows([&] { q.multiply(small, y); }, "multiply: the matrix is 9 x 40, so x needs 40 rows, got 39 x 2");
  expectThrows([&] { q.multiply(x, wrong); }, "multiply: expected a result y of 9 x 2, got 8 x 2");
  expectThrows([&] { q.multiply(x, narrow); }, "multiply: expected a result y of 9 x 2, got 9 x 1");
  expectThrows([&] { q.multiplyRows(0, 9, small, y); }, "multiplyRows: the matrix is 9 x 40, so x needs 40 rows");
  expectThrows([&] { q.multiplyRows(0, 9, x, wrong); }, "multiplyRows: expected a result y of 9 x 2, got 8 x 2");
  expectThrows([&] { q.multiplyRows(5, 5, x, y); }, "multiplyRows: expected rows within 0 .. 9, got 5 from 5 on");
  expectThrows([&] { q.multiplyRows(-1, 2, x, y); }, "multiplyRows: expected rows within 0 .. 9, got 2 from -1 on");
  expectThrows([&] { q.packed().addTransposed(x, back); }, "addTransposed: the matrix is 9 x 40, so x needs 9 rows");
  expectThrows([&] { q.packed().addTransposed(y, wrong); }, "addTransposed: expected a result y of 40 x 2, got 8 x 2");
  expectThrows([&] { (void)q.row(9); }, "row: expected rows within 0 .. 9, got 1 from 9 on");
  expectThrows([&] { q.packed().decodeRows(0, 9, w); }, "decodeRows: expected a matrix of 9 x 40, got 9 x 41");
  expectThrows([&] { q.dequantizeTo(w); }, "dequantizeTo: expected a matrix of 9 x 40, got 9 x 41");
  expectThrows([&] { (void)(q * small); }, "so the operand needs 40 rows, got 39 x 2");
  expectThrows([&] { (void)(q.transpose() * x); }, "it is 40 x 9, so the operand needs 9 rows, got 40 x 2");
  expectThrows([&] { (void)(x.transpose() * q); }, "the left operand needs 9 columns, got 2 x 40");
}

TYPED_TEST(Operations, AnEmptyMatrixIsOne) {
  QuantizedMatrix<TypeParam> q;
  EXPECT_EQ(q.rows(), 0);
  EXPECT_EQ(q.cols(), 0);
  EXPECT_EQ(q.bitsPerWeight(), 0);
  EXPECT_EQ(q.dequantized().size(), 0);
  EXPECT_EQ((q * Eigen::MatrixXf(0, 3)).eval().cols(), 3);
  EXPECT_EQ(q, QuantizedMatrix<TypeParam>());
  q = quantize<TypeParam>(gaussian(9, 40), Everything{});
  EXPECT_EQ(q.rows(), 9);
  const QuantizedMatrix<TypeParam> copy = q;
  q = QuantizedMatrix<TypeParam>();
  EXPECT_EQ(copy.rows(), 9);
}

TYPED_TEST(Operations, NoActivationsOrTokensAreFine) {
  const auto q = quantize<TypeParam>(gaussian(9, 40), Everything{});
  Eigen::MatrixXf y(9, 0), back(40, 0);
  q.multiply(Eigen::MatrixXf(40, 0), y);
  q.packed().addTransposed(y, back);
  q.multiplyRows(3, 0, Eigen::MatrixXf(40, 0), y);
}

TEST(Traits, SayWhatIsFastAndWhichRowsStandAlone) {
  static_assert(hasFastProduct<Int4> && hasFastProduct<Float16> && hasFastProduct<Incoherent<E8P>>);
  static_assert(!hasFastProduct<Trio> && !hasFastProduct<ChannelScaled<Trio>>);
  static_assert(!Packed<Incoherent<Int4>>::kRowsIndependent &&
                !Packed<Outliers<Incoherent<Int4>, 10>>::kRowsIndependent);
  static_assert(QuantizedMatrix<ChannelScaled<Int4>>::hasIndependentRows());
  static_assert(Packed<Incoherent<ChannelScaled<LlmInt8>>>::kNeeds == (kChannelScalesHook | kOutlierColumnsHook));
}

}  // namespace
}  // namespace gosset
