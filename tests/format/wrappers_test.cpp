// SPDX-License-Identifier: Apache-2.0
// Every operation of every format, held to the matrix of floats that it stands for.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>

#include "products_of_rows.hpp"
#include "testing.hpp"

namespace gosset::wrappers_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

using Int4 = Grouped<Asymmetric<4>, 32>;
/// No kernel, and whole codes that do not fill a row.
using Trio = Grouped<E8P, 24>;

/// Whatever hooks a format needs.
struct Everything : Nearest {
  static constexpr unsigned kOptionalHooks = kChannelScalesHook | kOutlierColumnsHook | kColumnOrderHook;
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial&) const {
    return Eigen::VectorXf::LinSpaced(w.cols(), 1.f, 3.f);
  }
  std::vector<std::uint32_t> outlierColumns(Index n) const {
    if (n < 3) return {};
    return {1, static_cast<std::uint32_t>(n - 1)};
  }
  std::vector<std::uint32_t> columnOrder(Index n) const {  // the last column first
    std::vector<std::uint32_t> order;
    for (Index k = n; k-- > 0;) order.push_back(static_cast<std::uint32_t>(k));
    return order;
  }
};

/// A format behind one type, so that what tests do is compiled once.
struct Case {
  AnyMatrix (*quantized)(const RowMatrixXf&);
};
template <class F>
Case of() {
  return {[](const RowMatrixXf& w) { return AnyMatrix(quantize<F>(w, Everything{})); }};
}
std::vector<Case> cases() {
  return {of<Float16>(),
          of<float>(),
          of<E8P>(),
          of<PerChannel<Symmetric<8>>>(),
          of<Int4>(),
          of<Trio>(),
          of<Grouped<Trits5, 20>>(),
          of<Incoherent<Int4>>(),
          of<ChannelScaled<Int4>>(),
          of<Outliers<Int4, 40>>(),
          of<MixedColumns<Int4>>(),
          of<ActOrder<Int4>>(),
          of<LowRank<Int4, 3>>(),
          of<LowRankFirst<Int4, 2, std::int8_t>>(),
          of<Incoherent<ChannelScaled<ActOrder<Outliers<MixedColumns<Int4>, 30>>>>>()};
}

bool near(const Eigen::MatrixXf& a, const Eigen::MatrixXf& b) { return (a - b).norm() <= 2e-5f * (1 + b.norm()); }

void expectAgreement(const AnyMatrix& q, Index t) {
  const Index m = q.rows(), n = q.cols();
  const AnyPacked& packed = q.packed();
  const RowMatrixXf w = q.dequantized();
  const Eigen::MatrixXf x = gaussian(n, t, 2), z = gaussian(m, t, 3);
  Eigen::MatrixXf y(m, t), rows = Eigen::MatrixXf::Constant(m, t, 7);
  packed.multiply(x, y, Activations::kFloat);
  EXPECT_TRUE(near(y, w * x));
  for (Index first = 0; first < m;) {  // pieces that begin and end anywhere
    const Index count = std::min<Index>(first % 3 == 0 ? 17 : 40, m - first);
    packed.multiplyRows(first, count, x, rows, Activations::kFloat);
    first += count;
  }
  EXPECT_TRUE(near(rows, y));
  Eigen::MatrixXf back = gaussian(n, t, 4);
  const Eigen::MatrixXf expected = back + w.transpose() * z;
  packed.addTransposed(z, back);
  EXPECT_TRUE(near(back, expected));
}

TEST(Operations, AgreeWithTheFloatsTheyStandFor) {
  for (const Case& format : cases()) {
    for (const Index m : {1, 9, 65, 300}) {
      for (const Index n : {1, 8, 63, 172}) {
        const AnyMatrix q = format.quantized(gaussian(m, n) * 50.f);
        SCOPED_TRACE(::testing::Message() << q);
        for (const Index t : {1, 5, 20}) expectAgreement(q, t);
        const RowMatrixXf w = q.dequantized();
        for (const Index i : {Index{0}, m / 2, m - 1}) EXPECT_TRUE(near(q.row(i), w.row(i))) << i;
        RowMatrixXf part(std::min<Index>(m, 20), n);
        q.decodeRows(m - part.rows(), part.rows(), part);
        EXPECT_TRUE(near(part, w.bottomRows(part.rows())));
        EXPECT_TRUE(q.owns());
      }
    }
  }
}

TEST(Operations, RowsMultipliedAlonePutTogetherAreTheProduct) {
  for (const Case& format : cases()) {
    for (const Index m : {417, 257}) {
      testing::expectProductsOfRows(format.quantized(gaussian(m, 96)));
    }
  }
}

TEST(Operations, RefuseShapesThatDoNotFit) {
  for (const Case& format : cases()) {
    const AnyMatrix q = format.quantized(gaussian(9, 40));
    SCOPED_TRACE(::testing::Message() << q);
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
    const AnyPacked& packed = q.packed();
    expectThrows([&] { packed.addTransposed(x, back); }, "addTransposed: the matrix is 9 x 40, so x needs 9 rows");
    expectThrows([&] { packed.addTransposed(y, wrong); }, "addTransposed: expected a result y of 40 x 2, got 8 x 2");
    expectThrows([&] { q.decodeRows(0, 10, w); }, "decodeRows: expected rows within 0 .. 9, got 10 from 0 on");
    expectThrows([&] { q.decodeRows(0, 9, w); }, "decodeRows: expected a matrix of 9 x 40, got 9 x 41");
    // No activations or tokens are fine.
    Eigen::MatrixXf none(9, 0), backNone(40, 0);
    q.multiply(Eigen::MatrixXf(40, 0), none);
    packed.addTransposed(none, backNone);
    q.multiplyRows(3, 0, Eigen::MatrixXf(40, 0), none);
  }
}

TEST(Operations, OfATypedMatrixRefuseWhatDoesNotFit) {
  const auto q = quantize<Int4>(gaussian(9, 40));
  const Eigen::MatrixXf x = gaussian(40, 2), small = gaussian(39, 2);
  RowMatrixXf w(9, 41);
  expectThrows([&] { (void)q.row(9); }, "row: expected rows within 0 .. 9, got 1 from 9 on");
  expectThrows([&] { q.dequantizeTo(w); }, "dequantizeTo: expected a matrix of 9 x 40, got 9 x 41");
  expectThrows([&] { (void)(q * small); }, "so the operand needs 40 rows, got 39 x 2");
  expectThrows([&] { (void)(q.transpose() * x); }, "it is 40 x 9, so the operand needs 9 rows, got 40 x 2");
  expectThrows([&] { (void)(x.transpose() * q); }, "the left operand needs 9 columns, got 2 x 40");
  RowMatrixXf into(9, 40);
  q.dequantizeTo(into);
  EXPECT_EQ(into, q.dequantized());
}

template <class F>
void expectEmpty() {
  QuantizedMatrix<F> q;
  EXPECT_EQ(q.rows(), 0);
  EXPECT_EQ(q.cols(), 0);
  EXPECT_EQ(q.bitsPerWeight(), 0);
  EXPECT_EQ(q.dequantized().size(), 0);
  Eigen::MatrixXf y(0, 3);
  q.multiply(Eigen::MatrixXf(0, 3), y);
  EXPECT_EQ(q, QuantizedMatrix<F>());
}

/// What a file may say: no columns, or no rows.
template <class F>
void expectShapedWithoutNumbers() {
  for (const auto& [rows, cols] : {std::pair{3, 0}, {0, 3}, {0, 0}}) {
    const auto packed = Packed<F>::shaped(rows, cols);
    EXPECT_EQ(packed.rows(), rows);
    EXPECT_EQ(packed.cols(), cols);
    EXPECT_EQ(packed.dequantized().size(), 0);
    EXPECT_TRUE(packed.isValid()) << rows << " x " << cols;
  }
}

TEST(Operations, ShapesWithoutNumbersAreFine) {
  expectShapedWithoutNumbers<Float16>();
  expectShapedWithoutNumbers<E8P>();
  expectShapedWithoutNumbers<Int4>();
  expectShapedWithoutNumbers<Incoherent<ChannelScaled<Outliers<MixedColumns<Int4>, 30>>>>();
  expectShapedWithoutNumbers<ActOrder<Int4>>();
  expectShapedWithoutNumbers<LowRankFirst<Int4, 2, std::int8_t>>();
}

TEST(Operations, AnEmptyMatrixIsOne) {
  expectEmpty<Float16>();
  expectEmpty<E8P>();
  expectEmpty<Int4>();
  expectEmpty<Incoherent<ChannelScaled<Outliers<MixedColumns<Int4>, 30>>>>();
  expectEmpty<ActOrder<Int4>>();
  expectEmpty<LowRankFirst<Int4, 2, std::int8_t>>();
  QuantizedMatrix<Int4> q = quantize<Int4>(gaussian(9, 40));
  const QuantizedMatrix<Int4> copy = q;
  q = QuantizedMatrix<Int4>();
  EXPECT_EQ(copy.rows(), 9);
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
}  // namespace gosset::wrappers_test
