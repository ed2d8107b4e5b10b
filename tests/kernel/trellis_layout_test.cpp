// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/trellis_layout.hpp>

#include "kernel/random_codes.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace gosset::GOSSET_ABI::detail::trellis_layout_test {
namespace {

using Bytes = std::vector<std::uint8_t>;
using States = std::vector<std::uint16_t>;

constexpr Index kRows[] = {1, 7, 15, 16, 17, 127, 128, 129, 240, 255, 256, 257};
constexpr Index kCodes[] = {1, 3, 4, 8, 31, 32, 33, 64, 65, 172};

/// bits[i / 8] >> i % 8: the states of numbers in a row, from a string of bits.
std::vector<std::uint16_t> statesOf(std::uint64_t bits, const std::vector<int>& firsts) {
  States states;
  for (const int first : firsts) states.push_back(static_cast<std::uint16_t>(bits >> first & 0x3fff));
  return states;
}

TEST(TrellisLayout, APieceByHand) {
  const TileLayout<Trellis<2>> two(2, 4);
  EXPECT_EQ(two.bytes(), 16);
  const States states = statesOf(0xa5c3f10, {0, 2, 4, 6, 8, 10, 12, 14});
  Bytes bytes(16, 0xee);
  two.packBlock(states.data(), 4, 0, bytes.data());
  EXPECT_EQ(bytes, (Bytes{0x10, 0x3f, 0x5c, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));

  const TileLayout<Trellis<3, 2>> less(1, 4);
  EXPECT_EQ(less.bytes(), 12);
  const States other = statesOf(0x2b71d, {0, 1, 3, 4});
  bytes.assign(12, 0xee);
  less.packBlock(other.data(), 4, 0, bytes.data());
  EXPECT_EQ(bytes, (Bytes{0x1d, 0xb7, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  for (Index col = 0; col < 4; ++col)
    EXPECT_EQ(less.state(bytes.data(), 0, 0, col), other[static_cast<std::size_t>(col)]);
}

/// The last state of a piece of 16 rows goes on in the next block's, that of the last block in the first's.
TEST(TrellisLayout, StatesGoOnInTheNextBlock) {
  const TileLayout<Trellis<2>> layout(32, 8);
  ASSERT_EQ(layout.bytes(), 64);
  Bytes bytes(64);
  bytes[15] = 0x80;  // of block 0, columns 0 to 3: the last bit
  bytes[32] = 0x03;  // of block 1, the same columns: the first two
  EXPECT_EQ(layout.state(bytes.data(), 0, 15, 3), 0b1110);
  EXPECT_EQ(layout.state(bytes.data(), 0, 15, 2), 0b111000);
  EXPECT_EQ(layout.state(bytes.data(), 1, 0, 0), 0b11);
  EXPECT_EQ(layout.state(bytes.data(), 1, 15, 3), 0);
  EXPECT_EQ(layout.state(bytes.data(), 0, 15, 7), 0);
  bytes[1 * 16] = 0x01;  // of block 0, columns 4 to 7
  EXPECT_EQ(layout.state(bytes.data(), 1, 15, 7), 0b100);
  EXPECT_EQ(layout.state(bytes.data(), 0, 0, 4), 1);
  EXPECT_EQ(layout.toNext(0), 32);
  EXPECT_EQ(layout.toNext(1), -32);
  const TileLayout<Trellis<2>> bands(16 * 17, 8);
  EXPECT_EQ(bands.toNext(6), 32);
  EXPECT_EQ(bands.toNext(7), -7 * 32);
  EXPECT_EQ(bands.toNext(8), 32);
  EXPECT_EQ(bands.toNext(16), -8 * 32);
  EXPECT_EQ((TileLayout<Trellis<2>>(3, 8).toNext(0)), 0);
}

template <class C>
class TrellisLayoutTest : public ::testing::Test {};
using Codebooks = ::testing::Types<Trellis<1>, Trellis<3, 2, 16>, Trellis<27, 8>, Trellis<6, 1, 12>, TrellisMixed>;
TYPED_TEST_SUITE(TrellisLayoutTest, Codebooks);

TYPED_TEST(TrellisLayoutTest, BytesByArithmetic) {
  for (const Index rows : kRows) {
    for (const Index n : kCodes) {
      const RandomCodes<TypeParam, float> w(rows, n, 1);
      Index eighths = 0;  // of a bit, for a row: four columns at a time
      for (Index tile = 0; tile < w.layout.tiles(); ++tile) {
        EXPECT_EQ(w.layout.at(0, tile), 16 * eighths / 64);
        EXPECT_EQ(w.layout.at(w.layout.blocks() - 1, tile),
                  (w.layout.blocks() - 1) * w.layout.at(1, 0) + w.layout.at(0, tile));
        const Index columns = ceilDiv(std::min<Index>(32, n - 32 * tile), 4) * 4;
        EXPECT_EQ(w.layout.pieces(tile), columns / 4);
        EXPECT_EQ(w.layout.tileBytes(tile), 16 * columns * w.layout.rate8(tile) / 64);
        eighths += columns * w.layout.rate8(tile);
      }
      EXPECT_EQ(w.layout.bytes(), ceilDiv(rows, 16) * 16 * eighths / 64) << rows << " x " << n;
    }
  }
}

/// The bits of a chain: the pieces of a band's blocks one after the other.
template <class C>
std::vector<bool> chainOf(const RandomCodes<C, float>& w, Index band, Index col) {
  std::vector<bool> bits;
  const Index tile = col / 32;
  const TrellisBands bands(w.layout.blocks());
  for (Index block = bands.begin(band); block < bands.end(band); ++block) {
    const std::uint8_t* piece = w.bytes.data() + w.layout.at(block, tile) + col % 32 / 4 * w.layout.rate8(tile);
    for (int i = 0; i < 8 * w.layout.rate8(tile); ++i) bits.push_back((piece[i / 8] >> (i % 8) & 1) != 0);
  }
  return bits;
}

/// Any bytes: states are windows of the ring, so they overlap; packed and unpacked they stay what they are.
TYPED_TEST(TrellisLayoutTest, AnyBytesAreRings) {
  using C = TypeParam;
  for (const Index rows : kRows) {
    for (const Index n : {3, 33, 64}) {
      const RandomCodes<C, float> w(rows, n, 1);
      const Index codes = w.layout.codes();
      States states(static_cast<std::size_t>(rows * codes), 0xffff);
      for (Index block = 0; block < w.layout.blocks(); ++block) {
        w.layout.unpackBlock(w.bytes.data(), block, states.data() + 16 * block * codes, codes);
      }
      const TrellisBands bands(w.layout.blocks());
      for (Index col = 0; col < codes; ++col) {
        const TrellisTable& table = C::table(w.layout.rate8(col / 32));
        std::vector<bool> bits;
        for (Index row = 0; row < rows; ++row) {
          const Index band = bands.of(row / 16), first_row = 16 * bands.begin(band);
          if (row == first_row) bits = chainOf(w, band, col);
          const auto first = static_cast<std::size_t>(table.firstBit(4 * (row - first_row) + col % 4));
          int expected = 0;
          for (std::size_t i = 0; i < C::kStateBits; ++i) expected |= int{bits[(first + i) % bits.size()]} << i;
          ASSERT_EQ(states[static_cast<std::size_t>(row * codes + col)], expected)
              << rows << " x " << n << ": " << row << ' ' << col;
        }
      }
      Bytes packed(w.bytes.size(), 0xee);
      States again(states.size(), 0xffff);
      for (Index block = 0; block < w.layout.blocks(); ++block) {
        w.layout.packBlock(states.data() + 16 * block * codes, codes, block, packed.data());
      }
      for (Index block = 0; block < w.layout.blocks(); ++block) {
        w.layout.unpackBlock(packed.data(), block, again.data() + 16 * block * codes, codes);
      }
      ASSERT_EQ(again, states) << rows << " x " << n;
      if (rows % 16 == 0 && n % 4 == 0) {
        EXPECT_TRUE(std::equal(packed.begin(), packed.end(), w.bytes.begin())) << "nothing is left over";
      }
    }
  }
}

/// Behind the states of the last row: each bit there is missed, no other is.
TYPED_TEST(TrellisLayoutTest, BitsOfNoState) {
  using C = TypeParam;
  for (const Index rows : {1, 15, 16, 19}) {
    const RandomCodes<C, float> w(rows, 33, 1);
    const Index codes = w.layout.codes(), last = w.layout.blocks() - 1;
    States states(static_cast<std::size_t>(rows * codes));
    Bytes bytes(w.bytes.size());
    for (Index block = 0; block <= last; ++block) {
      w.layout.unpackBlock(w.bytes.data(), block, states.data() + 16 * block * codes, codes);
      w.layout.packBlock(states.data() + 16 * block * codes, codes, block, bytes.data());
    }
    EXPECT_TRUE(w.layout.isPaddingZero(bytes.data())) << rows;
    for (Index bit = 0; bit < 8 * w.layout.bytes(); ++bit) {
      auto& byte = bytes[static_cast<std::size_t>(bit / 8)];
      const auto mask = static_cast<std::uint8_t>(1 << bit % 8);
      if ((byte & mask) != 0) continue;
      byte |= mask;
      bool seen = false;  // by a state
      for (Index row = 0; row < rows && !seen; ++row) {
        for (Index col = 0; col < codes && !seen; ++col) {
          const int was = states[static_cast<std::size_t>(row * codes + col)];
          seen = w.layout.state(bytes.data(), row / 16, row % 16, col) != was;
        }
      }
      ASSERT_EQ(w.layout.isPaddingZero(bytes.data()), seen) << rows << ": bit " << bit;
      byte ^= mask;
    }
  }
}

TYPED_TEST(TrellisLayoutTest, PartsSeeTheSameStates) {
  for (const Index rows : {17, 129, 257}) {
    const RandomCodes<TypeParam, float> w(rows, 65, 1);
    for (Index first = 0; first < w.layout.blocks(); ++first) {
      const Index count = std::min<Index>(rows - 16 * first, 16 * (1 + first % 3));
      const auto part = w.layout.part(first, count);
      const std::uint8_t* codes = w.bytes.data() + w.layout.at(first, 0);
      EXPECT_EQ(part.rows(), count);
      for (Index row = 0; row < count; ++row) {
        for (Index col = 0; col < w.layout.codes(); col += 5) {
          ASSERT_EQ(part.state(codes, row / 16, row % 16, col),
                    w.layout.state(w.bytes.data(), first + row / 16, row % 16, col))
              << rows << ": " << first << ' ' << row << ' ' << col;
        }
      }
      for (Index block = 0; block < part.blocks(); ++block) {
        EXPECT_EQ(part.wholeTiles(block), w.layout.wholeTiles(first + block));
        EXPECT_EQ(part.toNext(block), w.layout.toNext(first + block));
      }
    }
  }
}

/// Whole tiles have all columns, and kSlack bytes behind them and behind what goes on; the first that is not lacks one
/// of these.
TYPED_TEST(TrellisLayoutTest, WholeTilesByArithmetic) {
  for (const Index rows : kRows) {
    for (const Index n : {1, 32, 65, 172, 417}) {
      const RandomCodes<TypeParam, float> w(rows, n, 1);
      const auto& layout = w.layout;
      const auto fits = [&](Index block, Index tile) {
        const TrellisTile at = layout.tile(w.bytes.data(), block, tile);
        const Index behind = std::max(at.pieces, at.next) - w.bytes.data() + layout.tileBytes(tile) + layout.kSlack;
        return layout.codesOf(tile) == 32 && behind <= layout.bytes();
      };
      for (Index block = 0; block < layout.blocks(); ++block) {
        const Index whole = layout.wholeTiles(block);
        for (Index tile = 0; tile < whole; ++tile) EXPECT_TRUE(fits(block, tile)) << rows << " x " << n << ' ' << tile;
        if (whole < layout.tiles()) {
          EXPECT_FALSE(fits(block, whole)) << rows << " x " << n;
        }
      }
    }
  }
}

TEST(TrellisLayout, MixedRatesAreDifferencesOfSums) {
  const std::vector<std::uint32_t> sums = {8, 56, 69};
  const TileLayout<TrellisMixed> layout(16, 96, sums.data());
  EXPECT_EQ(layout.rate8(0), 8);
  EXPECT_EQ(layout.rate8(1), 48);
  EXPECT_EQ(layout.rate8(2), 13);
  EXPECT_EQ(layout.at(0, 1), 64);
  EXPECT_EQ(layout.at(0, 2), 8 * 56);
  EXPECT_EQ(layout.bytes(), 8 * 69);
  EXPECT_EQ(layout.decoder(1).rate8, 48);
  EXPECT_EQ((TileLayout<TrellisMixed>(16, 0, nullptr).bytes()), 0);
  EXPECT_EQ((TileLayout<Trellis<2>>(0, 0).bytes()), 0);
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::trellis_layout_test
