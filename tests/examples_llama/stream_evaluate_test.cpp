// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/stream_evaluate.hpp"

#include "streamed.hpp"

#include <sstream>

namespace llama::testing::stream_evaluate_test {
namespace {

using gosset::testing::expectThrows;

TEST(StreamedQualityTest, IsThatOfModelsInMemory) {
  const TemporaryFolder folder;
  saveExperts(folder / "experts");
  saveHuggingFace<float>(folder / "own", randomModel(streamedConfig(), true));
  saveHuggingFace<float>(folder / "tied", randomModel(streamedConfig(), false));
  for (const char* name : {"experts", "own", "tied"}) {
    const Streamed run{folder / name, folder / (std::string("out-") + name).c_str(), "gptq3-g32"};
    run.run();
    const Model model = readHuggingFace(run.model);
    const std::vector<Sequence> text = someText(model.config);
    const Engine exact(floatModel(model)), packed(readPackedFolder(run.out).model);
    QualityMeter meter;
    Logits reference(text.size());
    runSequences(exact, text, [&](std::size_t i, Eigen::MatrixXf logits) { reference[i] = std::move(logits); });
    runSequences(packed, text,
                 [&](std::size_t i, const Eigen::MatrixXf& logits) { meter.add(text[i], reference[i], logits); });
    const Quality expected = meter.quality();

    LayerSource source(run.model);
    const PackedSource parts(run.out);
    std::size_t steps = 0;
    const StreamedQuality found =
        evaluateStreamed(source, parts, text, folder.path(), evaluationKey(run.model, run.out, text), [&] { ++steps; });
    EXPECT_EQ(steps, evaluationSteps(source.config(), text));
    EXPECT_NEAR(found.packed.perplexity, expected.perplexity, 1e-5 * expected.perplexity) << name;
    EXPECT_NEAR(found.packed.klDivergence, expected.klDivergence, 1e-5 * expected.klDivergence) << name;
    EXPECT_NEAR(found.packed.klError, expected.klError, 1e-4 * expected.klError) << name;
    EXPECT_EQ(found.packed.top1Agreement, expected.top1Agreement) << name;
    EXPECT_GT(found.packed.klDivergence, 0.001) << name;
    EXPECT_EQ(found.exact.klDivergence, 0) << name;
    EXPECT_NEAR(
        found.exact.perplexity,
        [&] {
          QualityMeter own;
          for (std::size_t i = 0; i < text.size(); ++i) own.add(text[i], reference[i], reference[i]);
          return own.quality().perplexity;
        }(),
        1e-5 * found.exact.perplexity)
        << name;
    for (const auto& entry : fs::directory_iterator(folder.path())) EXPECT_TRUE(entry.is_directory()) << entry.path();
  }
}

TEST(StreamedQualityTest, TwoModelsOfOneConfigAreExpected) {
  const TemporaryFolder folder;
  saveHuggingFace<float>(folder / "a", randomModel(streamedConfig(), true));
  Config other = streamedConfig();
  other.layers = 2;
  saveHuggingFace<float>(folder / "b", randomModel(other, true));
  const Streamed run{folder / "a", folder / "out", "int8"};
  run.run();
  LayerSource source(folder / "b");
  expectThrows([&] { evaluateStreamed(source, PackedSource(run.out), someText(other), folder.path(), {}, [] {}); },
               "evaluate: two models of one config expected");
}

TEST(StreamedQualityTest, KilledAgainAndAgainItComesToTheSameNumbers) {
  const TemporaryFolder folder;
  saveHuggingFace<float>(folder / "model", randomModel(streamedConfig(), true));
  const Streamed run{folder / "model", folder / "out", "asym3-g32"};
  run.run();
  const std::vector<Sequence> text = someText(streamedConfig());
  const auto evaluateIn = [&](const fs::path& work) {
    LayerSource source(run.model);
    return evaluateStreamed(source, PackedSource(run.out), text, work, evaluationKey(run.model, run.out, text), [] {});
  };
  const auto numbersOf = [](const StreamedQuality& quality) {
    std::ostringstream numbers;
    numbers << std::hexfloat << quality.packed.klDivergence << ' ' << quality.packed.perplexity << ' '
            << quality.exact.perplexity;
    return numbers.str();
  };
  const std::string whole = numbersOf(evaluateIn(folder / "whole"));
  const auto evaluate = [&] { writeWhole(folder / "numbers", numbersOf(evaluateIn(folder / "work"))); };
  const auto stopped = [&] {  // blocks that both models have been through
    int blocks = 0;
    while (fs::exists(folder / "work" / ("packed-" + std::to_string(blocks + 1) + ".bin"))) ++blocks;
    return blocks;
  };
  int kills = 0, most = 0;
  for (unsigned wait = 300; kills < 200 && !runsToItsEnd(evaluate, wait); wait += wait / 8) {
    ++kills;
    most = std::max(most, stopped());
  }
  EXPECT_GT(kills, 3);
  EXPECT_LT(kills, 200);
  EXPECT_GT(most, 0);  // so that it went on with some block, and not only began again
  EXPECT_EQ(readBytes(folder / "numbers", 1000), whole);
}

TEST(StreamedQualityTest, GoesOnBehindTheBlocksThatAreDone) {
  const TemporaryFolder folder;
  saveHuggingFace<float>(folder / "model", randomModel(streamedConfig(), true));
  const Streamed run{folder / "model", folder / "out", "asym3-g32"};
  run.run();
  const std::vector<Sequence> text = someText(streamedConfig());
  const fs::path work = folder / "work";
  const auto key = evaluationKey(run.model, run.out, text);
  LayerSource source(run.model);
  const StreamedQuality whole = evaluateStreamed(source, PackedSource(run.out), text, folder / "whole", key, [] {});
  int steps = 0;
  const auto stopInTheSecondBlock = [&] {
    if (++steps == 15) throw std::runtime_error("stopped");  // 6 pieces through a block of either model
  };
  EXPECT_THROW(evaluateStreamed(source, PackedSource(run.out), text, work, key, stopInTheSecondBlock),
               std::runtime_error);
  EXPECT_TRUE(fs::exists(work / "float-1.bin"));
  EXPECT_TRUE(fs::exists(work / "packed-1.bin"));
  EXPECT_FALSE(fs::exists(work / "float-0.bin"));
  fs::rename(work / "float-1.bin", work / "kept");  // what is there is not made again
  fs::copy(work / "packed-1.bin", work / "float-1.bin");
  const StreamedQuality mixed = evaluateStreamed(source, PackedSource(run.out), text, work, key, [] {});
  EXPECT_NE(mixed.exact.perplexity, whole.exact.perplexity);
  EXPECT_EQ(mixed.packed.perplexity, whole.packed.perplexity);
  for (const auto& entry : fs::directory_iterator(work)) EXPECT_EQ(entry.path().filename(), "kept");

  steps = 0;
  EXPECT_THROW(evaluateStreamed(source, PackedSource(run.out), text, work, key, stopInTheSecondBlock),
               std::runtime_error);
  const std::vector<Sequence> other = {text[0]};
  expectThrows<gosset::FormatError>(
      [&] {
        evaluateStreamed(source, PackedSource(run.out), other, work, evaluationKey(run.model, run.out, other), [] {});
      },
      "manifest.json: is of another run, whose /text is ");
}

TEST(PackedFolderTest, HasTheEmbeddingsTokenizerAndNoConfig) {
  const TemporaryFolder folder;
  saveHuggingFace<float>(folder / "model", randomModel(streamedConfig(), true));
  const Streamed run{folder / "model", folder / "out", "int8"};
  run.run();
  EXPECT_TRUE(isPackedFolder(run.out));
  EXPECT_FALSE(isPackedFolder(run.model));
  EXPECT_FALSE(isPackedFolder(folder / "none"));
  const PackedFile file = readPackedFolder(run.out);
  EXPECT_EQ(file.model.config, streamedConfig());
  EXPECT_EQ(file.tokenizer.vocabulary().file(), anyTokenizer(53).vocabulary().file());
  fs::remove(run.out / "model-00002-of-00005.safetensors");
  expectThrows<gosset::FormatError>([&] { readPackedFolder(run.out); }, "there is no file");
  expectThrows<gosset::FormatError>([&] { writePackedIndex(run.out, 5); },
                                    "model-00002-of-00005.safetensors is missing");
}

TEST(LayerSourceTest, RefusesBeforeAnythingIsRead) {
  const TemporaryFolder folder;
  const Model model = randomModel(streamedConfig(), true);
  saveHuggingFace<float>(folder / "model", model);
  const auto refused = [&](const std::string& text) {
    expectThrows<gosset::FormatError>([&] { LayerSource(folder / "model"); }, text);
  };
  gosset::SafetensorsWriter writer;
  const gosset::SafetensorsFile file(folder / "model" / "model.safetensors");
  for (const std::string& name : file.names()) {
    if (name != "model.layers.2.mlp.up_proj.weight") writer.add(name, file.matrixAs<float>(name));
  }
  writer.write(folder / "model" / "model.safetensors");
  refused("the config asks for shape [32]");  // norms are vectors
  expectThrows<gosset::FormatError>([&] { LayerSource(folder / "none"); }, "a Hugging Face folder expected");
  saveHuggingFace<float>(folder / "model", model);
  const gosset::SafetensorsFile whole(folder / "model" / "model.safetensors");
  gosset::SafetensorsWriter more;
  for (const std::string& name : whole.names()) {
    const bool vector = whole.info(name).shape.size() == 1;
    if (vector) more.add(name, whole.vectorAs<float>(name));
    if (!vector) more.add(name, whole.matrixAs<float>(name));
  }
  more.add("extra", Eigen::VectorXf(3));
  more.write(folder / "model" / "model.safetensors");
  refused("unknown in a model of type");
}

TEST(LayerSourceTest, GivesWhatReadingTheWholeFolderGives) {
  const TemporaryFolder folder;
  saveExperts(folder / "experts");
  const PackedModel whole = floatModel(readHuggingFace(folder / "experts"));
  LayerSource source(folder / "experts");
  EXPECT_EQ(source.configText(), whole.configText);
  auto parts = emptyWeights<gosset::AnyMatrix>(source.config(), true);
  parts.embedding = floatMatrix(source.embedding());
  for (std::size_t i = 0; i < parts.layers.size(); ++i) parts.layers[i] = source.block(i).layers.front();
  parts.finalNorm = source.head().finalNorm;
  parts.output = source.head().output;
  expectSameBits(parts, whole);
}

}  // namespace
}  // namespace llama::testing::stream_evaluate_test
