// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_family.hpp"

#include <gosset/io/gguf.hpp>

#include <cmath>
#include <optional>

// A GGUF file's metadata as the config.json that Hugging Face's folder of the same model would have.
namespace llama {

namespace detail {

/// Of an architecture, by blanks; what else there is may change what the model computes.
inline constexpr std::string_view kGgufArchitectureKeys =
    " context_length embedding_length block_count feed_forward_length attention.head_count attention.head_count_kv "
    "attention.key_length attention.value_length attention.layer_norm_rms_epsilon vocab_size attn_logit_softcapping "
    "final_logit_softcapping expert_count expert_used_count expert_feed_forward_length "
    "expert_shared_feed_forward_length rope.freq_base rope.dimension_count rope.scaling.type rope.scaling.factor "
    "rope.scaling.attn_factor attention.sliding_window attention.sliding_window_pattern rope.freq_base_swa "
    "rope.scaling.original_context_length rope.scaling.finetuned ";

/// By the dots of their names: about the file, its making and its words.
inline constexpr std::array<std::string_view, 5> kGgufHarmlessBeginnings = {"general.", "tokenizer.", "quantize.",
                                                                            "gosset.", "split."};

class GgufConfigReader {
 public:
  explicit GgufConfigReader(const gosset::GgufFile& file) : file_(file), family_(familyOf()) { checkKeys(); }

  const GgufFamily& family() const { return family_; }

  nlohmann::ordered_json json() const {
    const Index dim = count("embedding_length"), heads = count("attention.head_count");
    check(heads >= 1, where("attention.head_count"), ": must be positive");
    const Index headDim = count("attention.key_length", dim / heads);
    check(count("attention.value_length", headDim) == headDim, where("attention.value_length"), ": must be ", headDim,
          ", as keys are");
    nlohmann::ordered_json json = {{"model_type", family_.modelType},
                                   {"torch_dtype", "float32"},
                                   {"hidden_size", dim},
                                   {"intermediate_size", count("feed_forward_length")},
                                   {"num_hidden_layers", count("block_count")},
                                   {"num_attention_heads", heads},
                                   {"num_key_value_heads", count("attention.head_count_kv", heads)},
                                   {"head_dim", headDim},
                                   {"vocab_size", vocab()},
                                   {"max_position_embeddings", count("context_length")},
                                   {"rms_norm_eps", number("attention.layer_norm_rms_epsilon")},
                                   {"rope_theta", number("rope.freq_base", 10000)},
                                   {"tie_word_embeddings", !file_.contains("output.weight")}};
    windows(json);
    experts(json);
    family(json);
    rope(json, headDim);
    return json;
  }

 private:
  std::string where(const std::string& key) const { return file_.path().string() + ": " + name(key); }
  std::string name(const std::string& key) const { return std::string(family_.architecture) + "." + key; }
  bool has(const std::string& key) const { return file_.has(name(key)); }
  Index count(const std::string& key) const { return static_cast<Index>(file_.get<std::uint32_t>(name(key))); }
  Index count(const std::string& key, Index fallback) const { return has(key) ? count(key) : fallback; }
  double number(const std::string& key) const { return file_.get<double>(name(key)); }
  double number(const std::string& key, double fallback) const { return has(key) ? number(key) : fallback; }

  GgufFamily familyOf() const {
    const auto architecture = file_.get<std::string>("general.architecture");
    const bool mixture = architecture == "llama" && file_.has("llama.expert_count") &&
                         file_.get<std::uint32_t>("llama.expert_count") > 0;
    const std::string_view wanted = mixture ? "mixtral" : "";
    std::string known;
    for (const GgufFamily& row : kGgufFamilies) {
      if (row.architecture == architecture && (wanted.empty() || row.modelType == wanted)) return row;
      if (known.find(row.architecture) == std::string::npos) {
        known.append(known.empty() ? "" : ", ").append(row.architecture);
      }
    }
    fail(file_.path().string(), ": general.architecture must be one of ", known, ", found \"", architecture, "\"");
  }

  void checkKeys() const {
    const std::string begin = std::string(family_.architecture) + ".";
    for (const std::string& key : file_.keys()) {
      const bool harmless = std::any_of(kGgufHarmlessBeginnings.begin(), kGgufHarmlessBeginnings.end(),
                                        [&](std::string_view each) { return key.starts_with(each); });
      const bool known =
          harmless || (key.starts_with(begin) && listed(kGgufArchitectureKeys, key.substr(begin.size())));
      check(known, file_.path().string(), ": key \"", key, "\" is unknown in a file of architecture \"",
            family_.architecture, "\", and may change what the model computes");
    }
    if (!file_.has("split.count")) return;
    const auto parts = file_.get<std::uint32_t>("split.count");
    check(parts <= 1, file_.path().string(), ": one of ", parts, " parts of a model; join them to one file first");
  }

  Index vocab() const {
    const gosset::GgufTensor& tensor = file_.info("token_embd.weight");
    check(tensor.shape.size() == 2, file_.path().string(), ": token_embd.weight must be a matrix");
    return tensor.shape[0];
  }

  void windows(nlohmann::ordered_json& json) const {
    if (!has("attention.sliding_window")) {
      if (listed(findArchitecture(family_.modelType)->keys, "sliding_window")) json["sliding_window"] = nullptr;
      return;
    }
    const bool known = family_.windows != Windows::kNone || family_.modelType == "phi3";
    check(known, where("attention.sliding_window"), ": windows are unknown in files of this architecture");
    json["sliding_window"] = count("attention.sliding_window");
    if (family_.windows != Windows::kPattern) {
      check(!has("attention.sliding_window_pattern"), where("attention.sliding_window_pattern"),
            ": it is unknown in files of this architecture");
      return;
    }
    json["sliding_window_pattern"] = count("attention.sliding_window_pattern", 6);
    json["rope_local_base_freq"] = number("rope.freq_base_swa", 10000);
  }

  void experts(nlohmann::ordered_json& json) const {
    if (family_.modelType == "mixtral") {
      json["num_local_experts"] = count("expert_count");
      json["num_experts_per_tok"] = count("expert_used_count");
    }
    if (family_.modelType != "qwen2_moe" && family_.modelType != "qwen3_moe") return;
    json["num_experts"] = count("expert_count");
    json["num_experts_per_tok"] = count("expert_used_count");
    json["moe_intermediate_size"] = expertWidth("expert_feed_forward_length", "blk.0.ffn_up_exps.weight");
    json["norm_topk_prob"] = family_.modelType == "qwen3_moe";
    json["decoder_sparse_step"] = 1;
    if (family_.modelType != "qwen2_moe") return;
    json["shared_expert_intermediate_size"] =
        expertWidth("expert_shared_feed_forward_length", "blk.0.ffn_up_shexp.weight");
  }

  /// Files may leave it to the tensors.
  Index expertWidth(const char* key, const char* tensor) const {
    if (has(key)) return count(key);
    const auto& shape = file_.info(tensor).shape;
    check(shape.size() >= 2, file_.path().string(), ": ", tensor, " must be a matrix");
    return shape[shape.size() - 2];
  }

  /// What a family's files say by tensors or not at all.
  void family(nlohmann::ordered_json& json) const {
    if (family_.architecture == "llama" && family_.modelType == "llama") {
      json["attention_bias"] = file_.contains("blk.0.attn_output.bias") || file_.contains("blk.0.attn_q.bias");
      json["mlp_bias"] = file_.contains("blk.0.ffn_down.bias");
    }
    if (family_.modelType == "smollm3") json["no_rope_layer_interval"] = 4;
    const Index layers = count("block_count"), dim = count("embedding_length"), heads = count("attention.head_count");
    if (family_.modelType == "gemma2" || family_.modelType == "gemma3_text") {
      const bool largest = layers == (family_.modelType == "gemma2" ? 46 : 62);
      json["query_pre_attn_scalar"] = largest ? dim / heads : count("attention.key_length", dim / heads);
      json["attn_logit_softcapping"] = cap("attn_logit_softcapping");
      json["final_logit_softcapping"] = cap("final_logit_softcapping");
    } else {
      check(!has("attn_logit_softcapping") && !has("final_logit_softcapping"),
            where(has("attn_logit_softcapping") ? "attn_logit_softcapping" : "final_logit_softcapping"),
            ": it is unknown in files of this architecture");
    }
  }

  nlohmann::ordered_json cap(const char* key) const {
    return has(key) ? nlohmann::ordered_json(number(key)) : nlohmann::ordered_json();
  }

  void rope(nlohmann::ordered_json& json, Index headDim) const {
    const Index turned = count("rope.dimension_count", headDim);
    if (turned != headDim) json["partial_rotary_factor"] = static_cast<double>(turned) / static_cast<double>(headDim);
    const std::string type = has("rope.scaling.type") ? file_.get<std::string>(name("rope.scaling.type")) : "none";
    check(type == "none" || type == "linear", where("rope.scaling.type"), ": must be none or linear, found \"", type,
          "\"");
    check(number("rope.scaling.attn_factor", 1) == 1, where("rope.scaling.attn_factor"), ": must be 1, found ",
          number("rope.scaling.attn_factor", 1));
    if (type == "linear") {
      json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", number("rope.scaling.factor")}};
    }
    if (file_.contains("rope_freqs.weight")) json["rope_scaling"] = llama3(turned);
  }

  /// The parameters that give the factors of a file. Those of Llama 3 are searched: 1, 4, and a power of two for the
  /// context that the model was trained for at first.
  nlohmann::ordered_json llama3(Index turned) const {
    check(family_.ropeFactors && !has("rope.scaling.factor"), file_.path().string(),
          ": rope_freqs.weight is unknown in this model");
    const RowMatrixXf factors = file_.matrix("rope_freqs.weight");
    check(factors.size() == turned / 2, file_.path().string(), ": rope_freqs.weight must hold ", turned / 2,
          " numbers, found ", factors.size());
    const double base = number("rope.freq_base", 10000), factor = static_cast<double>(factors.maxCoeff());
    const std::vector<double> plain = ropeFrequencies(turned, base);
    for (double trained = 16; trained <= 1 << 24; trained *= 2) {
      const Rope rope = llama3Rope(turned, base, {factor, 1, 4, trained});
      bool same = true;
      for (std::size_t i = 0; i < plain.size(); ++i) {
        const double found = static_cast<double>(factors(0, static_cast<Index>(i)));
        same = same && std::abs(plain[i] / rope.frequencies[i] / found - 1) < 1e-5;
      }
      if (!same) continue;
      return {{"rope_type", "llama3"},
              {"factor", factor},
              {"low_freq_factor", 1.0},
              {"high_freq_factor", 4.0},
              {"original_max_position_embeddings", trained}};
    }
    fail(file_.path().string(), ": rope_freqs.weight holds other factors than those of Llama 3");
  }

  const gosset::GgufFile& file_;
  GgufFamily family_;
};

}  // namespace detail

/// What a GGUF file's metadata comes to.
struct GgufConfig {
  GgufFamily family;
  std::string text;  ///< of a config.json that says the same
  HuggingFaceConfig read;
};

/// Throws gosset::FormatError, which names the key, where it is missing, of another type, unknown, or has a value that
/// the engine does not know.
inline GgufConfig readGgufConfig(const gosset::GgufFile& file) {
  const detail::GgufConfigReader reader(file);
  const std::string text = reader.json().dump(2) + "\n";
  return {reader.family(), text, parseHuggingFaceConfig(text, file.path().string() + ": metadata")};
}

}  // namespace llama
