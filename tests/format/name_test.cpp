// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/name.hpp>

#include "testing.hpp"

namespace gosset::name_test {
namespace {

TEST(FormatName, OneSpellingStandsForAll) {
  EXPECT_EQ(canonicalFormatName("Grouped<Asymmetric<4>, 32>"), "Grouped<Asymmetric<4>,32>");
  EXPECT_EQ(canonicalFormatName("PerTensor<E8P>"), "E8P");
  EXPECT_EQ(canonicalFormatName("Incoherent<PerTensor<Symmetric<8>>>"), "Incoherent<Symmetric<8>>");
  EXPECT_EQ(canonicalFormatName("LowRank<PerTensor<E8P>, 2>"), "LowRank<E8P,2>");
  EXPECT_EQ(canonicalFormatName("PerTensor<E8P, float>"), "PerTensor<E8P,float>") << "its scale has other bytes";
  EXPECT_EQ(canonicalFormatName("PerTensor<Trellis<2, 16>>"), "Trellis<2,16>") << "the comma is the codebook's";
  EXPECT_EQ(canonicalFormatName("Pair<PerTensor<E8P, float>, Pair<PerTensor<E8P>, PerTensor<NF4>>>"),
            "Pair<PerTensor<E8P,float>,Pair<E8P,NF4>>");
  EXPECT_EQ(canonicalFormatName("PerTensor<"), "PerTensor<");
  EXPECT_EQ(canonicalFormatName(""), "");
}

TEST(FormatName, SameMeansTheSameBytes) {
  EXPECT_TRUE(sameFormat("E8P", "PerTensor<E8P>"));
  EXPECT_TRUE(sameFormat("Grouped<Asymmetric<4>,32>", "Grouped< Asymmetric<4>, 32 >"));
  EXPECT_FALSE(sameFormat("E8P", "PerChannel<E8P>"));
  EXPECT_FALSE(sameFormat("PerTensor<E8P, float>", "E8P"));
}

}  // namespace
}  // namespace gosset::name_test
