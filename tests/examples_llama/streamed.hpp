// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../examples/llama/gguf_stream.hpp"
#include "../../examples/llama/recipe.hpp"
#include "../../examples/llama/stream_quantizer.hpp"

#include "files.hpp"
#include "reference.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <string>

// What the tests of streamed quantization share: folders of small models, and what packing in memory makes of them.
namespace llama::testing {

inline Config streamedConfig() {
  return {.dim = 32, .hidden = 40, .layers = 3, .heads = 4, .kvHeads = 2, .headDim = 8, .vocab = 53, .context = 64};
}

/// The text of a config.json for a small mixture of experts.
inline std::string expertsConfigText() {
  return R"({"model_type": "qwen3_moe", "hidden_size": 32, "intermediate_size": 40, "moe_intermediate_size": 24,
             "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 53,
             "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
             "tie_word_embeddings": false, "attention_bias": false, "use_sliding_window": false,
             "decoder_sparse_step": 1, "mlp_only_layers": [1]})";
}

/// A folder with a random model of that config.json, in which what packed files keep in 16 bits has no more.
inline void saveRandom(const fs::path& folder, const std::string& configText, std::uint64_t seed = 5) {
  const HuggingFaceConfig read = parseHuggingFaceConfig(configText, "test");
  gosset::SafetensorsWriter writer;
  const auto random = [&](Index rows, Index cols) -> RowMatrixXf {
    return gosset::testing::gaussian(rows, cols, ++seed) / std::sqrt(static_cast<float>(cols));
  };
  writer.add(embeddingName(), random(read.config.vocab, read.config.dim) * 4.f);
  const auto all = emptyWeights<RowMatrixXf>(read.config, !read.tied);
  forEachFloat(all, [&](const FloatInfo& info, const auto&) {
    const bool isMatrix = info.shape.size() > 1;
    const RowMatrixXf numbers = random(info.shape[0], isMatrix ? info.shape[1] : 1);
    if (isMatrix) return writer.add(info.name, numbers.cast<gosset::Float16>());
    const Eigen::VectorXf norm = numbers.array() / std::sqrt(static_cast<float>(info.shape[0])) + 1.f;
    writer.add(info.name, norm.cast<gosset::Float16>());
  });
  forEachLinear(
      all, [&](const LinearInfo& info, const RowMatrixXf&) { writer.add(info.name, random(info.rows, info.cols)); });
  fs::create_directories(folder);
  writer.write(folder / "model.safetensors");
  writeBytes(folder / "config.json", configText);
}

/// A folder with a model of experts in block 0, and none in block 1.
inline void saveExperts(const fs::path& folder, std::uint64_t seed = 5) {
  saveRandom(folder, expertsConfigText(), seed);
}

/// Sequences of several lengths.
inline std::vector<Sequence> someText(const Config& config) {
  return {randomTokens(config, 61, 1), randomTokens(config, 7, 2), randomTokens(config, 64, 3),
          randomTokens(config, 33, 4), randomTokens(config, 50, 5)};
}

/// One streamed run of a folder.
struct Streamed {
  fs::path model, out;
  std::string format;
  CalibrateOn on = CalibrateOn::kFloat;
  int bits = 32;
  Index hessianBytes = Index{1} << 32;
  std::string embedding = "int8", chatTemplate = {};
  std::optional<GgufOptions> gguf = {};  ///< in place of the format; makes out/model.gguf, too

  void run(const Peers& peers = Alone()) const { share(peers, std::nullopt, true); }

  /// Blocks of a share, or all.
  std::vector<PartDone> share(const Peers& peers, std::optional<std::pair<std::size_t, std::size_t>> blocks,
                              bool join) const {
    LayerSource source(model);
    const Config& c = source.config();
    const Recipe recipe = gguf ? ggufRecipe(source, *gguf) : uniformRecipe(format, embedding, 1);
    const ChosenFormats formats = chooseFormats(recipe, c, source.tied());
    const std::vector<Sequence> text = someText(c);
    const Tokenizer tokenizer = anyTokenizer(c.vocab, chatTemplate);
    fs::path work = out / "work";
    if (blocks) work /= std::to_string(blocks->first);
    StreamQuantizer quantizer({model, out, work, on, bits, hessianBytes, blocks ? blocks->first : 0,
                               blocks ? blocks->second : static_cast<std::size_t>(c.layers) - 1},
                              source, tokenizer, formats, 1, text, peers);
    std::vector<PartDone> parts;
    quantizer.run([&](const PartDone& part) { parts.push_back(part); }, [] {});
    if (join) quantizer.join();
    if (join && gguf && peers.first()) {
      writeGgufParts(out / "model.gguf", source, PackedSource(out), tokenizer, formats, *gguf);
    }
    return parts;
  }
};

/// Works in another process, which is killed after some microseconds. Whether it came to its end before.
template <class Work>
bool runsToItsEnd(const Work& work, unsigned microseconds) {
  const pid_t child = ::fork();
  if (child == 0) {
    Eigen::setNbThreads(1);  // those of the parent are not here
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  ::usleep(microseconds);
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  return !WIFSIGNALED(status);
}

/// The bytes of all safetensors files of a folder.
inline std::map<std::string, std::string> partsOf(const fs::path& folder) {
  std::map<std::string, std::string> parts;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    parts[entry.path().filename()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return parts;
}

/// Every matrix and number of two packed models has the same bits.
inline void expectSameBits(const PackedModel& a, const PackedModel& b) {
  EXPECT_EQ(a.embedding, b.embedding);
  ASSERT_EQ(a.output.has_value(), b.output.has_value());
  std::vector<gosset::AnyMatrix> theirs;
  forEachLinear(b, [&](const LinearInfo&, const gosset::AnyMatrix& matrix) { theirs.push_back(matrix); });
  auto other = theirs.begin();
  forEachLinear(a, [&](const LinearInfo& info, const gosset::AnyMatrix& matrix) {
    EXPECT_EQ(matrix, *other) << info.name;
    EXPECT_EQ(matrix.activations(), other->activations()) << info.name;
    ++other;
  });
  std::vector<RowMatrixXf> floats;
  forEachFloat(b, [&](const FloatInfo&, const auto& numbers) { floats.push_back(RowMatrixXf(numbers)); });
  auto number = floats.begin();
  forEachFloat(
      a, [&](const FloatInfo& info, const auto& numbers) { EXPECT_EQ(RowMatrixXf(numbers), *number++) << info.name; });
}

}  // namespace llama::testing
