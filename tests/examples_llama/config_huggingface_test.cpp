// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/config_huggingface.hpp"

#include "reference.hpp"

namespace llama::testing::config_huggingface_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using nlohmann::json;

constexpr const char* kConfig = R"({"model_type": "llama", "hidden_size": 24, "intermediate_size": 37,
  "num_hidden_layers": 2, "num_attention_heads": 6, "vocab_size": 31, "max_position_embeddings": 48})";

/// kConfig with more or other fields.
std::string configWith(const std::string& patch) {
  json config = json::parse(kConfig);
  const json changes = json::parse(patch);
  for (const auto& [key, value] : changes.items()) config[key] = value;  // null, too
  return config.dump();
}

Config parsed(const std::string& patch) { return parseHuggingFaceConfig(configWith(patch), "x").config; }

void refuses(const std::string& text, const std::string& expected) {
  expectThrows<FormatError>([&] { parseHuggingFaceConfig(text, "config.json"); }, "config.json: " + expected);
}

void refusesWith(const std::string& patch, const std::string& expected) { refuses(configWith(patch), expected); }

TEST(CheckConfig, ARotaryEmbeddingNeedsAPositiveBase) {
  Config config = smallConfig();
  config.ropeTheta = 0.f;
  expectThrows<FormatError>([&] { checkConfig(config, "x"); }, "x: rope theta must be positive, found 0");
  config.ropeTheta = 1e-3f;
  EXPECT_NO_THROW(checkConfig(config, "x"));
}

TEST(HuggingFaceConfigText, WhatIsNotSaidIsAsPublished) {
  const HuggingFaceConfig read = parseHuggingFaceConfig(kConfig, "x");
  Config expected = smallConfig();
  expected.kvHeads = expected.heads;
  expected.normEps = 1e-6f;
  EXPECT_EQ(read.config, expected);
  EXPECT_FALSE(read.tied);
  EXPECT_FALSE(read.textOfMore);
  EXPECT_EQ(read.architecture->modelType, "llama");
}

TEST(HuggingFaceConfigText, EveryFieldIsRead) {
  const HuggingFaceConfig read = parseHuggingFaceConfig(
      configWith(R"({"num_key_value_heads": 3, "head_dim": 10, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
                     "tie_word_embeddings": true, "rope_scaling": null, "attention_bias": false})"),
      "x");
  EXPECT_EQ(read.config.kvHeads, 3);
  EXPECT_EQ(read.config.headDim, 10);
  EXPECT_EQ(read.config.ropeTheta, 500000.f);
  EXPECT_EQ(read.config.normEps, 1e-5f);
  EXPECT_TRUE(read.tied);
  EXPECT_EQ(parsed(R"({"num_key_value_heads": 3})").headDim, 4);  // 24 / 6, however many share keys
  const std::string qwen2 = R"({"model_type": "qwen2", "num_key_value_heads": 6, "use_sliding_window": false})";
  EXPECT_EQ(parsed(qwen2).normEps, 1e-6f);  // of a family that says nothing of it, too
  const Config newer = parsed(R"({"rope_parameters": {"rope_theta": 700, "rope_type": "default"}})");
  EXPECT_EQ(newer.ropeTheta, 700.f);
  EXPECT_EQ(newer, plainLlama(newer));
}

TEST(HuggingFaceConfigText, ItsTextComesBack) {
  Config config = smallConfig();
  config.headDim = 6;
  config.ropeTheta = 500.f;
  const auto again = parseHuggingFaceConfig(huggingFaceConfigText(config, true), "x");
  EXPECT_EQ(again.config, config);
  EXPECT_TRUE(again.tied);
  config.logitCap = 30.f;
  expectThrows([&] { huggingFaceConfigText(config, true); }, "config: a plain Llama expected (no biases");
}

TEST(HuggingFaceConfigText, SaysWhatItCannotRun) {
  refuses("", "JSON in UTF-8 expected");
  refuses("[1]", "a JSON object expected");
  refuses(std::string(1000000, '['), "JSON nested at most 100 deep expected, found more");
  const std::string deep = R"({"model_type": )" + std::string(200000, '[') + std::string(200000, ']') + "}";
  refuses(deep, "JSON nested at most 100 deep expected, found more");
  refusesWith(R"({"rms_norm_eps": 1e300})", "\"rms_norm_eps\" must be a number that float can hold, found 1e+300");
  refuses(R"({"model_type": "llama"})", "\"hidden_size\" must be an integer, found nothing");
  refusesWith(R"({"hidden_size": "24"})", "\"hidden_size\" must be an integer, found \"24\"");
  refusesWith(R"({"hidden_size": 24.5})", "\"hidden_size\" must be an integer, found 24.5");
  refusesWith(R"({"hidden_size": -24})", "dim must lie in 1 .. 1048576, found -24");
  refusesWith(R"({"hidden_size": 99999999999999})", "dim must lie in");
  refusesWith(R"({"hidden_size": 18446744073709551615})", "dim must lie in");
  refusesWith(R"({"num_hidden_layers": 99999999999})", "layers must lie in 1 .. 10000");
  refusesWith(R"({"num_attention_heads": 0})", "\"num_attention_heads\" must be positive, found 0");
  refusesWith(R"({"num_key_value_heads": 4})", "heads (6) must be a multiple of kv heads (4)");
  refusesWith(R"({"head_dim": 3})", "head dim must be even, found 3");
  refusesWith(R"({"rms_norm_eps": "small"})", "\"rms_norm_eps\" must be a number, found \"small\"");
  refusesWith(R"({"rope_theta": -1})", "rope theta must be positive, found -1");
  refusesWith(R"({"rope_theta": 0})", "rope theta must be positive, found 0");
  refusesWith(R"({"tie_word_embeddings": 1})", "\"tie_word_embeddings\" must be true or false, found 1");
  refusesWith(R"({"hidden_act": "relu"})", "\"hidden_act\" must be \"silu\" or \"gelu_pytorch_tanh\", found \"relu\"");
  refusesWith(R"({"hidden_act": "gelu"})", "\"hidden_act\" must be \"silu\" or \"gelu_pytorch_tanh\", found \"gelu\"");
  refusesWith(R"({"hidden_act": 3})", "\"hidden_act\" must be a string, found 3");
  refusesWith(R"({"model_type": "gemma", "num_key_value_heads": 6, "hidden_act": "silu"})",
              "\"hidden_act\" must be \"gelu_pytorch_tanh\", found \"silu\"");
}

TEST(HuggingFaceConfigText, AModelTypeIsNeeded) {
  refuses("{}",
          "\"model_type\" is missing, one of llama, mistral, mixtral, qwen2, qwen2_moe, qwen3, qwen3_moe, gemma, "
          "gemma2, gemma3_text, phi3, smollm3 expected");
  refusesWith(R"({"model_type": null})", "\"model_type\" is missing, one of llama, mistral");
  refusesWith(R"({"model_type": "gpt2"})", "\"model_type\" must be one of llama, mistral, mixtral, qwen2, ");
  expectThrows<FormatError>([] { parsed(R"({"model_type": "gpt2"})"); }, "smollm3, found \"gpt2\"");
}

TEST(HuggingFaceConfigText, UnknownKeysAreNamed) {
  refusesWith(R"({"clip_qkv": 8.0})",
              "\"clip_qkv\" is unknown in a model of type \"llama\", and may change what it computes");
  EXPECT_NO_THROW(parsed(R"({"clip_qkv": null})"));
  refusesWith(R"({"hidden_size vocab_size": 1})", "\"hidden_size vocab_size\" is unknown");
  refusesWith(R"({"": 1})", "\"\" is unknown");
  refusesWith(R"({"idden_size": 1})", "\"idden_size\" is unknown");
  refusesWith(R"({"sliding_window": 16})", "\"sliding_window\" can only be null here, found 16");
  refusesWith(R"({"qkv_bias": true})", "\"qkv_bias\" can only be false here, found true");
  refusesWith(R"({"rope_interleaved": true})", "\"rope_interleaved\" can only be false here, found true");
  refusesWith(R"({"residual_multiplier": 0.22})", "\"residual_multiplier\" can only be 1.0 here, found 0.22");
  refusesWith(R"({"partial_rotary_factor": 0.5})", "\"partial_rotary_factor\" can only be 1.0 here, found 0.5");
  refusesWith(R"({"final_logit_softcapping": 30.0})", "\"final_logit_softcapping\" can only be null here, found 30.0");
  refusesWith(R"({"model_type": "mistral", "attention_bias": true})", "\"attention_bias\" can only be false here");
  EXPECT_NO_THROW(parsed(R"({"architectures": ["LlamaForCausalLM"], "pruned_heads": {}, "top_k": 50,
                             "torch_dtype": "bfloat16", "is_encoder_decoder": false, "_name_or_path": "x"})"));
}

TEST(HuggingFaceConfigText, RotaryEmbeddingsThatItDoesNotKnowAreNamed) {
  const auto rope = [](const std::string& said) { return R"({"rope_scaling": )" + said + "}"; };
  const std::string expected = "rotary embedding of type default, linear, llama3 or yarn expected, found ";
  refusesWith(rope(R"({"rope_type": "dynamic", "factor": 2.0})"), expected + "\"dynamic\"");
  refusesWith(rope(R"({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]})"), expected + "\"longrope\"");
  refusesWith(rope("2"), "\"rope_scaling\" must be an object");
  refusesWith(rope(R"({"type": "linear"})"), "\"factor\" must be a number, found nothing");
  refusesWith(rope(R"({"type": "linear", "factor": 0})"), "\"factor\" must be positive, found 0");
  refusesWith(rope(R"({"type": "linear", "factor": 2, "alpha": 3})"), "\"alpha\" is unknown in a rotary embedding");
  refusesWith(rope(R"({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4})"),
              "\"high_freq_factor\" must be greater than \"low_freq_factor\", found 4");
  refusesWith(rope(R"({"rope_type": "llama3", "factor": 2})"), "\"low_freq_factor\" must be a number, found nothing");
  refusesWith(rope(R"({"rope_type": "yarn", "factor": 2, "beta_fast": -1})"),
              "\"beta_fast\" must be positive, found -1");
  refusesWith(R"({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 2}})",
              "rope theta must be greater than 1 with yarn, found 1");
  refusesWith(rope(R"({"partial_rotary_factor": 0.5})"), "\"partial_rotary_factor\" must be 1 here, found 0.5");
  refusesWith(R"({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_type": "default"}})",
              "holds both \"rope_scaling\" and \"rope_parameters\"");
  refusesWith(R"({"model_type": "phi3", "rope_scaling": {"type": "longrope"}})",
              "rotary embedding of type default expected, found \"longrope\"");
  refusesWith(R"({"model_type": "phi3", "head_dim": 10, "partial_rotary_factor": 0.7})",
              "an even number of a head's 10 numbers must turn, found 7");
}

TEST(HuggingFaceConfigText, FrequenciesAreThosePublished) {
  // Llama 3.1: pairs that turn slowly are 8 times slower, quick ones stay.
  const Config llama3 = parsed(R"({"head_dim": 128, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3",
      "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})");
  ASSERT_EQ(llama3.ropes.size(), 1u);
  const auto plain = ropeFrequencies(128, 500000.0);
  const auto& scaled = llama3.ropes[0].frequencies;
  EXPECT_EQ(scaled[0], 1.0);
  EXPECT_NEAR(scaled[63] / plain[63], 1.0 / 8, 1e-12);
  const double turns = 8192 * plain[30] / (2 * 3.141592653589793);  // between 1 and 4
  ASSERT_GT(turns, 1.0);
  ASSERT_LT(turns, 4.0);
  EXPECT_NEAR(scaled[30] / plain[30], (turns - 1) / 3 + (4 - turns) / 3 / 8, 1e-12);
  // Qwen2.5's yarn: .1 ln(4) + 1.
  const Config yarn = parsed(R"({"head_dim": 128, "rope_theta": 1000000.0, "rope_scaling": {"rope_type": "yarn",
      "factor": 4.0, "original_max_position_embeddings": 32768}})");
  EXPECT_NEAR(yarn.ropes[0].magnitude, 1.1386294361119891, 1e-12);
  EXPECT_EQ(yarn.ropes[0].frequencies[0], 1.0);
  EXPECT_NEAR(yarn.ropes[0].frequencies[63] * 4, ropeFrequencies(128, 1000000.0)[63], 1e-18);
  // A ramp from pair 2 to pair 6, of which there are 4: the last is a quarter on its way.
  const Config ramp = parsed(R"({"head_dim": 8, "rope_theta": 100.0, "rope_scaling": {"rope_type": "yarn",
      "factor": 4.0, "original_max_position_embeddings": 4096}})");
  EXPECT_NEAR(ramp.ropes[0].frequencies[2], std::pow(100.0, -0.5), 1e-15);
  EXPECT_NEAR(ramp.ropes[0].frequencies[3], std::pow(100.0, -0.75) * (0.75 + 0.25 / 4), 1e-15);
}

TEST(HuggingFaceConfigText, WindowsAreWhereTheFamilyHasThem) {
  const auto windows = [](const std::string& patch) {
    const Config config = parsed(patch);
    std::vector<Index> sizes;
    for (std::size_t i = 0; i < static_cast<std::size_t>(config.layers); ++i) {
      sizes.push_back(config.block(i).window == Block::kNoWindow ? 0 : config.block(i).window);
    }
    return sizes;
  };
  using Sizes = std::vector<Index>;
  EXPECT_EQ(windows(R"({"model_type": "mistral", "num_key_value_heads": 6})"), (Sizes{4096, 4096}));  // as published
  EXPECT_EQ(windows(R"({"model_type": "mistral", "num_key_value_heads": 6, "sliding_window": null})"), (Sizes{0, 0}));
  const std::string qwen = R"({"model_type": "qwen2", "num_key_value_heads": 6, "sliding_window": 5, )";
  EXPECT_EQ(windows(qwen + R"("use_sliding_window": false, "max_window_layers": 0})"), (Sizes{0, 0}));
  EXPECT_EQ(windows(qwen + R"("use_sliding_window": true, "max_window_layers": 1})"), (Sizes{0, 5}));
  EXPECT_EQ(windows(qwen + R"("use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention"]})"),
            (Sizes{5, 0}));
  refusesWith(qwen + R"("layer_types": ["sliding_attention", "full_attention"]})",
              "\"layer_types\" has \"sliding_attention\", but there is no sliding window");
  refusesWith(qwen + R"("layer_types": ["full_attention"]})", "\"layer_types\" must be a list of 2 ");
  refusesWith(qwen + R"("layer_types": ["full_attention", "chunked_attention"]})",
              "\"layer_types\" must hold \"full_attention\" or \"sliding_attention\", found \"chunked_attention\"");
  refusesWith(R"({"model_type": "gemma2", "num_key_value_heads": 6, "sliding_window": 8, "sliding_window_size": 9})",
              "\"sliding_window_size\" must be \"sliding_window\", found 9");
  refusesWith(R"({"model_type": "mistral", "sliding_window": 0, "num_key_value_heads": 6})",
              "\"sliding_window\" must be positive, found 0");
  refusesWith(R"({"model_type": "qwen3_moe", "num_key_value_heads": 6, "num_experts": 4, "use_sliding_window": true})",
              "\"use_sliding_window\" can only be false here, as versions of transformers differ");
}

TEST(HuggingFaceConfigText, ExpertsThatDoNotFitAreRefused) {
  const std::string moe = R"({"model_type": "qwen3_moe", "num_key_value_heads": 6, )";
  const Config config = parsed(moe + R"("num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 2})");
  EXPECT_FALSE(config.block(0).experts);
  EXPECT_TRUE(config.block(1).experts);
  EXPECT_EQ(config.experts.hidden, 768);
  refusesWith(moe + R"("num_experts": 4})", "experts a token must lie in 1 .. 4, found 8");
  refusesWith(moe + R"("num_experts": 0})", "\"num_experts\" must be positive, found 0");
  refusesWith(moe + R"("num_experts": 4, "num_experts_per_tok": 1, "decoder_sparse_step": 0})",
              "\"decoder_sparse_step\" must be positive, found 0");
  refusesWith(moe + R"("num_experts": 4, "num_experts_per_tok": 1, "mlp_only_layers": 3})",
              "\"mlp_only_layers\" must be a list of 0 numbers of layers, found 3");
}

TEST(HuggingFaceConfigText, WeightsThatArePackedAlreadyAreNamed) {
  for (const char* method : {"gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8"}) {
    refusesWith(R"({"quantization_config": {"quant_method": ")" + std::string(method) + R"(", "bits": 4}})",
                "its weights are quantized already (\"quantization_config\", \"" + std::string(method) + "\")");
  }
  refusesWith(R"({"quantization_config": {"load_in_4bit": true}})",
              "its weights are quantized already (\"quantization_config\");");
  refusesWith(R"({"quantization": {"group_size": 64, "bits": 4}})",
              "its weights are quantized already (\"quantization\");");
}

/// The fields and values of published files.
TEST(HuggingFaceConfigText, PublishedConfigsAreRead) {
  const auto config = [](const char* text) { return parseHuggingFaceConfig(text, "x").config; };
  const Config smollm2 = config(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
      "initializer_range": 0.041666666666666664, "intermediate_size": 1536, "is_llama_config": true,
      "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
      "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false,
      "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.40.1", "use_cache": true, "vocab_size": 49152})");
  EXPECT_EQ(smollm2, plainLlama(smollm2));
  const Config qwen2 = config(R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
      "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 3584,
      "initializer_range": 0.02, "intermediate_size": 18944, "max_position_embeddings": 32768,
      "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28,
      "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.41.2", "use_cache": true,
      "use_sliding_window": false, "vocab_size": 152064})");
  EXPECT_TRUE(qwen2.qkvBias);
  EXPECT_TRUE(qwen2.blocks.empty());
  const Config phi3 = config(R"({"_name_or_path": "Phi-3-mini-4k-instruct", "architectures": ["Phi3ForCausalLM"],
      "attention_dropout": 0.0, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "bos_token_id": 1,
      "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
      "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3", "num_attention_heads": 32,
      "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
      "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
      "sliding_window": 2047, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
      "attention_bias": false, "vocab_size": 32064})");
  EXPECT_EQ(phi3.block(31).window, 2047);
  const Config gemma2 = config(R"({"architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid",
      "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3584, "initializer_range": 0.02,
      "intermediate_size": 14336, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 16,
      "num_hidden_layers": 42, "num_key_value_heads": 8, "pad_token_id": 0, "query_pre_attn_scalar": 256,
      "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
      "torch_dtype": "bfloat16", "transformers_version": "4.45.2", "use_cache": true, "vocab_size": 256000})");
  EXPECT_EQ(gemma2.block(0).window, 4096);
  EXPECT_EQ(gemma2.block(1).window, Block::kNoWindow);
  EXPECT_EQ(gemma2.embeddingScale, 59.75f);  // sqrt(3584) = 59.867 in bfloat16
  EXPECT_EQ(gemma2.scoreCap, 50.f);
  EXPECT_EQ(gemma2.logitCap, 30.f);
}

TEST(HuggingFaceConfigText, ModelsThatSeeAreNamed) {
  refuses(R"({"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {}})",
          "a multimodal model (\"text_config\"), of type \"llava\"");
  refusesWith(R"({"vision_config": {"hidden_size": 3}})", "a multimodal model (\"vision_config\"), of type \"llama\"");
  refuses(R"({"model_type": "gemma3", "text_config": 3})", "\"text_config\" must be an object");
  refuses(R"({"model_type": "gemma3", "text_config": {}, "twist": 3})",
          "\"twist\" is unknown in a model of type \"gemma3\"");
  refuses(R"({"model_type": "gemma3", "text_config": {"twist": 3}})",
          "text_config: \"twist\" is unknown in a model of type \"gemma3_text\"");
}

TEST(HuggingFaceConfigText, Gemma3SaysLittleOfItsText) {  // as google/gemma-3-4b-it does
  const HuggingFaceConfig read = parseHuggingFaceConfig(
      R"({"architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
          "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
          "model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240,
          "model_type": "gemma3_text", "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
          "sliding_window": 1024}, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
          "vision_config": {"hidden_size": 1152}})",
      "x");
  const Config& c = read.config;
  EXPECT_TRUE(read.textOfMore);
  EXPECT_TRUE(read.tied);
  EXPECT_EQ(c.heads, 8);
  EXPECT_EQ(c.headDim, 256);
  EXPECT_EQ(c.vocab, 262208);
  EXPECT_EQ(c.embeddingScale, 50.5f);  // sqrt(2560) = 50.596 in bfloat16
  EXPECT_EQ(c.attentionScale, 1.f / 16);
  ASSERT_EQ(c.ropes.size(), 2u);
  EXPECT_EQ(c.ropes[0].frequencies[0], 1.0 / 8);
  EXPECT_EQ(c.ropes[1].frequencies[0], 1.0);
  EXPECT_EQ(c.block(4).window, 1024);
  EXPECT_EQ(c.block(4).rope, 1);
  EXPECT_EQ(c.block(5).window, Block::kNoWindow);
  EXPECT_EQ(c.block(5).rope, 0);
}

}  // namespace
}  // namespace llama::testing::config_huggingface_test
