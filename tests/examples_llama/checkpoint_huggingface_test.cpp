// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/checkpoint_huggingface.hpp"

#include "../../examples/llama/checkpoint_llama2c.hpp"
#include "../../examples/llama/engine.hpp"
#include "files.hpp"
#include "reference.hpp"

#include <cstdint>
#include <limits>
#include <span>
#include <utility>

namespace llama::testing::checkpoint_huggingface_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

Config oddConfig() {
  Config config = smallConfig();
  config.headDim = 6;  // heads * headDim is not dim
  config.ropeTheta = 500.f;
  config.normEps = 1e-3f;
  return config;
}

TEST(HuggingFace, EveryWeightComesBack) {
  const TemporaryFolder folder;
  for (const bool ownOutput : {false, true}) {
    const Model model = randomModel(oddConfig(), ownOutput);
    saveHuggingFace<float>(folder.path(), model);
    expectSame(readHuggingFace(folder.path()), model);
  }
}

/// The model as it stands in the file, with no row moved.
Model rawModel(const fs::path& folder, const Config& config) {
  const gosset::SafetensorsFile file(folder / "model.safetensors");
  auto raw = emptyWeights<RowMatrixXf>(config, true);
  raw.embedding = file.matrixAs<float>("model.embed_tokens.weight");
  forEachFloat(raw, [&](const FloatInfo& info, auto& numbers) { numbers = file.vectorAs<float>(info.name); });
  forEachLinear(raw, [&](const LinearInfo& info, RowMatrixXf& w) { w = file.matrixAs<float>(info.name); });
  return raw;
}

TEST(HuggingFace, TheFilesRowsAreRightForRotatingHalves) {
  const TemporaryFolder folder;
  const Model model = randomModel(oddConfig(), true);
  saveHuggingFace<float>(folder.path(), model);
  const Model raw = rawModel(folder.path(), model.config);
  const auto tokens = randomTokens(model.config, 20);
  const Eigen::MatrixXd expected = naiveLogits(model, tokens, Pairs::kNeighbours);
  EXPECT_LT((naiveLogits(raw, tokens, Pairs::kHalves) - expected).cwiseAbs().maxCoeff(), 1e-9);
  EXPECT_GT((naiveLogits(raw, tokens, Pairs::kNeighbours) - expected).cwiseAbs().maxCoeff(),
            1e-2);  // the order matters
}

/// Two heads of six rows, of which the first four turn.
TEST(HuggingFace, RowsThatDoNotTurnStayWhereTheyAre) {
  const RowMatrixXf theirs = RowMatrixXf(Eigen::VectorXf::LinSpaced(12, 0.f, 11.f));
  const RowMatrixXf ours = detail::neighboursFromHalves(theirs, 6, 4);
  EXPECT_EQ(Eigen::VectorXf(ours), (Eigen::VectorXf(12) << 0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11).finished());
  EXPECT_EQ(detail::halvesFromNeighbours(ours, 6, 4), theirs);
}

TEST(HuggingFace, ARealModelGivesTheSameLogitsFromBothKindsOfFile) {
  const auto data = gosset::testing::dataFolder();
  if (!data) GTEST_SKIP() << "no data folder";
  const TemporaryFolder folder;
  const Model model = readLlama2c(*data / "models/stories260K.bin");
  saveHuggingFace<float>(folder.path(), model);
  const auto tokens = randomTokens(model.config, 50);
  const auto logits = [&](const Model& m) {
    KvCache cache(m.config, 50);
    return Engine(floatModel(m)).forward(tokens, cache);
  };
  EXPECT_EQ(logits(readHuggingFace(folder.path())), logits(model));
}

template <class Scalar>
class HuggingFaceTypes : public ::testing::Test {};
using Scalars = ::testing::Types<float, gosset::Float16, gosset::BFloat16>;
TYPED_TEST_SUITE(HuggingFaceTypes, Scalars);

TYPED_TEST(HuggingFaceTypes, AreReadAsTheNumbersTheyAre) {
  const TemporaryFolder folder;
  const Model model = randomModel(smallConfig(), false);
  saveHuggingFace<TypeParam>(folder.path(), model);
  const Model read = readHuggingFace(folder.path());
  EXPECT_EQ(read.layers[1].wq, (model.layers[1].wq.template cast<TypeParam>().template cast<float>()));
  EXPECT_EQ(read.finalNorm, (model.finalNorm.template cast<TypeParam>().template cast<float>()));
}

class HuggingFaceFolder : public ::testing::Test {
 protected:
  HuggingFaceFolder() { saveHuggingFace(folder_.path(), randomModel(smallConfig(), false)); }

  void expectRefused(const std::string& text) {
    expectThrows<FormatError>([&] { readHuggingFace(folder_.path()); }, text);
  }
  /// Changes a field of config.json.
  void patchConfig(const std::string& patch) {
    nlohmann::json json = nlohmann::json::parse(readBytes(folder_ / "config.json", 1 << 20));
    json.merge_patch(nlohmann::json::parse(patch));
    writeBytes(folder_ / "config.json", json.dump());
  }

  TemporaryFolder folder_;
};

TEST_F(HuggingFaceFolder, ThatLacksAFileIsRefused) {
  fs::remove(folder_ / "config.json");
  expectRefused("config.json: there is no such file");
}

TEST_F(HuggingFaceFolder, ThatLacksItsTensorsIsRefused) {
  fs::remove(folder_ / "model.safetensors");
  expectRefused("model.safetensors");
  writeBytes(folder_ / "model.safetensors.index.json", "{}");
  expectRefused("expected an object \"weight_map\" of tensors and their files");
}

TEST_F(HuggingFaceFolder, WhoseTensorsHaveAnotherShapeIsRefused) {
  patchConfig(R"({"intermediate_size": 38})");
  expectRefused("'model.layers.0.mlp.gate_proj.weight'");
  expectRefused("the config asks for shape [38,24], the file holds [37,24]");
}

TEST_F(HuggingFaceFolder, WhoseConfigAsksForHugeTensorsIsRefused) {
  patchConfig(R"({"vocab_size": 4000000, "hidden_size": 1000000, "num_hidden_layers": 10000})");
  expectRefused("the config asks for shape [4000000,1000000], the file holds [31,24]");
}

TEST_F(HuggingFaceFolder, WhoseConfigAsksForMoreLayersThanThereAreTensorsIsRefused) {
  patchConfig(R"({"num_hidden_layers": 10000})");
  expectRefused("the config asks for 10000 layers, the file holds 20 tensors");
  patchConfig(R"({"num_hidden_layers": 21})");
  expectRefused("the config asks for 21 layers, the file holds 20 tensors");
}

TEST_F(HuggingFaceFolder, ThatLacksATensorIsRefused) {
  patchConfig(R"({"num_hidden_layers": 3})");
  expectRefused("model.layers.2.");
  patchConfig(R"({"num_hidden_layers": 2, "tie_word_embeddings": false})");
  expectRefused("lm_head.weight");
}

/// A tied model, whose embedding the file may hold under either name.
class TiedFolder : public HuggingFaceFolder {
 protected:
  TiedFolder() : model_(randomModel(smallConfig(), false)) { saveHuggingFace<float>(folder_.path(), model_); }

  /// Rewrites the tensors: for each of `embeddings`, a name and its numbers, and all others as they were.
  template <class... Named>
  void writeWith(const Named&... embeddings) {
    const gosset::SafetensorsFile file(folder_ / "model.safetensors");
    gosset::SafetensorsWriter writer;
    (writer.add(embeddings.first, embeddings.second), ...);
    for (const auto& [name, info] : file.tensors()) {
      if (name != embeddingName() && name != outputName()) writer.addView<float>(name, info.shape, values(file, name));
    }
    writer.write(folder_ / "model.safetensors");
  }

  Model model_;

 private:
  static std::span<const float> values(const gosset::SafetensorsFile& file, const std::string& name) {
    const auto map = file.flat<float>(name);
    return {map.data(), static_cast<std::size_t>(map.size())};
  }
};

TEST_F(TiedFolder, MayHoldItsEmbeddingUnderEitherNameOrBoth) {
  writeWith(std::pair(outputName(), model_.embedding));
  expectSame(readHuggingFace(folder_.path()), model_);
  writeWith(std::pair(outputName(), model_.embedding), std::pair(embeddingName(), model_.embedding));
  expectSame(readHuggingFace(folder_.path()), model_);
  writeWith(std::pair(embeddingName(), model_.embedding));
  expectSame(readHuggingFace(folder_.path()), model_);
  writeWith();
  expectRefused(folder_.path().string() + ": holds neither 'model.embed_tokens.weight' nor 'lm_head.weight'");
}

TEST_F(TiedFolder, WhoseOutputIsNotItsEmbeddingIsRefused) {
  RowMatrixXf other = model_.embedding;
  other(30, 23) += 1.f;
  writeWith(std::pair(outputName(), other), std::pair(embeddingName(), model_.embedding));
  expectRefused("tensor 'lm_head.weight' at byte ");
  expectRefused(
      "\"tie_word_embeddings\" is true in the config, but the numbers are others than those of "
      "'model.embed_tokens.weight'");
  patchConfig(R"({"tie_word_embeddings": false})");
  EXPECT_EQ(*readHuggingFace(folder_.path()).output, other);  // then it is a matrix of its own
  writeWith(std::pair(outputName(), model_.embedding.topRows(30).eval()));
  patchConfig(R"({"tie_word_embeddings": true})");
  expectRefused("tensor 'lm_head.weight'");
  expectRefused("the config asks for shape [31,24], the file holds [30,24]");
}

TEST_F(TiedFolder, WithoutAnEmbeddingIsRefusedWhereItIsNotTied) {
  writeWith(std::pair(outputName(), model_.embedding));
  patchConfig(R"({"tie_word_embeddings": false})");
  expectRefused("holds no tensor 'model.embed_tokens.weight'");
}

TEST_F(HuggingFaceFolder, WithAWeightThatIsNotFiniteIsRefused) {
  Model model = randomModel(smallConfig(), true);
  const auto refused = [&](float& weight, const std::string& name, const std::string& where) {
    const float before = std::exchange(weight, std::numeric_limits<float>::quiet_NaN());
    expectThrows([&] { saveHuggingFace(folder_.path(), model); },
                 name + ": numbers that are finite in 16 bits expected, found nan at " + where);
    weight = before;
    saveHuggingFace<float>(folder_.path(), model);
    std::string bytes = readBytes(folder_ / "model.safetensors", 1 << 24);
    const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&weight), sizeof(float)));
    ASSERT_NE(at, std::string::npos);
    bytes.replace(at, 4, std::string("\0\0\x80\x7f", 4));
    writeBytes(folder_ / "model.safetensors", bytes);
    expectRefused("tensor '" + name + "' at byte ");
    expectRefused(": finite weights expected, found inf at " + where);
  };
  refused(model.embedding(30, 2), "model.embed_tokens.weight", "(30, 2) of 31 x 24");
  refused(model.layers[1].w2(23, 36), "model.layers.1.mlp.down_proj.weight", "(23, 36) of 24 x 37");
  refused((*model.output)(0, 1), "lm_head.weight", "(0, 1) of 31 x 24");
}

TEST_F(HuggingFaceFolder, WithANormThatIsNotFiniteIsRefused) {
  Model model = randomModel(smallConfig(), true);
  model.layers[1].ffnNorm[5] = 70000.f;  // more than a half holds
  expectThrows([&] { saveHuggingFace(folder_.path(), model); },
               "model.layers.1.post_attention_layernorm.weight: numbers that are finite in 16 bits expected, found inf "
               "at (5, 0) of 24 x 1");
  saveHuggingFace<gosset::BFloat16>(folder_.path(), model);
  EXPECT_NEAR(readHuggingFace(folder_.path()).layers[1].ffnNorm[5], 70000.f, 300.f);
}

TEST_F(HuggingFaceFolder, WithTypesThatItDoesNotKnowIsRefused) {
  const auto write = [&](const std::string& type) {
    const std::string header =
        R"({"model.embed_tokens.weight":{"dtype":")" + type + R"(","shape":[31,24],"data_offsets":[0,744]}})";
    const std::uint64_t length = header.size();
    writeBytes(folder_ / "model.safetensors",
               std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(744, '\0'));
  };
  write("F8_E4M3");
  expectRefused("'model.embed_tokens.weight'");
  expectRefused("FP8 weights; F32, F16 or BF16 expected, the file holds F8_E4M3");
  write("F9\\u001b");
  expectRefused("F32, F16 or BF16 expected, the file holds \"F9\\u001b\"");
}

TEST_F(HuggingFaceFolder, WithIntegersForWeightsIsRefused) {
  gosset::SafetensorsWriter writer;
  writer.add<std::uint8_t>("model.embed_tokens.weight", {31, 24}, std::vector<std::uint8_t>(31 * 24));
  writer.write(folder_ / "model.safetensors");
  expectRefused("F32, F16 or BF16 expected, the file holds U8");
}

}  // namespace
}  // namespace llama::testing::checkpoint_huggingface_test
