// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/integer_layers.hpp"
#include "../../examples/llama/engine.hpp"
#include "../../examples/llama/load.hpp"
#include "../../examples/llama/packed_file.hpp"
#include "files.hpp"
#include "numpy_models.hpp"
#include "reference.hpp"

// Folders of GPTQ, AWQ and compressed-tensors against a forward pass in Python and double (integer_families.py).
namespace llama::testing::integer_layers_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

class IntegerLayers : public NumpyModels<IntegerLayers> {
 public:
  static constexpr const char* kScript = "integer_families.py";

 protected:
  /// The largest error of logits, of the largest logit.
  double error(const PackedModel& model) const {
    const Engine engine(model);
    KvCache cache(engine.config(), static_cast<Index>(ids_.size()));
    return NumpyModels::error(engine.forward(ids_, cache));
  }
};

TEST_P(IntegerLayers, AsFloatsAreThoseOfDouble) {
  EXPECT_TRUE(hasIntegerLayers(folder_));
  EXPECT_LT(error(floatModel(readModel(folder_))), 1e-5);
}

TEST_P(IntegerLayers, AsStoredAreTheSameNumbers) {
  const Model floats = readModel(folder_);
  PackedModel stored = readHuggingFaceAsStored(folder_);
  EXPECT_EQ(stored.config, floats.config);
  EXPECT_EQ(stored.embedding.dequantized(), floats.embedding);
  std::vector<gosset::AnyMatrix> matrices;
  forEachLinear(stored, [&](const LinearInfo&, gosset::AnyMatrix& matrix) {
    matrix.setActivations(gosset::Activations::kFloat);
    matrices.push_back(matrix);
  });
  auto matrix = matrices.begin();
  Index packed = 0;
  forEachLinear(floats, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    EXPECT_EQ(matrix->dequantized(), weights) << info.name;
    if (matrix->bitsPerWeight() < 15) ++packed;
    ++matrix;
  });
  EXPECT_GE(packed, 7 * 3);
  EXPECT_LT(error(stored), 1e-5);
}

TEST_P(IntegerLayers, MayBePackedAgain) {
  const PackedModel stored = readHuggingFaceAsStored(folder_);
  const auto pack = [](const LinearInfo& info, const RowMatrixXf& weights) {
    return findFormat("fp16").pack({info, weights});
  };
  const fs::path path = folder_ / "packed.safetensors";
  savePacked(path, packModel(readModel(folder_), Floats::kFloat16, pack, pack), anyTokenizer(stored.config.vocab));
  EXPECT_EQ(readPackedFile(path).model.config, stored.config);
  fs::remove(path);
}

INSTANTIATE_TEST_SUITE_P(All, IntegerLayers,
                         ::testing::Values("Gptq", "GptqActOrder", "GptqBeside", "AwqQwen2", "CompressedPhi3",
                                           "CompressedMixtral"),
                         [](const auto& name) { return name.param; });

/// A plain Llama's folder with a layer of GPTQ.
class IntegerFolder : public ::testing::Test {
 protected:
  void save(const std::string& config, std::vector<Index> words, const std::vector<float>& bias = {}) {
    const Model model = randomModel(smallConfig(), true);
    saveHuggingFace<float>(folder_.path(), model);
    nlohmann::json json = nlohmann::json::parse(readBytes(folder_ / "config.json", 1 << 20));
    if (!config.empty()) json["quantization_config"] = nlohmann::json::parse(config);
    writeBytes(folder_ / "config.json", json.dump());
    const gosset::SafetensorsFile file(folder_ / "model.safetensors");
    gosset::SafetensorsWriter writer;
    for (const auto& [tensor, info] : file.tensors()) {
      if (tensor == kModule + ".weight") continue;
      writer.addSource(tensor, info.dtype, info.shape,
                       [bytes = file.data(tensor)](const gosset::SafetensorsWriter::Put& put) { put(bytes); });
    }
    const Index m = words[1], n = words[0] * 8;
    writer.add<std::int32_t>(kModule + ".qweight", words,
                             std::vector<std::int32_t>(static_cast<std::size_t>(n / 8 * m)));
    writer.add<std::int32_t>(kModule + ".qzeros", {1, m / 8},
                             std::vector<std::int32_t>(static_cast<std::size_t>(m / 8)));
    writer.add<float>(kModule + ".scales", {1, m}, std::vector<float>(static_cast<std::size_t>(m), 1.f));
    if (!bias.empty()) writer.add<float>(kModule + ".bias", {static_cast<Index>(bias.size())}, bias);
    writer.write(folder_ / "model.safetensors");
  }

  static constexpr const char* kConfig = R"({"quant_method": "gptq", "bits": 4, "group_size": -1})";
  const std::string kModule = "model.layers.0.self_attn.o_proj";
  TemporaryFolder folder_;
};

TEST_F(IntegerFolder, IsReadAndRefusedByName) {
  const Index dim = smallConfig().dim;
  ASSERT_EQ(dim % 8, 0);
  save(kConfig, {dim / 8, dim});
  EXPECT_EQ(readModel(folder_.path()).layers[0].wo, RowMatrixXf::Constant(dim, dim, -1)) << "0 - (0 + 1)";
  const auto refused = [&](const std::string& text) {
    expectThrows<FormatError>([&] { readModel(folder_.path()); }, text);
    expectThrows<FormatError>([&] { readHuggingFaceAsStored(folder_.path()); }, text);
  };
  save(kConfig, {dim / 8, dim}, std::vector<float>(static_cast<std::size_t>(dim)));
  EXPECT_NO_THROW(readModel(folder_.path()));
  std::vector<float> bias(static_cast<std::size_t>(dim));
  bias.back() = 1;
  save(kConfig, {dim / 8, dim}, bias);
  refused("tensor 'model.layers.0.self_attn.o_proj.bias' at byte ");
  refused("unknown in a model of type \"llama\" with this config, and may change what it computes");
  save(kConfig, {dim / 8, dim + 8});
  refused("tensor 'model.layers.0.self_attn.o_proj.qweight' at byte ");
  refused("the config asks for shape [" + std::to_string(dim) + "," + std::to_string(dim) +
          "], the file holds integers of shape [" + std::to_string(dim + 8) + "," + std::to_string(dim) + "]");
  save(R"({"quant_method": "gptq", "bits": 4, "group_size": -1, "new": 1})", {dim / 8, dim});
  refused("config.json: \"quantization_config\": \"new\" is unknown here, and may change what the numbers mean");
  save(R"({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"a": {"weights":
       {"num_bits": 4}}}})",
       {dim / 8, dim});
  refused("weights that GPTQ or AWQ has packed; floats expected");
  save("", {dim / 8, dim});
  refused("weights that GPTQ or AWQ has packed; floats expected");
  EXPECT_FALSE(hasIntegerLayers(folder_.path()));
  writeBytes(folder_ / "quantize_config.json", R"({"bits": 4, "group_size": -1})");
  EXPECT_TRUE(hasIntegerLayers(folder_.path()));
  EXPECT_NO_THROW(readModel(folder_.path()));
  writeBytes(folder_ / "quantize_config.json", R"({"bits": 4})");
  refused("quantize_config.json: \"group_size\": expected an integer of -1 to 2147483648, found nothing");
  EXPECT_FALSE(hasIntegerLayers(folder_ / "nowhere"));
}

TEST(IntegerMatrix, WhatNoFormatHoldsIsFloat) {
  gosset::IntegerWeights w;
  w.bits = 5;
  w.group_size = 8;
  w.codes = decltype(w.codes)::Constant(2, 8, 31);
  w.scales = RowMatrixXf::Constant(2, 1, 1.f / 3);
  w.zeros = RowMatrixXf::Constant(2, 1, 3);
  w.group_of.assign(8, 0);
  const gosset::AnyMatrix matrix = integerMatrix(w);
  EXPECT_EQ(matrix.format(), "float");
  EXPECT_EQ(matrix.dequantized(), w.dequantized());
}

}  // namespace
}  // namespace llama::testing::integer_layers_test
