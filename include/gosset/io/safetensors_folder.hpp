// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/io/json.hpp>
#include <gosset/io/safetensors.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// The safetensors files of a model's folder as one: model.safetensors, or the shards that
/// model.safetensors.index.json lists, {"weight_map": {"tensor": "file", ...}}. All of them are opened and checked at
/// once, and stay mapped: a tensor's bytes are read when they are touched.
///
///     const SafetensorsFolder folder("Llama-3");
///     const auto w = folder.fileOf("lm_head.weight").matrix<BFloat16>("lm_head.weight");
///
/// Const functions may be called from many threads; what fileOf() returns lives as long as the folder.
/// Source: huggingface.co/docs/safetensors and the index files that transformers writes (save_pretrained, "sharded").
class SafetensorsFolder {
 public:
  static constexpr std::string_view kFileName = "model.safetensors";
  static constexpr std::string_view kIndexName = "model.safetensors.index.json";

  /// Throws FormatError, which names the folder, file or tensor: where the folder has neither file, or both; a shard is
  /// missing, unsound, or named by a path that leads out of the folder; a tensor is not in the shard that the index
  /// says, in a second shard, or in a shard and not in the index.
  explicit SafetensorsFolder(const std::filesystem::path& folder, FileAccess access = FileAccess::kMap)
      : folder_(folder) {
    const bool whole = exists(kFileName), sharded = exists(kIndexName);
    if (!whole && !sharded) detail::fileError(folder_, "holds neither ", kFileName, " nor ", kIndexName);
    if (whole && sharded) {
      detail::fileError(folder_, "holds both ", kFileName, " and ", kIndexName, "; remove the one that is not meant");
    }
    if (whole) {
      open(std::string(kFileName), access);
    } else {
      openShards(access);
    }
  }

  const std::filesystem::path& path() const { return folder_; }

  /// How many files it is in.
  std::size_t files() const { return files_.size(); }

  /// Bytes of all files.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& [name, file] : files_) sum += file.bytes();
    return sum;
  }

  /// The tensors' names, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [tensor, file] : tensors_) result.push_back(tensor);
    return result;
  }

  bool contains(std::string_view tensor) const { return tensors_.find(tensor) != tensors_.end(); }

  /// The file that holds a tensor. Throws FormatError where there is none of that name.
  const SafetensorsFile& fileOf(std::string_view tensor) const& {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end()) detail::fileError(folder_, "holds no tensor ", detail::printable(tensor));
    return files_.find(found->second)->second;
  }
  const SafetensorsFile& fileOf(std::string_view) const&& = delete;

  /// Type, shape and place of a tensor in its file. Throws FormatError where there is none of that name.
  const TensorInfo& info(std::string_view tensor) const& { return fileOf(tensor).info(tensor); }
  const TensorInfo& info(std::string_view) const&& = delete;

 private:
  using Names = std::map<std::string, std::string, std::less<>>;  // of tensors, and the files that hold them

  bool exists(std::string_view name) const {
    std::error_code ignored;
    return std::filesystem::exists(folder_ / name, ignored);
  }

  void open(const std::string& name, FileAccess access) {
    const SafetensorsFile& file = files_.emplace(name, SafetensorsFile(folder_ / name, access)).first->second;
    for (const auto& [tensor, info] : file.tensors()) {
      const auto [found, isNew] = tensors_.emplace(tensor, name);
      if (!isNew) {
        detail::fileError(folder_, "tensor ", detail::printable(tensor), " is in two shards, ",
                          detail::printable(found->second), " and ", detail::printable(name));
      }
    }
  }

  void openShards(FileAccess access) {
    const Names index = readIndex();
    for (const auto& [tensor, name] : index) {
      if (files_.find(name) == files_.end()) open(name, access);
    }
    for (const auto& [tensor, name] : index) {
      if (!files_.find(name)->second.contains(tensor)) {
        detail::fileError(folder_, "tensor ", detail::printable(tensor), " is not in ", detail::printable(name),
                          ", where ", kIndexName, " says it is");
      }
    }
    for (const auto& [tensor, name] : tensors_) {
      if (index.find(tensor) == index.end()) {
        detail::fileError(folder_, "tensor ", detail::printable(tensor), " in ", detail::printable(name), " is not in ",
                          kIndexName);
      }
    }
  }

  /// The index's "weight_map", whose files are there and in the folder.
  Names readIndex() const {
    const std::filesystem::path path = folder_ / kIndexName;
    const MappedFile file(path, FileAccess::kLoad);
    const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    const nlohmann::json json = parseJson(text, "gosset: " + path.string());
    const bool hasMap = json.is_object() && json.contains("weight_map") && json["weight_map"].is_object();
    if (!hasMap) detail::fileError(path, "expected an object \"weight_map\" of tensors and their files");
    Names index;
    for (const auto& [tensor, name] : json["weight_map"].items()) {
      if (!name.is_string()) {
        detail::fileError(path, "tensor ", detail::printable(tensor), ": expected the name of a file, got ",
                          name.dump().substr(0, 80));
      }
      index.emplace(tensor, name.template get<std::string>());
      requireShard(tensor, index[tensor]);
    }
    return index;
  }

  void requireShard(std::string_view tensor, const std::string& name) const {
    const std::filesystem::path shard = name;
    const bool leaves = std::find(shard.begin(), shard.end(), "..") != shard.end();
    if (name.empty() || shard.is_absolute() || leaves || name.find('\0') != std::string::npos) {
      detail::fileError(folder_ / kIndexName, "tensor ", detail::printable(tensor),
                        ": expected a file in the folder, got ", detail::printable(name));
    }
    if (!exists(name)) {
      detail::fileError(folder_, "tensor ", detail::printable(tensor), ": there is no file ", detail::printable(name),
                        ", where ", kIndexName, " says it is");
    }
  }

  std::filesystem::path folder_;
  std::map<std::string, SafetensorsFile, std::less<>> files_;  // by name
  Names tensors_;
};

}  // namespace gosset::GOSSET_ABI
