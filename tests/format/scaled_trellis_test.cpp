// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/scaled.hpp>

#include <gosset/calibration/awq.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/from_codes.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/theory/proxy_loss.hpp>

#include "products_of_rows.hpp"
#include "testing.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

// Matrices of trellis codes in every format.
namespace gosset::scaled_trellis_test {
namespace {

using testing::expectThrows;
using testing::gaussian;

using C = Trellis<2, 1, 12>;
using Mixed = Grouped<TrellisMixed, 64>;

/// Whatever hooks a format needs, and rates of all kinds where a tile may have its own.
struct Everything {
  static constexpr bool kFitsGrid = true, kIsNearest = true;
  static constexpr unsigned kOptionalHooks = kChannelScalesHook | kOutlierColumnsHook;

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    grid.fitAll(w);
    if constexpr (MixedRates<typename F::Codebook>) {
      std::vector<std::uint8_t> rates;
      for (Index tile = 0; tile < grid.tiles(); ++tile) rates.push_back(static_cast<std::uint8_t>(8 + 13 * tile % 41));
      grid.setRates(rates);
    }
    grid.encodeAll(w, codes);
  }
  Eigen::VectorXf channelScales(const RowMatrixXf& w, const ChannelScaleTrial&) const {
    return Eigen::VectorXf::LinSpaced(w.cols(), 1.f, 3.f);
  }
  std::vector<std::uint32_t> outlierColumns(Index n) const {
    if (n < 3) return {};
    return {1, static_cast<std::uint32_t>(n - 1)};
  }
};

/// A format behind one type, so that what tests do is compiled once.
using Quantized = AnyMatrix (*)(const RowMatrixXf&);
template <class... F>
std::vector<Quantized> casesOf() {
  return {+[](const RowMatrixXf& w) { return AnyMatrix(quantize<F>(w, Everything{})); }...};
}
std::vector<Quantized> cases() {
  return casesOf<C, PerChannel<C>, Grouped<C, 64>, Mixed, Incoherent<C>, ChannelScaled<PerChannel<C>>,
                 Outliers<Grouped<C, 64>, 40>, MixedColumns<Grouped<C, 64>>, LowRank<PerChannel<C>, 3>,
                 Incoherent<ChannelScaled<Outliers<MixedColumns<Mixed>, 30>>>>();
}

bool near(const Eigen::MatrixXf& a, const Eigen::MatrixXf& b) { return (a - b).norm() <= 2e-5f * (1 + b.norm()); }

TEST(ScaledTrellis, ProductsAgreeWithTheFloatsTheyStandFor) {
  for (const Quantized quantized : cases()) {
    for (const Index m : {1, 9, 65, 257}) {
      for (const Index n : {1, 8, 63, 172}) {
        const AnyMatrix q = quantized(gaussian(m, n) * 50.f);
        SCOPED_TRACE(::testing::Message() << q);
        const RowMatrixXf w = q.dequantized();
        for (const Index t : {1, 5, 20}) {
          const Eigen::MatrixXf x = gaussian(n, t, 2), z = gaussian(m, t, 3);
          Eigen::MatrixXf y(m, t), rows = Eigen::MatrixXf::Constant(m, t, 7);
          q.packed().multiply(x, y, Activations::kFloat);
          EXPECT_TRUE(near(y, w * x));
          for (Index first = 0; first < m;) {  // pieces that begin and end anywhere
            const Index count = std::min<Index>(first % 3 == 0 ? 17 : 40, m - first);
            q.packed().multiplyRows(first, count, x, rows, Activations::kFloat);
            first += count;
          }
          EXPECT_TRUE(near(rows, y));
          Eigen::MatrixXf back = gaussian(n, t, 4);
          const Eigen::MatrixXf expected = back + w.transpose() * z;
          q.packed().addTransposed(z, back);
          EXPECT_TRUE(near(back, expected));
          const Eigen::MatrixXf transposed = q.transpose() * z;
          EXPECT_TRUE(near(transposed, w.transpose() * z));
        }
        for (const Index i : {Index{0}, m / 2, m - 1}) EXPECT_TRUE(near(q.row(i), w.row(i))) << i;
        RowMatrixXf part(std::min<Index>(m, 20), n);
        q.decodeRows(m - part.rows(), part.rows(), part);
        EXPECT_TRUE(near(part, w.bottomRows(part.rows())));
      }
    }
  }
}

TEST(ScaledTrellis, RowsMultipliedAlonePutTogetherAreTheProduct) {
  for (const Quantized quantized : casesOf<C, Mixed>()) {
    for (const Index m : {417, 257}) {
      testing::expectProductsOfRows(quantized(gaussian(m, 96)));
    }
  }
}

/// Value = scale * level, for all shapes; what is stored is a walk, so that packing it again changes nothing.
template <class F>
void checkValues(Index m, Index n, float magnitude = 1) {
  const auto q = quantize<F>(gaussian(m, n) * magnitude, Everything{});
  const auto& packed = q.packed();
  const auto codes = packed.codes();
  const RowMatrixXf w = q.dequantized();
  ASSERT_EQ(codes.cols(), ceilDiv(n, 4) * 4);
  const auto rates = packed.rates();
  for (Index row = 0; row < m; ++row) {
    for (Index col = 0; col < n; ++col) {
      const auto& table = F::Codebook::table(rates[static_cast<std::size_t>(col / 32)]);
      const float scale = packed.affine(row, col / F::groupWidth(ceilDiv(n, 4) * 4)).scale;
      ASSERT_EQ(w(row, col), scale * table.value(codes(row, col))) << m << " x " << n << ": " << row << ' ' << col;
    }
  }
  EXPECT_TRUE(packed.isValid());
  const RowMatrixXf given = gaussian(m, n) * magnitude;
  const Eigen::MatrixXd error = w.cast<double>() - given.cast<double>();
  EXPECT_LT(error.norm(), 0.6 * given.cast<double>().norm()) << m << " x " << n;
}

TEST(ScaledTrellis, ValuesAreScaleTimesLevel) {
  for (const Index m : {1, 7, 8, 9, 15, 16, 17, 63, 65, 127, 128, 129, 172, 255, 256, 257, 417}) {
    for (const Index n : {1, 5, 33, 70}) {
      checkValues<PerChannel<C>>(m, n);
      if (m < 130) checkValues<Mixed>(m, n);
    }
  }
  for (const float magnitude : {1e-38f, 1e-30f, 1e-5f, 1e5f, 1e30f, 3e37f}) {
    checkValues<PerTensor<C>>(17, 33, magnitude);
    checkValues<Mixed>(17, 70, magnitude);
  }
}

TEST(ScaledTrellis, BytesByArithmetic) {
  EXPECT_EQ((quantize<Trellis<2>>(gaussian(128, 256)).bytes()), 128 * 256 / 4 + 2 + 4);
  EXPECT_EQ((quantize<PerChannel<Trellis<27, 8>>>(gaussian(16, 64)).bytes()), 16 * 64 * 27 / 64 + 16 * 2 + 4);
  EXPECT_EQ(quantize<Trellis<2>>(gaussian(17, 5)).bytes(), 32 * 8 / 4 + 2 + 4) << "blocks of 16 rows, 4 columns";
  const auto mixed = quantize<Mixed>(gaussian(16, 96), Everything{});
  EXPECT_THAT(mixed.packed().rates(), ::testing::ElementsAre(8, 21, 34));
  EXPECT_EQ(mixed.bytes(), 8 * (8 + 21 + 34) + 3 * 4 + 16 * 2 * 2 + 4);
}

TEST(ScaledTrellis, OneNumberZerosAndConstants) {
  for (const Quantized quantized : cases()) {
    const AnyMatrix one = quantized(RowMatrixXf::Constant(1, 1, -2.5f));
    EXPECT_NEAR(one.dequantized()(0, 0), -2.5f, 0.3f) << one;
    for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 1}, {17, 33}, {130, 8}}) {
      const AnyMatrix zero = quantized(RowMatrixXf::Zero(m, n));
      EXPECT_TRUE(zero.dequantized().isZero(0)) << zero;
      const RowMatrixXf five = RowMatrixXf::Constant(m, n, 5);
      EXPECT_LT((quantized(five).dequantized() - five).norm(), 0.6f * five.norm()) << zero;
    }
  }
}

TEST(ScaledTrellis, HalfFloatsAndDoubles) {
  const Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> half = gaussian(20, 40).cast<Eigen::half>();
  const auto q = quantize<PerChannel<C>>(half);
  EXPECT_EQ(q, quantize<PerChannel<C>>(half.cast<float>()));
  EXPECT_EQ(q, quantize<PerChannel<C>>(half.cast<double>()));
  EXPECT_FALSE(q == quantize<PerChannel<C>>(half.cast<float>() * 1.01f));
  auto other = gaussian(20, 40);
  other.row(3) *= -1;
  EXPECT_FALSE(quantize<PerChannel<C>>(other) == quantize<PerChannel<C>>(gaussian(20, 40)));
}

TEST(ScaledTrellis, PlainRoundingTakesTwoBitsEverywhere) {
  const auto q = quantize<Grouped<TrellisMixed, 64>>(gaussian(16, 70));
  EXPECT_THAT(q.packed().rates(), ::testing::ElementsAre(16, 16, 16));
  EXPECT_EQ(q.packed().codes(), (quantize<Grouped<Trellis<2>, 64>>(gaussian(16, 70)).packed().codes()));
}

TEST(ScaledTrellis, ErrorsOnGaussianNumbersAreTheCodes) {
  const RowMatrixXf w = gaussian(256, 256);
  const auto error = [&](const auto& q) { return (q.dequantized() - w).squaredNorm() / w.squaredNorm(); };
  EXPECT_NEAR(error(quantize<PerTensor<Trellis<2>>>(w)), 0.0682f, 0.0682f * 0.02f);
  EXPECT_NEAR(error(quantize<PerTensor<Trellis<27, 8>>>(w)), 0.0105f, 0.0105f * 0.04f);
}

TEST(ScaledTrellis, FromItsOwnCodes) {
  const auto q = quantize<PerChannel<C>>(gaussian(33, 65));
  RowMatrixXf scales(33, 1);
  for (Index row = 0; row < 33; ++row) scales(row, 0) = q.packed().affine(row, 0).scale;
  const auto codes = q.packed().codes();
  EXPECT_EQ(fromCodes<PerChannel<C>>(codes, scales, RowMatrixXf(), 65).dequantized(), q.dequantized());
  EXPECT_EQ(fromCodes<PerChannel<C>>(codes, scales).cols(), 68);
  const RowMatrixXf one = RowMatrixXf::Ones(1, 1);
  const auto mixed = quantize<TrellisMixed>(gaussian(20, 8));
  EXPECT_EQ((fromCodes<TrellisMixed>(mixed.packed().codes(), one).packed().codes()), mixed.packed().codes());

  auto other = codes;
  other(7, 2) ^= 1;
  expectThrows([&] { (void)fromCodes<PerChannel<C>>(other, scales); },
               "fromCodes: codes: expected walks of Trellis<2, 1, 12>, each state of which begins with the end of the "
               "one before, as codes() gives them; they part at (");
  other(7, 2) = 4096;
  expectThrows([&] { (void)fromCodes<PerChannel<C>>(other, scales); },
               "fromCodes: codes: expected codes of Trellis<2, 1, 12>, below 4096, got 4096 at (7, 2)");
  expectThrows([&] { (void)fromCodes<PerChannel<C>>(codes.leftCols(65), scales); },
               "fromCodes: codes: expected 68 codes in each of at least 1 row for 65 columns, got 33 x 65");
}

TEST(ScaledTrellis, FromItsOwnCodesAndRates) {
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 4}, {33, 100}}) {
    const auto q = quantize<PerChannel<TrellisMixed>>(gaussian(m, n), Everything{});
    RowMatrixXf scales(m, 1);
    for (Index row = 0; row < m; ++row) scales(row, 0) = q.packed().affine(row, 0).scale;
    const auto rates = q.packed().rates();
    const auto again = fromCodes<PerChannel<TrellisMixed>>(q.packed().codes(), scales, RowMatrixXf(), {}, rates);
    EXPECT_EQ(again.packed().rates(), rates);
    EXPECT_EQ(again.dequantized(), q.dequantized());
  }
  const RowMatrixXf one = RowMatrixXf::Ones(1, 1);
  const CodeMatrix<TrellisMixed> codes = CodeMatrix<TrellisMixed>::Zero(2, 64);
  const auto from = [&](const std::vector<std::uint8_t>& rates) {
    (void)fromCodes<TrellisMixed>(codes, one, RowMatrixXf(), {}, rates);
  };
  EXPECT_NO_THROW(from({8, 48}));
  expectThrows([&] { from({16}); }, "fromCodes: rates: expected 2 numbers, one for each 32 columns, got 1");
  expectThrows([&] { from({16, 49}); }, "fromCodes: rates: expected 8 to 48 eighths of a bit, got 49");
  expectThrows([&] { from({7, 16}); }, "fromCodes: rates: expected 8 to 48 eighths of a bit, got 7");
  expectThrows(
      [&] {
        (void)fromCodes<C>(codes, one, RowMatrixXf(), {}, std::vector<std::uint8_t>{16, 16});
      },
      "fromCodes: rates: PerTensor<Trellis<2, 1, 12>> has the same rate for all columns, expected none, got 2");
}

/// Scales of channels are searched as for other codes; ranges are not.
TEST(ScaledTrellis, Awq) {
  RowMatrixXf x = gaussian(100, 40, 3);
  x.leftCols(4) *= 10;
  Hessian h(40);
  h.accumulate(x);
  const RowMatrixXf w = gaussian(20, 40);
  const auto loss = [&](const auto& q) { return proxyLoss(w, q.dequantized(), h); };
  using F = Grouped<C, 32>;
  EXPECT_EQ(quantize<F>(w, Awq(x)), quantize<F>(w));
  EXPECT_LE(loss(quantize<ChannelScaled<F>>(w, Awq(x))), loss(quantize<F>(w)));
}

TEST(ScaledTrellis, NoLeastSquares) {
  expectThrows([&] { (void)quantize<C>(gaussian(3, 8), Nearest{}, {.fit = LeastSquares{}}); },
               "LeastSquares: no number of a trellis code can be encoded without its neighbours, so that scales cannot "
               "be searched by errors; use PublishedRule or Percentile");
}

TEST(ScaledTrellis, ThreadsDoNotChangeABit) {
  const RowMatrixXf w = gaussian(400, 40);
  const int threads = Eigen::nbThreads();
  Eigen::setNbThreads(1);
  const auto one = quantize<PerChannel<C>>(w);
  Eigen::setNbThreads(3);
  EXPECT_EQ(quantize<PerChannel<C>>(w), one);
  Eigen::setNbThreads(threads);
}

}  // namespace
}  // namespace gosset::scaled_trellis_test
