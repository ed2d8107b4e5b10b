// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/stream_budget.hpp"

#include "meeting.hpp"
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

std::vector<const FormatEntry*> three() {
  return {&findFormat("asym2-g32"), &findFormat("gptq2-g32"), &findFormat("gptq4-g32")};
}

class BudgetSearchTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BudgetSearchTest, KeepsToTheBudgetAndMoreBitsLoseLess) {
  const TemporaryFolder folder;
  saveExperts(folder / "experts");
  saveHuggingFace<float>(folder / "own", randomModel(streamedConfig(), true));
  saveHuggingFace<float>(folder / "tied", randomModel(streamedConfig(), false));
  LayerSource source(folder / GetParam());
  const std::vector<Sequence> text = someText(source.config());
  BudgetSearch search(three(), 1);
  std::size_t measured = 0;
  const fs::path work = folder / "work";
  const auto key = search.key(folder / GetParam(), text, 16);
  search.measure(source, text, work, key, 32 * 32 * 8, 16, [&](const std::string&) { ++measured; });
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
  for (const auto& entry : fs::directory_iterator(work)) EXPECT_EQ(entry.path().extension(), ".json") << entry.path();

  fs::remove(work / "losses-0.json");  // the first block alone is measured again
  BudgetSearch mixed(three(), 1);
  mixed.measure(source, text, work, key, 32 * 32 * 8, 16, [](const std::string&) {});
  for (double bits = 3.5; bits < 5; bits += 0.125) {
    EXPECT_EQ(recipeText(mixed.recipe(bits, "fp16")), recipeText(search.recipe(bits, "fp16"))) << bits;
  }

  BudgetSearch again(three(), 1);
  fs::remove_all(folder / GetParam() / "model.safetensors");  // nothing is measured again
  again.measure(source, text, work, key, 32 * 32 * 8, 16, [&](const std::string&) { --measured; });
  EXPECT_EQ(measured, 0u);
  EXPECT_EQ(recipeText(again.recipe(4.5, "fp16")), recipeText(search.recipe(4.5, "fp16")));
}

INSTANTIATE_TEST_SUITE_P(Models, BudgetSearchTest, ::testing::Values("experts", "own", "tied"));

/// The bytes of all losses.
std::string lossesOf(const fs::path& work) {
  std::string all;
  for (int part = 0; fs::exists(work / ("losses-" + std::to_string(part) + ".json")); ++part) {
    all += readBytes(work / ("losses-" + std::to_string(part) + ".json"), 1 << 20);
  }
  return all;
}

TEST(BudgetSearch, KilledAgainAndAgainItComesToTheSameLosses) {
  const TemporaryFolder folder;
  saveHuggingFace<float>(folder / "model", randomModel(streamedConfig(), true));
  const std::vector<Sequence> text = someText(streamedConfig());
  const auto measureIn = [&](const fs::path& work) {
    LayerSource source(folder / "model");
    BudgetSearch search(three(), 1);
    search.measure(source, text, work, search.key(folder / "model", text, 16), 1 << 20, 16, [](const std::string&) {});
  };
  measureIn(folder / "whole");
  int kills = 0;
  for (unsigned wait = 300; kills < 200 && !runsToItsEnd([&] { measureIn(folder / "work"); }, wait); wait += wait / 8) {
    ++kills;
  }
  EXPECT_GT(kills, 3);
  EXPECT_LT(kills, 200);
  EXPECT_FALSE(lossesOf(folder / "whole").empty());
  EXPECT_EQ(lossesOf(folder / "work"), lossesOf(folder / "whole"));
}

TEST(BudgetSearch, WhatIsOfAnotherRunIsRefused) {
  const TemporaryFolder folder;
  saveHuggingFace<float>(folder / "model", randomModel(streamedConfig(), true));
  const std::vector<Sequence> text = someText(streamedConfig());
  LayerSource source(folder / "model");
  const fs::path work = folder / "work", losses = work / "losses-1.json";
  BudgetSearch search(three(), 1);
  const auto key = search.key(folder / "model", text, 16);
  const auto measure = [&](const nlohmann::ordered_json& run) {
    BudgetSearch(three(), 1).measure(source, text, work, run, 1 << 20, 16, [](const std::string&) {});
  };
  measure(key);
  expectThrows<gosset::FormatError>(
      [&] { measure(search.key(folder / "model", text, 32)); },
      "manifest.json: is of another run, whose /bits of activations is 16; here it is 32");
  expectThrows<gosset::FormatError>([&] { measure(BudgetSearch({three()[0]}, 1).key(folder / "model", text, 16)); },
                                    "manifest.json: is of another run, whose /formats/1 is \"gptq2-g32\"");
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  writeWhole(losses, "{}");
  expectThrows<gosset::FormatError>([&] { measure(key); },
                                    "losses-1.json: \"" + name + "\": a list of 3 losses expected");
  writeWhole(losses, "{\"" + name + "\": [[1, 2], [1, 3]]}");
  expectThrows<gosset::FormatError>([&] { measure(key); },
                                    "losses-1.json: \"" + name + "\": a list of 3 losses expected");
  writeWhole(losses, "{\"" + name + "\": [[1, 2], [1], [1, 3]]}");
  expectThrows<gosset::FormatError>(
      [&] { measure(key); }, "losses-1.json: \"" + name + "\": a number of bytes and a loss expected, found [1]");
}

TEST(BudgetSearch, LossesThatAreNotFiniteAreAnErrorThatNamesTheLayer) {
  const TemporaryFolder folder;
  const auto refused = [&](const Model& model, const std::string& layer) {
    saveHuggingFace<float>(folder / "model", model);
    LayerSource source(folder / "model");
    const std::vector<Sequence> text = someText(source.config());
    BudgetSearch search(three(), 1);
    const auto key = search.key(folder / "model", text, 16);
    expectThrows([&] { search.measure(source, text, folder / "work", key, 1 << 20, 16, [](const std::string&) {}); },
                 "--budget: a finite loss expected of \"" + layer + "\" in format \"asym2-g32\", found ");
    fs::remove_all(folder / "work");
  };
  Model model = randomModel(streamedConfig(), true);
  model.layers[2].w2 *= 1e25f;  // squares of what comes out of the block are too large for floats
  refused(model, "model.layers.2.self_attn.q_proj.weight");
  model = randomModel(streamedConfig(), true);
  *model.output *= 1e25f;
  refused(model, "lm_head.weight");
}

TEST(BudgetSearch, WhatAFileHasInOneTensorGetsOneType) {
  const TemporaryFolder folder;
  nlohmann::json said = nlohmann::json::parse(expertsConfigText());
  said["mlp_only_layers"] = nlohmann::json::array();
  saveRandom(folder / "experts", said.dump());
  LayerSource source(folder / "experts");
  const std::vector<Sequence> text = someText(source.config());
  BudgetSearch search({&findFormat("F16"), &findFormat("F32")}, 1);
  const auto key = search.key(folder / "experts", text, 16);
  search.measure(source, text, folder / "work", key, Index{1} << 32, 16, [](const std::string&) {});
  const Recipe recipe = search.recipe(24, "F16");
  const ChosenFormats formats = chooseFormats(recipe, source.config(), source.tied());
  std::set<std::string> used;
  for (const GgufTyped& matrix : ggufTyped(source, formats)) used.insert(std::string(matrix.type.type));
  EXPECT_EQ(used, (std::set<std::string>{"F16", "F32"}));
}

TEST(BudgetSearch, MeasuresInOneProcess) {
  Meeting one(1), two(2);
  EXPECT_NO_THROW(requireOneProcess(Meeting::Member(one, 0)));
  expectThrows([&] { requireOneProcess(Meeting::Member(two, 1)); },
               "--budget measures in one process; start it without mpirun");
}

TEST(BudgetSearch, NeedsFormats) {
  expectThrows([] { BudgetSearch({}, 1); }, "--budget needs --formats to choose from");
}

}  // namespace
}  // namespace llama::testing::stream_budget_test
