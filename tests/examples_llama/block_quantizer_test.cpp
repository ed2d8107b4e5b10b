// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/block_quantizer.hpp"

#include "streamed.hpp"

#include <vector>

namespace llama::testing::block_quantizer_test {
namespace {

struct Moment {
  const char* packing;  ///< "" while the text runs
  double floats, hessians, packed;
};

/// Of matrices whose packed weights take 16 bits.
void expectMoments(const char* format, Index hessianBytes, const std::vector<Moment>& expected) {
  const Config config = streamedConfig();
  const ChosenFormats formats = chooseFormats(uniformRecipe(format, "int8", 1), config, false);
  const std::vector<Sequence> text;
  const BlockQuantizer blocks(formats, text, {1, hessianBytes, nullptr});
  auto next = expected.begin();
  blocks.eachMoment(
      oneBlock(config, 1), 1, [](const LinearInfo&) { return 16.; },
      [&](const BlockMoment& now) {
        ASSERT_NE(next, expected.end());
        const std::string name = now.packing == nullptr ? "" : now.packing->name;
        EXPECT_EQ(name.empty(), *next->packing == '\0') << name;
        EXPECT_NE(name.find(next->packing), std::string::npos) << name << ' ' << next->packing;
        EXPECT_EQ(now.floats, next->floats) << name;
        EXPECT_EQ(now.hessians, next->hessians) << name;
        EXPECT_EQ(now.packed, next->packed) << name;
        ++next;
      });
  EXPECT_EQ(next, expected.end());
}

// 32 wide, 40 inside, 16 of keys and values: 6912 weights; Hessians of 8192 bytes, and 12800 of down_proj.

TEST(BlockMoments, EverythingAtOnce) {
  expectMoments("gptq4", 1 << 20,
                {{"", 27648, 37376, 0},
                 {"q_proj", 27648, 37376, 0},
                 {"k_proj", 23552, 37376, 2048},
                 {"v_proj", 21504, 37376, 3072},
                 {"o_proj", 19456, 29184, 4096},
                 {"gate_proj", 15360, 20992, 6144},
                 {"up_proj", 10240, 20992, 8704},
                 {"down_proj", 5120, 12800, 11264}});
}

TEST(BlockMoments, FloatsStayForAsLongAsTheTextRuns) {
  expectMoments("gptq4", 16384,
                {{"", 27648, 16384, 0},
                 {"q_proj", 27648, 16384, 0},
                 {"k_proj", 27648, 16384, 2048},
                 {"v_proj", 27648, 16384, 3072},
                 {"o_proj", 27648, 8192, 4096},
                 {"", 27648, 8192, 6144},
                 {"gate_proj", 27648, 8192, 6144},
                 {"up_proj", 27648, 8192, 8704},
                 {"", 27648, 12800, 11264},
                 {"down_proj", 5120, 12800, 11264}});
}

TEST(BlockMoments, NoHessiansWhereNothingIsCalibrated) {
  expectMoments("int8", 1,
                {{"", 27648, 0, 0},
                 {"q_proj", 27648, 0, 0},
                 {"k_proj", 23552, 0, 2048},
                 {"v_proj", 21504, 0, 3072},
                 {"o_proj", 19456, 0, 4096},
                 {"gate_proj", 15360, 0, 6144},
                 {"up_proj", 10240, 0, 8704},
                 {"down_proj", 5120, 0, 11264}});
}

}  // namespace
}  // namespace llama::testing::block_quantizer_test
