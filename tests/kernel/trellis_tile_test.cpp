// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/trellis_tile.hpp>

#include "kernel/random_codes.hpp"

#include <memory>
#include <set>
#include <utility>
#include <vector>

// Decoders against layout.state() and the tables of values, from arrays of no byte more than the layout's.
namespace gosset::GOSSET_ABI::detail::trellis_tile_test {
namespace {

/// Random codes in an array of exactly their size.
template <class C>
struct ExactCodes : RandomCodes<C, float> {
  ExactCodes(Index rows, Index n) : RandomCodes<C, float>(rows, n, 1), exact(new std::uint8_t[this->bytes.size()]) {
    std::copy(this->bytes.begin(), this->bytes.end(), exact.get());
  }

  int levelAt(Index block, Index row, Index col) const {
    return C::table(this->layout.rate8(col / 32)).level(this->layout.state(exact.get(), block, row, col));
  }

  std::unique_ptr<std::uint8_t[]> exact;
};

/// Calls visit(tile, part) for each whole and copied tile of a block, part by part of a register.
template <class C, class Visit>
void forTiles(const ExactCodes<C>& w, Index block, const Visit& visit) {
  TileReader<C> tiles(w.layout, w.exact.get(), block);
  for (Index t = 0; t < w.layout.tiles(); ++t) {
    const TrellisTile tile = tiles[t];
    for (int p = 0; p < kParts; ++p) visit(t, p, tile + p * simd::kByteLanes);
  }
}

template <class C>
[[gnu::noinline]] void checkBytes(Index rows, Index n) {
  const ExactCodes<C> w(rows, n);
  for (Index block = 0; block < w.layout.blocks(); ++block) {
    forTiles(w, block, [&](Index t, int p, const TrellisTile& tile) {
      Tile bytes;
      TileCode<C>::template bytes<0, 0>(tile, bytes);
      for (Index i = 0; i < 8; ++i) {
        for (Index lane = 0; lane < simd::kByteLanes; ++lane) {
          const Index row = p * simd::kWordLanes + lane / 4, col = 32 * t + 4 * i + lane % 4;
          if (row >= w.layout.rowsOf(block) || col >= w.layout.codes()) continue;
          ASSERT_EQ(bytes[i][lane] - 128, w.levelAt(block, row, col))
              << C::name() << ' ' << rows << " x " << n << ": " << block << ' ' << row << ' ' << col;
        }
      }
    });
  }
}

/// Rates of every kind with 2^L states. 129 rows: a band of nine blocks, whose last tiles stand near the end of the
/// array.
template <int L, int... rate8>
void checkRates(std::integer_sequence<int, rate8...>) {
  (checkBytes<Trellis<rate8, 8, L>>(129, 65), ...);
}

TEST(TrellisTileTest, BytesOfEveryNumberOfStates) {
  constexpr std::integer_sequence<int, 8, 9, 13, 16, 17, 24, 27, 32, 41, 47, 48> kRates;
  checkRates<12>(kRates);
  checkRates<14>(kRates);
  checkRates<16>(kRates);
}

TEST(TrellisTileTest, BytesOfEveryRate) {
  const ExactCodes<TrellisMixed> w(17, 32 * 250);
  std::set<int> rates;
  for (Index tile = 0; tile < w.layout.tiles(); ++tile) rates.insert(w.layout.rate8(tile));
  EXPECT_EQ(static_cast<int>(rates.size()), kTrellisRates);
  checkBytes<TrellisMixed>(17, 32 * 250);
}

template <class C>
class TrellisTileOf : public ::testing::Test {};
using Codebooks = ::testing::Types<Trellis<1>, Trellis<2>, Trellis<27, 8>, Trellis<6>, Trellis<9, 8, 16>, TrellisMixed>;
TYPED_TEST_SUITE(TrellisTileOf, Codebooks);

TYPED_TEST(TrellisTileOf, BytesAtAllEdges) {
  for (const Index rows : {1, 15, 16, 17, 33, 128, 257}) {
    for (const Index n : {1, 4, 31, 32, 33, 128, 172, 32 * 43}) {
      if (n > 200 && rows > 17) continue;
      checkBytes<TypeParam>(rows, n);
    }
  }
}

TYPED_TEST(TrellisTileOf, LevelsAndColumns) {
  using C = TypeParam;
  for (const Index rows : {3, 16, 129}) {
    for (const Index n : {5, 96, 417}) {
      const ExactCodes<C> w(rows, n);
      for (Index block = 0; block < w.layout.blocks(); ++block) {
        forTiles(w, block, [&](Index t, int p, const TrellisTile& tile) {
          int seen = 0;
          const auto check = [&](Index col, simd::Floats level) {
            ++seen;
            for (Index lane = 0; lane < simd::kWordLanes; ++lane) {
              const Index row = p * simd::kWordLanes + lane;
              if (row >= w.layout.rowsOf(block) || 32 * t + col >= w.layout.codes()) continue;
              ASSERT_EQ(level[lane] * 32, w.levelAt(block, row, 32 * t + col))
                  << C::name() << ' ' << rows << " x " << n << ": " << block << ' ' << row << ' ' << 32 * t + col;
            }
          };
          TileCode<C>::levels(tile, [&](int col, simd::Floats level) { check(col, level); });
          EXPECT_EQ(seen, 32);
          for (Index i = 0; i < 8; ++i) {
            TileCode<C>::template columns<0>(tile, i, [&](int k, simd::Floats level) { check(4 * i + k, level); });
          }
          EXPECT_EQ(seen, 64);
        });
      }
    }
  }
}

/// Tiles copied by hand, one after the other in the same copy: nothing is left of the one before.
TEST(TrellisTileTest, CopiesOfTiles) {
  const ExactCodes<TrellisMixed> w(17, 172);
  TileCopy<TrellisMixed> copy;
  for (Index block = 0; block < 2; ++block) {
    for (Index t = 0; t < w.layout.tiles(); ++t) {
      const TrellisTile tile = copy.fill(w.layout, w.exact.get(), block, t);
      EXPECT_EQ(tile.lane, 0);
      EXPECT_EQ(tile.decoder, &w.layout.decoder(t));
      const TrellisTile from = w.layout.tile(w.exact.get(), block, t);
      const Index size = w.layout.tileBytes(t);
      EXPECT_TRUE(std::equal(from.pieces, from.pieces + size, tile.pieces));
      EXPECT_TRUE(std::equal(from.next, from.next + size, tile.next));
      EXPECT_TRUE(
          std::all_of(tile.pieces + size, tile.pieces + size + 64, [](std::uint8_t byte) { return byte == 0; }));
    }
  }
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::trellis_tile_test
