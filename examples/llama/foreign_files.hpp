// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"

#include <gosset/io/safetensors_folder.hpp>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

// Files of models that the engine cannot read, called by their names.
namespace llama {

/// Throws gosset::FormatError where a file is one of a known kind other than llama2.c's, which has no mark of its own.
inline void refuseForeignFile(const std::filesystem::path& path) {
  std::array<char, 4> mark{};
  std::ifstream(path, std::ios::binary).read(mark.data(), mark.size());
  const std::string_view bytes(mark.data(), mark.size());
  check(bytes != "GGUF" && path.extension() != ".gguf", path.string(),
        ": a GGUF file; name the Hugging Face folder of the same model");
  check(!bytes.starts_with("PK\x03\x04") && !bytes.starts_with("\x80\x02"), path.string(),
        ": a pickle of PyTorch, which can run code when it is read; name a folder with safetensors files");
}

/// Throws gosset::FormatError, which says what is there, where a folder has no safetensors files of a model.
inline void refuseForeignFolder(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  check(!fs::exists(folder / "adapter_config.json"), folder.string(),
        ": a LoRA adapter (adapter_config.json); merge it into its model, and name that folder");
  if (fs::exists(folder / gosset::SafetensorsFolder::kFileName)) return;
  if (fs::exists(folder / gosset::SafetensorsFolder::kIndexName)) return;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const std::string extension = entry.path().extension().string();
    check(extension != ".gguf", folder.string(), ": holds a GGUF file, ", name, ", and no model.safetensors");
    const bool pickle =
        extension == ".pth" || extension == ".pt" || (extension == ".bin" && name.starts_with("pytorch_model"));
    check(!pickle, folder.string(), ": holds a pickle of PyTorch, ", name,
          ", which can run code when it is read, and no model.safetensors; convert it to safetensors");
  }
}

/// Throws gosset::FormatError where tensors' names or types show that they are packed already, otherwise than by names
/// that end with `known`.
inline void refusePackedTensors(const gosset::SafetensorsFolder& folder, std::string_view known) {
  constexpr std::array<std::array<std::string_view, 2>, 5> kMarks = {{{".qweight", "GPTQ or AWQ"},
                                                                      {".weight_packed", "compressed-tensors"},
                                                                      {".weight.absmax", "bitsandbytes"},
                                                                      {".SCB", "bitsandbytes"},
                                                                      {".weight_scale_inv", "FP8"}}};
  for (const std::string& name : folder.names()) {
    for (const auto& [ending, method] : kMarks) {
      if (ending != known && name.ends_with(ending))
        folder.fileOf(name).fail(name, "weights that ", method, " has packed; floats expected");
    }
    if (gosset::isFloat8(folder.info(name).dtype)) {
      folder.fileOf(name).fail(name, "FP8 weights; F32, F16 or BF16 expected, the file holds ",
                               folder.info(name).typeName());
    }
  }
}

}  // namespace llama
