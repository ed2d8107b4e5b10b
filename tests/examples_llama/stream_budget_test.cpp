// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/stream_budget.hpp"

#include "streamed.hpp"

namespace llama::testing::stream_budget_test {
namespace {

using gosset::testing::expectThrows;

TEST(RelativeChange, IsTheMeanOverTokens) {
  Eigen::MatrixXf x(2, 2), y(2, 2);
  x << 3, 1, 4, 0;
  y << 3, 1, 4, 2;
  EXPECT_EQ(relativeChange({x}, {x}), 0);
  EXPECT_EQ(relativeChange({x}, {y}), 2);                                         // (0 / 25 + 4 / 1) / 2
  EXPECT_EQ(relativeChange({x, y.leftCols(1)}, {y, 2 * y.leftCols(1)}), 5. / 3);  // and 25 / 25
  EXPECT_EQ(relativeChange({Eigen::MatrixXf::Zero(2, 1)}, {Eigen::MatrixXf::Zero(2, 1)}), 0);
}

class BudgetSearchTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BudgetSearchTest, KeepsToTheBudgetAndMoreBitsLoseLess) {
  const TemporaryFolder folder;
  saveExperts(folder / "experts");
  saveHuggingFace<float>(folder / "own", randomModel(streamedConfig(), true));
  saveHuggingFace<float>(folder / "tied", randomModel(streamedConfig(), false));
  LayerSource source(folder / GetParam());
  const std::vector<Sequence> text = someText(source.config());
  BudgetSearch search({&findFormat("asym2-g32"), &findFormat("gptq2-g32"), &findFormat("gptq4-g32")}, 1);
  std::size_t measured = 0;
  search.measure(source, text, folder.path(), 32 * 32 * 8, 16, [&](const std::string&) { ++measured; });
  const std::vector<std::string> names = linearNames(source.config(), !source.tied());
  EXPECT_EQ(measured, names.size());

  const auto count = [&](double bits) {
    const Recipe recipe = parseRecipe(recipeText(search.recipe(bits, "fp16")), "test");
    const ChosenFormats chosen = chooseFormats(recipe, source.config(), source.tied());
    EXPECT_EQ(chosen.at(embeddingName())->name, "fp16");
    const Model model = readHuggingFace(folder / GetParam());
    double bytes = 0, weights = 0;
    Calibration calibration = calibrate(Engine(floatModel(model)), text, [] {});
    calibrateStarvedExperts(Engine(floatModel(model)), calibration);
    std::size_t four = 0, index = 0;
    forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& w) {
      const auto matrix = packLayer(info, w, *chosen.at(info.name), 1, index++, calibration);
      bytes += static_cast<double>(matrix.bytes());
      weights += static_cast<double>(w.size());
      four += chosen.at(info.name)->name == "gptq4-g32" ? 1 : 0;
    });
    EXPECT_LE(8 * bytes, bits * weights);
    return four;
  };
  const std::size_t few = count(4), more = count(5);
  EXPECT_LT(few, more);
  EXPECT_EQ(count(30), names.size());
  expectThrows([&] { search.recipe(1, "fp16"); }, "budget");
  for (const auto& entry : fs::directory_iterator(folder.path())) EXPECT_TRUE(entry.is_directory()) << entry.path();
}

INSTANTIATE_TEST_SUITE_P(Models, BudgetSearchTest, ::testing::Values("experts", "own", "tied"));

TEST(BudgetSearch, NeedsFormats) {
  expectThrows([] { BudgetSearch({}, 1); }, "--budget needs --formats to choose from");
}

}  // namespace
}  // namespace llama::testing::stream_budget_test
