// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint_huggingface.hpp"
#include "checkpoint_llama2c.hpp"
#include "gguf_model_read.hpp"
#include "tokenizer_file.hpp"

#include <initializer_list>

// What the programs take as --model and --tokenizer.
namespace llama {

namespace fs = std::filesystem;

inline bool isPackedFile(const fs::path& path) { return path.extension() == ".safetensors"; }

inline bool isGgufFile(const fs::path& path) {
  std::array<char, 4> mark{};
  if (!fs::is_regular_file(path)) return false;
  std::ifstream(path, std::ios::binary).read(mark.data(), mark.size());
  return std::string_view(mark.data(), mark.size()) == "GGUF";
}

/// A Hugging Face folder, or a llama2.c checkpoint. Throws gosset::FormatError where it is neither.
inline Model readModel(const fs::path& path) {
  check(fs::exists(path), path.string(), ": there is no such file or folder");
  check(!isPackedFile(path), path.string(),
        ": a packed model has no exact weights; name a Hugging Face folder or a llama2.c checkpoint");
  if (fs::is_directory(path)) return readHuggingFace(path);
  refuseForeignFile(path);
  return readLlama2c(path);
}

/// The first of `names` in the model's folder, if it has one.
inline std::optional<fs::path> besideModel(const fs::path& model, std::initializer_list<const char*> names) {
  if (!fs::is_directory(model)) return std::nullopt;
  for (const char* name : names) {
    if (fs::exists(model / name)) return model / name;
  }
  return std::nullopt;
}

/// The tokenizer that was named, else the one in the model's folder. Throws gosset::FormatError where there is none.
inline Tokenizer readTokenizerFor(const fs::path& model, const fs::path& named, Index vocab) {
  const fs::path folder = fs::is_directory(model) ? model : fs::path();
  if (!named.empty()) return readTokenizer(named, vocab, folder);
  const auto beside = besideModel(model, {"tokenizer.bin", "tokenizer.json"});
  check(beside.has_value(), model.string(), ": no tokenizer.bin or tokenizer.json is there; name one with --tokenizer");
  return readTokenizer(*beside, vocab, folder);
}

/// Weights as floats, and the tokenizer: of a folder, a checkpoint with its tokenizer, or a GGUF file. Throws
/// gosset::FormatError where either is missing, and std::invalid_argument where a tokenizer is named for a GGUF file.
inline std::pair<Model, Tokenizer> readModelAndTokenizer(const fs::path& path, const fs::path& tokenizer) {
  if (isGgufFile(path)) {
    if (!tokenizer.empty()) throw std::invalid_argument("--tokenizer: a GGUF file has its own");
    GgufModel read = readGgufModel(path);
    return {floatsOf(read.model), std::move(read.tokenizer)};
  }
  Model model = readModel(path);
  Tokenizer read = readTokenizerFor(path, tokenizer, model.config.vocab);
  return {std::move(model), std::move(read)};
}

}  // namespace llama
