// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config_keys.hpp"
#include "rope.hpp"

#include <gosset/core/types.hpp>
#include <gosset/io/json.hpp>

#include <string>
#include <string_view>
#include <vector>

// Hugging Face's config.json, as transformers 4 and 5 write it: what it says, what its family's row says, and what that
// comes to.
namespace llama {

/// What a config.json comes to.
struct HuggingFaceConfig {
  Config config;
  const Architecture* architecture = nullptr;
  bool tied = false;        ///< whether the embedding serves as the output matrix
  bool textOfMore = false;  ///< whether it is the text part of a model that reads pictures, too
};

namespace detail {

/// Of a config.json around that of a text model: what says how pictures come in.
inline constexpr std::string_view kKeysOfPictures =
    " model_type text_config vision_config mm_tokens_per_image boi_token_index eoi_token_index image_token_index "
    "boi_token_id eoi_token_id image_token_id ";

/// The rotary embedding that an object says: "rope_scaling", or "rope_parameters" of newer files.
class RopeReader {
 public:
  RopeReader(const ConfigReader& config, const Architecture& row, Index headDim, Index context)
      : config_(config), row_(row), headDim_(headDim), context_(context) {}

  /// `said` is null where config.json says nothing but the base.
  Rope read(const nlohmann::json& said, double base) const {
    if (said.is_null()) return {ropeFrequencies(dim(config_), base)};
    const ConfigReader reader(said, config_.source());
    for (const auto& [key, value] : said.items()) {
      check(value.is_null() || listed(kKeys, key), reader.source(), ": \"", key,
            "\" is unknown in a rotary embedding, and may change what it computes");
    }
    base = reader.number("rope_theta", base);
    checkBase(base);
    const std::string type = reader.has("rope_type") ? reader.text("rope_type")
                             : reader.has("type")    ? reader.text("type")
                                                     : "default";
    const Index turned = dim(reader.has("partial_rotary_factor") ? reader : config_);
    if (type == "default") return {ropeFrequencies(turned, base)};
    const bool known = row_.scaledRope && (type == "linear" || type == "llama3" || type == "yarn");
    check(known, reader.source(), ": rotary embedding of type ",
          row_.scaledRope ? "default, linear, llama3 or yarn" : "default", " expected, found ",
          nlohmann::json(type).dump().substr(0, 80));
    const double factor = positive(reader, "factor");
    if (type == "linear") return linearRope(turned, base, factor);
    const double trained = reader.has("original_max_position_embeddings")
                               ? positive(reader, "original_max_position_embeddings")
                               : static_cast<double>(context_);
    return type == "llama3" ? llama3(reader, turned, base, factor, trained)
                            : yarn(reader, turned, base, factor, trained);
  }

  void checkBase(double base) const {
    check(base > 0 && base < 1e30, config_.source(), ": rope theta must be positive, found ", base);
  }

 private:
  static constexpr std::string_view kKeys =
      " rope_type type rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings "
      "attention_factor beta_fast beta_slow mscale mscale_all_dim truncate partial_rotary_factor short_factor "
      "long_factor mrope_section finetuned ";

  static double positive(const ConfigReader& reader, const char* key) {
    const double value = reader.number(key);
    check(value > 0, reader.source(), ": \"", key, "\" must be positive, found ", reader.found(key));
    return value;
  }

  /// How many numbers of a head turn.
  Index dim(const ConfigReader& reader) const {
    const double part = reader.number("partial_rotary_factor", 1.0);
    check(part > 0 && part <= 1 && (part == 1 || row_.partialRope), reader.source(),
          ": \"partial_rotary_factor\" must ", row_.partialRope ? "lie in (0, 1]" : "be 1", " here, found ",
          reader.found("partial_rotary_factor"));
    const auto turned = static_cast<Index>(static_cast<double>(headDim_) * part);
    check(turned >= 2 && turned % 2 == 0, reader.source(), ": an even number of a head's ", headDim_,
          " numbers must turn, found ", turned);
    return turned;
  }

  static Rope llama3(const ConfigReader& reader, Index turned, double base, double factor, double trained) {
    const Llama3Scaling scaling{factor, positive(reader, "low_freq_factor"), positive(reader, "high_freq_factor"),
                                trained};
    check(scaling.highFactor > scaling.lowFactor, reader.source(),
          ": \"high_freq_factor\" must be greater than \"low_freq_factor\", found ", reader.found("high_freq_factor"));
    return llama3Rope(turned, base, scaling);
  }

  static Rope yarn(const ConfigReader& reader, Index turned, double base, double factor, double trained) {
    check(base > 1, reader.source(), ": rope theta must be greater than 1 with yarn, found ", base);
    YarnScaling scaling{factor, trained};
    if (reader.has("beta_fast")) scaling.betaFast = positive(reader, "beta_fast");
    if (reader.has("beta_slow")) scaling.betaSlow = positive(reader, "beta_slow");
    scaling.truncate = reader.flag("truncate", true);
    double magnitude = yarnMagnitude(factor);
    const double weight = reader.number("mscale", 0), allWeight = reader.number("mscale_all_dim", 0);
    if (weight != 0 && allWeight != 0) magnitude = yarnMagnitude(factor, weight) / yarnMagnitude(factor, allWeight);
    if (reader.has("attention_factor")) magnitude = positive(reader, "attention_factor");
    return yarnRope(turned, base, scaling, magnitude);
  }

  const ConfigReader& config_;
  const Architecture& row_;
  Index headDim_, context_;
};

/// Turns the fields of one config.json into a Config.
class ConfigParser {
 public:
  ConfigParser(const ConfigReader& reader, const Architecture& row) : r_(reader), row_(row) {}

  Config parse() {
    sizes();
    c_.activation = activation();
    c_.headNorms = row_.headNorms;
    c_.postNorms = row_.postNorms;
    c_.qkvBias = row_.qkvBias || flagOfRow("attention_bias") || flagOfRow("qkv_bias");
    c_.outputBias = flagOfRow("attention_bias");
    c_.ffnBias = flagOfRow("mlp_bias");
    scales();
    blocks();
    experts();
    ropes();
    simplify();
    checkConfig(c_, r_.source());
    return c_;
  }

 private:
  bool inRow(std::string_view key) const { return listed(row_.keys, key); }
  bool flagOfRow(std::string_view key) const { return inRow(key) && r_.flag(key); }

  void sizes() {
    c_.dim = r_.integer("hidden_size");
    c_.hidden = r_.integer("intermediate_size");
    c_.layers = r_.integer("num_hidden_layers");
    c_.heads = r_.integer("num_attention_heads");
    c_.kvHeads = r_.integer("num_key_value_heads", c_.heads);
    check(c_.heads >= 1, r_.source(), ": \"num_attention_heads\" must be positive, found ", c_.heads);
    c_.headDim = r_.integer("head_dim", c_.dim / c_.heads);
    c_.vocab = r_.integer("vocab_size");
    c_.context = r_.integer("max_position_embeddings");
    c_.normEps = static_cast<float>(r_.number("rms_norm_eps", 1e-6));
    checkConfig(c_, r_.source());  // before lists of `layers` are made
  }

  Activation activation() const {
    const char* key = inRow("hidden_activation") && r_.has("hidden_activation") ? "hidden_activation" : "hidden_act";
    const std::string name = r_.has(key) ? r_.text(key) : "silu";
    const bool isSilu = name == "silu" || name == "swish";
    if (isSilu && !row_.geluIsTanh) return Activation::kSilu;  // versions of Gemma's class differ in what it does there
    if (name == "gelu_pytorch_tanh" || (name == "gelu" && row_.geluIsTanh)) return Activation::kGeluTanh;
    fail(r_.source(), ": \"", key, "\" must be ", row_.geluIsTanh ? "" : "\"silu\" or ",
         "\"gelu_pytorch_tanh\", found ", r_.found(key));
  }

  void scales() {
    // The published code keeps the root in the type of the weights: of bfloat16, sqrt(3072) = 55.43 becomes 55.5.
    if (row_.scaledEmbedding) c_.embeddingScale = rounded(std::sqrt(static_cast<float>(c_.dim)));
    if (inRow("query_pre_attn_scalar")) {
      const double scalar = r_.number("query_pre_attn_scalar");
      check(scalar > 0, r_.source(), ": \"query_pre_attn_scalar\" must be positive, found ", scalar);
      c_.attentionScale = static_cast<float>(1 / std::sqrt(scalar));
    }
    c_.scoreCap = cap("attn_logit_softcapping");
    c_.logitCap = cap("final_logit_softcapping");
  }

  float rounded(float value) const {
    const char* key = r_.has("dtype") ? "dtype" : "torch_dtype";
    if (!r_.has(key)) return value;
    const std::string type = r_.text(key);
    if (type == "bfloat16") return static_cast<float>(gosset::BFloat16(value));
    if (type == "float16") return static_cast<float>(gosset::Float16(value));
    check(type == "float32", r_.source(), ": \"", key, "\" must be \"float32\", \"float16\" or \"bfloat16\", found ",
          r_.found(key));
    return value;
  }

  float cap(std::string_view key) const {
    if (!inRow(key) || !r_.has(key)) return 0.f;
    const auto value = static_cast<float>(r_.number(key));
    check(value > 0.f, r_.source(), ": \"", key, "\" must be positive, found ", r_.found(key));
    return value;
  }

  /// Windows and blocks without rotary embedding.
  void blocks() {
    const auto layers = static_cast<std::size_t>(c_.layers);
    c_.blocks.resize(layers);
    const bool off = inRow("use_sliding_window") && !r_.flag("use_sliding_window");
    const bool none = row_.windows == Windows::kNone || off || !r_.has("sliding_window");
    const Index window = none ? Block::kNoWindow : r_.integer("sliding_window");
    check(window >= 1, r_.source(), ": \"sliding_window\" must be positive, found ", r_.found("sliding_window"));
    check(!inRow("sliding_window_size") || r_.integer("sliding_window_size", window) == window, r_.source(),
          ": \"sliding_window_size\" must be \"sliding_window\", found ", r_.found("sliding_window_size"));
    for (std::size_t i = 0; i < layers; ++i) {
      Block& block = c_.blocks[i];
      if (turnsNot(i)) block.rope = Block::kNoRope;
      const bool local = isLocal(i, block, none);
      if (local) block.window = window;
      if (local && row_.localRope) block.rope = 1;
    }
  }

  bool turnsNot(std::size_t layer) const {
    if (!inRow("no_rope_layers")) return false;
    if (r_.has("no_rope_layers")) {
      const auto& turns = r_.list("no_rope_layers", c_.blocks.size(), "numbers 0 and 1",
                                  [](const nlohmann::json& entry) { return entry == 0 || entry == 1; });
      return turns[layer] == 0;
    }
    return isEvery(layer, "no_rope_layer_interval");
  }

  /// Whether `layer` is the last of each so many.
  bool isEvery(std::size_t layer, const char* key) const {
    const Index every = r_.integer(key);
    check(every >= 1, r_.source(), ": \"", key, "\" must be positive, found ", every);
    return (static_cast<Index>(layer) + 1) % every == 0;
  }

  /// Whether a block is of type "sliding_attention"; `none`: whether there is no window at all.
  bool isLocal(std::size_t layer, const Block& block, bool none) const {
    if (inRow("layer_types") && r_.has("layer_types")) {
      const auto& types =
          r_.list("layer_types", c_.blocks.size(), R"("full_attention" or "sliding_attention")",
                  [](const nlohmann::json& type) { return type == "full_attention" || type == "sliding_attention"; });
      const bool local = types[layer] == "sliding_attention";
      check(!local || !none, r_.source(), R"(: "layer_types" has "sliding_attention", but there is no sliding window)");
      return local;
    }
    switch (row_.windows) {
      case Windows::kNone:
        return false;
      case Windows::kAll:
        return !none;
      case Windows::kBehind:
        return !none && static_cast<Index>(layer) >= r_.integer("max_window_layers");
      case Windows::kEven:
        return !none && layer % 2 == 0;
      case Windows::kPattern:
        return !none && !isEvery(layer, r_.has("_sliding_window_pattern") ? "_sliding_window_pattern"
                                                                          : "sliding_window_pattern");
      case Windows::kWithoutRope:
        return !none && block.rope == Block::kNoRope;
      case Windows::kListed:
        check(none, r_.source(),
              R"(: "use_sliding_window" can only be false here, as versions of transformers differ )",
              "in which blocks then have a window, found true");
        return false;
    }
    return false;
  }

  void experts() {
    if (row_.experts == ExpertNames::kNone) return;
    Experts& e = c_.experts;
    const char* key = inRow("num_experts") && r_.has("num_experts") ? "num_experts" : "num_local_experts";
    e.count = r_.integer(key);
    e.perToken = r_.integer("num_experts_per_tok");
    const bool ofQwen = row_.experts == ExpertNames::kQwen;
    e.hidden = ofQwen ? r_.integer("moe_intermediate_size") : c_.hidden;
    e.normalized = ofQwen ? r_.flag("norm_topk_prob") : true;
    if (inRow("shared_expert_intermediate_size")) e.sharedHidden = r_.integer("shared_expert_intermediate_size");
    check(e.count >= 1, r_.source(), ": \"", key, "\" must be positive, found ", e.count);
    for (std::size_t i = 0; i < c_.blocks.size(); ++i) c_.blocks[i].experts = !ofQwen || isSparse(i);
  }

  bool isSparse(std::size_t layer) const {
    if (r_.has("mlp_only_layers")) {
      const auto& dense = r_.list("mlp_only_layers", 0, "numbers of layers",
                                  [](const nlohmann::json& entry) { return entry.is_number_integer(); });
      if (std::find(dense.begin(), dense.end(), layer) != dense.end()) return false;
    }
    return !r_.has("decoder_sparse_step") || isEvery(layer, "decoder_sparse_step");
  }

  void ropes() {
    const RopeReader rope(r_, row_, c_.headDim, c_.context);
    const double base = r_.number("rope_theta", 10000.0);
    rope.checkBase(base);
    check(!r_.has("rope_scaling") || !r_.has("rope_parameters"), r_.source(),
          R"(: holds both "rope_scaling" and "rope_parameters")");
    const nlohmann::json none;
    const char* key = r_.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
    const nlohmann::json& said = r_.has(key) ? r_.json()[key] : none;
    check(said.is_null() || said.is_object(), r_.source(), ": \"", key, "\" must be an object");
    c_.ropeTheta = static_cast<float>(base);
    if (!row_.localRope) {
      c_.ropes = {rope.read(said, base)};
      if (said.is_object())
        c_.ropeTheta = static_cast<float>(ConfigReader(said, r_.source()).number("rope_theta", base));
      return;
    }
    const double localBase = r_.number("rope_local_base_freq");
    rope.checkBase(localBase);
    if (!said.contains("full_attention") && !said.contains("sliding_attention")) {
      c_.ropes = {rope.read(said, base), rope.read(none, localBase)};
      return;
    }
    const ConfigReader both(said, r_.source());
    for (const auto& [name, value] : said.items()) {
      check(name == "full_attention" || name == "sliding_attention", r_.source(), ": \"", name,
            "\" is unknown among rotary embeddings of \"full_attention\" and \"sliding_attention\"");
      check(value.is_null() || value.is_object(), r_.source(), ": \"", name, "\" must be an object");
    }
    const auto of = [&](const char* name) { return both.has(name) ? said[name] : none; };
    c_.ropes = {rope.read(of("full_attention"), base), rope.read(of("sliding_attention"), localBase)};
  }

  /// What is as in a plain Llama is left out.
  void simplify() {
    if (c_.ropes == std::vector<Rope>{Rope{ropeFrequencies(c_.headDim, static_cast<double>(c_.ropeTheta))}}) {
      c_.ropes.clear();
    }
    if (c_.blocks == std::vector<Block>(c_.blocks.size())) c_.blocks.clear();
  }

  const ConfigReader& r_;
  const Architecture& row_;
  Config c_;
};

/// The model_type's row. Throws gosset::FormatError where it is missing or none of the table.
inline const Architecture& architectureOf(const ConfigReader& reader) {
  check(reader.has("model_type"), reader.source(), ": \"model_type\" is missing, one of ", architectureNames(),
        " expected");
  const std::string type = reader.text("model_type");
  const Architecture* row = findArchitecture(type);
  check(row != nullptr, reader.source(), ": \"model_type\" must be one of ", architectureNames(), ", found ",
        nlohmann::json(type).dump().substr(0, 80));
  return *row;
}

inline HuggingFaceConfig parseTextConfig(const nlohmann::json& said, const std::string& source) {
  const Architecture& row = architectureOf(ConfigReader(said, source));
  nlohmann::json json = nlohmann::json::parse(row.defaults);
  for (const auto& [key, value] : said.items()) json[key] = value;  // null, too: it is said
  const ConfigReader reader(json, source);
  checkKeys(reader, row);
  return {ConfigParser(reader, row).parse(), &row, reader.flag("tie_word_embeddings"), false};
}

/// Throws where weights are packed already, by another program's way.
inline void refuseQuantized(const ConfigReader& reader) {
  for (const char* key : {"quantization_config", "quantization"}) {
    if (!reader.has(key)) continue;
    const nlohmann::json& said = reader.json()[key];
    const bool named = said.is_object() && said.contains("quant_method") && said["quant_method"].is_string();
    fail(reader.source(), ": its weights are quantized already (\"", key, "\"",
         named ? ", " + said["quant_method"].dump().substr(0, 80) : std::string(),
         "); name the folder of the model with 16- or 32-bit floats that they were made of");
  }
}

/// Throws for models that see or hear, of which Gemma 3's text part alone can be read.
inline bool isTextOfMore(const ConfigReader& reader) {
  for (const char* key : {"text_config", "vision_config", "audio_config"}) {
    if (!reader.has(key)) continue;
    const bool known = reader.has("model_type") && reader.json()["model_type"] == "gemma3" && reader.has("text_config");
    check(known, reader.source(), ": a multimodal model (\"", key, "\"), of type ", reader.found("model_type"),
          "; models of text alone, and the text part of \"gemma3\", can be read");
    return true;
  }
  return false;
}

}  // namespace detail

/// Throws gosset::FormatError unless `text` is the config of a model that this engine can run; the error begins with
/// `source`, and names the key that is missing, unknown or has a value that the engine does not know.
inline HuggingFaceConfig parseHuggingFaceConfig(std::string_view text, const std::string& source) {
  const nlohmann::json json = gosset::parseJson(text, source);
  const ConfigReader reader(json, source);
  detail::refuseQuantized(reader);
  if (!detail::isTextOfMore(reader)) return detail::parseTextConfig(json, source);
  nlohmann::json inner = json["text_config"];
  check(inner.is_object(), source, ": \"text_config\" must be an object");
  for (const auto& [key, value] : json.items()) {
    if (value.is_null() || detail::listed(detail::kHarmlessKeys, key) || detail::listed(detail::kKeysOfPictures, key))
      continue;
    const bool ofBoth = key == "dtype" || key == "torch_dtype" || key == "tie_word_embeddings";
    check(ofBoth, source, ": \"", key, "\" is unknown in a model of type \"gemma3\", and may change what it computes");
    const bool typed = key != "tie_word_embeddings" && (inner.contains("dtype") || inner.contains("torch_dtype"));
    if (!typed && !inner.contains(key)) inner[key] = value;
  }
  if (!inner.contains("model_type")) inner["model_type"] = "gemma3_text";
  HuggingFaceConfig result = detail::parseTextConfig(inner, source + ": text_config");
  result.textOfMore = true;
  return result;
}

/// The text of config.json for a plain Llama. Throws std::invalid_argument for another model.
inline std::string huggingFaceConfigText(const Config& c, bool tied) {
  requirePlainLlama(c, "config");
  const nlohmann::ordered_json json = {{"architectures", {"LlamaForCausalLM"}},
                                       {"model_type", "llama"},
                                       {"hidden_size", c.dim},
                                       {"intermediate_size", c.hidden},
                                       {"num_hidden_layers", c.layers},
                                       {"num_attention_heads", c.heads},
                                       {"num_key_value_heads", c.kvHeads},
                                       {"head_dim", c.headDim},
                                       {"vocab_size", c.vocab},
                                       {"max_position_embeddings", c.context},
                                       {"rope_theta", c.ropeTheta},
                                       {"rms_norm_eps", c.normEps},
                                       {"hidden_act", "silu"},
                                       {"tie_word_embeddings", tied},
                                       {"torch_dtype", "float16"},
                                       {"bos_token_id", 1},
                                       {"eos_token_id", 2}};
  return json.dump(2) + "\n";
}

}  // namespace llama
