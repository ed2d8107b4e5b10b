// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/shared_experts.hpp"

#include "meeting.hpp"
#include "streamed.hpp"

namespace llama::testing::shared_experts_test {
namespace {

TEST(ExpertOwner, IsOneProcessForAllLayersOfAnExpert) {
  EXPECT_EQ(expertOwner("model.layers.3.mlp.experts.17.up_proj.weight", 5), 2);
  EXPECT_EQ(expertOwner("model.layers.4.mlp.experts.17.down_proj.weight", 5), 2);
  EXPECT_EQ(expertOwner("model.layers.3.mlp.shared_expert.up_proj.weight", 5), std::nullopt);
  EXPECT_EQ(expertOwner("model.layers.17.mlp.up_proj.weight", 5), std::nullopt);
}

/// What of a report does not depend on the clock.
std::string textOf(const BlockReport& report) {
  std::ostringstream text;
  for (const PackedLinear& one : report.linears) {
    text << one.name << ' ' << one.format << ' ' << one.bitsPerWeight << ' ' << one.sqnr << ' ' << one.weights << ' '
         << one.bytes << '\n';
  }
  for (const std::string& name : report.starved) text << name << '\n';
  text << report.passes;
  return text.str();
}

class SharedExperts : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedExperts, AnyNumberOfProcessesPacksAModelAlike) {
  const TemporaryFolder folder;
  saveExperts(folder / "experts");
  Streamed alone{folder / "experts", folder / "alone", GetParam()};
  for (const Index hessianBytes : {Index{1} << 32, Index{32 * 32 * 8 + 1}}) {
    alone.hessianBytes = hessianBytes;
    const std::vector<PartDone> whole = alone.share(Alone(), std::nullopt, true);
    for (const Index count : {2, 3, 11}) {
      Streamed shared = alone;
      shared.out = folder / std::to_string(count).c_str();
      fs::create_directories(shared.out / "work");
      writeBytes(shared.out / "work" / "experts-20.safetensors", "left by a run that was killed");
      Meeting meeting(count);
      const auto parts = meeting.each([&](const Peers& peers) { return shared.share(peers, std::nullopt, true); });
      EXPECT_EQ(partsOf(shared.out), partsOf(alone.out)) << count;
      ASSERT_EQ(parts[0].size(), whole.size());
      for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(textOf(parts[0][i].report), textOf(whole[i].report));
      for (const auto& entry : fs::directory_iterator(shared.out / "work")) {
        EXPECT_EQ(entry.path().extension(), ".json") << entry.path();
      }
      fs::remove_all(shared.out);
    }
    fs::remove_all(alone.out);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, SharedExperts, ::testing::Values("gptq3-g32", "awq3-g32", "F32"));

TEST(SharedExpertsTest, NoProcessGathersWhatOthersPack) {
  const TemporaryFolder folder;
  saveExperts(folder / "experts");
  LayerSource source(folder / "experts");
  const std::vector<Sequence> text = someText(source.config());
  const ChosenFormats formats = chooseFormats(uniformRecipe("gptq3-g32", "int8", 1), source.config(), false);
  const ActivationShape shape{32, source.config().dim, tokensOf(text)};
  const RowMatrixXf rows = source.embedding();
  embedInto(folder / "in", shape, text, source.config(),
            [&](Token token) -> Eigen::RowVectorXf { return rows.row(token); });
  Meeting meeting(3);
  const auto packed = meeting.each([&](const Peers& peers) {
    const BlockQuantizer blocks(formats, text, {1, Index{1} << 32, &peers, folder.path()});
    BlockReport report;
    const ActivationFile in(folder / "in", shape);
    PackedModel block = LayerSource(folder / "experts").block(0);
    return blocks.quantize(0, 0, std::move(block), &in, nullptr, report, [] {});
  });
  const auto has = [&](std::size_t rank, std::size_t expert) {
    return packed[rank].layers[0].experts[expert].w1.rows() > 0;
  };
  for (std::size_t expert = 0; expert < 8; ++expert) {
    EXPECT_TRUE(has(0, expert));
    EXPECT_EQ(has(1, expert), expert % 3 == 1);
    EXPECT_EQ(has(2, expert), expert % 3 == 2);
  }
  EXPECT_EQ(packed[1].layers[0].wq, packed[0].layers[0].wq);
}

}  // namespace
}  // namespace llama::testing::shared_experts_test
