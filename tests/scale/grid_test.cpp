// SPDX-License-Identifier: Apache-2.0
#include <gosset/scale/grid.hpp>

#include <gosset/codebook.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>

#include "testing.hpp"

namespace gosset {
namespace {

TEST(Grid, GroupsCoverARowWithoutOverlap) {
  for (const Index cols : testing::kOddSizes) {
    const Grid<Grouped<Binary, 8>> grid(3, cols, PublishedRule{});
    EXPECT_EQ(grid.groups(), (cols + 7) / 8);
    EXPECT_EQ(grid.cols(), cols);
    Index covered = 0;
    for (Index g = 0; g < grid.groups(); ++g) {
      EXPECT_EQ(grid.begin(g), covered);
      for (Index col = grid.begin(g); col < grid.end(g); ++col) EXPECT_EQ(grid.groupOf(col), g);
      covered = grid.end(g);
    }
    EXPECT_EQ(covered, cols);
  }
}

TEST(Grid, ScalesAreThoseOfEachGroup) {
  RowMatrixXf w(2, 5);
  w << 1, -2, 3, 4, -8,  //
      0.5f, 0, 16, 0, 0;
  Grid<Grouped<Symmetric<2>, 2>> grouped(2, 5, PublishedRule{});
  grouped.fitAll(w);
  const float expected[2][3] = {{2, 4, 8}, {0.5f, 16, 0}};
  for (Index row = 0; row < 2; ++row) {
    for (Index g = 0; g < 3; ++g) EXPECT_EQ(grouped.affine(row, g).scale, expected[row][g]) << row << ' ' << g;
  }
  EXPECT_EQ(grouped.affines().size(), 6u);

  Grid<PerChannel<Symmetric<2>>> channels(2, 5, PublishedRule{});
  channels.fitAll(w);
  EXPECT_EQ(channels.affine(0, 0).scale, 8);
  EXPECT_EQ(channels.affine(1, 0).scale, 16);

  Grid<PerTensor<Symmetric<2>>> tensor(2, 5, PublishedRule{});
  tensor.fitAll(w);
  EXPECT_EQ(tensor.affine(0, 0).scale, 16);
  EXPECT_EQ(tensor.affine(1, 0).scale, 16);
  EXPECT_EQ(tensor.affines().size(), 1u);
}

TEST(Grid, OneGroupCanBeFittedAgain) {
  RowMatrixXf w = RowMatrixXf::Ones(3, 6);
  Grid<Grouped<Symmetric<2>, 3>> grid(3, 6, PublishedRule{});
  grid.fitAll(w);
  grid.fitGroup(1, w.middleCols(3, 3) * 4);
  for (Index row = 0; row < 3; ++row) {
    EXPECT_EQ(grid.affine(row, 0).scale, 1);
    EXPECT_EQ(grid.affine(row, 1).scale, 4);
  }
}

TEST(Grid, RowsAreEncodedGroupByGroup) {
  RowMatrixXf w(1, 5);
  w << 1, -2, 3, 4, -8;
  Grid<Grouped<Symmetric<2>, 2>> grid(1, 5, PublishedRule{});
  grid.fitAll(w);
  std::uint8_t codes[5];
  grid.encodeRow(0, w.data(), codes);
  EXPECT_THAT(codes, ::testing::ElementsAre(1, 0, 2, 2, 0));  // 1 / 2 is a tie, to the level 0
}

}  // namespace
}  // namespace gosset
