// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "one_block.hpp"
#include "packed_file.hpp"

#include <gosset/io/safetensors_folder.hpp>

#include <algorithm>
#include <cstdio>

// A packed model in a folder, a part to a file: model-00001-of-N.safetensors the embedding, the tokenizer and the
// metadata of packed_file.hpp, then a file for each block, then one for the last norm and the output matrix; and
// model.safetensors.index.json, which lists them and is written last: without it the folder is not whole. There is no
// config.json, which tells such a folder from Hugging Face's. Tensors are named and kept as in packed_file.hpp.
namespace llama {

/// How many files a model of that config has: its parts are numbered from 0.
inline std::size_t packedParts(const Config& config) { return static_cast<std::size_t>(config.layers) + 2; }
inline std::size_t partOfBlock(std::size_t block) { return block + 1; }

inline std::string packedPartName(std::size_t part, std::size_t parts) {
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", part + 1, parts);
  return name;
}

inline bool isPackedFolder(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) && !std::filesystem::exists(path / "config.json") &&
         std::filesystem::exists(path / gosset::SafetensorsFolder::kIndexName);
}

namespace detail {

template <class Numbers>
void addFloats(gosset::SafetensorsWriter& writer, const FloatInfo& info, const Numbers& numbers) {
  writer.add(info.name, castFinite<gosset::Float16>(info.name, numbers));
}

}  // namespace detail

/// The three kinds of parts, to be written by the caller.
inline gosset::SafetensorsWriter embeddingPart(const Config& config, const std::string& configText, bool tied,
                                               const gosset::AnyMatrix& embedding, const Tokenizer& tokenizer) {
  gosset::SafetensorsWriter writer;
  writer.setMetadata("llama.config", configText.empty() ? huggingFaceConfigText(config, tied) : configText);
  addTokenizer(writer, tokenizer);
  detail::addMatrix(writer, embeddingName(), embedding);
  return writer;
}
inline gosset::SafetensorsWriter blockPart(const PackedModel& alone, std::size_t block) {
  gosset::SafetensorsWriter writer;
  forEachFloatOf(alone, block,
                 [&](const FloatInfo& info, const auto& numbers) { detail::addFloats(writer, info, numbers); });
  forEachLinearOf(alone, block, [&](const LinearInfo& info, const gosset::AnyMatrix& matrix) {
    detail::addMatrix(writer, info.name, matrix);
  });
  return writer;
}
inline gosset::SafetensorsWriter headPart(const PackedModel& head) {
  gosset::SafetensorsWriter writer;
  detail::addFloats(writer, finalNormInfo(head.config), head.finalNorm);
  if (head.output) detail::addMatrix(writer, outputName(), *head.output);
  return writer;
}

namespace detail {

template <class FileOf>
RowMatrixXf readPackedFloats(const FloatInfo& info, FileOf&& fileOf) {
  RowMatrixXf numbers = readTensor(fileOf(info.name), info.name, info.shape);
  if (info.shape.size() == 1) numbers.transposeInPlace();
  return numbers;
}

}  // namespace detail

/// Block number `block` of a model; fileOf(name): the file of a tensor or a packed matrix, whose memory matrices show.
template <class FileOf>
PackedModel readPackedBlock(const Config& config, std::size_t block, FileOf&& fileOf) {
  auto alone = emptyWeights<gosset::AnyMatrix>(oneBlock(config, block), false);
  forEachFloatOf(alone, block,
                 [&](const FloatInfo& info, auto& numbers) { numbers = detail::readPackedFloats(info, fileOf); });
  forEachLinearOf(alone, block, [&](const LinearInfo& info, gosset::AnyMatrix& matrix) {
    matrix = detail::readWeights(fileOf(info.name), info);
  });
  return alone;
}

/// Writes the index of a folder that holds all parts. Throws gosset::FormatError, which names it, where one is missing.
inline void writePackedIndex(const std::filesystem::path& folder, std::size_t parts) {
  nlohmann::ordered_json names;
  std::uint64_t bytes = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::string name = packedPartName(part, parts);
    check(std::filesystem::exists(folder / name), folder.string(), ": ", name, " is missing");
    const gosset::SafetensorsFile file(folder / name);
    for (const auto& [tensor, info] : file.tensors()) {
      names[tensor] = name;
      bytes += info.bytes();
    }
  }
  const std::string text = nlohmann::ordered_json{{"metadata", {{"total_size", bytes}}}, {"weight_map", names}}.dump(1);
  writeWhole(folder / gosset::SafetensorsFolder::kIndexName, text);
}

/// Such a folder, of which one part is in use at a time. Matrices show the files' memory.
class PackedSource {
 public:
  /// Throws gosset::FormatError where it is not such a folder.
  explicit PackedSource(const std::filesystem::path& folder) : folder_(folder), names_(folder_.names()) {
    const gosset::SafetensorsFile& file = fileOf(embeddingName());
    const auto found = file.metadata().find("llama.config");
    check(found != file.metadata().end(), file.path().string(),
          ": this is no part of a packed model (its metadata has no llama.config)");
    text_ = found->second;
    read_ = parseHuggingFaceConfig(text_, file.path().string() + ": llama.config");
    detail::checkLayers(folder.string(), names_.size(), read_.config);
  }

  const Config& config() const { return read_.config; }
  bool tied() const { return read_.tied; }
  std::string configText() const { return config() != plainLlama(config()) ? text_ : std::string(); }

  Tokenizer tokenizer() const { return readPackedTokenizer(fileOf(embeddingName()), config().vocab); }

  gosset::AnyMatrix embedding() const {
    const LinearInfo info = embeddingInfo(config());
    return detail::readPackedEmbedding(fileOf(info.name), info);
  }
  gosset::AnyMatrix linear(const LinearInfo& info) const { return detail::readWeights(fileOf(info.name), info); }

  PackedModel block(std::size_t block) const {
    return readPackedBlock(
        config(), block, [&](const std::string& name) -> const auto& { return fileOf(name); });
  }

  PackedModel head() const {
    auto alone = emptyWeights<gosset::AnyMatrix>(noBlock(config()), !tied());
    const auto file = [&](const std::string& name) -> const auto& { return fileOf(name); };
    alone.finalNorm = detail::readPackedFloats(finalNormInfo(config()), file).reshaped();
    if (tied()) {
      alone.embedding = embedding();
    } else {
      alone.output = linear(outputInfo(config()));
    }
    return alone;
  }

  /// Gives the memory of everything read back to the system.
  void forget() const {
    for (const std::string& name : names_) forgetPages(folder_.fileOf(name).data(name));
  }

 private:
  /// The file of a tensor, or of a packed matrix, whose tensors are called name.<field>.
  const gosset::SafetensorsFile& fileOf(const std::string& name) const {
    if (folder_.contains(name)) return folder_.fileOf(name);
    const auto found = std::lower_bound(names_.begin(), names_.end(), name + ".");
    check(found != names_.end() && found->starts_with(name + "."), folder_.path().string(), ": holds no matrix '", name,
          "'");
    return folder_.fileOf(*found);
  }

  gosset::SafetensorsFolder folder_;
  std::vector<std::string> names_;  // sorted
  std::string text_;
  HuggingFaceConfig read_;
};

/// The whole model. Throws gosset::FormatError where the folder does not hold together.
inline PackedFile readPackedFolder(const std::filesystem::path& folder) {
  const PackedSource source(folder);
  auto model = emptyWeights<gosset::AnyMatrix>(source.config(), !source.tied());
  model.configText = source.configText();
  model.embedding = source.embedding();
  for (std::size_t i = 0; i < model.layers.size(); ++i) model.layers[i] = std::move(source.block(i).layers.front());
  PackedModel head = source.head();
  model.finalNorm = std::move(head.finalNorm);
  model.output = std::move(head.output);
  return {std::move(model), source.tokenizer()};
}

}  // namespace llama
