// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_pretokenizer.hpp"
#include "normalizer.hpp"
#include "tokenizer_file.hpp"

#include <gosset/io/gguf_writer.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// Tokenizers as metadata of GGUF files: "llama", SentencePiece's with a score each, or "gpt2", bytes with merges.
// Source: github.com/ggml-org/ggml, docs/gguf.md; llama.cpp, convert_hf_to_gguf.py and src/llama-vocab.cpp.
namespace llama {

/// What a token is, as files have it.
enum class GgufToken : std::int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

namespace detail {

inline constexpr const char* kSpaceMark = "\xE2\x96\x81";  // U+2581

struct GgufTokens {
  std::vector<std::string> names;
  std::vector<float> scores;
  std::vector<std::int32_t> types;

  explicit GgufTokens(Index size)
      : scores(static_cast<std::size_t>(size), 0.f),
        types(static_cast<std::size_t>(size), static_cast<std::int32_t>(GgufToken::kUnused)) {
    for (Index i = 0; i < size; ++i) names.push_back("[PAD" + std::to_string(i) + "]");
  }
  void set(Token token, std::string name, GgufToken type) {
    names[static_cast<std::size_t>(token)] = std::move(name);
    types[static_cast<std::size_t>(token)] = static_cast<std::int32_t>(type);
  }
  void write(gosset::GgufWriter& writer, bool withScores) const {
    writer.set("tokenizer.ggml.tokens", names);
    if (withScores) writer.set("tokenizer.ggml.scores", scores);
    writer.set("tokenizer.ggml.token_type", types);
  }
};

inline bool isByteName(const std::string& name) {
  return name.size() == 6 && name.starts_with("<0x") && name[5] == '>';
}

inline void requireNoPreTokenizer(const std::string& named) {
  check(named.empty(), "GGUF: a tokenizer of pieces with scores has no pre-tokenizer, found \"", named, "\"");
}

inline void setFrame(gosset::GgufWriter& writer, const TextFrame& frame) {
  constexpr std::array<const char*, 3> kEnds = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                                "tokenizer.ggml.eom_token_id"};
  check(frame.eos.size() <= kEnds.size(), "GGUF: at most 3 tokens can end a text, the tokenizer has ",
        frame.eos.size());
  if (frame.bos) writer.set("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(*frame.bos));
  for (std::size_t i = 0; i < frame.eos.size(); ++i) {
    writer.set(kEnds[i], static_cast<std::uint32_t>(frame.eos[i]));
  }
  writer.set("tokenizer.ggml.add_bos_token", frame.bos.has_value());
  writer.set("tokenizer.ggml.add_eos_token", false);
  if (!frame.chatTemplate.empty()) writer.set("tokenizer.chat_template", frame.chatTemplate);
}

/// llama2.c's: tokens 0, 1 and 2 are what SentencePiece has there. Pieces that are parts of characters come from no
/// text.
inline void setLlama2cTokenizer(gosset::GgufWriter& writer, const SentencePieces& vocabulary, Index size) {
  GgufTokens tokens(size);
  for (Token i = 0; i < static_cast<Token>(vocabulary.size()); ++i) {
    const SentencePieces::Piece& piece = vocabulary.pieces()[static_cast<std::size_t>(i)];
    if (firstInvalidUtf8(piece.text)) continue;
    const bool byte = isByteName(piece.text);
    tokens.set(i, byte ? piece.text : replaced(" ", piece.text, kSpaceMark),
               byte ? GgufToken::kByte : GgufToken::kNormal);
    tokens.scores[static_cast<std::size_t>(i)] = piece.score;
  }
  if (vocabulary.size() > 2) {
    tokens.set(0, "<unk>", GgufToken::kUnknown);
    tokens.set(1, "<s>", GgufToken::kControl);
    tokens.set(2, "</s>", GgufToken::kControl);
  }
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.pre", "default");
  tokens.write(writer, true);
  writer.set("tokenizer.ggml.unknown_token_id", std::uint32_t{0});
  writer.set("tokenizer.ggml.add_space_prefix", true);
}

/// The tokens of a tokenizer.json, its added ones among them.
inline GgufTokens jsonTokens(const nlohmann::json& root, Index size) {
  GgufTokens tokens(size);
  const nlohmann::json& model = root.at("model");
  const bool bytes = model.value("byte_fallback", false);
  for (const auto& [name, id] : model.at("vocab").items()) {
    tokens.set(id.get<Token>(), name, bytes && isByteName(name) ? GgufToken::kByte : GgufToken::kNormal);
  }
  if (!root.contains("added_tokens") || root["added_tokens"].is_null()) return tokens;
  for (const auto& entry : root["added_tokens"]) {
    const auto id = entry.at("id").get<Token>();
    if (id >= size) continue;  // which no text may have
    const bool special = entry.value("special", false);
    tokens.set(id, entry.at("content").get<std::string>(), special ? GgufToken::kControl : GgufToken::kUserDefined);
  }
  return tokens;
}

/// A merge's two parts.
inline std::pair<std::string, std::string> partsOf(const nlohmann::json& merge) {
  if (merge.is_array()) return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  const auto both = merge.get<std::string>();
  return {both.substr(0, both.find(' ')), both.substr(both.find(' ') + 1)};
}

/// Refuses what readers do not do to a text before they look for pieces: they put a mark in place of each blank, and
/// before the text.
inline void requireMarksOnly(const nlohmann::json& normalizer) {
  for (const nlohmann::json& step : plainSteps(normalizer, "normalizers")) {
    const bool marks =
        step == nlohmann::json{{"type", "Prepend"}, {"prepend", kSpaceMark}} ||
        step == nlohmann::json{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}};
    check(marks, "GGUF: the normalizer ", shortText(step), " cannot be said of a tokenizer of pieces with scores");
  }
}

/// Whether a step of that type, with what `holds` says, is anywhere in a normalizer or pre-tokenizer.
template <class Holds>
bool anyStep(const nlohmann::json& json, Holds&& holds) {
  if (json.is_object() && holds(json)) return true;
  for (const auto& part : json) {
    if (part.is_structured() && anyStep(part, holds)) return true;
  }
  return false;
}

/// SentencePiece's: the sooner a merge comes, the higher its score.
inline void setSentencePieceTokenizer(gosset::GgufWriter& writer, const nlohmann::json& root, Index size,
                                      const Vocabulary& vocabulary) {
  requireMarksOnly(root.value("normalizer", nlohmann::json()));
  GgufTokens tokens = jsonTokens(root, size);
  const nlohmann::json& model = root.at("model");
  std::map<std::string, float> scores;
  for (const auto& merge : model.at("merges")) {
    const auto [left, right] = partsOf(merge);
    scores.emplace(left + right, -static_cast<float>(scores.size()));
  }
  for (std::size_t i = 0; i < tokens.names.size(); ++i) {
    const auto found = scores.find(tokens.names[i]);
    if (found != scores.end()) tokens.scores[i] = found->second;
  }
  const nlohmann::json unknown = model.value("unk_token", nlohmann::json());
  if (unknown.is_string()) {
    const auto token = vocabulary.find(unknown.get<std::string>());
    check(token.has_value(), "GGUF: the unknown token ", shortText(unknown), " is none of the tokenizer's");
    tokens.set(*token, unknown.get<std::string>(), GgufToken::kUnknown);
    writer.set("tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t>(*token));
  }
  const auto prepends = [](const nlohmann::json& step) {
    const auto type = step.value("type", "");
    return type == "Prepend" || (type == "Metaspace" && step.value("prepend_scheme", "always") != "never" &&
                                 step.value("add_prefix_space", true));
  };
  const bool prefix = anyStep(root.value("normalizer", nlohmann::json()), prepends) ||
                      anyStep(root.value("pre_tokenizer", nlohmann::json()), prepends);
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.pre", "default");
  tokens.write(writer, true);
  writer.set("tokenizer.ggml.add_space_prefix", prefix);
}

inline void setByteTokenizer(gosset::GgufWriter& writer, const nlohmann::json& root, Index size,
                             const std::string& named) {
  const nlohmann::json& model = root.at("model");
  const bool ignores = model.value("ignore_merges", false);
  const GgufPreTokenizer* row = named.empty()
                                    ? recognizeGgufPreTokenizer(root.value("pre_tokenizer", nlohmann::json()),
                                                                root.value("normalizer", nlohmann::json()), ignores)
                                    : findGgufPreTokenizer(named);
  check(row != nullptr || !named.empty(),
        "GGUF: the tokenizer's \"pre_tokenizer\", \"normalizer\" and "
        "\"ignore_merges\" are together none of ",
        ggufPreTokenizerNames(), "; name one with --pre-tokenizer if you know that it cuts texts alike");
  check(row != nullptr, "GGUF: the pre-tokenizer \"", named, "\" is none of ", ggufPreTokenizerNames());
  std::vector<std::string> merges;
  for (const auto& merge : model.at("merges")) {
    const auto [left, right] = partsOf(merge);
    merges.push_back(left + " " + right);
  }
  writer.set("tokenizer.ggml.model", "gpt2");
  writer.set("tokenizer.ggml.pre", row->name);
  jsonTokens(root, size).write(writer, false);
  writer.set("tokenizer.ggml.merges", merges);
}

}  // namespace detail

/// Sets the keys of a tokenizer for a model that knows `size` tokens; `preTokenizer` names how texts are cut, or is
/// empty where the tokenizer's file shall say it. Throws gosset::FormatError where GGUF has no name for that.
inline void setGgufTokenizer(gosset::GgufWriter& writer, const Tokenizer& tokenizer, Index size,
                             const std::string& preTokenizer = {}) {
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  if (vocabulary.kind() == Vocabulary::Kind::kLlama2c) {
    detail::requireNoPreTokenizer(preTokenizer);
    detail::setLlama2cTokenizer(writer, dynamic_cast<const SentencePieces&>(vocabulary), size);
  } else {
    const nlohmann::json root = gosset::parseJson(vocabulary.file(), "tokenizer");
    if (root.at("model").value("byte_fallback", false)) {
      detail::requireNoPreTokenizer(preTokenizer);
      detail::setSentencePieceTokenizer(writer, root, size, vocabulary);
    } else {
      detail::setByteTokenizer(writer, root, size, preTokenizer);
    }
  }
  detail::setFrame(writer, tokenizer.frame());
}

}  // namespace llama
