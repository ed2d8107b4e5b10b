// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/gguf_stream.hpp"
#include "../../examples/llama/gguf_model_read.hpp"

#include "gguf_models.hpp"
#include "meeting.hpp"
#include "streamed.hpp"

namespace llama::testing::gguf_stream_test {
namespace {

using gguf::configOf;
using gguf::inType;
using gosset::testing::expectThrows;

/// Rows of 256 numbers, all blocks of experts or none, heads that turn in halves or not.
std::string llamaText() {
  return configOf("llama", {{"hidden_size", 256}, {"intermediate_size", 256}, {"num_hidden_layers", 2}}).dump();
}
std::string qwenText() {
  return configOf("qwen2", {{"hidden_size", 64}, {"intermediate_size", 96}, {"tie_word_embeddings", true}}).dump();
}
std::string experts() {
  nlohmann::json more = gguf::kMoe;
  more.update({{"hidden_size", 32}, {"num_hidden_layers", 2}});
  return configOf("qwen2_moe", more).dump();
}

/// What convert writes of a model in memory.
std::string convertedBytes(const fs::path& folder, const GgufOptions& options, const fs::path& path) {
  const Model model = readHuggingFace(folder);
  const Engine engine(floatModel(model));
  Calibration calibration = calibrate(engine, someText(model.config), [] {});
  calibrateStarvedExperts(engine, calibration);
  writeGgufModel(path, model, anyTokenizer(model.config.vocab), options, calibration, [](const GgufWritten&) {});
  return readBytes(path, 1 << 26);
}

TEST(GgufStream, IsTheFileThatAModelInMemoryGives) {
  const TemporaryFolder folder;
  const std::tuple<const char*, std::string, GgufOptions> cases[] = {
      {"llama", llamaText(), inType("Q4_K_M", GgufRounding::kGptq)},
      {"qwen", qwenText(), inType("Q4_0", GgufRounding::kGptq)},
      {"experts", experts(), inType("Q5_1", GgufRounding::kGptq)},
      {"importance", qwenText(), inType("IQ4_NL", GgufRounding::kImportance)},
      {"nearest", qwenText(), inType("Q8_0")},
      {"floats", qwenText(), inType("F16")}};
  for (const auto& [name, text, options] : cases) {
    SCOPED_TRACE(name);
    saveRandom(folder / name, text);
    Streamed run{folder / name, folder / (std::string("out-") + name).c_str(), ""};
    run.gguf = options;
    run.run();
    EXPECT_EQ(readBytes(run.out / "model.gguf", 1 << 26), convertedBytes(run.model, options, folder / "whole.gguf"));
  }
}

TEST(GgufStream, SpeaksAsThePackedFolderDoes) {
  const TemporaryFolder folder;
  saveRandom(folder / "model", qwenText());
  Streamed run{folder / "model", folder / "out", ""};
  run.gguf = inType("Q4_1", GgufRounding::kGptq);
  run.run();
  const GgufModel file = readGgufModel(run.out / "model.gguf");
  EXPECT_EQ(file.tokenizer.vocabulary().size(), 30);
  const std::vector<Sequence> text = someText(file.model.config);
  std::vector<Eigen::MatrixXf> logits;
  const auto keep = [&](std::size_t, const Eigen::MatrixXf& of) { logits.push_back(of); };
  runSequences(Engine(file.model), text, keep);
  runSequences(Engine(readPackedFolder(run.out).model), text, keep);
  for (std::size_t i = 0; i < text.size(); ++i) EXPECT_EQ(logits[i], logits[i + text.size()]);
}

TEST(GgufStream, KilledAgainAndAgainItComesToTheSameBytes) {
  const TemporaryFolder folder;
  saveRandom(folder / "model", qwenText());
  Streamed whole{folder / "model", folder / "whole", ""}, killed{folder / "model", folder / "killed", ""};
  whole.gguf = killed.gguf = inType("Q4_0", GgufRounding::kGptq);
  whole.run();
  int kills = 0;
  for (unsigned wait = 300; kills < 200 && !runsToItsEnd([&] { killed.run(); }, wait); wait += wait / 8) ++kills;
  EXPECT_GT(kills, 3);
  EXPECT_LT(kills, 200);
  EXPECT_EQ(readBytes(killed.out / "model.gguf", 1 << 26), readBytes(whole.out / "model.gguf", 1 << 26));
}

TEST(GgufStream, RowsAreSharedAmongProcesses) {
  const RowMatrixXf w = gosset::testing::gaussian(390, 64, 3);
  LayerInputs inputs(64);
  inputs.add(gosset::testing::gaussian(100, 64, 4));
  const LinearInfo info{"w", 390, 64};
  for (const char* name : {"gptq-Q4_0", "importance-Q4_0", "gptq-Q5_1"}) {
    const FormatEntry& format = findFormat(name);
    const gosset::AnyMatrix alone = packInPlace(info, w, format, 1, 0, inputs);
    for (const Index count : {2, 3, 5}) {
      Meeting meeting(count);
      const auto all =
          meeting.each([&](const Peers& peers) { return packInPlace(info, w, format, 1, 0, inputs, &peers); });
      for (const gosset::AnyMatrix& one : all) EXPECT_EQ(one, alone) << name << ' ' << count;
    }
  }
}

TEST(GgufStream, FormatsAreTheTypes) {
  std::set<std::string> names;
  const RowMatrixXf w = gosset::testing::gaussian(3, 256, 3);
  LayerInputs inputs(256);
  inputs.add(gosset::testing::gaussian(300, 256, 4));
  for (const FormatEntry& entry : ggufFormatTable()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_EQ(&findFormat(entry.name), &entry);
    const auto matrix = packInPlace({"w", 3, 256}, w, entry, 1, 0, inputs);
    EXPECT_EQ(matrix.format(), entry.stored);
    EXPECT_EQ(entry.needsCalibration, entry.rounding != "nearest");
    const auto rounding = findRounding(entry.rounding);
    const std::string type = entry.name.substr(entry.name.find('-') + 1);
    EXPECT_EQ(matrix, packGguf(type, w, rounding, &inputs.hessian)) << entry.name;
    EXPECT_EQ(ggufFormatName(type, rounding), entry.name);
  }
  EXPECT_EQ(ggufFormatName("F16", GgufRounding::kGptq), "F16");
  expectThrows(
      [&] {
        packInPlace({"w", 3, 256}, w, findFormat("gptq-Q4_0"), 1, 0, {});
      },
      "format \"gptq-Q4_0\" needs a calibration of \"w\"");
}

TEST(GgufStream, ARecipeSaysHowTypesAreRounded) {
  const FormatEntry& usual = formatOfRule({"*", "Q4_0", "gptq"});
  EXPECT_EQ(usual.name, "gptq-Q4_0");
  RecipeRule rule{"*", "Q4_0", "gptq"};
  rule.options.damping = 0.5;
  rule.options.byDiagonal = true;
  const FormatEntry& other = formatOfRule(rule);
  EXPECT_EQ(other.name, "gptq-Q4_0 (damping 0.5, order diagonal)");
  const RowMatrixXf w = gosset::testing::gaussian(5, 64, 3);
  LayerInputs inputs(64);
  inputs.add(gosset::testing::gaussian(100, 64, 4));
  const auto with = [&](const FormatEntry& format) { return packInPlace({"w", 5, 64}, w, format, 1, 0, inputs); };
  EXPECT_NE(with(other), with(usual));
  EXPECT_EQ(with(other), packGguf("Q4_0", w, GgufRounding::kGptq, inputs.hessian, {0.5, {}, true}));
  rule.options = {};
  rule.options.sweeps = 0;
  EXPECT_NE(with(formatOfRule(rule)), with(usual));
  EXPECT_EQ(with(formatOfRule(rule)), packGguf("Q4_0", w, GgufRounding::kGptq, inputs.hessian, {{}, 0, {}}));
  expectThrows(
      [] {
        formatOfRule({"*", "Q4_0", "ldlq"});
      },
      "\"rounding\": one of those that format \"Q4_0\" has (nearest, importance, gptq) expected, found \"ldlq\"");
}

TEST(GgufStream, WhatNoFileCanHoldIsRefusedFirst) {
  const TemporaryFolder folder;
  saveExperts(folder / "mixed");
  saveRandom(folder / "experts", experts());
  saveRandom(folder / "qwen", qwenText());
  const auto refused = [&](const char* model, const Recipe& recipe, const std::string& text) {
    const LayerSource source(folder / model);
    const ChosenFormats formats = chooseFormats(recipe, source.config(), source.tied());
    const GgufOptions options;
    expectThrows([&] { requireGguf(source, anyTokenizer(source.config().vocab), formats, options); }, text);
  };
  refused("qwen", {1, {{embeddingName(), "Q8_0"}, {"*", "int8"}}},
          "GGUF: no file can hold \"model.layers.0.self_attn.q_proj.weight\" in format \"int8\"; name a type, such as "
          "gptq-Q4_K");
  refused("qwen", {1, {{embeddingName(), "Q8_0"}, {"*", "gptq-Q4_K"}}},
          "GGUF: rows of blk.0.attn_q.weight, 64 numbers, are no whole blocks of Q4_K, 256 each");
  refused("experts", {1, {{embeddingName(), "Q8_0"}, {"*.experts.1.up_proj.weight", "Q8_0"}, {"*", "F16"}}},
          "GGUF: one type expected for all of blk.0.ffn_up_exps.weight, found \"F16\", and \"Q8_0\" for "
          "\"model.layers.0.mlp.experts.1.up_proj.weight\"");
  refused("mixed", {1, {{embeddingName(), "Q8_0"}, {"*", "F16"}}}, "block 1 has no experts");
}

}  // namespace
}  // namespace llama::testing::gguf_stream_test
