// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/gguf_header.hpp>
#include <gosset/io/gguf_types.hpp>
#include <gosset/io/gguf_value.hpp>
#include <gosset/io/mapped_file.hpp>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// A GGUF file open for reading, of version 2 or 3 and little-endian, as llama.cpp and its kin write them. The whole
/// header is checked on opening, so that a file that opens is sound: every value is whole, every tensor lies inside it,
/// is aligned, and shares no byte with another.
///
///     const GgufFile file("model.gguf");
///     file.get<std::string>("general.architecture");
///     file.matrix("token_embd.weight");                    // of floats
///     readGguf<ggml::Q4_K>(file, "blk.0.attn_q.weight");   // io/gguf_quantized.hpp
///
/// Const functions may be called from many threads.
class GgufFile {
 public:
  /// Opens and checks `path`. Throws FormatError, which names the path and the byte, key or tensor, where it cannot be
  /// read, breaks a rule of the format, or holds a tensor of a type that gosset does not know.
  explicit GgufFile(const std::filesystem::path& path, FileAccess access = FileAccess::kMap)
      : path_(path), file_(path, access), header_(detail::GgufHeaderReader(file_.bytes(), path).read()) {}

  const std::filesystem::path& path() const { return path_; }
  std::size_t bytes() const { return file_.bytes().size(); }
  std::uint32_t version() const { return header_.version; }
  /// What tensors are aligned to in the file, in bytes.
  std::size_t alignment() const { return static_cast<std::size_t>(header_.alignment); }
  /// Shared ownership of the file's memory, as SafetensorsFile::keeper().
  std::shared_ptr<const void> keeper() const { return file_.keeper(); }

  /// The keys of the metadata, in the file's order.
  const std::vector<std::string>& keys() const { return header_.keys; }
  bool has(std::string_view key) const { return header_.values.find(key) != header_.values.end(); }

  /// A key's value, of whatever type it is. Throws FormatError where there is no such key.
  GgufValue value(std::string_view key) const {
    const auto found = header_.values.find(key);
    if (found == header_.values.end()) detail::fileError(path_, "holds no key ", detail::printable(key));
    const auto& [type, begin, end] = found->second;
    return GgufValue(type, file_.bytes().subspan(begin, end - begin), file_.keeper());
  }

  /// A key's value as a T: bool, an integer, float, double, std::string, or std::vectors of these. Integers are read
  /// from every type of integer. Throws FormatError where there is no such key or its value is no T.
  template <GgufMetadata T>
  T get(std::string_view key) const {
    const GgufValue value = this->value(key);
    std::optional<T> result = value.as<T>();
    if (!result) {
      detail::fileError(path_, "key ", detail::printable(key), ": expected ", expectedText<T>(), ", the file holds ",
                        value.typeText());
    }
    return *std::move(result);
  }

  /// The tensors' names, in the file's order.
  const std::vector<std::string>& names() const { return header_.names; }
  bool contains(std::string_view name) const { return header_.tensors.find(name) != header_.tensors.end(); }

  /// Type, shape and place of a tensor. Throws FormatError where there is none of that name.
  const GgufTensor& info(std::string_view name) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) detail::fileError(path_, "holds no tensor ", detail::printable(name));
    return found->second;
  }

  /// A tensor's bytes as they lie in the file; a map into a file that ends with the statement would dangle.
  std::span<const std::byte> data(std::string_view name) const& {
    const GgufTensor& tensor = info(name);
    return file_.bytes().subspan(tensor.begin, tensor.bytes());
  }
  std::span<const std::byte> data(std::string_view name) const&& = delete;

  /// Rows and columns of a tensor of rank 2; rank 1 is one row, rank 0 one number. Throws FormatError where the rank is
  /// higher.
  std::pair<Index, Index> matrixShape(std::string_view name) const {
    const std::vector<Index>& shape = info(name).shape;
    if (shape.size() > 2) fail(name, "expected a matrix, got ", shape.size(), " dimensions");
    return {shape.size() < 2 ? 1 : shape[0], shape.empty() ? 1 : shape.back()};
  }

  /// A tensor of F32, F16 or BF16 as floats (m x n), a copy. Throws FormatError where the tensor is missing, has
  /// another type or a rank higher than 2.
  RowMatrixXf matrix(std::string_view name) const {
    const auto [rows, cols] = matrixShape(name);
    RowMatrixXf result(rows, cols);
    const std::string_view type = info(name).type->name;
    if (type == "F32") {
      copyNumbers<float>(name, result);
    } else if (type == "F16") {
      copyNumbers<Float16>(name, result);
    } else if (type == "BF16") {
      copyNumbers<BFloat16>(name, result);
    } else {
      fail(name, "expected F32, F16 or BF16, the file holds ", type);
    }
    return result;
  }

  /// Throws FormatError about a tensor: "gosset: path: tensor 'name' at byte N: ...".
  template <class... Parts>
  [[noreturn]] void fail(std::string_view name, const Parts&... parts) const {
    detail::fileError(path_, "tensor ", detail::printable(name), " at byte ", info(name).begin, ": ", parts...);
  }

 private:
  template <class T>
  static std::string expectedText() {
    if constexpr (detail::kIsVector<T>) {
      return "array of " + expectedText<typename T::value_type>();
    } else {
      return std::string(ggufValueName(*detail::ggufTypeOf<T>()));
    }
  }

  template <StorageScalar T>
  void copyNumbers(std::string_view name, RowMatrixXf& result) const {
    const std::byte* from = data(name).data();
    for (Index i = 0; i < result.size(); ++i) {
      T value;
      std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
      result.data()[i] = static_cast<float>(value);
    }
  }

  std::filesystem::path path_;
  MappedFile file_;
  detail::EmptyAfterMove<detail::GgufHeader> header_;
};

}  // namespace gosset::GOSSET_ABI
