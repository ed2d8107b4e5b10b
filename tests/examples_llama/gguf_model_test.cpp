// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/gguf_model_read.hpp"
#include "../../examples/llama/gguf_model_write.hpp"
#include "../../examples/llama/load.hpp"
#include "gguf_models.hpp"

// Models written as GGUF and read again. That llama.cpp reads the same is for tests/peer_llama_cpp to say.
namespace llama::testing::gguf_model_test {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using namespace gguf;  // NOLINT: small models

void expectSameFloats(const Model& a, const Model& b) {
  std::map<std::string, RowMatrixXf> floats;
  forEachFloat(a, [&](const FloatInfo& info, const auto& numbers) { floats[info.name] = numbers; });
  forEachFloat(b, [&](const FloatInfo& info, const auto& numbers) {
    EXPECT_EQ(floats[info.name], RowMatrixXf(numbers)) << info.name;
  });
}

TEST(GgufModel, EveryFamilyIsReadAsItWasWritten) {
  const TemporaryFolder folder;
  for (const nlohmann::json& said : configs()) {
    SCOPED_TRACE(said.dump());
    const Model model = modelOf(said);
    EXPECT_EQ(write(folder / "m.gguf", model).context, 64);
    const GgufModel read = readGgufModel(folder / "m.gguf");
    expectSame(floatsOf(read.model), model);
    expectSameFloats(floatsOf(read.model), model);
    EXPECT_EQ(read.model.configText.empty(), model.configText.empty());
  }
}

TEST(GgufModel, WhatWasReadIsWrittenAsItWas) {
  const TemporaryFolder folder;
  for (const nlohmann::json& said : configs()) {
    SCOPED_TRACE(said.dump());
    write(folder / "a.gguf", modelOf(said));
    const GgufModel read = readGgufModel(folder / "a.gguf");
    writeGgufModel(folder / "b.gguf", floatsOf(read.model), anyTokenizer(30), inType("F32"), {},
                   [](const GgufWritten&) {});
    EXPECT_EQ(readBytes(folder / "a.gguf", 1 << 24), readBytes(folder / "b.gguf", 1 << 24));
  }
}

TEST(GgufModel, NamesAndShapesAreThoseOfTheFormat) {
  const TemporaryFolder folder;
  write(folder / "m.gguf", modelOf(configs()[7]));
  const gosset::GgufFile file(folder / "m.gguf");
  EXPECT_EQ(file.get<std::string>("general.architecture"), "qwen2moe");
  EXPECT_EQ(file.get<std::uint32_t>("qwen2moe.expert_used_count"), 2u);
  EXPECT_EQ(file.info("blk.3.ffn_down_exps.weight").shape, (std::vector<Index>{3, 24, 12}));
  EXPECT_EQ(file.info("blk.0.ffn_gate_inp.weight").shape, (std::vector<Index>{3, 24}));
  EXPECT_EQ(file.info("blk.0.ffn_gate_inp_shexp.weight").shape, (std::vector<Index>{24}));
  EXPECT_EQ(file.info("blk.0.attn_q.bias").shape, (std::vector<Index>{32}));
  EXPECT_EQ(file.info("output_norm.weight").type->name, "F32");
}

TEST(GgufModel, HeadsOfOtherArchitecturesTurnInHalves) {
  const TemporaryFolder folder;
  const Model model = modelOf(configOf("qwen2"));
  write(folder / "m.gguf", model);
  const RowMatrixXf q = gosset::GgufFile(folder / "m.gguf").matrix("blk.0.attn_q.weight");
  EXPECT_EQ(q.row(1), model.layers[0].wq.row(2));
  EXPECT_EQ(q.row(4), model.layers[0].wq.row(1));
  const Model llama = modelOf(configOf("llama"));
  write(folder / "l.gguf", llama);
  EXPECT_EQ(gosset::GgufFile(folder / "l.gguf").matrix("blk.0.attn_q.weight"), llama.layers[0].wq);
}

TEST(GgufModel, PackedMatricesKeepTheirRows) {
  const TemporaryFolder folder;
  const Model model = modelOf(configOf("qwen2", {{"hidden_size", 256}, {"intermediate_size", 256}}));
  write(folder / "m.gguf", model, inType("Q4_K_S"));
  const GgufModel read = readGgufModel(folder / "m.gguf");
  EXPECT_EQ(read.model.layers[0].wk.format(), "ggml::Q4_K");
  EXPECT_EQ(read.model.layers[0].wk.dequantized(),
            packGguf("Q4_K", model.layers[0].wk, GgufRounding::kNearest, nullptr).dequantized());
  EXPECT_EQ(read.model.embedding.format(), "ggml::Q4_K");
}

TEST(GgufModel, WindowsThatCannotBeSaidEndTheContext) {
  const TemporaryFolder folder;
  EXPECT_EQ(write(folder / "m.gguf", modelOf(configOf("mistral", {{"sliding_window", 9}}))).context, 9);
  EXPECT_EQ(gosset::GgufFile(folder / "m.gguf").get<std::uint32_t>("llama.context_length"), 9u);
}

TEST(GgufModel, RoundingsLowerTheLossTheyLookAt) {
  const TemporaryFolder folder;
  const Model model = modelOf(configOf("llama", {{"hidden_size", 32}, {"intermediate_size", 32}}));
  const Calibration calibration = calibrationOf(model);
  const auto loss = [&](GgufRounding rounding) {
    write(folder / "m.gguf", model, inType("Q4_0", rounding), calibration);
    const Model read = floatsOf(readGgufModel(folder / "m.gguf").model);
    const RowMatrixXf error = read.layers[1].w1 - model.layers[1].w1;
    const Eigen::MatrixXd h = calibration.at("model.layers.1.mlp.gate_proj.weight").hessian.matrix();
    return (error.cast<double>() * h * error.cast<double>().transpose()).trace();
  };
  EXPECT_LT(loss(GgufRounding::kGptq), 0.6 * loss(GgufRounding::kImportance));
  EXPECT_LT(loss(GgufRounding::kGptq), 0.6 * loss(GgufRounding::kNearest));
}

TEST(GgufModel, BlocksBehindRoundedOnesAreCalibratedAnew) {
  const TemporaryFolder folder;
  for (const char* type : {"llama", "qwen2"}) {
    const Model model = modelOf(configOf(type, {{"hidden_size", 32}, {"intermediate_size", 32}}));
    const Calibration calibration = calibrationOf(model);
    std::vector<Model> seen;
    writeGgufModel(
        folder / "m.gguf", model, anyTokenizer(30), inType("Q4_0", GgufRounding::kGptq), calibration,
        [](const GgufWritten&) {},
        [&](const Model& soFar) {
          seen.push_back(soFar);
          return calibration;
        });
    ASSERT_EQ(seen.size(), 3u);  // four blocks, the first with the calibration that is there
    const Model read = floatsOf(readGgufModel(folder / "m.gguf").model);
    for (std::size_t i = 0; i < seen.size(); ++i) {
      EXPECT_EQ(seen[i].layers[i].wq, read.layers[i].wq);
      EXPECT_EQ(seen[i].layers[i].w2, read.layers[i].w2);
      EXPECT_EQ(seen[i].layers[i + 1].wq, model.layers[i + 1].wq);
    }
  }
}

TEST(GgufModel, ImportanceIsWhatEntered) {
  nlohmann::json said = configs()[9];
  const Model model = modelOf(said);
  Calibration calibration = calibrationOf(model);
  calibration.erase("model.layers.0.self_attn.o_proj.weight");
  const gosset::Imatrix imatrix = imatrixOf(model, calibration);
  EXPECT_EQ(imatrix.entries.size(), 4u * 7u);  // the output matrix is known here, too
  const auto& experts = imatrix.entries.at("blk.2.ffn_up_exps.weight");
  EXPECT_EQ(experts.sums.rows(), 3);
  EXPECT_EQ(experts.counts[2], 40.f);
  EXPECT_NEAR(experts.meanSquares()(1, 5),
              calibration.at("model.layers.2.mlp.experts.1.up_proj.weight").hessian.matrix()(5, 5), 1e-4);
  EXPECT_FALSE(imatrix.entries.contains("blk.0.attn_output.weight"));
}

auto cannotSay(const char* architecture, const std::string& what) {
  return ThrowsMessage<std::invalid_argument>("GGUF: files of architecture \"" + std::string(architecture) +
                                              "\" cannot say that " + what);
}

/// A single block with a window is what Gemma 2's readers expect; of two the second has none.
TEST(GgufModel, OneBlockOfGemma2) {
  const TemporaryFolder folder;
  const nlohmann::json types = {"sliding_attention", "sliding_attention"};
  nlohmann::json said = configOf("gemma2", {{"query_pre_attn_scalar", 8}, {"sliding_window", 6}});
  said["num_hidden_layers"] = 1;
  said["layer_types"] = {"sliding_attention"};
  const Model model = modelOf(said);
  write(folder / "one.gguf", model);
  EXPECT_EQ(readGgufModel(folder / "one.gguf").model.config.block(0).window, 6);
  said["num_hidden_layers"] = 2;
  said["layer_types"] = types;
  EXPECT_THAT([&] { write(folder / "two.gguf", modelOf(said)); },
              cannotSay("gemma2", "other blocks than they expect have a window"));
}

TEST(GgufModel, WhatFilesCannotSayIsRefused) {
  const TemporaryFolder folder;
  const auto writing = [&](const char* type, const nlohmann::json& more) {
    return [&folder, model = modelOf(configOf(type, more))] { write(folder / "no.gguf", model); };
  };
  const nlohmann::json yarn = {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}};
  EXPECT_THAT(writing("qwen2", yarn),
              cannotSay("qwen2", "rotary embedding is scaled otherwise than by one factor (yarn, llama3)"));
  EXPECT_THAT(writing("qwen3", {{"attention_bias", true}}), cannotSay("qwen3", "queries have biases"));
  EXPECT_THAT(writing("gemma2", {{"sliding_window", nullptr}, {"query_pre_attn_scalar", 8}}),
              cannotSay("gemma2", "no block has a window"));
  EXPECT_THAT(writing("gemma2", {{"query_pre_attn_scalar", 32}, {"sliding_window", 6}}),
              cannotSay("gemma2", "scores are multiplied by 0.176777 rather than by 0.353553"));
  const nlohmann::json types = {"full_attention", "full_attention", "sliding_attention", "full_attention"};
  EXPECT_THAT(writing("gemma2", {{"query_pre_attn_scalar", 8}, {"layer_types", types}, {"sliding_window", 6}}),
              cannotSay("gemma2", "other blocks than they expect have a window"));
  EXPECT_THAT(writing("smollm3", {{"no_rope_layer_interval", 3}}),
              cannotSay("smollm3", "block 2 has no rotary embedding"));
  nlohmann::json moe = kMoe;
  moe["norm_topk_prob"] = true;
  EXPECT_THAT(writing("qwen2_moe", moe), cannotSay("qwen2moe", "the weights of experts are divided by their sum"));
  moe["mlp_only_layers"] = {1};
  EXPECT_THAT(writing("qwen2_moe", moe), cannotSay("qwen2moe", "block 1 has no experts"));
  EXPECT_FALSE(fs::exists(folder / "no.gguf"));
}

TEST(GgufModel, TypesThatCannotHoldATensorAreRefusedByItsName) {
  const TemporaryFolder folder;
  Model model = modelOf(configOf("llama"));
  model.layers[2].wv(1, 3) = std::numeric_limits<float>::infinity();
  EXPECT_THAT([&] { write(folder / "no.gguf", model); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("model.layers.2.self_attn.v_proj.weight as F32: ")));
  EXPECT_THAT([] { packGguf("Q4_7", RowMatrixXf::Ones(1, 32), GgufRounding::kNearest, nullptr); },
              ThrowsMessage<std::invalid_argument>("type \"Q4_7\" is none of GGUF's"));
  EXPECT_THAT([] { packGguf("IQ3_S", RowMatrixXf::Ones(1, 256), GgufRounding::kNearest, nullptr); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("type IQ3_S is none of ")));
  EXPECT_THAT([] { packGguf("Q4_0", RowMatrixXf::Ones(1, 32), GgufRounding::kGptq, nullptr); },
              ThrowsMessage<std::invalid_argument>("this rounding needs the inputs' second moments"));
  const std::vector<std::byte> bytes(17);
  EXPECT_THAT([&] { ggufMatrix(*gosset::ggmlType(2), 1, 32, bytes); },
              ThrowsMessage<std::invalid_argument>("bytes: expected 18 for 1 x 32 numbers of Q4_0, got 17"));
}

/// A file with one more key or tensor, or another value.
fs::path changed(const TemporaryFolder& folder, const std::function<void(gosset::GgufWriter&)>& change,
                 const std::string& without = {}, const nlohmann::json& said = configOf("llama")) {
  write(folder / "whole.gguf", modelOf(said));
  const gosset::GgufFile file(folder / "whole.gguf");
  gosset::GgufWriter writer;
  writer.setAll(file);
  change(writer);
  for (const std::string& name : file.names()) {
    if (name == without) continue;
    const auto bytes = file.data(name);
    writer.addSource(name, *file.info(name).type, file.info(name).shape,
                     [bytes](const gosset::GgufWriter::Put& put) { put(bytes); });
  }
  writer.write(folder / "changed.gguf");
  return folder / "changed.gguf";
}

TEST(GgufModel, WhatIsUnknownInAFileIsRefused) {
  const TemporaryFolder folder;
  const auto refuses = [&](const std::function<void(gosset::GgufWriter&)>& change, const std::string& text,
                           const std::string& without = {}, const nlohmann::json& said = configOf("llama")) {
    const fs::path path = changed(folder, change, without, said);
    EXPECT_THAT([&] { readGgufModel(path); },
                ThrowsMessage<gosset::FormatError>(AllOf(HasSubstr(path.string()), HasSubstr(text))));
  };
  using W = gosset::GgufWriter;
  const auto nothing = [](W&) {};
  refuses([](W& w) { w.set("general.architecture", "rwkv"); },
          "general.architecture must be one of llama, qwen2, qwen2moe, qwen3, qwen3moe, gemma, gemma2, gemma3, phi3, "
          "smollm3, found \"rwkv\"");
  refuses([](W& w) { w.set("llama.attention.clamp_kqv", 1.f); },
          "key \"llama.attention.clamp_kqv\" is unknown in a file of architecture \"llama\", and may change what the "
          "model computes");
  refuses([](W& w) { w.set("split.count", std::uint16_t{3}); },
          "one of 3 parts of a model; join them to one file first");
  refuses([](W& w) { w.set("llama.rope.scaling.type", "yarn"); },
          "llama.rope.scaling.type: must be none or linear, found \"yarn\"");
  refuses([](W& w) { w.set("llama.rope.scaling.attn_factor", 1.5f); },
          "llama.rope.scaling.attn_factor: must be 1, found 1.5");
  refuses([](W& w) { w.set("llama.attention.value_length", std::uint32_t{4}); },
          "llama.attention.value_length: must be 8, as keys are");
  refuses([](W& w) { w.set("llama.attention.sliding_window", std::uint32_t{4}); },
          "llama.attention.sliding_window: windows are unknown in files of this architecture");
  refuses([](W& w) { w.set("llama.final_logit_softcapping", 4.f); },
          "llama.final_logit_softcapping: it is unknown in files of this architecture");
  refuses([](W& w) { w.set("llama.attention.head_count", std::uint32_t{0}); },
          "llama.attention.head_count: must be positive");
  refuses([](W& w) { w.set("llama.block_count", std::uint32_t{9999}); },
          "the metadata asks for 9999 blocks, the file holds ");
  refuses([](W& w) { w.set("llama.feed_forward_length", std::uint32_t{21}); },
          "the metadata asks for shape [21,24], the file holds [20,24]");
  refuses([](W& w) { w.add("blk.0.attn_sinks.weight", Eigen::VectorXf::Ones(4)); },
          "unknown in a file of architecture \"llama\" with this metadata, and may change what the model computes");
  refuses([](W& w) { w.add("rope_freqs.weight", Eigen::VectorXf::LinSpaced(4, 1, 5)); },
          "rope_freqs.weight holds other factors than those of Llama 3");
  refuses([](W& w) { w.add("rope_freqs.weight", Eigen::VectorXf::Ones(3)); },
          "rope_freqs.weight must hold 4 numbers, found 3");
  refuses([](W& w) { w.add("rope_freqs.weight", Eigen::VectorXf::Ones(4)); },
          "rope_freqs.weight is unknown in this model", {}, configOf("qwen2"));
  refuses(nothing, "holds no tensor 'blk.1.attn_v.weight'", "blk.1.attn_v.weight");
  refuses(nothing, "holds no tensor 'token_embd.weight'", "token_embd.weight");
  refuses([](W& w) { w.set("gemma2.attention.sliding_window_pattern", std::uint32_t{2}); },
          "gemma2.attention.sliding_window_pattern: it is unknown in files of this architecture", {},
          configOf("gemma2", {{"query_pre_attn_scalar", 8}, {"sliding_window", 6}}));
  EXPECT_THAT([&] { readGgufModel(folder / "none.gguf"); },
              ThrowsMessage<gosset::FormatError>(EndsWith("none.gguf: there is no such file or folder")));
}

TEST(GgufModel, NumbersThatAreNotFiniteAreRefused) {
  const TemporaryFolder folder;
  const auto with = [&](const char* name, const std::vector<Index>& shape) {
    std::vector<float> numbers(static_cast<std::size_t>(shape[0] * (shape.size() > 1 ? shape[1] : 1)), 1.f);
    numbers[2] = std::numeric_limits<float>::quiet_NaN();
    return changed(
        folder,
        [&](gosset::GgufWriter& w) {
          w.addSource(name, *gosset::ggmlType(0), shape,
                      [numbers](const gosset::GgufWriter::Put& put) { put(std::as_bytes(std::span(numbers))); });
        },
        name);
  };
  const fs::path norm = with("blk.0.attn_norm.weight", {24});
  EXPECT_THAT([&] { readGgufModel(norm); },
              ThrowsMessage<gosset::FormatError>(AllOf(HasSubstr("tensor 'blk.0.attn_norm.weight'"),
                                                       HasSubstr("finite numbers expected, found nan at (0, 2)"))));
  const fs::path matrix = with("blk.0.attn_k.weight", {16, 24});
  EXPECT_THAT([&] { readGgufModel(matrix); },
              ThrowsMessage<gosset::FormatError>(HasSubstr("tensor 'blk.0.attn_k.weight'")));
}

TEST(GgufModel, ProgramsTakeAFileWithItsTokenizer) {
  const TemporaryFolder folder;
  const Model model = modelOf(configOf("llama"));
  write(folder / "m.gguf", model);
  EXPECT_TRUE(isGgufFile(folder / "m.gguf"));
  EXPECT_FALSE(isGgufFile(folder.path()));
  EXPECT_FALSE(isGgufFile(folder / "none"));
  const auto [read, tokenizer] = readModelAndTokenizer(folder / "m.gguf", {});
  expectSame(read, model);
  EXPECT_EQ(tokenizer.size(), 30);
  EXPECT_THAT([&] { readModelAndTokenizer(folder / "m.gguf", "t.json"); },
              ThrowsMessage<std::invalid_argument>("--tokenizer: a GGUF file has its own"));
}

}  // namespace
}  // namespace llama::testing::gguf_model_test
