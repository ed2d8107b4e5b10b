// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/product.hpp>

#include <gosset/codebook.hpp>
#include <gosset/kernel/definition.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/trits5_tile.hpp>

#include "kernel/random_codes.hpp"

namespace gosset::GOSSET_ABI::detail::product_test {
namespace {

/// Products of rounded activations against the definition, y being of the right shape and `size` the result's. Forced
/// to round, however small the matrix.
template <class C, class T, int kPieces>
void checkRounded(const RandomCodes<C, T, kPieces>& w, const Eigen::MatrixXf& x, Index n, float size,
                  Eigen::MatrixXf& y) {
  const Index rows = w.layout.rows(), tokens = x.cols(), xStride = x.rows(), yStride = y.rows();
  Eigen::MatrixXf expected(yStride, tokens);
  multiplyDefinition(w.view, x.data(), n, tokens, xStride, expected.data(), yStride);
  const RoundedActivations rounded(x.data(), n, tokens, xStride, typename TileCode<C>::Order{});
  if (tokens == 1) {
    multiplyRounded(w.view, rounded, y.data());
  } else {
    multiplyRoundedMany(w.view, rounded, y.data(), yStride);
  }
  ASSERT_TRUE((y.bottomRows(5).array() == 77.f).all());
  if (rows * n * tokens > 5000) {
    ASSERT_LE((y - expected).topRows(rows).norm(), 0.01f * size) << rows << " x " << n << " x " << tokens;
  }

  // The same activations, rounded before: nothing else may be lost, but for tables of levels.
  Eigen::MatrixXf before(xStride, tokens);
  const auto columnOf = [](Index slice, int i) {
    using Order = typename TileCode<C>::Order;
    return slice / Order::kSlices * TileLayout<C>::kTileColumns +
           Order::column(static_cast<int>(slice % Order::kSlices), i / 4, i % 4);
  };
  for (Index token = 0; token < tokens; ++token) {
    for (Index slice = 0; slice < rounded.slices(); ++slice) {
      for (int i = 0; i < kSliceColumns; ++i) {
        const Index j = columnOf(slice, i);
        if (j < n) {
          before(j, token) = rounded.scale(token, slice) * static_cast<float>(rounded.numbers(token, slice)[i]);
        }
      }
    }
  }
  for (const auto& extra : rounded.extras()) {
    for (int i = 0; i < kSliceColumns; ++i) {
      const Index j = columnOf(extra.slice, i);
      if (j < n) before(j, extra.token) += extra.scale * static_cast<float>(extra.numbers[i]);
    }
  }
  multiplyDefinition(w.view, before.data(), n, tokens, xStride, expected.data(), yStride);
  bool exact = true;
  if constexpr (ScalarCodebook<C>) exact = ByteLevels<C>::kUniform || C::kLevels == 2;
  if (exact || rows * n * tokens > 5000) {
    const float bound = exact ? 2e-5f : 0.01f;
    ASSERT_LE((y - expected).topRows(rows).norm(), bound * size) << rows << " x " << n << " x " << tokens;
  }
}

/// Products in both modes, in groups of so many tiles, or columns where these end within tiles; heavy: of activations
/// some of which dwarf others.
template <class C, class T, int kPieces = 1>
void checkProduct(Index rows, Index n, Index tokens, Index group, bool one_scale = false, bool heavy = false) {
  const RandomCodes<C, T, kPieces> w(rows, n, group, one_scale);
  const Index xStride = n + 3, yStride = rows + 5;
  Eigen::MatrixXf x = testing::gaussian(xStride, tokens, 3);
  if (heavy) x = x.array().cube() * x.array().abs();
  Eigen::MatrixXf expected(yStride, tokens), y = Eigen::MatrixXf::Constant(yStride, tokens, 77);
  multiplyDefinition(w.view, x.data(), n, tokens, xStride, expected.data(), yStride);

  const float size = expected.topRows(rows).norm() + 1;
  for (const Activations how : {Activations::kRounded, Activations::kFloat}) {
    if (kPieces != 0 && how == Activations::kRounded) continue;  // below
    multiplyCodes(w.view, how, x.data(), n, tokens, xStride, y.data(), yStride);
    ASSERT_LE((y - expected).topRows(rows).norm(), 2e-5f * size) << rows << " x " << n << " x " << tokens;
    ASSERT_TRUE((y.bottomRows(5).array() == 77.f).all());
  }
  if constexpr (kPieces != 0) checkRounded(w, x, n, size, y);
}

template <class C>
class ProductTest : public ::testing::Test {};
using Codebooks = ::testing::Types<Binary, Ternary, Trits5, Asymmetric<3>, Symmetric<8>, NormalFloat4, E8P, E8PRvq3,
                                   Trellis<2>, TrellisMixed>;
TYPED_TEST_SUITE(ProductTest, Codebooks);

TYPED_TEST(ProductTest, OddShapes) {
  using C = TypeParam;
  for (const Index rows : {1, 9, 16, 65}) {
    for (const Index n : testing::kOddSizes) {
      for (const Index tokens : {1, 2, 11}) {
        if (rows * n * tokens > 65 * 172 * 2) continue;
        checkProduct<C, Float16>(rows, n, tokens, 2);
      }
    }
  }
}

TYPED_TEST(ProductTest, WholeTilesAndOneMore) {
  for (const Index n : {160, 161, 320}) {
    for (const Index tokens : {1, 3}) checkProduct<TypeParam, Float16>(17, n, tokens, 1);
  }
}

TYPED_TEST(ProductTest, GroupsOfEveryWidthAndOneScaleForAll) {
  using C = TypeParam;
  for (const Index tokens : {1, 3}) {
    for (const Index group_tiles : {1, 3, 50}) checkProduct<C, Float16>(33, 417, tokens, group_tiles);
    checkProduct<C, Float16>(33, 417, tokens, 14, true);
  }
}

template <class C>
class NarrowGroupsTest : public ::testing::Test {};
using NarrowCodebooks = ::testing::Types<Trits5, Asymmetric<3>, E8P>;
TYPED_TEST_SUITE(NarrowGroupsTest, NarrowCodebooks);

/// Groups that end within tiles: of every width, and a last one that is short.
TYPED_TEST(NarrowGroupsTest, GroupsThatEndWithinTiles) {
  using C = TypeParam;
  for (const Index tokens : {1, 3}) {
    for (const bool heavy : {false, true}) {
      for (const Index codes : {1, 2, 5, 7, 9, 50}) {
        checkProduct<C, Float16, 0>(33, 417, tokens, codes * kBlockColumns<C>, false, heavy);
      }
      if constexpr (piecesOf<C>(8) == 4) {
        for (const Index width : {8, 24, 1000}) checkProduct<C, Float16, 4>(33, 417, tokens, width, false, heavy);
        for (const Index width : {16, 48, 208}) checkProduct<C, Float16, 2>(33, 417, tokens, width, false, heavy);
        checkProduct<C, Float16, 2>(17, 1203, tokens, 16, false, heavy);
      }
    }
    checkProduct<C, Float16, 0>(17, 163, tokens, 20 * kBlockColumns<C>);
    checkProduct<C, Float16, 0>(17, 43, tokens, 1000 * kBlockColumns<C>, true);
  }
}

TEST(Product, PiecesOfTiles) {
  EXPECT_EQ(piecesOf<Asymmetric<3>>(64), 1);
  EXPECT_EQ(piecesOf<Asymmetric<3>>(kWholeRow), 1);
  EXPECT_EQ(piecesOf<Asymmetric<3>>(48), 2);
  EXPECT_EQ(piecesOf<Ternary>(24), 4);
  EXPECT_EQ(piecesOf<NormalFloat4>(20), 0);
  EXPECT_EQ(piecesOf<E8P>(16), 0);  // columns of a register are eight apart
  EXPECT_EQ(piecesOf<Trits5>(160), 1);
  EXPECT_EQ(piecesOf<Trits5>(80), 0);
}

TYPED_TEST(ProductTest, ActivationsThatDwarfOthers) {
  for (const Index tokens : {1, 3, 11}) {
    for (const Index group_tiles : {1, 3, 50}) {
      checkProduct<TypeParam, Float16>(33, 417, tokens, group_tiles, false, true);
      checkProduct<TypeParam, Float16>(17, 1203, tokens, group_tiles, false, true);
    }
  }
}

TEST(Product, ScalesInEveryType) {
  checkProduct<Asymmetric<3>, BFloat16>(33, 417, 1, 2);
  checkProduct<Asymmetric<3>, float>(33, 417, 9, 2);
}

TEST(Product, ManyTilesAndTokens) {
  checkProduct<Asymmetric<3>, Float16>(17, 32 * 19 + 5, 21, 4);
  checkProduct<E8PRvq3, Float16>(17, 32 * 19 + 5, 21, 20);
}

TYPED_TEST(ProductTest, DecodesBlocks) {
  for (const Index n : {1, 77, 160, 161, 417}) {
    const RandomCodes<TypeParam, Float16> w(37, n, 2);
    RowMatrixXf values = RowMatrixXf::Constant(37, n + 3, 77);
    for (Index block = 0; block < 3; ++block) decodeBlock(w.view, block, n, &values(16 * block, 0), n + 3);
    for (Index row = 0; row < 37; ++row) {
      for (Index j = 0; j < n; ++j) ASSERT_EQ(values(row, j), numberAt(w.view, row, j)) << row << ' ' << j;
      ASSERT_TRUE((values.row(row).tail(3).array() == 77.f).all());
    }
  }
}

/// Rates whose decoders differ in kind, and other numbers of states.
TEST(Product, TrellisesOfOtherRates) {
  checkProduct<Trellis<3, 2>, Float16>(33, 417, 1, 50);
  checkProduct<Trellis<27, 8>, Float16>(33, 417, 3, 2);
  checkProduct<Trellis<4>, Float16>(33, 417, 1, 2);
  checkProduct<Trellis<2, 1, 16>, Float16>(33, 417, 3, 50);
}

/// Three bands of rows.
TEST(Product, TrellisesOfManyRows) {
  for (const Index rows : {255, 256, 400}) {
    for (const Index tokens : {1, 5}) checkProduct<TrellisMixed, Float16>(rows, 129, tokens, 2);
  }
}

TEST(Product, ThreadsDoNotChangeABit) {
  const RandomCodes<E8P, Float16> w(417, 417, 14);
  Eigen::MatrixXf x = testing::gaussian(417, 9, 3);
  x.row(40).setConstant(1000);
  x.bottomRows(200) = x.bottomRows(200).array().cube();
  const int threads = Eigen::nbThreads();
  for (const Activations activations : {Activations::kRounded, Activations::kFloat}) {
    for (const Index tokens : {1, 9}) {
      Eigen::MatrixXf one(417, tokens), many(417, tokens);
      Eigen::setNbThreads(1);
      multiplyCodes(w.view, activations, x.data(), 417, tokens, 417, one.data(), 417);
      Eigen::setNbThreads(3);
      multiplyCodes(w.view, activations, x.data(), 417, tokens, 417, many.data(), 417);
      EXPECT_EQ(one, many);
    }
  }
  Eigen::setNbThreads(threads);
}

TEST(Product, NotANumberReachesEveryResult) {
  const RandomCodes<Symmetric<8>, Float16> w(33, 96, 3);
  Eigen::VectorXf x = Eigen::VectorXf::Ones(96), y(33);
  x(40) = std::numeric_limits<float>::quiet_NaN();
  multiplyCodes(w.view, Activations::kRounded, x.data(), 96, 1, 96, y.data(), 33);
  EXPECT_TRUE((y.array() != y.array()).all());
  x(40) = 1e30f;  // stands apart
  x(80) = std::numeric_limits<float>::infinity();
  multiplyCodes(w.view, Activations::kRounded, x.data(), 96, 1, 96, y.data(), 33);
  EXPECT_TRUE((y.array() != y.array()).all());
}

template <int kPieces>
void expectNaNEverywhere(Index width) {
  const RandomCodes<Asymmetric<3>, Float16, kPieces> w(33, 97, width);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const Index tokens : {1, 3}) {
      Eigen::MatrixXf x = Eigen::MatrixXf::Ones(97, tokens), y(33, tokens);
      x(96, tokens - 1) = bad;  // in the last group, which is short
      multiplyCodes(w.view, Activations::kRounded, x.data(), 97, tokens, 97, y.data(), 33);
      const auto column = y.col(tokens - 1).array();
      EXPECT_TRUE((column - column != 0.f).all()) << width << ' ' << bad;
      EXPECT_TRUE(y.leftCols(tokens - 1).allFinite());
    }
  }
}

TEST(Product, NotANumberInGroupsThatEndWithinTiles) {
  expectNaNEverywhere<2>(16);
  expectNaNEverywhere<4>(24);
  expectNaNEverywhere<0>(7);
}

/// Massive activations of one or two sizes, any number of them in a tile, that meet no weight: the error is measured
/// against the product of the others.
TEST(Product, MassiveActivationsDoNotDrownTheOthers) {
  for (const float size : {5.f, 100.f, 1e4f, 1e8f}) {
    for (const int many : {1, 2, 8}) {
      for (const Index every : {size < 50 ? 4 : 1, 7}) {
        RandomCodes<Symmetric<8>, Float16> w(65, 1024, 4);
        Eigen::MatrixXf x = testing::gaussian(1024, 3, 3);
        const auto zero = static_cast<std::uint8_t>(Symmetric<8>::encode(0));
        std::vector<std::uint8_t> codes(65 * 1024);
        for (Index block = 0; block < 5; ++block) {
          w.layout.unpackBlock(w.bytes.data(), block, codes.data() + block * 16 * 1024, 1024);
        }
        for (Index tile = 0; tile < 32; tile += every) {
          for (int i = 0; i < many; ++i) {
            const Index j = tile * 32 + (11 * tile + 7 * i) % 32;
            for (Index row = 0; row < 65; ++row) codes[static_cast<std::size_t>(row * 1024 + j)] = zero;
            x.row(j).setConstant(i % 2 == 0 ? size : -0.01f * size);
          }
        }
        for (Index block = 0; block < 5; ++block) {
          w.layout.packBlock(codes.data() + block * 16 * 1024, 1024, block, w.bytes.data());
        }
        Eigen::MatrixXf exact(65, 3), y(65, 3);
        multiplyCodes(w.view, Activations::kFloat, x.data(), 1024, 3, 1024, exact.data(), 65);
        multiplyCodes(w.view, Activations::kRounded, x.data(), 1024, 3, 1024, y.data(), 65);
        EXPECT_LT((y - exact).norm(), 0.0095f * exact.norm()) << many << " of " << size << " every " << every;
        Eigen::VectorXf one(65);
        multiplyCodes(w.view, Activations::kRounded, x.data(), 1024, 1, 1024, one.data(), 65);
        EXPECT_LT((one - exact.col(0)).norm(), 0.01f * exact.col(0).norm());
      }
    }
  }
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::product_test
