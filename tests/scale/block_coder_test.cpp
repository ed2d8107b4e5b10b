// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/block_coder.hpp>

#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/symmetric.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>

#include "testing.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace gosset::block_coder_test {
namespace {

using detail::BlockCoder;
using detail::RowChunks;
using testing::expectThrows;

/// w as a format hands it to a rounding: filled up with zeros to whole blocks of columns.
template <Codebook C>
RowMatrixXf padded(const RowMatrixXf& w) {
  RowMatrixXf result = RowMatrixXf::Zero(w.rows(), ceilDiv(w.cols(), kBlockColumns<C>) * kBlockColumns<C>);
  result.leftCols(w.cols()) = w;
  return result;
}

template <class C>
std::vector<Index> chunkSizes(Index rows) {
  const RowChunks<C> chunks(rows);
  std::vector<Index> sizes;
  Index next = 0;
  for (Index i = 0; i < chunks.count(); ++i) {
    EXPECT_EQ(chunks.begin(i), next) << rows;
    sizes.push_back(chunks.size(i));
    EXPECT_LE(sizes.back(), RowChunks<C>::kMost) << rows;
    next += sizes.back();
  }
  EXPECT_EQ(next, rows);
  return sizes;
}

TEST(RowChunks, SixtyFourRowsOrABand) {
  using Sizes = std::vector<Index>;
  EXPECT_EQ(chunkSizes<E8P>(1), Sizes{1});
  EXPECT_EQ(chunkSizes<E8P>(64), Sizes{64});
  EXPECT_EQ(chunkSizes<E8P>(130), (Sizes{64, 64, 2}));
  EXPECT_EQ(chunkSizes<Trellis<2>>(1), Sizes{1});
  EXPECT_EQ(chunkSizes<Trellis<2>>(130), Sizes{130});
  EXPECT_EQ(chunkSizes<Trellis<2>>(240), Sizes{240});
  EXPECT_EQ(chunkSizes<Trellis<2>>(241), (Sizes{128, 113}));
  EXPECT_EQ(chunkSizes<Trellis<2>>(256), (Sizes{128, 128}));
  EXPECT_EQ(chunkSizes<TrellisMixed>(400), (Sizes{128, 128, 144}));
  for (Index rows = 1; rows < 600; ++rows) {
    (void)chunkSizes<TrellisMixed>(rows);
    (void)chunkSizes<E8P>(rows);
  }
}

/// Of codes that stand alone: those of encode() and decode(), number by number.
TEST(BlockCoder, OtherCodesOneByOne) {
  const RowMatrixXf w = testing::gaussian(9, 24);
  const auto check = [&]<class C>(Grid<Grouped<C, 16>> grid) {
    grid.fitAll(w);
    BlockCoder coder(grid, 2, 5);
    for (Index col = 0; col < 24; col += C::kDim) {
      const RowMatrixXf x = w.block(2, col, 5, C::kDim);
      typename C::Code codes[5];
      RowMatrixXf y(5, C::kDim);
      coder.encode(col, x.data(), codes);
      coder.decode(col, codes, y.data());
      for (Index i = 0; i < 5; ++i) {
        const Affine a = grid.affine(2 + i, col / 16);
        EXPECT_EQ(codes[i], encode<C>(x.row(i).data(), a));
        RowMatrixXf expected(1, C::kDim);
        decode<C>(codes[i], a, expected.data());
        EXPECT_EQ(y.row(i), expected);
      }
    }
  };
  check(Grid<Grouped<Symmetric<4>, 16>>(9, 24, PublishedRule{}));
  check(Grid<Grouped<E8P, 16>>(9, 24, PublishedRule{}));
}

/// What a band's codes must be: the walk of its numbers, divided by their scales, in rings of whole blocks of 16 rows.
template <class F>
void expectWalks(Index rows, Index cols, const std::vector<std::uint8_t>& rates) {
  using C = typename F::Codebook;
  const RowMatrixXf w = padded<C>(testing::gaussian(rows, cols, 4) * 3);
  Grid<F> grid(rows, cols, PublishedRule{});
  grid.fitAll(w);
  if constexpr (MixedRates<C>) grid.setRates(rates);
  CodeMatrix<C> codes(rows, w.cols());
  grid.encodeAll(w, codes);
  const RowChunks<C> bands(rows);
  for (Index band = 0; band < bands.count(); ++band) {
    const Index first = bands.begin(band), size = bands.size(band), ring = ceilDiv(size, 16) * 64;
    BlockCoder coder(grid, first, size);
    for (Index col = 0; col < w.cols(); col += 4) {
      const detail::TrellisTable& table = C::table(grid.rateAt(col));
      std::vector<float> numbers(static_cast<std::size_t>(ring), 55.f);  // those that are not there count for nothing
      std::vector<std::uint16_t> states(numbers.size());
      const auto affine = [&](Index row) { return grid.affine(first + row, grid.groupOf(col)); };
      for (Index i = 0; i < 4 * size; ++i) {
        numbers[static_cast<std::size_t>(i)] = w(first + i / 4, col + i % 4) / affine(i / 4).scale;
      }
      detail::TrellisSearch search(table, ring);
      const Index real = std::min<Index>(4, cols - col);
      search.nearest(numbers.data(), ring, 4, {size, real}, states.data());
      using Block = Eigen::Matrix<std::uint16_t, Eigen::Dynamic, 4, Eigen::RowMajor>;
      const Block block = codes.block(first, col, size, 4);
      EXPECT_TRUE(std::equal(block.data(), block.data() + block.size(), states.data()))
          << F::name() << ' ' << rows << " x " << cols << ": " << first << ' ' << col;
      const Eigen::Matrix<float, Eigen::Dynamic, 4, Eigen::RowMajor> x = w.block(first, col, size, 4);
      Block again(size, 4);
      coder.encode(col, x.data(), again.data());
      EXPECT_EQ(again, block);
      Eigen::Matrix<float, Eigen::Dynamic, 4, Eigen::RowMajor> y(size, 4);
      coder.decode(col, block.data(), y.data());
      for (Index i = 0; i < 4 * size; ++i) {
        const float expected = i % 4 < real ? affine(i / 4).scale * table.value(block.data()[i]) : 0.f;
        EXPECT_EQ(y.data()[i], expected) << i;
      }
    }
  }
}

TEST(BlockCoder, TrellisesAreWalksOfABand) {
  for (const Index rows : {1, 7, 16, 17, 129}) expectWalks<PerChannel<Trellis<2, 1, 12>>>(rows, 9, {});
  expectWalks<PerTensor<Trellis<5, 2, 12>>>(256, 3, {});
  expectWalks<Grouped<Trellis<1>, 32>>(20, 37, {});
  expectWalks<Grouped<TrellisMixed, 64>>(20, 70, {48, 8, 19});
}

TEST(BlockCoder, ZerosUnderAScaleOfZero) {
  using F = PerChannel<Trellis<2, 1, 12>>;
  RowMatrixXf w = testing::gaussian(5, 8);
  w.row(3).setZero();
  Grid<F> grid(5, 8, PublishedRule{});
  grid.fitAll(w);
  EXPECT_EQ(grid.affine(3, 0).scale, 0);
  BlockCoder coder(grid, 0, 5);
  std::uint16_t codes[20];
  RowMatrixXf y(5, 4);
  const RowMatrixXf x = w.leftCols(4);
  coder.encode(0, x.data(), codes);
  coder.decode(0, codes, y.data());
  EXPECT_TRUE(y.row(3).isZero(0));
  EXPECT_LT((y - x).norm(), 0.5f * x.norm());
}

/// How Grid keeps rates, and which it takes.
TEST(GridOfTrellises, Rates) {
  const Grid<PerChannel<Trellis<27, 8>>> plain(3, 65, PublishedRule{});
  EXPECT_EQ(plain.cols(), 68);
  EXPECT_EQ(plain.tiles(), 3);
  EXPECT_THAT(plain.rates(), ::testing::ElementsAre(27, 27, 27));
  EXPECT_EQ(plain.rateAt(67), 27);
  Grid<PerChannel<TrellisMixed>> mixed(3, 65, PublishedRule{});
  EXPECT_THAT(mixed.rates(), ::testing::ElementsAre(16, 16, 16));
  mixed.setRates({8, 48, 19});
  EXPECT_EQ(mixed.rateAt(31), 8);
  EXPECT_EQ(mixed.rateAt(32), 48);
  EXPECT_EQ(mixed.rateAt(64), 19);
  EXPECT_EQ(mixed.tileOf(63), 1);
  expectThrows([&] { mixed.setRates({8, 48}); }, "Grid::setRates: expected 3 rates, got 2");
  expectThrows([&] { mixed.setRates({8, 48, 19, 8}); }, "Grid::setRates: expected 3 rates, got 4");
  expectThrows(
      [&] {
        mixed.setRates({8, 7, 19});
      },
      "Grid::setRates: expected rates of 8 to 48 eighths of a bit, got 7");
  expectThrows(
      [&] {
        mixed.setRates({8, 8, 49});
      },
      "Grid::setRates: expected rates of 8 to 48 eighths of a bit, got 49");
  EXPECT_THAT(mixed.rates(), ::testing::ElementsAre(8, 48, 19)) << "errors change nothing";
  EXPECT_TRUE((Grid<PerChannel<E8P>>(3, 65, PublishedRule{}).rates().empty()));
}

TEST(GridOfTrellises, PaddingCountsForNoScale) {
  for (const Index cols : {1, 2, 3, 5, 33}) {
    const RowMatrixXf w = testing::gaussian(3, cols);
    Grid<PerChannel<Trellis<2>>> channels(3, cols, PublishedRule{});
    Grid<PerTensor<Trellis<2>>> tensor(3, cols, PublishedRule{});
    channels.fitAll(padded<Trellis<2>>(w));
    tensor.fitAll(padded<Trellis<2>>(w));
    const auto rms = [](const RowMatrixXf& x) { return std::sqrt(x.squaredNorm() / static_cast<float>(x.size())); };
    EXPECT_NEAR(channels.affine(1, 0).scale, rms(w.row(1)), 1e-3f * rms(w.row(1))) << cols;
    EXPECT_NEAR(tensor.affine(1, 0).scale, rms(w), 1e-3f * rms(w)) << cols;
  }
}

TEST(GridOfTrellises, NoLeastSquares) {
  Grid<PerChannel<Trellis<2>>> grid(3, 8, LeastSquares{});
  expectThrows([&] { grid.fitAll(testing::gaussian(3, 8)); },
               "LeastSquares: no number of a trellis code can be encoded without its neighbours, so that scales cannot "
               "be searched by errors; use PublishedRule or Percentile");
  Grid<PerChannel<Trellis<2>>> percentile(3, 8, Percentile{90});
  percentile.fitAll(testing::gaussian(3, 8));
  EXPECT_GT(percentile.affine(0, 0).scale, 0);
}

}  // namespace
}  // namespace gosset::block_coder_test
