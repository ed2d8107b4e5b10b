// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint_huggingface.hpp"
#include "checkpoint_llama2c.hpp"
#include "tokenizer_file.hpp"

#include <initializer_list>

// What the programs take as --model and --tokenizer.
namespace llama {

namespace fs = std::filesystem;

inline bool isPackedFile(const fs::path& path) { return path.extension() == ".safetensors"; }

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

}  // namespace llama
