// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json_object.hpp"
#include "tokenizer_json.hpp"

#include <array>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

// What stands around the texts of a Hugging Face model: its begin token, its ends, its chat template.
namespace llama {

/// The files that say so. Any of them may be missing, and is null then.
struct FrameFiles {
  nlohmann::json tokenizerConfig = nullptr, specialTokensMap = nullptr, generationConfig = nullptr, config = nullptr;
  std::string chatTemplate{};  ///< the text of chat_template.jinja

  /// Those in `folders`; of a file that several have, the first. Throws gosset::FormatError for one that is no JSON
  /// object.
  static FrameFiles read(const std::vector<std::filesystem::path>& folders) {
    constexpr std::uintmax_t kLongest = 1 << 24;
    const auto text = [&](const char* name) -> std::optional<std::pair<std::string, std::string>> {
      for (const auto& folder : folders) {
        const auto path = folder / name;
        if (std::filesystem::exists(path)) return std::pair(readBytes(path, kLongest), path.string());
      }
      return std::nullopt;
    };
    const auto object = [&](const char* name) {
      const auto found = text(name);
      if (!found) return nlohmann::json();
      nlohmann::json json = gosset::parseJson(found->first, found->second);
      check(json.is_object(), found->second, ": a JSON object expected");
      return json;
    };
    FrameFiles files{object("tokenizer_config.json"), object("special_tokens_map.json"),
                     object("generation_config.json"), object("config.json")};
    if (const auto found = text("chat_template.jinja")) files.chatTemplate = found->first;
    return files;
  }
};

namespace detail {

inline nlohmann::json fieldOf(const nlohmann::json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object[key] : nlohmann::json();
}

/// The name of a special token: a string, or an object with "content".
inline std::optional<std::string> tokenName(const nlohmann::json& token, const char* key) {
  if (token.is_null()) return std::nullopt;
  const nlohmann::json name = token.is_object() ? fieldOf(token, "content") : token;
  if (!name.is_string()) fail("\"", key, "\" must be a token's name, found ", shortText(token));
  return name.get<std::string>();
}

/// A token's id, or several in an array.
inline std::vector<Token> tokenIds(const nlohmann::json& ids, const char* key, Index size) {
  std::vector<Token> result;
  for (const nlohmann::json& id : ids.is_array()  ? ids
                                  : ids.is_null() ? nlohmann::json::array()
                                                  : nlohmann::json{ids}) {
    const bool known = id.is_number_integer() && id >= 0 && id < size;
    if (!known) fail("\"", key, "\" must be a token below ", size, ", found ", shortText(id));
    result.push_back(id.get<Token>());
  }
  return result;
}

/// transformers' classes whose tokenizers put a begin token before texts unless told otherwise, and the names that they
/// give to begin and end.
struct TokenizerClass {
  std::string_view name, begin, end;
};
inline constexpr std::array<TokenizerClass, 4> kBeginningClasses = {
    {{"LlamaTokenizer", "<s>", "</s>"},
     {"CodeLlamaTokenizer", "<s>", "</s>"},
     {"GemmaTokenizer", "<bos>", "<eos>"},
     {"CohereTokenizer", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"}}};

/// Without a class, a vocabulary with byte fallback is that one's whose begin token it has, else a Llama's.
inline const TokenizerClass* beginningClass(const nlohmann::json& tokenizerConfig,
                                            const HuggingFaceVocabulary& vocabulary) {
  const nlohmann::json field = fieldOf(tokenizerConfig, "tokenizer_class");
  if (!field.is_string()) {
    if (!vocabulary.byteFallback) return nullptr;
    for (const TokenizerClass& known : kBeginningClasses) {
      if (vocabulary.vocabulary->find(known.begin)) return &known;
    }
    return &kBeginningClasses[0];
  }
  std::string name = field.get<std::string>();
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  for (const TokenizerClass& known : kBeginningClasses) {
    if (known.name == name) return &known;
  }
  return nullptr;
}

class FrameReader {
 public:
  FrameReader(const FrameFiles& files, const HuggingFaceVocabulary& vocabulary, Index size)
      : files_(files),
        vocabulary_(vocabulary),
        size_(size),
        class_(beginningClass(files.tokenizerConfig, vocabulary)) {}

  /// What comes before a text, if anything does.
  std::optional<Token> bos() const {
    if (!addsBos()) return std::nullopt;
    if (const auto named = namedToken("bos_token")) return named;
    if (vocabulary_.templateBegin) return vocabulary_.templateBegin;
    for (const nlohmann::json* file : {&files_.generationConfig, &files_.config}) {
      const auto ids = tokenIds(fieldOf(*file, "bos_token_id"), "bos_token_id", size_);
      if (!ids.empty()) return ids.front();
    }
    return class_ == nullptr ? std::nullopt : vocabulary_.vocabulary->find(class_->begin);
  }

  std::vector<Token> eos() const {
    std::vector<Token> ends;
    const auto add = [&](Token token) {
      if (std::find(ends.begin(), ends.end(), token) == ends.end()) ends.push_back(token);
    };
    for (const nlohmann::json* file : {&files_.generationConfig, &files_.config}) {
      for (const Token token : tokenIds(fieldOf(*file, "eos_token_id"), "eos_token_id", size_)) add(token);
    }
    if (const auto named = namedToken("eos_token")) add(*named);
    if (!ends.empty() || class_ == nullptr) return ends;
    if (const auto usual = vocabulary_.vocabulary->find(class_->end)) add(*usual);
    return ends;
  }

  std::string chatTemplate() const {
    if (!files_.chatTemplate.empty()) return files_.chatTemplate;
    const nlohmann::json field = fieldOf(files_.tokenizerConfig, "chat_template");
    if (field.is_null()) return {};
    if (field.is_string()) return field.get<std::string>();
    if (!field.is_array()) fail("\"chat_template\" must be a string or an array, found ", shortText(field));
    for (const nlohmann::json& entry : field) {
      if (fieldOf(entry, "name") == "default" && fieldOf(entry, "template").is_string()) {
        return entry["template"].get<std::string>();
      }
    }
    fail("\"chat_template\" has no template of the name \"default\"");
  }

 private:
  bool addsBos() const {
    if (fieldOf(files_.tokenizerConfig, "add_eos_token") == true) {
      fail("\"add_eos_token\" is true: a tokenizer that ends every text cannot be read");
    }
    const nlohmann::json flag = fieldOf(files_.tokenizerConfig, "add_bos_token");
    if (flag.is_boolean()) return flag.get<bool>();
    if (!flag.is_null()) fail("\"add_bos_token\" must be true or false, found ", shortText(flag));
    return vocabulary_.hasTemplate ? vocabulary_.templateBegin.has_value() : class_ != nullptr;
  }

  std::optional<Token> namedToken(const char* key) const {
    for (const nlohmann::json* file : {&files_.tokenizerConfig, &files_.specialTokensMap}) {
      const auto name = tokenName(fieldOf(*file, key), key);
      if (!name) continue;
      const auto token = vocabulary_.vocabulary->find(*name);
      if (!token) fail("\"", key, "\" is ", shortText(nlohmann::json(*name)), ", which is no token of the tokenizer");
      return token;
    }
    return std::nullopt;
  }

  const FrameFiles& files_;
  const HuggingFaceVocabulary& vocabulary_;
  Index size_;
  const TokenizerClass* class_;
};

}  // namespace detail

/// Whether a begin token comes before texts says tokenizer_config.json's add_bos_token; without it, the post_processor
/// of tokenizer.json; without that, the habit of the tokenizer's class (Llama and Gemma put one, GPT-2 and Qwen do
/// not). Which token it is say bos_token, the post_processor, bos_token_id of generation_config.json or config.json, in
/// this order; where none does, there is none. Ends are all that any of the files names. Throws gosset::FormatError,
/// its text beginning with `source`, for a name that is no token, an id not below `size`, and add_eos_token.
inline TextFrame frameOf(const FrameFiles& files, const HuggingFaceVocabulary& vocabulary, Index size,
                         const std::string& source) {
  try {
    const detail::FrameReader reader(files, vocabulary, size);
    return {reader.bos(), reader.eos(), reader.chatTemplate()};
  } catch (const gosset::FormatError& error) {
    fail(source, ": ", error.what());
  }
}

}  // namespace llama
