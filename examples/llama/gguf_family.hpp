// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint_huggingface.hpp"
#include "model.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// What GGUF files call the families of architecture.hpp and their tensors, and what their readers take for granted of
// each. Source: github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py, convert_hf_to_gguf.py, src/llama-model.cpp.
namespace llama {

struct GgufFamily {
  enum class Biases { kNone, kQkv, kAll };

  std::string_view modelType;        ///< of config.json
  std::string_view architecture;     ///< general.architecture
  bool neighbours = false;           ///< heads turn the numbers 2i and 2i + 1 together, as here; else i and i + d / 2
  bool ropeFactors = false;          ///< a tensor divides the frequencies of rotary embedding
  Windows windows = Windows::kNone;  ///< which blocks have one; without, readers see everything
  Biases biases = Biases::kNone;     ///< which ones there may be
};

/// A model type that several of these name is written as the first and read as what its metadata shows.
inline constexpr std::array kGgufFamilies = {
    GgufFamily{"llama", "llama", true, true, Windows::kNone, GgufFamily::Biases::kAll},
    GgufFamily{"mistral", "llama", true, true, Windows::kNone, GgufFamily::Biases::kAll},
    GgufFamily{"mixtral", "llama", true, true, Windows::kNone, GgufFamily::Biases::kAll},
    GgufFamily{"qwen2", "qwen2", false, false, Windows::kNone, GgufFamily::Biases::kQkv},
    GgufFamily{"qwen2_moe", "qwen2moe", false, false, Windows::kNone, GgufFamily::Biases::kQkv},
    GgufFamily{"qwen3", "qwen3"},
    GgufFamily{"qwen3_moe", "qwen3moe"},
    GgufFamily{"gemma", "gemma"},
    GgufFamily{"gemma2", "gemma2", false, false, Windows::kEven},
    GgufFamily{"gemma3_text", "gemma3", false, false, Windows::kPattern},
    GgufFamily{"phi3", "phi3"},
    GgufFamily{"smollm3", "smollm3", true},
};

/// The row of a model: by the config.json that it was read from, or a Llama's. Throws gosset::FormatError where GGUF
/// has no name for its family.
inline const GgufFamily& ggufFamilyOf(const std::string& configText) {
  const std::string type =
      configText.empty() ? "llama" : std::string(parseHuggingFaceConfig(configText, "config").architecture->modelType);
  const auto found =
      std::find_if(kGgufFamilies.begin(), kGgufFamilies.end(), [&](const auto& row) { return row.modelType == type; });
  check(found != kGgufFamilies.end(), "GGUF: no architecture is known for models of type \"", type, "\"");
  return *found;
}

/// A tensor of a file: one of the model's, or several, one below the other.
struct GgufPlan {
  std::string name;
  std::vector<Index> shape;       ///< of all parts together
  std::vector<LinearInfo> parts;  ///< matrices, by the engine's names
};

namespace detail {

/// "model.layers.3.mlp.up_proj.weight" as {"blk.3.", "mlp.up_proj.weight"}; names outside blocks have no first part.
inline std::pair<std::string, std::string> blockAndRest(const std::string& name) {
  constexpr std::string_view kBlocks = "model.layers.";
  if (!name.starts_with(kBlocks)) return {"", name};
  const std::size_t dot = name.find('.', kBlocks.size());
  return {"blk." + name.substr(kBlocks.size(), dot - kBlocks.size()) + ".", name.substr(dot + 1)};
}

/// A name without the number of its expert: mlp.experts.up_proj.weight.
inline std::string withoutExpert(std::string name) {
  constexpr std::string_view kExperts = "mlp.experts.";
  if (!name.starts_with(kExperts)) return name;
  return name.erase(kExperts.size(), name.find('.', kExperts.size()) + 1 - kExperts.size());
}

/// The names behind "blk.N.".
inline std::string partName(const std::string& rest, const GgufFamily& family, bool postNorms) {
  static const std::map<std::string, std::string, std::less<>> kNames = {
      {"input_layernorm", "attn_norm"},
      {"pre_feedforward_layernorm", "ffn_norm"},
      {"post_feedforward_layernorm", "post_ffw_norm"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
      {"mlp.gate", "ffn_gate_inp"},
      {"mlp.experts.gate_proj", "ffn_gate_exps"},
      {"mlp.experts.up_proj", "ffn_up_exps"},
      {"mlp.experts.down_proj", "ffn_down_exps"},
      {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
      {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
      {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
      {"mlp.shared_expert.down_proj", "ffn_down_shexp"}};
  const std::size_t dot = rest.rfind('.');
  const std::string name = withoutExpert(rest).substr(0, withoutExpert(rest).rfind('.')), ending = rest.substr(dot);
  if (name == "post_attention_layernorm") return (postNorms ? "post_attention_norm" : "ffn_norm") + ending;
  if (family.architecture == "phi3") {
    if (name == "self_attn.q_proj" || name == "self_attn.k_proj" || name == "self_attn.v_proj")
      return "attn_qkv" + ending;
    if (name == "mlp.gate_proj") return "ffn_up" + ending;
  }
  return kNames.at(name) + ending;
}

}  // namespace detail

/// The name in GGUF files of a tensor that the engine calls `name`.
inline std::string ggufName(const std::string& name, const GgufFamily& family, bool postNorms) {
  if (name == embeddingName()) return "token_embd.weight";
  if (name == outputName()) return "output.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  const auto [block, rest] = detail::blockAndRest(name);
  return block + detail::partName(rest, family, postNorms);
}

/// The matrices of a model, the embedding first, as a file has them: experts in one tensor, and what Phi-3 fuses.
inline std::vector<GgufPlan> ggufMatrices(const Config& config, const GgufFamily& family, bool ownOutput) {
  std::vector<GgufPlan> plans;
  std::map<std::string, std::size_t> places;
  const auto add = [&](const LinearInfo& info) {
    const std::string name = ggufName(info.name, family, config.postNorms);
    const auto [place, isNew] = places.emplace(name, plans.size());
    if (isNew) {
      const bool expert = info.name.find(".experts.") != std::string::npos;
      plans.push_back({name, {0, info.cols}, {}});
      if (expert) plans.back().shape = {config.experts.count, info.rows, info.cols};
    }
    GgufPlan& plan = plans[place->second];
    if (plan.shape.size() == 2) plan.shape[0] += info.rows;
    plan.parts.push_back(info);
  };
  struct Nothing {};
  add(embeddingInfo(config));
  auto empty = emptyWeights<Nothing>(config, ownOutput);
  forEachLinear(empty, [&](const LinearInfo& info, const Nothing&) { add(info); });
  return plans;
}

/// Which row of a file each row of the engine's is; nothing where both have the same order.
inline std::vector<Index> ggufRows(const LinearInfo& info, const GgufFamily& family, Index headDim) {
  std::vector<Index> order;
  if (info.turned == 0 || family.neighbours) return order;
  for (Index row = 0; row < info.rows; ++row) {
    order.push_back(row / headDim * headDim + detail::halvesRow(row % headDim, info.turned));
  }
  return order;
}

/// Rows of queries and keys in the order of a file, and back. Others stay as they are.
inline RowMatrixXf toGgufRows(const RowMatrixXf& rows, const GgufFamily& family, Index headDim, Index turned) {
  return turned == 0 || family.neighbours ? rows : detail::halvesFromNeighbours(rows, headDim, turned);
}
inline RowMatrixXf fromGgufRows(const RowMatrixXf& rows, const GgufFamily& family, Index headDim, Index turned) {
  return turned == 0 || family.neighbours ? rows : detail::neighboursFromHalves(rows, headDim, turned);
}

}  // namespace llama
