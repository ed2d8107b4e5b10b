// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../examples/llama/gguf_model_write.hpp"
#include "files.hpp"

#include <gosset/core/random.hpp>

// Small models of every family that tests write as GGUF files.
namespace llama::testing::gguf {

/// Weights that are exact in 16 bits, another one for each place.
template <class Numbers>
void fill(Numbers& numbers, std::uint64_t seed) {
  for (Index i = 0; i < numbers.size(); ++i) {
    const auto bits = gosset::randomBits(seed, static_cast<std::uint64_t>(i));
    numbers.data()[i] = static_cast<float>(bits % 2048) / 1024.f - 1.f;
  }
}

/// A model of that config.json, or a plain Llama.
inline Model modelOf(const nlohmann::json& said) {
  const std::string text = said.dump();
  const HuggingFaceConfig read = parseHuggingFaceConfig(text, "test");
  Model model = emptyWeights<RowMatrixXf>(read.config, !read.tied);
  if (read.config != plainLlama(read.config)) model.configText = text;
  std::uint64_t seed = 1;
  model.embedding = RowMatrixXf(read.config.vocab, read.config.dim);
  fill(model.embedding, seed++);
  forEachLinear(model, [&](const LinearInfo& info, RowMatrixXf& weights) {
    weights = RowMatrixXf(info.rows, info.cols);
    fill(weights, seed++);
  });
  forEachFloat(model, [&](const FloatInfo& info, auto& numbers) {
    numbers.resize(info.shape[0], info.shape.size() > 1 ? info.shape[1] : 1);
    fill(numbers, seed++);
  });
  return model;
}

inline nlohmann::json configOf(const char* type, const nlohmann::json& more = nlohmann::json::object()) {
  nlohmann::json json = {{"model_type", type},      {"hidden_size", 24},        {"intermediate_size", 20},
                         {"num_hidden_layers", 4},  {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                         {"head_dim", 8},           {"vocab_size", 30},         {"max_position_embeddings", 64},
                         {"rms_norm_eps", 1e-5},    {"rope_theta", 20000.0},    {"tie_word_embeddings", false},
                         {"torch_dtype", "float32"}};
  json.update(more);
  return json;
}

inline const nlohmann::json kMoe = {{"num_experts", 3},
                                    {"num_experts_per_tok", 2},
                                    {"moe_intermediate_size", 12},
                                    {"shared_expert_intermediate_size", 16},
                                    {"decoder_sparse_step", 1},
                                    {"norm_topk_prob", false}};

inline std::vector<nlohmann::json> configs() {
  nlohmann::json qwen3moe = kMoe;
  qwen3moe.erase("shared_expert_intermediate_size");
  qwen3moe["norm_topk_prob"] = true;
  const nlohmann::json gemma3 = {{"query_pre_attn_scalar", 8},
                                 {"sliding_window", 7},
                                 {"sliding_window_pattern", 2},
                                 {"rope_local_base_freq", 5000.0},
                                 {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}};
  return {
      configOf("llama"),
      configOf("llama", {{"tie_word_embeddings", true}, {"attention_bias", true}, {"mlp_bias", true}}),
      configOf("llama", {{"rope_scaling",
                          {{"rope_type", "llama3"},
                           {"factor", 8.0},
                           {"low_freq_factor", 1.0},
                           {"high_freq_factor", 4.0},
                           {"original_max_position_embeddings", 32}}}}),
      configOf("llama", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}}}),
      configOf("mistral", {{"sliding_window", nullptr}}),
      configOf("mixtral", {{"sliding_window", nullptr}, {"num_local_experts", 3}, {"num_experts_per_tok", 2}}),
      configOf("qwen2"),
      configOf("qwen2_moe", kMoe),
      configOf("qwen3"),
      configOf("qwen3_moe", qwen3moe),
      configOf("gemma", {{"hidden_act", "gelu_pytorch_tanh"}, {"tie_word_embeddings", true}}),
      configOf("gemma2", {{"query_pre_attn_scalar", 8}, {"sliding_window", 6}, {"attn_logit_softcapping", 3.0}}),
      configOf("gemma3_text", gemma3),
      configOf("phi3", {{"sliding_window", nullptr}}),
      configOf("phi3", {{"sliding_window", nullptr}, {"partial_rotary_factor", 0.5}}),
      configOf("smollm3"),
  };
}

inline GgufOptions inType(const char* type, GgufRounding rounding = GgufRounding::kNearest) {
  GgufOptions options;
  options.mixture = findGgufMixture(type);
  options.rounding = rounding;
  return options;
}

inline GgufSaid write(const fs::path& path, const Model& model, const GgufOptions& options = inType("F32"),
                      const Calibration& calibration = {}) {
  return writeGgufModel(path, model, anyTokenizer(model.config.vocab), options, calibration, [](const GgufWritten&) {});
}

inline Calibration calibrationOf(const Model& model) {
  Calibration calibration;
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf&) {
    RowMatrixXf x(40, info.cols);
    fill(x, 7);
    x.rightCols(info.cols - 1) += x.leftCols(info.cols - 1).eval();
    calibration.try_emplace(info.name, info.cols).first->second.add(x);
  });
  return calibration;
}

}  // namespace llama::testing::gguf
