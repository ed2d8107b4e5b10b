// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>

#include <gosset/codebook.hpp>

#include "testing.hpp"

namespace gosset::granularity_test {
namespace {

static_assert(ScaledFormat<PerTensor<Binary>> && ScaledFormat<PerChannel<Binary, float>>);
static_assert(ScaledFormat<Grouped<NormalFloat4, 64, BFloat16>>);
static_assert(!ScaledFormat<Binary> && !ScaledFormat<float> && !ScaledFormat<int>);

TEST(Granularity, NamesAreTheTypes) {
  EXPECT_EQ(PerTensor<Binary>::name(), "PerTensor<Binary>");
  EXPECT_EQ((PerTensor<Binary, float>::name()), "PerTensor<Binary, float>");
  EXPECT_EQ(PerChannel<Symmetric<8>>::name(), "PerChannel<Symmetric<8>>");
  EXPECT_EQ((PerChannel<Symmetric<8>, BFloat16>::name()), "PerChannel<Symmetric<8>, BFloat16>");
  EXPECT_EQ((Grouped<Asymmetric<4>, 64>::name()), "Grouped<Asymmetric<4>, 64>");
  EXPECT_EQ((Grouped<LloydMax<2>, 7, float>::name()), "Grouped<LloydMax<2>, 7, float>");
}

TEST(Granularity, Reach) {
  EXPECT_EQ(PerTensor<Binary>::groupWidth(417), 417);
  EXPECT_EQ(PerChannel<Binary>::groupWidth(417), 417);
  EXPECT_EQ((Grouped<Binary, 64>::groupWidth(417)), 64);
  EXPECT_FALSE(PerTensor<Binary>::kOneRowOnly);
  EXPECT_TRUE(PerChannel<Binary>::kOneRowOnly && (Grouped<Binary, 64>::kOneRowOnly));
}

}  // namespace
}  // namespace gosset::granularity_test
