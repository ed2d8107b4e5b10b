// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "special_tokens.hpp"
#include "tokenizer_sentencepiece.hpp"

#include <gosset/io/safetensors.hpp>

#include <span>

// Tokenizers in files: a file of their own, or inside a packed model.
namespace llama {

/// Reads either kind: files named *.json are Hugging Face's, with what stands around texts in the files beside it and
/// in `modelFolder`; all others are llama2.c's.
inline Tokenizer readTokenizer(const std::filesystem::path& path, Index vocab,
                               const std::filesystem::path& modelFolder = {}) {
  constexpr std::uintmax_t kLongest = std::uintmax_t{1} << 28;
  const std::string bytes = readBytes(path, kLongest), source = path.string();
  if (path.extension() != ".json") {
    auto vocabulary = parseLlama2cTokenizer(bytes, vocab, source);
    return {vocabulary, llama2cFrame(*vocabulary)};
  }
  const HuggingFaceVocabulary read = parseHuggingFaceTokenizer(bytes, vocab, source);
  std::vector<std::filesystem::path> folders = {path.parent_path()};
  if (!modelFolder.empty()) folders.push_back(modelFolder);
  return {read.vocabulary, frameOf(FrameFiles::read(folders), read, vocab, source)};
}

/// Writes a tokenizer so that readTokenizer() finds it in `folder`: tokenizer.bin, or tokenizer.json with a
/// tokenizer_config.json and a generation_config.json. Each is written whole or not at all.
inline void saveTokenizer(const std::filesystem::path& folder, const Tokenizer& tokenizer) {
  const auto write = [&folder](const char* name, const std::string& text) { writeWhole(folder / name, text); };
  if (tokenizer.vocabulary().kind() == Vocabulary::Kind::kLlama2c) {
    return write("tokenizer.bin", tokenizer.vocabulary().file());
  }
  const TextFrame& frame = tokenizer.frame();
  nlohmann::ordered_json config = {{"add_bos_token", frame.bos.has_value()}};
  if (frame.bos) config["bos_token"] = tokenizer.vocabulary().name(*frame.bos);
  if (!frame.chatTemplate.empty()) config["chat_template"] = frame.chatTemplate;
  write("tokenizer.json", tokenizer.vocabulary().file());
  write("tokenizer_config.json", config.dump(2) + "\n");
  write("generation_config.json", nlohmann::ordered_json{{"eos_token_id", frame.eos}}.dump(2) + "\n");
}

namespace detail {

inline constexpr const char* kTokenizerTensor = "tokenizer";
inline constexpr const char* kTokenizerKey = "llama.tokenizer";

/// What a packed model says of its tokenizer beside the bytes of its file.
inline std::string tokenizerAbout(const Tokenizer& tokenizer) {
  const bool json = tokenizer.vocabulary().kind() == Vocabulary::Kind::kHuggingFace;
  const TextFrame& frame = tokenizer.frame();
  return nlohmann::ordered_json{
      {"kind", json ? "tokenizer.json" : "llama2.c"},
      {"bos_token_id", frame.bos ? nlohmann::ordered_json(*frame.bos) : nlohmann::ordered_json()},
      {"eos_token_id", frame.eos},
      {"chat_template", frame.chatTemplate}}
      .dump();
}

}  // namespace detail

/// Puts a tokenizer into a packed model:
///   tokenizer                 U8, the bytes of its file
///   metadata llama.tokenizer  JSON: "kind", "tokenizer.json" or "llama2.c"; "bos_token_id", a token or null;
///                             "eos_token_id", an array; "chat_template", a string
inline void addTokenizer(gosset::SafetensorsWriter& writer, const Tokenizer& tokenizer) {
  const std::string bytes = tokenizer.vocabulary().file();
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  writer.add<std::uint8_t>(detail::kTokenizerTensor, {static_cast<Index>(bytes.size())},
                           std::span(first, bytes.size()));
  writer.setMetadata(detail::kTokenizerKey, detail::tokenizerAbout(tokenizer));
}

/// Reads it again. Files of before, without the metadata, have llama2.c's.
inline Tokenizer readPackedTokenizer(const gosset::SafetensorsFile& file, Index vocab) {
  const std::span<const std::byte> bytes = file.data(detail::kTokenizerTensor);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string source = file.path().string() + ": tokenizer";
  const auto found = file.metadata().find(detail::kTokenizerKey);
  if (found == file.metadata().end()) {
    auto vocabulary = parseLlama2cTokenizer(text, vocab, source);
    return {vocabulary, llama2cFrame(*vocabulary)};
  }
  const std::string where = file.path().string() + ": " + detail::kTokenizerKey;
  const nlohmann::json json = gosset::parseJson(found->second, where);
  const JsonObject about(json, where);
  about.expectOnly({"kind", "bos_token_id", "eos_token_id", "chat_template"});
  const std::string kind = about.string("kind");
  check(kind == "tokenizer.json" || kind == "llama2.c", where, ": the kind \"", kind, "\" is not known");
  TextFrame frame;
  const auto begin = detail::tokenIds(detail::fieldOf(json, "bos_token_id"), "bos_token_id", vocab);
  if (!begin.empty()) frame.bos = begin.front();
  frame.eos = detail::tokenIds(about.array("eos_token_id"), "eos_token_id", vocab);
  frame.chatTemplate = about.string("chat_template");
  if (kind == "llama2.c") return {parseLlama2cTokenizer(text, vocab, source), frame};
  return {parseHuggingFaceTokenizer(text, vocab, source).vocabulary, frame};
}

}  // namespace llama
