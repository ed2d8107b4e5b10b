// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/load.hpp"
#include "files.hpp"
#include "reference.hpp"

#include <functional>
#include <optional>

// Folders that look like models that the engine runs, and are not: each is called by its name.
namespace llama::testing::foreign_files_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

/// A plain Llama's folder, to be spoilt.
class ForeignFolder : public ::testing::Test {
 protected:
  ForeignFolder() { restore(); }

  void restore() { saveHuggingFace<float>(folder_.path(), randomModel(smallConfig(), true)); }

  void expectRefused(const std::string& text) {
    expectThrows<FormatError>([&] { readModel(folder_.path()); }, text);
  }

  void patchConfig(const std::string& patch) {
    nlohmann::json json = nlohmann::json::parse(readBytes(folder_ / "config.json", 1 << 20));
    json.merge_patch(nlohmann::json::parse(patch));
    writeBytes(folder_ / "config.json", json.dump());
  }

  /// Writes the tensors again, with one more of these numbers of bytes and type.
  void addTensor(const std::string& name, gosset::Dtype dtype, const std::vector<Index>& shape) {
    const gosset::SafetensorsFile file(folder_ / "model.safetensors");
    gosset::SafetensorsWriter writer;
    for (const auto& [tensor, info] : file.tensors()) {
      writer.addSource(tensor, info.dtype, info.shape,
                       [bytes = file.data(tensor)](const gosset::SafetensorsWriter::Put& put) { put(bytes); });
    }
    Index size = static_cast<Index>(gosset::dtypeSize(dtype));
    for (const Index dimension : shape) size *= dimension;
    const std::vector<std::byte> zeros(static_cast<std::size_t>(size));
    writer.addSource(name, dtype, shape, [zeros](const gosset::SafetensorsWriter::Put& put) { put(zeros); });
    writer.write(folder_ / "model.safetensors");
  }

  void removeTensors() { fs::remove(folder_ / "model.safetensors"); }

  TemporaryFolder folder_;
};

TEST_F(ForeignFolder, TensorsThatNothingReadsAreNamed) {
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_norm.weight",
                           "model.layers.2.input_layernorm.weight", "score.weight"}) {
    restore();
    addTensor(name, gosset::Dtype::kF32, {24});
    expectRefused("tensor '" + std::string(name) + "' at byte ");
    expectRefused("unknown in a model of type \"llama\" with this config, and may change what it computes");
  }
  restore();
  addTensor("model.layers.0.self_attn.rotary_emb.inv_freq", gosset::Dtype::kF32, {2});  // old writers' tables
  EXPECT_NO_THROW(readModel(folder_.path()));
}

TEST_F(ForeignFolder, BiasesThatTheConfigHasNotAreNamed) {
  patchConfig(R"({"attention_bias": true})");
  expectRefused("holds no tensor 'model.layers.0.self_attn.q_proj.bias'");
  patchConfig(R"({"attention_bias": null, "model_type": "qwen2", "num_key_value_heads": 2})");
  expectRefused("holds no tensor 'model.layers.0.self_attn.q_proj.bias'");
}

TEST_F(ForeignFolder, WithoutAModelTypeIsRefused) {
  patchConfig(R"({"model_type": null})");
  expectRefused("config.json: \"model_type\" is missing");
}

TEST_F(ForeignFolder, ExpertsThatAreNotThereAskForNoMemory) {
  patchConfig(R"({"model_type": "qwen3_moe", "num_experts": 10000, "num_experts_per_tok": 1})");
  expectRefused("the config asks for 20000 experts in all, the file holds 21 tensors");
}

TEST_F(ForeignFolder, PackedWeightsAreNamed) {
  const auto refused = [&](const std::string& name, gosset::Dtype dtype, const std::string& text) {
    restore();
    addTensor(name, dtype, {3, 8});
    expectRefused("tensor '" + name + "' at byte ");
    expectRefused(text);
  };
  refused("model.layers.0.mlp.up_proj.qweight", gosset::Dtype::kI32, "weights that GPTQ or AWQ has packed");
  refused("model.layers.0.mlp.up_proj.weight_packed", gosset::Dtype::kI32,
          "weights that compressed-tensors has packed");
  refused("model.layers.0.mlp.up_proj.weight.absmax", gosset::Dtype::kF32, "weights that bitsandbytes has packed");
  refused("model.layers.0.mlp.up_proj.weight_scale_inv", gosset::Dtype::kF32, "weights that FP8 has packed");
  refused("a", gosset::Dtype::kF8E4M3, "FP8 weights; F32, F16 or BF16 expected, the file holds F8_E4M3");
  refused("a", gosset::Dtype::kF8E5M2, "FP8 weights; F32, F16 or BF16 expected, the file holds F8_E5M2");
}

TEST_F(ForeignFolder, AQuantizationConfigIsNamed) {
  patchConfig(R"({"quantization_config": {"quant_method": "fp8", "bits": 8}})");
  expectRefused("its weights are quantized already (\"quantization_config\", \"fp8\")");
  patchConfig(R"({"quantization_config": {"quant_method": "awq"}})");
  expectRefused("config.json: \"quantization_config\": ");
}

TEST_F(ForeignFolder, AnAdapterIsNamed) {
  writeBytes(folder_ / "adapter_config.json", "{}");
  expectRefused("a LoRA adapter (adapter_config.json); merge it into its model");
}

TEST_F(ForeignFolder, PicklesAreNamed) {
  writeBytes(folder_ / "pytorch_model.bin", "PK\x03\x04");
  EXPECT_NO_THROW(readModel(folder_.path()));  // beside safetensors
  removeTensors();
  expectRefused("holds a pickle of PyTorch, pytorch_model.bin, which can run code when it is read");
  fs::rename(folder_ / "pytorch_model.bin", folder_ / "consolidated.00.pth");
  expectRefused("holds a pickle of PyTorch, consolidated.00.pth");
}

TEST_F(ForeignFolder, AGgufFileIsNamed) {
  removeTensors();
  expectRefused("holds neither model.safetensors nor model.safetensors.index.json");
  writeBytes(folder_ / "llama-q4.gguf", "GGUF");
  expectRefused("holds a GGUF file, llama-q4.gguf, and no model.safetensors");
}

TEST_F(ForeignFolder, FilesAreNamed) {
  const auto refused = [&](const char* name, const std::string& bytes, const std::string& text) {
    writeBytes(folder_ / name, bytes);
    expectThrows<FormatError>([&] { readModel(folder_ / name); }, (folder_ / name).string() + text);
  };
  refused("a.gguf", "", ": a GGUF file; name the Hugging Face folder of the same model");
  refused("a.bin", "GGUF\x03", ": a GGUF file; name the Hugging Face folder of the same model");
  refused("b.bin", "PK\x03\x04 and so on", ": a pickle of PyTorch, which can run code when it is read");
  refused("c.bin", std::string("\x80\x02\x8a\x0a", 4), ": a pickle of PyTorch, which can run code when it is read");
  refused("d.bin", "abc", ": a llama2.c checkpoint begins with 28 bytes of sizes, found 3 bytes");
}

}  // namespace
}  // namespace llama::testing::foreign_files_test
