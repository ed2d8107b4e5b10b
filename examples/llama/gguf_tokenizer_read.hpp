// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config_keys.hpp"
#include "gguf_pretokenizer.hpp"
#include "gguf_tokenizer_write.hpp"

#include <gosset/io/gguf.hpp>

#include <algorithm>
#include <set>

// The tokenizer in a GGUF file's metadata, as the tokenizer.json that says the same. A vocabulary with scores has no
// merges; they are every pair of tokens that is a token, the highest score first, as transformers makes them
// (convert_slow_tokenizer.py).
namespace llama {

namespace detail {

class GgufTokenizerReader {
 public:
  explicit GgufTokenizerReader(const gosset::GgufFile& file)
      : file_(file),
        tokens_(file.get<std::vector<std::string>>("tokenizer.ggml.tokens")),
        types_(tokens_.size(), static_cast<std::int32_t>(GgufToken::kNormal)) {
    if (file.has("tokenizer.ggml.token_type"))
      types_ = file.get<std::vector<std::int32_t>>("tokenizer.ggml.token_type");
    check(types_.size() == tokens_.size(), source(), ": tokenizer.ggml.token_type must have ", tokens_.size(),
          " entries, found ", types_.size());
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      check(!firstInvalidUtf8(tokens_[i]), source(), ": tokenizer.ggml.tokens: token ", i, " is no UTF-8");
      check(types_[i] >= static_cast<std::int32_t>(GgufToken::kNormal) &&
                types_[i] <= static_cast<std::int32_t>(GgufToken::kByte),
            source(), ": tokenizer.ggml.token_type: token ", i, " must be of a type from 1 to 6, found ", types_[i]);
    }
    checkKeys();
  }

  nlohmann::json json() const {
    const auto model = file_.get<std::string>("tokenizer.ggml.model");
    check(model == "llama" || model == "gpt2", source(), ": tokenizer.ggml.model must be llama or gpt2, found \"",
          model, "\"");
    nlohmann::json json = {{"version", "1.0"},
                           {"truncation", nullptr},
                           {"padding", nullptr},
                           {"added_tokens", added()},
                           {"post_processor", nullptr}};
    json["model"] = {{"type", "BPE"}, {"vocab", vocabulary()}};
    if (model == "llama") {
      sentencePieces(json);
    } else {
      bytes(json);
    }
    return json;
  }

  TextFrame frame() const {
    TextFrame frame;
    const bool pieces = file_.get<std::string>("tokenizer.ggml.model") == "llama";
    const bool begins = flag("tokenizer.ggml.add_bos_token", pieces);
    check(!flag("tokenizer.ggml.add_eos_token", false), source(),
          ": tokenizer.ggml.add_eos_token is true: a tokenizer that ends every text cannot be read");
    if (begins) frame.bos = token("tokenizer.ggml.bos_token_id");
    check(!begins || frame.bos, source(), ": tokenizer.ggml.add_bos_token is true, but there is no bos_token_id");
    for (const char* key :
         {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
      const auto end = token(key);
      if (end && std::find(frame.eos.begin(), frame.eos.end(), *end) == frame.eos.end()) frame.eos.push_back(*end);
    }
    if (file_.has("tokenizer.chat_template")) frame.chatTemplate = file_.get<std::string>("tokenizer.chat_template");
    return frame;
  }

 private:
  std::string source() const { return file_.path().string(); }
  bool flag(const char* key, bool fallback) const { return file_.has(key) ? file_.get<bool>(key) : fallback; }
  bool is(std::size_t token, GgufToken type) const { return types_[token] == static_cast<std::int32_t>(type); }

  /// Whatever else there is says how to cut texts or what is put around them.
  void checkKeys() const {
    constexpr std::string_view kKnown =
        " model pre tokens scores token_type merges bos_token_id eos_token_id eot_token_id eom_token_id "
        "unknown_token_id add_bos_token add_eos_token add_space_prefix ";
    constexpr std::string_view kHarmless =
        " padding_token_id separator_token_id cls_token_id mask_token_id fim_pre_token_id fim_suf_token_id "
        "fim_mid_token_id fim_pad_token_id fim_rep_token_id fim_sep_token_id prefix_token_id suffix_token_id "
        "middle_token_id seperator_token_id token_type_count ";
    constexpr std::string_view kBegin = "tokenizer.ggml.";
    for (const std::string& key : file_.keys()) {
      if (!key.starts_with(kBegin)) continue;
      const std::string rest = key.substr(kBegin.size());
      if (rest == "remove_extra_whitespaces" && !file_.get<bool>(key)) continue;
      check(listed(kKnown, rest) || listed(kHarmless, rest), source(), ": key \"", key,
            "\" is unknown, and may change the tokens of a text");
    }
  }

  std::optional<Token> token(const char* key) const {
    if (!file_.has(key)) return std::nullopt;
    const auto id = file_.get<std::uint32_t>(key);
    check(id < tokens_.size(), source(), ": ", key, " must be below ", tokens_.size(), ", found ", id);
    return static_cast<Token>(id);
  }

  nlohmann::json added() const {
    nlohmann::json list = nlohmann::json::array();
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const bool special = is(i, GgufToken::kControl);
      if (!special && !is(i, GgufToken::kUserDefined)) continue;
      list.push_back({{"id", i},
                      {"content", tokens_[i]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", special}});
    }
    return list;
  }

  nlohmann::json vocabulary() const {
    nlohmann::json vocab = nlohmann::json::object();
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (!is(i, GgufToken::kUnused)) vocab[tokens_[i]] = i;
    }
    return vocab;
  }

  void bytes(nlohmann::json& json) const {
    const std::string name = file_.has("tokenizer.ggml.pre") ? file_.get<std::string>("tokenizer.ggml.pre") : "none";
    const GgufPreTokenizer* row = findGgufPreTokenizer(name);
    check(row != nullptr, source(), ": tokenizer.ggml.pre must be one of ", ggufPreTokenizerNames(), ", found \"", name,
          "\"");
    json["normalizer"] = row->composed ? nlohmann::json{{"type", "NFC"}} : nlohmann::json();
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", row->steps()}};
    json["decoder"] = byteLevelStepOf(true);
    json["model"]["ignore_merges"] = row->ignoresMerges;
    json["model"]["merges"] = file_.get<std::vector<std::string>>("tokenizer.ggml.merges");
  }

  void sentencePieces(nlohmann::json& json) const {
    const nlohmann::json mark = {{"String", kSpaceMark}}, space = {{"String", " "}};
    nlohmann::json steps = nlohmann::json::array();
    const bool prefix = flag("tokenizer.ggml.add_space_prefix", true);
    if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpaceMark}});
    steps.push_back({{"type", "Replace"}, {"pattern", space}, {"content", kSpaceMark}});
    json["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
    json["pre_tokenizer"] = nullptr;
    nlohmann::json decoders = nlohmann::json::array();
    decoders.push_back({{"type", "Replace"}, {"pattern", mark}, {"content", " "}});
    decoders.push_back({{"type", "ByteFallback"}});
    decoders.push_back({{"type", "Fuse"}});
    if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    json["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
    json["model"]["byte_fallback"] = true;
    json["model"]["fuse_unk"] = true;
    const auto unknown = std::find(types_.begin(), types_.end(), static_cast<std::int32_t>(GgufToken::kUnknown));
    if (unknown != types_.end()) {
      json["model"]["unk_token"] = tokens_[static_cast<std::size_t>(unknown - types_.begin())];
    }
    json["model"]["merges"] = mergesOfScores();
  }

  nlohmann::json mergesOfScores() const {
    const auto scores = file_.get<std::vector<float>>("tokenizer.ggml.scores");
    check(scores.size() == tokens_.size(), source(), ": tokenizer.ggml.scores must have ", tokens_.size(),
          " entries, found ", scores.size());
    std::map<std::string_view, std::size_t> ids;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (is(i, GgufToken::kNormal)) ids.emplace(tokens_[i], i);
    }
    struct Scored {
      float score;
      std::size_t left, right;
    };
    std::vector<Scored> pairs;
    for (const auto& [text, id] : ids) {
      check(scores[id] == scores[id], source(), ": tokenizer.ggml.scores: token ", id, " has no score (NaN)");
      for (std::size_t at = 1; at < text.size(); ++at) {
        const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
        if (left != ids.end() && right != ids.end()) pairs.push_back({scores[id], left->second, right->second});
      }
    }
    std::stable_sort(pairs.begin(), pairs.end(), [](const Scored& a, const Scored& b) {
      return a.score != b.score ? a.score > b.score : std::tie(a.left, a.right) < std::tie(b.left, b.right);
    });
    nlohmann::json merges = nlohmann::json::array();
    for (const Scored& pair : pairs) merges.push_back({tokens_[pair.left], tokens_[pair.right]});
    return merges;
  }

  const gosset::GgufFile& file_;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
};

}  // namespace detail

/// The tokenizer of a file whose model knows `size` tokens. Throws gosset::FormatError, which names the key, where it
/// is missing, of another type or unknown.
inline Tokenizer readGgufTokenizer(const gosset::GgufFile& file, Index size) {
  const detail::GgufTokenizerReader reader(file);
  const std::string source = file.path().string() + ": tokenizer";
  return {parseHuggingFaceTokenizer(reader.json().dump(), size, source).vocabulary, reader.frame()};
}

}  // namespace llama
