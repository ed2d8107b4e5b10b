// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/stream_quantizer.hpp"

#include "streamed.hpp"

namespace llama::testing::stream_quantizer_test {
namespace {

using gosset::testing::expectThrows;

/// What packing a whole model in memory comes to.
PackedModel packedInMemory(const fs::path& folder, const std::string& format) {
  const Model model = readHuggingFace(folder);
  const Engine engine(floatModel(model));
  Calibration calibration = calibrate(engine, someText(model.config), [] {});
  calibrateStarvedExperts(engine, calibration);
  return packModel(
      model, findFormat(format), findFormat("int8"), 1, [](auto&&...) {}, calibration);
}

class StreamQuantizerTest : public ::testing::Test {
 protected:
  StreamQuantizerTest() { saveHuggingFace<float>(folder_ / "model", randomModel(streamedConfig(), true)); }

  Streamed streamed(const std::string& format, const char* out = "out") const {
    return {folder_ / "model", folder_ / out, format};
  }

  TemporaryFolder folder_;
};

TEST_F(StreamQuantizerTest, ComesToTheBitsOfPackingInMemory) {
  for (const char* format : {"asym3-g32", "gptq2-g32", "trellis-mixed#2", "awq3-g32", "spqr2-g32", "smoothquant"}) {
    const Streamed run = streamed(format, format);
    run.run();
    expectSameBits(readPackedFolder(run.out).model, packedInMemory(run.model, format));
  }
}

TEST_F(StreamQuantizerTest, ReadsATiedModel) {
  saveHuggingFace<float>(folder_ / "tied", randomModel(streamedConfig(), false));
  const Streamed run{folder_ / "tied", folder_ / "out", "gptq3-g32"};
  run.run();
  expectSameBits(readPackedFolder(run.out).model, packedInMemory(run.model, "gptq3-g32"));
}

TEST_F(StreamQuantizerTest, RoutesTokensToExpertsAndFeedsStarvedOnes) {
  saveExperts(folder_ / "experts");
  const Streamed run{folder_ / "experts", folder_ / "out", "gptq3-g32"};
  const auto parts = run.share(Alone(), std::nullopt, true);
  expectSameBits(readPackedFolder(run.out).model, packedInMemory(run.model, "gptq3-g32"));

  const Model model = readHuggingFace(run.model);
  const Engine engine(floatModel(model));
  Calibration calibration = calibrate(engine, someText(model.config), [] {});
  EXPECT_EQ(parts.at(1).report.starved, calibrateStarvedExperts(engine, calibration));
  EXPECT_FALSE(parts.at(1).report.starved.empty());
  EXPECT_LT(parts.at(1).report.starved.size(), 8u);  // the text is such that some are and some are not
}

TEST_F(StreamQuantizerTest, FewHessiansAtOnceChangeNoBit) {
  saveExperts(folder_ / "experts");
  for (const char* model : {"model", "experts"}) {
    Streamed run{folder_ / model, folder_ / (std::string("all-") + model).c_str(), "gptq3-g32"};
    const auto once = run.share(Alone(), std::nullopt, true);
    EXPECT_EQ(once.at(1).report.passes, 1);
    const PackedModel all = readPackedFolder(run.out).model;
    run.out = folder_ / (std::string("few-") + model).c_str();
    run.hessianBytes = 32 * 32 * 8 + 1;
    const auto often = run.share(Alone(), std::nullopt, true);
    EXPECT_EQ(often.at(1).report.passes, std::string(model) == "model" ? 4 : 10);  // an expert is never parted
    EXPECT_EQ(often.at(1).report.starved, once.at(1).report.starved);
    expectSameBits(readPackedFolder(run.out).model, all);
  }
}

TEST_F(StreamQuantizerTest, CalibratesOnPackedBlocksWhereAsked) {
  Streamed run = streamed("gptq2-g32");
  run.on = CalibrateOn::kPacked;
  run.run();
  const PackedModel streamed = readPackedFolder(run.out).model;

  const Model model = readHuggingFace(run.model);
  PackedModel soFar = floatModel(model);
  soFar.embedding = packEmbedding(embeddingInfo(model.config), model.embedding, findFormat("int8"), 1);
  for (std::size_t block = 0; block < model.layers.size(); ++block) {
    const Calibration calibration = calibrate(Engine(soFar), someText(model.config), [] {});
    const PackedModel packed = packModel(
        model, findFormat("gptq2-g32"), findFormat("int8"), 1, [](auto&&...) {}, calibration);
    soFar.layers[block] = packed.layers[block];
  }
  const Calibration calibration = calibrate(Engine(soFar), someText(model.config), [] {});
  soFar.output = packModel(
                     model, findFormat("gptq2-g32"), findFormat("int8"), 1, [](auto&&...) {}, calibration)
                     .output;
  soFar.finalNorm = streamed.finalNorm;
  expectSameBits(streamed, soFar);
}

TEST_F(StreamQuantizerTest, ActivationsIn16BitsChangeLittle) {
  Streamed run = streamed("gptq4-g32");
  run.bits = 16;
  run.run();
  const PackedModel halves = readPackedFolder(run.out).model, floats = packedInMemory(run.model, "gptq4-g32");
  std::vector<RowMatrixXf> exact;
  forEachLinear(floats, [&](const LinearInfo&, const gosset::AnyMatrix& m) { exact.push_back(m.dequantized()); });
  auto other = exact.begin();
  forEachLinear(halves, [&](const LinearInfo& info, const gosset::AnyMatrix& m) {
    EXPECT_LT((m.dequantized() - *other).norm(), 0.05f * other->norm()) << info.name;
    ++other;
  });
}

TEST_F(StreamQuantizerTest, JobsOfSomeBlocksComeToTheSameModel) {
  Streamed whole = streamed("gptq3-g32", "whole"), jobs = streamed("gptq3-g32", "jobs");
  whole.run();
  jobs.share(Alone(), std::pair<std::size_t, std::size_t>(2, 2), false);
  jobs.share(Alone(), std::pair<std::size_t, std::size_t>(0, 0), false);
  expectThrows<gosset::FormatError>([&] { jobs.share(Alone(), std::pair<std::size_t, std::size_t>(0, 0), true); },
                                    "model-00003-of-00005.safetensors is missing");
  EXPECT_EQ(jobs.share(Alone(), std::pair<std::size_t, std::size_t>(1, 1), false).size(), 1u);
  EXPECT_EQ(jobs.share(Alone(), std::nullopt, true).size(), 0u);  // all is there
  EXPECT_EQ(partsOf(jobs.out), partsOf(whole.out));
  expectThrows([&] { jobs.share(Alone(), std::pair<std::size_t, std::size_t>(1, 3), false); },
               "layers: a .. b with 0 <= a <= b <= 2 expected, found 1 .. 3");
  jobs.on = CalibrateOn::kPacked;
  expectThrows([&] { jobs.share(Alone(), std::pair<std::size_t, std::size_t>(1, 1), false); },
               "layers: blocks that are calibrated on packed ones before them cannot be quantized apart from these");
}

TEST_F(StreamQuantizerTest, AChangedRunIsRefusedWithTheDifference) {
  Streamed run = streamed("gptq3-g32");
  run.run();
  const auto refused = [&](const std::string& text) { expectThrows<gosset::FormatError>([&] { run.run(); }, text); };
  run.format = "gptq2-g32";
  refused("is of another run, whose /formats/lm_head.weight is \"gptq3-g32\"; here it is \"gptq2-g32\"");
  run.format = "gptq3-g32";
  run.bits = 16;
  refused("whose /bits of activations is 32; here it is 16; name another folder, or remove this one");
  run.bits = 32;
  run.on = CalibrateOn::kPacked;
  refused("whose /calibrate on is \"float\"; here it is \"packed\"");
  run.on = CalibrateOn::kFloat;
  run.chatTemplate = "another";
  refused("whose /tokenizer is \"");
  run.chatTemplate = "";
  saveHuggingFace<float>(folder_ / "model", randomModel(streamedConfig(), true, 2));
  refused("whose /model is");
  fs::remove_all(run.out / "work");
  refused("model-00001-of-00005.safetensors: was made by another run, from another model, recipe or text");
  fs::remove_all(run.out);
  fs::create_directories(run.out);
  writeBytes(run.out / "other.safetensors", "");
  refused("holds other.safetensors, which is none of this run's files");
}

TEST_F(StreamQuantizerTest, PartsThatAreLostAreMadeAgain) {
  const std::vector<std::vector<int>> losses = {{4}, {2}, {5}, {1}, {2, 4}, {1, 3, 5}, {3, 4}};
  for (const CalibrateOn on : {CalibrateOn::kFloat, CalibrateOn::kPacked}) {
    Streamed run = streamed("gptq3-g32");
    run.on = on;
    run.bits = 16;
    run.run();
    const auto whole = partsOf(run.out);
    for (const std::vector<int>& lost : losses) {
      for (const int part : lost) {
        fs::remove(run.out / ("model-0000" + std::to_string(part) + "-of-00005.safetensors"));
      }
      EXPECT_EQ(run.share(Alone(), std::nullopt, true).size(), lost.size());
      EXPECT_EQ(partsOf(run.out), whole) << lost.front();
    }
    fs::remove_all(run.out);
  }
}

TEST_F(StreamQuantizerTest, TheTextGoesNoFartherThanItIsNeeded) {
  LayerSource source(folder_ / "model");
  const std::vector<Sequence> text = someText(streamedConfig());
  const Tokenizer tokenizer = anyTokenizer(53);
  const Recipe recipe{1, {{embeddingName(), "int8"}, {"model.layers.1.*", "gptq3-g32"}, {"*", "asym3-g32"}}};
  const ChosenFormats formats = chooseFormats(recipe, source.config(), false);
  const Alone alone;
  StreamQuantizer quantizer(
      {folder_ / "model", folder_ / "out", folder_ / "work", CalibrateOn::kFloat, 32, Index{1} << 32, 0, 2}, source,
      tokenizer, formats, 1, text, alone);
  std::size_t steps = 0;
  quantizer.run([](const PartDone&) {}, [&] { ++steps; });
  EXPECT_EQ(steps, 2 * text.size());  // through blocks 0 and 1, neither sequence being longer than a piece
}

TEST_F(StreamQuantizerTest, NothingElseStaysInTheWorkingFolder) {
  const Streamed run = streamed("gptq3-g32");
  run.run();
  for (const auto& entry : fs::directory_iterator(run.out / "work")) {
    EXPECT_EQ(entry.path().extension(), ".json") << entry.path();
  }
}

TEST_F(StreamQuantizerTest, KilledAgainAndAgainItComesToTheSameBits) {
  for (const CalibrateOn on : {CalibrateOn::kFloat, CalibrateOn::kPacked}) {
    Streamed whole = streamed("gptq3-g32", "whole"), killed = streamed("gptq3-g32", "killed");
    whole.on = killed.on = on;
    whole.run();
    int kills = 0;
    for (unsigned wait = 300; kills < 200 && !runsToItsEnd([&] { killed.run(); }, wait); wait += wait / 8) ++kills;
    EXPECT_GT(kills, 3);
    EXPECT_LT(kills, 200);
    EXPECT_EQ(partsOf(killed.out), partsOf(whole.out));
    expectSameBits(readPackedFolder(killed.out).model, readPackedFolder(whole.out).model);
    fs::remove_all(whole.out);
    fs::remove_all(killed.out);
  }
}

}  // namespace
}  // namespace llama::testing::stream_quantizer_test
