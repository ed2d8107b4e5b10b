// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/trellis.hpp>

#include "testing.hpp"

#include <vector>

namespace gosset::trellis_test {
namespace {

using detail::TrellisBands;

TEST(Trellis, NamesAreInLowestTerms) {
  EXPECT_EQ(Trellis<2>::name(), "Trellis<2>");
  EXPECT_EQ((Trellis<4, 2>::name()), "Trellis<2>");
  EXPECT_EQ((Trellis<16, 8>::name()), "Trellis<2>");
  EXPECT_EQ((Trellis<3, 2>::name()), "Trellis<3, 2>");
  EXPECT_EQ((Trellis<6, 4>::name()), "Trellis<3, 2>");
  EXPECT_EQ((Trellis<27, 8>::name()), "Trellis<27, 8>");
  EXPECT_EQ((Trellis<2, 1, 16>::name()), "Trellis<2, 1, 16>");
  EXPECT_EQ((Trellis<10, 4, 12>::name()), "Trellis<5, 2, 12>");
  EXPECT_EQ(TrellisMixed::name(), "TrellisMixed");
}

TEST(Trellis, StaticFacts) {
  static_assert(TrellisCodebook<Trellis<1>> && TrellisCodebook<Trellis<6>> && TrellisCodebook<Trellis<9, 8, 12>>);
  static_assert(!ScalarCodebook<Trellis<2>> && !VectorCodebook<Trellis<2>> && Codebook<Trellis<2>>);
  static_assert(MixedRates<TrellisMixed> && !MixedRates<Trellis<2>>);
  static_assert(Trellis<1>::kRate8 == 8 && Trellis<6>::kRate8 == 48 && Trellis<27, 8>::kRate8 == 27);
  static_assert(TrellisMixed::kRate8 == 16 && TrellisMixed::kBits == 14);
  static_assert(Trellis<2, 1, 12>::kBits == 12 && Trellis<2>::kBits == 14 && Trellis<2, 1, 16>::kStateBits == 16);
  static_assert(kBlockColumns<Trellis<3>> == 4);
  static_assert(codesInRow<Trellis<2>>(1) == 4 && codesInRow<Trellis<2>>(4) == 4 && codesInRow<Trellis<2>>(417) == 420);
  static_assert(bitsOfCodes<Trellis<27, 8>>() == 3.375 && bitsOfCodes<Trellis<2>>() == 2);
  EXPECT_EQ(&(Trellis<3, 2>::table(12)), &TrellisMixed::table(12)) << "one table for all that have 2^14 states";
  EXPECT_EQ((Trellis<3, 2, 12>::table(12).stateBits()), 12);
}

/// Eight blocks a band, the last one up to 15.
TEST(TrellisBands, ByHand) {
  const auto sizes = [](Index blocks) {
    const TrellisBands bands(blocks);
    std::vector<Index> result;
    for (Index i = 0; i < bands.count(); ++i) result.push_back(bands.end(i) - bands.begin(i));
    return result;
  };
  using Sizes = std::vector<Index>;
  EXPECT_EQ(sizes(1), Sizes{1});
  EXPECT_EQ(sizes(7), Sizes{7});
  EXPECT_EQ(sizes(8), Sizes{8});
  EXPECT_EQ(sizes(9), Sizes{9});
  EXPECT_EQ(sizes(15), Sizes{15});
  EXPECT_EQ(sizes(16), (Sizes{8, 8}));
  EXPECT_EQ(sizes(17), (Sizes{8, 9}));
  EXPECT_EQ(sizes(24), (Sizes{8, 8, 8}));
  EXPECT_EQ(sizes(39), (Sizes{8, 8, 8, 15}));
}

TEST(TrellisBands, CoverAllBlocksInOrder) {
  for (Index blocks = 1; blocks <= 40; ++blocks) {
    const TrellisBands bands(blocks);
    Index next = 0;
    for (Index band = 0; band < bands.count(); ++band) {
      EXPECT_EQ(bands.begin(band), next) << blocks;
      for (Index block = next; block < bands.end(band); ++block) EXPECT_EQ(bands.of(block), band) << blocks;
      next = bands.end(band);
      EXPECT_LE(bands.end(band) - bands.begin(band), 15) << blocks;
      if (blocks >= 8) {
        EXPECT_GE(bands.end(band) - bands.begin(band), 8) << blocks;
      }
    }
    EXPECT_EQ(next, blocks);
  }
}

}  // namespace
}  // namespace gosset::trellis_test
