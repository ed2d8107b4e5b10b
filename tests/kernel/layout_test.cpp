// SPDX-License-Identifier: Apache-2.0
#include <gosset/kernel/layout.hpp>

#include <gosset/codebook.hpp>

#include "testing.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

namespace gosset::GOSSET_ABI::detail::layout_test {
namespace {

TEST(Layout, PlanesAreTheBitsOfTheWidth) {
  const auto planes = []<class C>(C) {
    std::vector<int> bits;
    int shift = 0;
    for (const Plane& plane : TileLayout<C>::kPlane) {
      EXPECT_EQ(plane.shift, shift);
      shift += plane.bits;
      bits.push_back(plane.bits);
    }
    return bits;
  };
  EXPECT_EQ(planes(Asymmetric<1>{}), (std::vector<int>{1}));
  EXPECT_EQ(planes(Asymmetric<3>{}), (std::vector<int>{2, 1}));
  EXPECT_EQ(planes(Asymmetric<7>{}), (std::vector<int>{4, 2, 1}));
  EXPECT_EQ(planes(Asymmetric<8>{}), (std::vector<int>{8}));
  EXPECT_EQ(planes(E8P{}), (std::vector<int>{8, 8}));
  EXPECT_EQ(planes(E8PRvq3{}), (std::vector<int>{8, 8, 8}));
}

TEST(Layout, PlacesAreAsDrawn) {
  // The figure of a bundle of 2 bits: byte 2, bits 5 and 4 hold column 10.
  std::uint8_t tile[TileLayout<Asymmetric<2>>::kTileBytes] = {};
  TileLayout<Asymmetric<2>>::putCode(3, 5, 10, tile);
  for (Index i = 0; i < TileLayout<Asymmetric<2>>::kTileBytes; ++i) EXPECT_EQ(tile[i], i == 4 * 5 + 2 ? 0x30 : 0) << i;

  // 3 bits: the high bit of column 9 stands in the third bundle, byte 1, bit 2; column 17 begins the second.
  std::uint8_t three[TileLayout<Asymmetric<3>>::kTileBytes] = {};
  TileLayout<Asymmetric<3>>::putCode(4, 0, 9, three);
  EXPECT_EQ(three[2 * 64 + 1], 0x04);
  TileLayout<Asymmetric<3>>::putCode(1, 15, 17, three);
  EXPECT_EQ(three[64 + 4 * 15 + 1], 0x01);

  // E8P: low bytes, then high bytes, byte k of a lane for code k.
  std::uint8_t e8p[TileLayout<E8P>::kTileBytes] = {};
  TileLayout<E8P>::putCode(0xabcd, 7, 3, e8p);
  EXPECT_EQ(e8p[4 * 7 + 3], 0xcd);
  EXPECT_EQ(e8p[64 + 4 * 7 + 3], 0xab);
}

TEST(Layout, BytesOfARow) {
  EXPECT_EQ((TileLayout<Asymmetric<4>>(1, 64).rowBytes()), 32);
  EXPECT_EQ((TileLayout<Asymmetric<4>>(1, 65).rowBytes()), 33);
  EXPECT_EQ((TileLayout<Asymmetric<4>>(1, 71).rowBytes()), 36) << "4 bytes where 7 codes would fit 3.5";
  EXPECT_EQ((TileLayout<Asymmetric<3>>(1, 40).rowBytes()), 4 * 2 + 4 + 4 + 4);
  EXPECT_EQ((TileLayout<E8P>(1, 53).rowBytes()), 106);
  EXPECT_EQ((TileLayout<Asymmetric<8>>(5, 7).bytes()), 35);
}

template <class C>
class LayoutTest : public ::testing::Test {};
using Codebooks = ::testing::Types<Binary, Asymmetric<2>, Asymmetric<3>, Asymmetric<4>, Symmetric<5>, Asymmetric<6>,
                                   Asymmetric<7>, Symmetric<8>, E81B, E8P, E8PRvq3, E8PRvq4>;
TYPED_TEST_SUITE(LayoutTest, Codebooks);

TYPED_TEST(LayoutTest, KeepsEveryCodeOfEveryShapeAndNothingElse) {
  using C = TypeParam;
  constexpr std::uint64_t kMask = (std::uint64_t{1} << C::kBits) - 1;
  for (const Index rows : {1, 7, 15, 16, 17, 33}) {
    for (const Index count : {1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 65, 172}) {
      const TileLayout<C> layout(rows, count);
      std::vector<typename C::Code> codes(static_cast<std::size_t>(rows * count)), back(codes.size());
      for (std::size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<typename C::Code>(randomBits(9, i) >> 20 & kMask);
      }
      const auto size = static_cast<std::size_t>(layout.bytes());
      std::vector<std::uint8_t> bytes(size + 1, 0xee);
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(codes.data() + block * kBlockRows * count, count, block, bytes.data());
      }
      EXPECT_EQ(bytes[size], 0xee);
      for (Index block = 0; block < layout.blocks(); ++block) {
        for (Index tile = 0; tile < layout.tiles(); ++tile) {
          std::uint8_t whole[TileLayout<C>::kTileBytes];
          std::fill(std::begin(whole), std::end(whole), std::uint8_t{0xee});
          layout.copyTile(bytes.data(), block, tile, whole);
          for (Index at = 0; at < kBlockRows * layout.kTileCodes; ++at) {
            const Index row = at / layout.kTileCodes, i = at % layout.kTileCodes;
            const bool exists = row < layout.rowsOf(block) && i < layout.codesOf(tile);
            const Index code = (block * kBlockRows + row) * count + tile * layout.kTileCodes + i;
            ASSERT_EQ(layout.getCode(whole, row, i), exists ? codes[static_cast<std::size_t>(code)] : 0)
                << rows << " x " << count;
          }
        }
      }
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.unpackBlock(bytes.data(), block, back.data() + block * kBlockRows * count, count);
      }
      ASSERT_EQ(back, codes) << rows << " x " << count;
      EXPECT_LE(layout.rowBytes(), ceilDiv(count * C::kBits, 8) + 3 * TileLayout<C>::kPlanes);
      // Every byte is some code's: all ones set every bit that belongs to one, and at least one in every byte.
      for (auto& code : codes) code = static_cast<typename C::Code>(kMask);
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(codes.data() + block * kBlockRows * count, count, block, bytes.data());
      }
      for (std::size_t i = 0; i < size; ++i) ASSERT_NE(bytes[i], 0) << rows << " x " << count << " byte " << i;
    }
  }
}

TYPED_TEST(LayoutTest, BitsThatBelongToNoCodeAreTold) {
  using C = TypeParam;
  for (const Index rows : {1, 18}) {
    for (const Index count : {0, 1, 3, 5, 8, 10, 31, 33, 64}) {
      const TileLayout<C> layout(rows, count);
      std::vector<typename C::Code> codes(static_cast<std::size_t>(rows * count)), back(codes.size());
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(layout.bytes()));
      const auto unpack = [&] {
        for (Index block = 0; block < layout.blocks(); ++block) {
          layout.unpackBlock(bytes.data(), block, back.data() + block * kBlockRows * count, count);
        }
      };
      EXPECT_TRUE(layout.isPaddingZero(bytes.data()));
      std::size_t of_codes = 0;
      for (std::uint8_t& byte : bytes) {
        for (int bit = 0; bit < 8; ++bit) {
          byte = static_cast<std::uint8_t>(1 << bit);
          unpack();
          const bool of_code = back != codes;
          of_codes += of_code ? 1 : 0;
          ASSERT_EQ(layout.isPaddingZero(bytes.data()), of_code) << rows << " x " << count;
        }
        byte = 0;
      }
      EXPECT_EQ(of_codes, codes.size() * C::kBits);
      std::fill(codes.begin(), codes.end(), static_cast<typename C::Code>((std::uint64_t{1} << C::kBits) - 1));
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(codes.data() + block * kBlockRows * count, count, block, bytes.data());
      }
      EXPECT_TRUE(layout.isPaddingZero(bytes.data()));
    }
  }
}

TEST(Layout, ScalesStandByBlockAndGroup) {
  const TileLayout<Asymmetric<4>> layout(35, 96);
  EXPECT_EQ(layout.scaleAt(0, 2, 3), 32);
  EXPECT_EQ(layout.scaleAt(1, 0, 3), 48);
  EXPECT_EQ(layout.scaleAt(2, 1, 3), 96 + 3) << "the last block has 3 rows";
}

}  // namespace
}  // namespace gosset::GOSSET_ABI::detail::layout_test
