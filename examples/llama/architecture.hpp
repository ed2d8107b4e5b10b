// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <string_view>

// The families of models that the engine runs: a row each of one table, which says what Hugging Face's folders of that
// model_type leave unsaid. What they say in config.json, config_huggingface.hpp reads; the engine sees neither, but
// the facts of Config.
namespace llama {

/// Which blocks have a sliding window, where no "layer_types" says it.
enum class Windows {
  kNone,
  kAll,          ///< all blocks, where "sliding_window" is a number
  kBehind,       ///< those from "max_window_layers" on, where "use_sliding_window" is true
  kEven,         ///< blocks 0, 2, 4 and so on
  kPattern,      ///< all but every "sliding_window_pattern"th
  kWithoutRope,  ///< those without rotary embedding, where "use_sliding_window" is true
  kListed        ///< none: a "use_sliding_window" without "layer_types" is refused, as its meaning changed
};

/// What the tensors of experts are called.
enum class ExpertNames {
  kNone,
  kQwen,    ///< mlp.experts.0.gate_proj, up_proj, down_proj; the router mlp.gate
  kMixtral  ///< block_sparse_moe.experts.0.w1, w3, w2; the router block_sparse_moe.gate
};

struct Architecture {
  std::string_view modelType;  ///< in config.json
  std::string_view models;     ///< what people call them
  std::string_view keys;       ///< of config.json, by blanks, beyond those that all families have
  std::string_view defaults;   ///< JSON: the values that are meant where config.json has none
  Windows windows = Windows::kNone;
  ExpertNames experts = ExpertNames::kNone;
  bool onePlusNorms = false;     ///< norms are stored as what is added to 1
  bool postNorms = false;        ///< norms behind attention and feed-forward network, too
  bool headNorms = false;        ///< norms of each head of queries and keys
  bool qkvBias = false;          ///< biases of queries, keys and values, whatever config.json says
  bool fused = false;            ///< q, k and v are one tensor, gate and up are another
  bool scaledEmbedding = false;  ///< by the root of its width
  bool geluIsTanh = false;       ///< "gelu" means its approximation by tanh
  bool localRope = false;        ///< blocks with a window have a rotary embedding of their own
  bool scaledRope = true;        ///< "rope_type" may be linear, llama3 or yarn
  bool partialRope = false;      ///< "partial_rotary_factor" of a head turns
};

// Source: the classes of github.com/huggingface/transformers, src/transformers/models/*/configuration_*.py and
// modeling_*.py, whose defaults these are.
inline constexpr std::array kArchitectures = {
    Architecture{.modelType = "llama",
                 .models = "Llama 1 to 3.3, SmolLM2",
                 .keys = "attention_bias mlp_bias",
                 .defaults = R"({"rms_norm_eps": 1e-6})"},
    Architecture{.modelType = "mistral",
                 .models = "Mistral 7B",
                 .keys = "sliding_window",
                 .defaults = R"({"num_key_value_heads": 8, "sliding_window": 4096})",
                 .windows = Windows::kAll},
    Architecture{.modelType = "mixtral",
                 .models = "Mixtral",
                 .keys = "sliding_window num_local_experts num_experts_per_tok",
                 .defaults = R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
                                 "num_local_experts": 8, "num_experts_per_tok": 2})",
                 .windows = Windows::kAll,
                 .experts = ExpertNames::kMixtral},
    Architecture{.modelType = "qwen2",
                 .models = "Qwen2, Qwen2.5",
                 .keys = "sliding_window use_sliding_window max_window_layers layer_types",
                 .defaults = R"({"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28})",
                 .windows = Windows::kBehind,
                 .qkvBias = true},
    Architecture{.modelType = "qwen2_moe",
                 .models = "Qwen1.5-MoE, Qwen2-57B-A14B",
                 .keys = "sliding_window use_sliding_window max_window_layers layer_types qkv_bias num_experts "
                         "num_experts_per_tok moe_intermediate_size shared_expert_intermediate_size norm_topk_prob "
                         "decoder_sparse_step mlp_only_layers",
                 .defaults = R"({"num_key_value_heads": 16, "qkv_bias": true, "sliding_window": 4096, "num_experts": 60,
                                 "num_experts_per_tok": 4, "moe_intermediate_size": 1408,
                                 "shared_expert_intermediate_size": 5632})",
                 .windows = Windows::kListed,
                 .experts = ExpertNames::kQwen},
    Architecture{.modelType = "qwen3",
                 .models = "Qwen3, dense",
                 .keys = "attention_bias sliding_window use_sliding_window max_window_layers layer_types",
                 .defaults = R"({"num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096,
                                 "max_window_layers": 28})",
                 .windows = Windows::kBehind,
                 .headNorms = true},
    Architecture{.modelType = "qwen3_moe",
                 .models = "Qwen3, mixtures of experts",
                 .keys = "attention_bias sliding_window use_sliding_window max_window_layers num_experts "
                         "num_local_experts num_experts_per_tok moe_intermediate_size norm_topk_prob "
                         "decoder_sparse_step mlp_only_layers",
                 .defaults = R"({"num_key_value_heads": 4, "sliding_window": 4096, "num_experts_per_tok": 8,
                                 "moe_intermediate_size": 768})",
                 .windows = Windows::kListed,
                 .experts = ExpertNames::kQwen,
                 .headNorms = true},
    Architecture{.modelType = "gemma",
                 .models = "Gemma 1",
                 .keys = "attention_bias hidden_activation",
                 .defaults = R"({"num_key_value_heads": 16, "head_dim": 256, "tie_word_embeddings": true,
                                 "hidden_act": "gelu_pytorch_tanh"})",
                 .onePlusNorms = true,
                 .scaledEmbedding = true,
                 .geluIsTanh = true},
    Architecture{.modelType = "gemma2",
                 .models = "Gemma 2",
                 .keys = "attention_bias hidden_activation sliding_window sliding_window_size layer_types "
                         "query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping",
                 .defaults = R"({"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": true,
                                 "hidden_act": "gelu_pytorch_tanh", "sliding_window": 4096,
                                 "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0,
                                 "final_logit_softcapping": 30.0})",
                 .windows = Windows::kEven,
                 .onePlusNorms = true,
                 .postNorms = true,
                 .scaledEmbedding = true,
                 .geluIsTanh = true},
    Architecture{.modelType = "gemma3_text",
                 .models = "Gemma 3, text",
                 .keys =
                     "attention_bias hidden_activation sliding_window sliding_window_pattern _sliding_window_pattern "
                     "layer_types "
                     "query_pre_attn_scalar attn_logit_softcapping final_logit_softcapping rope_local_base_freq",
                 .defaults = R"({"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
                                 "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
                                 "vocab_size": 262208, "max_position_embeddings": 131072,
                                 "tie_word_embeddings": true, "hidden_act": "gelu_pytorch_tanh",
                                 "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window": 4096,
                                 "sliding_window_pattern": 6, "query_pre_attn_scalar": 256})",
                 .windows = Windows::kPattern,
                 .onePlusNorms = true,
                 .postNorms = true,
                 .headNorms = true,
                 .scaledEmbedding = true,
                 .geluIsTanh = true,
                 .localRope = true},
    Architecture{.modelType = "phi3",
                 .models = "Phi-3 and Phi-4 without longrope",
                 .keys = "sliding_window partial_rotary_factor original_max_position_embeddings",
                 .defaults = R"({"rms_norm_eps": 1e-5})",
                 .windows = Windows::kAll,
                 .fused = true,
                 .scaledRope = false,
                 .partialRope = true},
    Architecture{.modelType = "smollm3",
                 .models = "SmolLM3",
                 .keys = "attention_bias mlp_bias sliding_window use_sliding_window max_window_layers layer_types "
                         "no_rope_layers no_rope_layer_interval",
                 .defaults = R"({"num_key_value_heads": 4, "tie_word_embeddings": true, "rope_theta": 2000000.0,
                                 "no_rope_layer_interval": 4})",
                 .windows = Windows::kWithoutRope},
};

/// The row of a model_type, or null.
inline const Architecture* findArchitecture(std::string_view modelType) {
  for (const Architecture& row : kArchitectures) {
    if (row.modelType == modelType) return &row;
  }
  return nullptr;
}

/// The model types there are, by commas.
inline std::string architectureNames() {
  std::string names;
  for (const Architecture& row : kArchitectures) names.append(names.empty() ? "" : ", ").append(row.modelType);
  return names;
}

/// The name in a folder's files of a tensor that the engine calls `name`.
inline std::string fileName(const Architecture& row, std::string name) {
  if (row.experts != ExpertNames::kMixtral) return name;
  constexpr std::array<std::array<std::string_view, 2>, 4> kNames = {
      {{".mlp.", ".block_sparse_moe."}, {".gate_proj.", ".w1."}, {".up_proj.", ".w3."}, {".down_proj.", ".w2."}}};
  for (const auto& [ours, theirs] : kNames) {
    const std::size_t at = name.find(ours);
    if (at != std::string::npos) name.replace(at, ours.size(), theirs);
  }
  return name;
}

}  // namespace llama
