// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/file_descriptor.hpp>

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace gosset::GOSSET_ABI {

/// How the linear layers of a Hugging Face folder are packed where GPTQ, AWQ or compressed-tensors has done it: what
/// its "quantization_config" says. The tensors' layouts stand in integer_weights.hpp.
struct IntegerScheme {
  enum class Method { kGptq, kAwq, kCompressedTensors };

  Method method = Method::kGptq;
  int bits = 4;
  Index group_size = 128;       ///< columns that share a scale; 0: a whole row does
  bool symmetric = false;       ///< of compressed-tensors: there are no zero points
  bool zeros_minus_one = true;  ///< of GPTQ: zero points are stored less 1, modulo 2^bits, as its first files have them
  bool needs_group_index = false;  ///< of GPTQ: the columns of a group are no neighbours (desc_act)

  friend bool operator==(const IntegerScheme&, const IntegerScheme&) = default;
};

namespace detail {

/// Reads the keys of such an object; every error names the source and the key.
class SchemeReader {
 public:
  SchemeReader(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {
    if (!json.is_object()) fail("expected an object, found ", shortened(json));
  }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw FormatError(concat(source_, ": ", parts...));
  }
  const std::string& source() const { return source_; }

  bool has(std::string_view key) const { return json_.contains(key) && !json_[key].is_null(); }
  const nlohmann::json& at(std::string_view key) const { return json_[key]; }

  std::string text(std::string_view key) const {
    if (!has(key) || !at(key).is_string()) fail("\"", key, "\": expected a string, found ", found(key));
    return at(key).get<std::string>();
  }
  Index integer(std::string_view key, Index least, Index most) const {
    const bool is_one = has(key) && at(key).is_number_integer();
    if (!is_one || at(key).get<Index>() < least || at(key).get<Index>() > most) {
      fail("\"", key, "\": expected an integer of ", least, " to ", most, ", found ", found(key));
    }
    return at(key).get<Index>();
  }
  bool flag(std::string_view key, bool fallback) const {
    if (!has(key)) return fallback;
    if (!at(key).is_boolean()) fail("\"", key, "\": expected true or false, found ", found(key));
    return at(key).get<bool>();
  }
  /// Throws unless the key is missing, null or one of these.
  void expect(std::string_view key, std::initializer_list<nlohmann::json> values) const {
    if (!has(key)) return;
    std::string known;
    for (const nlohmann::json& value : values) {
      if (at(key) == value) return;
      known += (known.empty() ? "" : " or ") + value.dump();
    }
    fail("\"", key, "\": expected ", known, ", found ", found(key));
  }
  /// Throws unless the key is missing or null.
  void expectNone(std::string_view key) const {
    if (has(key)) fail("\"", key, "\": expected null, found ", found(key));
  }
  /// Throws where there is a key that is none of these, which blanks separate: it may change what the numbers mean.
  void expectKeys(std::string_view known) const {
    for (const auto& [key, value] : json_.items()) {
      const std::string padded = " " + key + " ";
      const bool listed = key.find(' ') == std::string::npos && known.find(padded) != std::string_view::npos;
      if (!listed && !value.is_null()) fail(shortened(key), " is unknown here, and may change what the numbers mean");
    }
  }

  std::string found(std::string_view key) const {
    return json_.contains(key) ? shortened(json_[key]) : std::string("nothing");
  }

 private:
  static std::string shortened(const nlohmann::json& value) { return value.dump().substr(0, 80); }

  const nlohmann::json& json_;
  std::string source_;
};

/// Columns in a group; -1 stands for all.
inline Index groupSizeOf(const SchemeReader& reader, std::string_view key) {
  const Index size = reader.integer(key, -1, Index{1} << 31);
  if (size == 0) reader.fail("\"", key, "\": expected -1 or a positive integer, found 0");
  return size < 0 ? 0 : size;
}

inline IntegerScheme gptqScheme(const SchemeReader& reader) {
  reader.expectKeys(
      " quant_method bits group_size desc_act sym checkpoint_format format pack_dtype dynamic is_marlin_format "
      // How it was made, or is to be run.
      "act_group_aware backend batch_size block_name_to_quantize cache_block_outputs damp_auto_increment damp_percent "
      "dataset disable_exllama exllama_config hyb_act lm_head max_input_length meta method model_file_base_name "
      "model_name_or_path model_seqlen module_name_preceding_first_block modules_in_block_to_quantize mse pad_token_id "
      "quantizer static_groups tokenizer true_sequential use_cuda_fp16 use_exllama version ");
  reader.expect("pack_dtype", {"int32"});
  reader.expect("dynamic", {nlohmann::json::object(), false});
  reader.expect("is_marlin_format", {false});
  reader.expect("method", {"gptq"});
  for (const char* key : {"checkpoint_format", "format"}) reader.expect(key, {"gptq", "gptq_v2"});
  IntegerScheme scheme;
  scheme.bits = static_cast<int>(reader.integer("bits", 2, 8));
  if (scheme.bits > 4 && scheme.bits < 8) reader.fail("\"bits\": expected 2, 3, 4 or 8, found ", scheme.bits);
  scheme.group_size = groupSizeOf(reader, "group_size");
  for (const char* key : {"checkpoint_format", "format"}) {
    if (reader.has(key) && reader.text(key) == "gptq_v2") scheme.zeros_minus_one = false;
  }
  scheme.needs_group_index = reader.flag("desc_act", false);
  return scheme;
}

inline IntegerScheme awqScheme(const SchemeReader& reader) {
  reader.expectKeys(
      " quant_method bits w_bit group_size q_group_size version format zero_point "
      "backend do_fuse exllama_config fuse_max_seq_len method modules_to_fuse modules_to_not_convert ");
  for (const char* key : {"version", "format"}) reader.expect(key, {"gemm", "GEMM"});
  reader.expect("zero_point", {true});
  reader.expect("method", {"awq"});
  IntegerScheme scheme{.method = IntegerScheme::Method::kAwq, .zeros_minus_one = false};
  reader.integer(reader.has("w_bit") ? "w_bit" : "bits", 4, 4);
  scheme.group_size = groupSizeOf(reader, reader.has("q_group_size") ? "q_group_size" : "group_size");
  return scheme;
}

/// What compressed-tensors says of the weights of a group of layers.
inline IntegerScheme compressedWeights(const SchemeReader& reader) {
  reader.expectKeys(
      " num_bits type symmetric strategy group_size dynamic block_structure actorder "
      "observer observer_kwargs scale_dtype zp_dtype ");
  reader.expect("type", {"int"});
  reader.expect("dynamic", {false});
  reader.expect("strategy", {"group", "channel"});
  reader.expectNone("block_structure");
  IntegerScheme scheme{.method = IntegerScheme::Method::kCompressedTensors, .zeros_minus_one = false};
  scheme.bits = static_cast<int>(reader.integer("num_bits", 2, 8));
  scheme.symmetric = reader.flag("symmetric", true);
  const bool grouped = reader.has("strategy") ? reader.text("strategy") == "group" : reader.has("group_size");
  scheme.group_size = grouped ? groupSizeOf(reader, "group_size") : 0;
  return scheme;
}

inline IntegerScheme compressedTensorsScheme(const SchemeReader& reader) {
  reader.expectKeys(
      " quant_method config_groups format kv_cache_scheme quantization_status sparsity_config transform_config "
      "global_compression_ratio ignore version ");
  reader.expect("format", {"pack-quantized"});
  reader.expect("quantization_status", {"compressed"});
  reader.expectNone("kv_cache_scheme");
  for (const char* key : {"sparsity_config", "transform_config"}) reader.expect(key, {nlohmann::json::object()});
  if (!reader.has("config_groups") || !reader.at("config_groups").is_object() ||
      reader.at("config_groups").size() != 1) {
    reader.fail("\"config_groups\": expected an object of one group, found ", reader.found("config_groups"));
  }
  const auto only = reader.at("config_groups").begin();
  const SchemeReader group(*only, concat(reader.source(), ": ", printable(only.key())));
  group.expectKeys(" targets weights input_activations output_activations format ");
  group.expect("format", {"pack-quantized"});
  for (const char* key : {"input_activations", "output_activations"}) group.expectNone(key);
  if (!group.has("weights")) group.fail("\"weights\": expected an object, found ", group.found("weights"));
  return compressedWeights(SchemeReader(group.at("weights"), concat(group.source(), ": weights")));
}

}  // namespace detail

/// What a "quantization_config" (or AutoGPTQ's quantize_config.json, which names no method) says. Throws FormatError,
/// which begins with `source` and names the key, where it is of another method, of a layout that is not known here, or
/// has a key that is not known.
/// Source: the configurations that AutoGPTQ, GPTQModel, AutoAWQ and compressed-tensors write.
inline IntegerScheme parseIntegerScheme(const nlohmann::json& json, const std::string& source) {
  const detail::SchemeReader reader(json, source);
  const std::string method = reader.has("quant_method") ? reader.text("quant_method") : "gptq";
  if (method == "gptq") return detail::gptqScheme(reader);
  if (method == "awq") return detail::awqScheme(reader);
  if (method == "compressed-tensors") return detail::compressedTensorsScheme(reader);
  reader.fail("\"quant_method\": expected \"gptq\", \"awq\" or \"compressed-tensors\", found ",
              reader.found("quant_method"));
}

}  // namespace gosset::GOSSET_ABI
