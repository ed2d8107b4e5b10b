// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "architecture.hpp"
#include "config_reader.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

// Which keys a config.json may have. A key that nothing reads may change what the model computes, so every one is known
// here, or is an error.
namespace llama {

namespace detail {

/// Keys that all families read.
inline constexpr std::string_view kReadKeys =
    " model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "vocab_size max_position_embeddings rope_theta rope_scaling rope_parameters rms_norm_eps hidden_act "
    "tie_word_embeddings torch_dtype dtype ";

/// Keys that change nothing of what the engine computes: how to train, to generate, to load; names; tokens, which the
/// tokenizer's files say.
inline constexpr std::string_view kHarmlessKeys =
    " architectures auto_map transformers_version transformers.js_config name_or_path finetuning_task tokenizer_class "
    "problem_type task_specific_params id2label label2id prefix unsloth_fixed unsloth_version is_llama_config "
    "_name_or_path _attn_implementation _attn_implementation_autoset attn_implementation "
    "use_cache cache_implementation return_dict output_hidden_states output_attentions output_router_logits "
    "torchscript use_bfloat16 tf_legacy_loss chunk_size_feed_forward pretraining_tp initializer_range "
    "attention_dropout hidden_dropout embd_pdrop resid_pdrop attn_pdrop router_aux_loss_coef router_jitter_noise "
    "is_decoder tie_encoder_decoder cross_attention_hidden_size decoder_start_token_id sep_token_id "
    "bos_token_id eos_token_id pad_token_id unk_token_id forced_bos_token_id forced_eos_token_id "
    "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k "
    "top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size "
    "bad_words_ids num_return_sequences output_scores return_dict_in_generate remove_invalid_values "
    "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens ";

/// Keys that would change what is computed, with the only value that this engine takes where the family's row does not
/// have them.
inline const std::array<std::pair<std::string_view, nlohmann::json>, 24>& neutralKeys() {
  using nlohmann::json;
  static const std::array<std::pair<std::string_view, json>, 24> keys = {{
      {"attention_bias", false},
      {"mlp_bias", false},
      {"qkv_bias", false},
      {"lm_head_bias", false},
      {"use_sliding_window", false},
      {"use_bidirectional_attention", false},
      {"use_mrope", false},
      {"use_qk_norm", false},
      {"rope_interleaved", false},
      {"add_cross_attention", false},
      {"is_encoder_decoder", false},
      {"pruned_heads", json::object()},
      {"partial_rotary_factor", 1.0},
      {"full_attn_mod", 1},
      {"interpolate_factor", 1},
      {"embedding_multiplier", 1.0},
      {"residual_multiplier", 1.0},
      {"attention_multiplier", 1.0},
      {"logits_scaling", 1.0},
      {"sliding_window", nullptr},
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr},
      {"num_local_experts", nullptr},
      {"num_experts", nullptr},
  }};
  return keys;
}

/// Whether `key` is among `keys`, which blanks separate.
inline bool listed(std::string_view keys, std::string_view key) {
  if (key.empty() || key.find(' ') != std::string_view::npos) return false;
  for (std::size_t at = keys.find(key); at != std::string_view::npos; at = keys.find(key, at + 1)) {
    const std::size_t end = at + key.size();
    if ((at == 0 || keys[at - 1] == ' ') && (end == keys.size() || keys[end] == ' ')) return true;
  }
  return false;
}

/// The value of a key of neutralKeys(), or null.
inline const nlohmann::json* neutralValue(std::string_view key) {
  for (const auto& [name, value] : neutralKeys()) {
    if (name == key) return &value;
  }
  return nullptr;
}

}  // namespace detail

/// Throws gosset::FormatError, which names the key, where the config has one that neither this family reads nor is
/// known to change nothing.
inline void checkKeys(const ConfigReader& reader, const Architecture& row) {
  for (const auto& [key, value] : reader.json().items()) {
    if (value.is_null() || detail::listed(row.keys, key) || detail::listed(detail::kReadKeys, key)) continue;
    if (detail::listed(detail::kHarmlessKeys, key)) continue;
    const nlohmann::json* neutral = detail::neutralValue(key);
    if (neutral == nullptr) {
      fail(reader.source(), ": \"", key, "\" is unknown in a model of type \"", row.modelType,
           "\", and may change what it computes");
    }
    reader.expect(key, *neutral);
  }
}

}  // namespace llama
