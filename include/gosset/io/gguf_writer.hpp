// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/atomic_file.hpp>
#include <gosset/io/gguf.hpp>
#include <gosset/io/gguf_types.hpp>
#include <gosset/io/gguf_value.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace gosset::GOSSET_ABI {

namespace detail {

/// The type of a GGUF file that holds numbers of a C++ type as they are.
template <class T>
constexpr std::string_view ggmlNameOf() {
  if constexpr (std::is_same_v<T, float>) return "F32";
  if constexpr (std::is_same_v<T, Float16>) return "F16";
  if constexpr (std::is_same_v<T, BFloat16>) return "BF16";
  if constexpr (std::is_same_v<T, double>) return "F64";
  if constexpr (std::is_same_v<T, std::int8_t>) return "I8";
  if constexpr (std::is_same_v<T, std::int16_t>) return "I16";
  if constexpr (std::is_same_v<T, std::int32_t>) return "I32";
  if constexpr (std::is_same_v<T, std::int64_t>) return "I64";
  return "";
}

/// The type of that name, as GgmlType has them; null where there is none.
constexpr const GgmlType* ggmlTypeNamed(std::string_view name) {
  for (const GgmlType& type : kGgmlTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

/// The type whose bytes a format's are: those of ggml's blocks and of plain floats.
inline const GgmlType* ggmlTypeOfFormat(std::string_view format) {
  constexpr std::string_view kBlocks = "ggml::";
  if (format.starts_with(kBlocks)) return ggmlTypeNamed(format.substr(kBlocks.size()));
  return ggmlTypeNamed(format == "float" ? "F32" : format == "Float16" ? "F16" : format == "BFloat16" ? "BF16" : "");
}

}  // namespace detail

/// Collects metadata and tensors and writes them as one GGUF file of version 3: keys and tensors in the order in which
/// they came, so that the same calls give the same bytes.
///
///     GgufWriter writer;
///     writer.set("general.architecture", "llama");
///     writer.add("token_embd.weight", w);
///     writer.add("blk.0.attn_q.weight", quantize<ggml::Q4_K>(q));
///     writer.write("model.gguf");
class GgufWriter {
 public:
  /// What readers of ggml take: longer names of tensors they refuse.
  static constexpr std::size_t kMostName = 63;

  /// Takes a tensor's bytes, piece by piece, row after row.
  using Put = std::function<void(std::span<const std::byte>)>;
  /// Gives a tensor's bytes to a Put; called once in each write().
  using Source = std::function<void(const Put&)>;

  /// Sets a key of the metadata, or another value for one that was set: a bool, an integer, float, double, a string, or
  /// std::vectors of these, as a value of just that type. Errors: std::invalid_argument where the key is empty or
  /// longer than 65535 bytes; where "general.alignment" is no uint32 that is a power of two.
  void set(std::string_view key, GgufValue value) {
    detail::require(!key.empty() && key.size() <= detail::kMostGgufName, "key: expected 1 to ", detail::kMostGgufName,
                    " bytes, got ", key.size());
    if (key == detail::kAlignmentKey) setAlignment(value);
    const auto found =
        std::find_if(values_.begin(), values_.end(), [&](const auto& entry) { return entry.first == key; });
    if (found != values_.end()) {
      found->second = std::move(value);
    } else {
      values_.emplace_back(std::string(key), std::move(value));
    }
  }
  template <GgufMetadata T>
  void set(std::string_view key, const T& value) {
    set(key, GgufValue(value));
  }
  void set(std::string_view key, std::string_view text) { set(key, GgufValue(std::string(text))); }
  void set(std::string_view key, const char* text) { set(key, std::string_view(text)); }

  /// Sets all keys of a file, whose memory is kept until then.
  void setAll(const GgufFile& file) {
    for (const std::string& key : file.keys()) set(key, file.value(key));
  }

  /// Adds a copy of any dense expression of float, double, Float16, BFloat16 or signed integers: rank 2, or rank 1
  /// where the type is a vector. As with all adding functions, `name` is new and of 1 to 63 bytes, else
  /// std::invalid_argument.
  template <class Derived>
  requires(!detail::ggmlNameOf<typename Derived::Scalar>().empty()) void add(std::string_view name,
                                                                             const Eigen::DenseBase<Derived>& values) {
    using T = typename Derived::Scalar;
    using Copy = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    auto copy = std::make_shared<Copy>(values.rows(), values.cols());
    *copy = values.derived();
    std::vector<Index> shape = {values.rows(), values.cols()};
    if (Derived::IsVectorAtCompileTime) shape = {values.size()};
    addSource(name, *detail::ggmlTypeNamed(detail::ggmlNameOf<T>()), std::move(shape), [copy](const Put& put) {
      put(std::as_bytes(std::span<const T>(copy->data(), static_cast<std::size_t>(copy->size()))));
    });
  }

  /// Adds a copy of a matrix in one of ggml's formats or in plain floats. Errors: also where it is in another format,
  /// which no file of this kind can hold.
  template <class Format>
  void add(std::string_view name, const QuantizedMatrix<Format>& matrix) {
    add(name, AnyMatrix(matrix));
  }
  /// The same of a format that is known at run time; the codes are shared rather than copied.
  void add(std::string_view name, const AnyMatrix& matrix) {
    const GgmlType* type = detail::ggmlTypeOfFormat(matrix.packed().formatName());
    detail::require(type != nullptr, "GgufWriter: tensor ", detail::printable(name), " has the format ",
                    matrix.format(), ", which no GGUF file can hold; expected one of ggml's or plain floats");
    addSource(name, *type, {matrix.rows(), matrix.cols()}, [matrix](const Put& put) { putMatrix(matrix, put); });
  }

  /// Puts the bytes of a matrix that add() takes, row after row; for sources that are made of matrices.
  static void putMatrix(const AnyMatrix& matrix, const Put& put) {
    matrix.packed().visitFields([&](std::string_view, const AnyField& field) {
      std::visit([&](auto values) { put(std::as_bytes(values)); }, field);
    });
  }

  /// Adds a tensor whose bytes are made only when the file is written, for models that do not fit into memory at once.
  /// shape: the length of a row last. Errors: also where it has more than 4 dimensions, or rows that are not made of
  /// whole blocks of the type.
  void addSource(std::string_view name, const GgmlType& type, std::vector<Index> shape, Source source) {
    detail::require(!name.empty() && name.size() <= kMostName, "name: expected 1 to ", kMostName, " bytes, got ",
                    name.size());
    detail::require(!contains(name), "name: tensor ", detail::printable(name), " was added before");
    detail::require(shape.size() <= detail::kMostGgufRank, "shape: expected at most ", detail::kMostGgufRank,
                    " dimensions, got ", shape.size(), " for tensor ", detail::printable(name));
    std::uint64_t bytes = type.block_bytes;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const bool is_width = i + 1 == shape.size();
      detail::require(shape[i] >= 0 && (!is_width || shape[i] % type.block == 0), "shape: tensor ",
                      detail::printable(name), ": rows of ", type.name, " are made of blocks of ", type.block,
                      " numbers, got a dimension of ", shape[i]);
      const auto factor = static_cast<std::uint64_t>(is_width ? shape[i] / type.block : shape[i]);
      detail::require(factor == 0 || bytes <= std::numeric_limits<std::uint64_t>::max() / 2 / factor, "shape: tensor ",
                      detail::printable(name), " would take more than 2^63 bytes");
      bytes *= factor;
    }
    detail::require(!shape.empty() || type.block == 1, "shape: tensor ", detail::printable(name),
                    ": a lone number is no block of ", type.name);
    names_.emplace(name, tensors_.size());
    tensors_.push_back({std::string(name), &type, std::move(shape), bytes, std::move(source)});
  }

  /// Whether a tensor of that name was added.
  bool contains(std::string_view name) const { return names_.find(name) != names_.end(); }

  /// Writes the file (as AtomicFile does: whole or not at all; a file that was there stays whole until then). Throws
  /// FormatError where the system cannot, std::invalid_argument where a source gives another number of bytes than its
  /// shape takes; what a source throws passes through.
  void write(const std::filesystem::path& path) const {
    const std::string header = headerText();
    AtomicFile file(path);
    file.write(std::as_bytes(std::span(header)));
    for (const Tensor& tensor : tensors_) writeTensor(file, tensor);
    file.commit();
  }

 private:
  struct Tensor {
    std::string name;
    const GgmlType* type;
    std::vector<Index> shape;
    std::uint64_t bytes;
    Source source;
  };

  void setAlignment(const GgufValue& value) {
    const auto alignment = value.type() == GgufValueType::kU32 ? value.as<std::uint32_t>().value_or(0) : 0;
    detail::require(std::has_single_bit(alignment) && alignment <= detail::kMostGgufAlignment,
                    "general.alignment: expected a uint32 that is a power of two up to ", detail::kMostGgufAlignment,
                    ", got ", value.typeText(), " ", alignment);
    alignment_ = alignment;
  }

  std::uint64_t padding(std::uint64_t bytes) const { return (alignment_ - bytes % alignment_) % alignment_; }

  std::string headerText() const {
    std::string text(detail::kGgufMagic);
    detail::putNumber<std::uint32_t>(text, 3);
    detail::putNumber<std::uint64_t>(text, tensors_.size());
    detail::putNumber<std::uint64_t>(text, values_.size());
    for (const auto& [key, value] : values_) {
      detail::putString(text, key);
      detail::putNumber(text, static_cast<std::uint32_t>(value.type()));
      text.append(reinterpret_cast<const char*>(value.bytes().data()), value.bytes().size());
    }
    std::uint64_t offset = 0;
    for (const Tensor& tensor : tensors_) {
      detail::putString(text, tensor.name);
      detail::putNumber(text, static_cast<std::uint32_t>(tensor.shape.size()));
      for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) {
        detail::putNumber(text, static_cast<std::uint64_t>(*it));
      }
      detail::putNumber(text, tensor.type->id);
      detail::putNumber(text, offset);
      offset += tensor.bytes + padding(tensor.bytes);
      detail::require(offset >= tensor.bytes, "tensors: together they would take more than 2^64 bytes");
    }
    return text.append(static_cast<std::size_t>(padding(text.size())), '\0');
  }

  void writeTensor(AtomicFile& file, const Tensor& tensor) const {
    std::uint64_t put = 0;
    tensor.source([&](std::span<const std::byte> bytes) {
      put += bytes.size();
      if (put <= tensor.bytes) file.write(bytes);
    });
    detail::require(put == tensor.bytes, "source: tensor ", detail::printable(tensor.name), " takes ", tensor.bytes,
                    " bytes, its source gave ", put);
    const std::vector<std::byte> zeros(static_cast<std::size_t>(padding(put)));
    file.write(zeros);
  }

  detail::EmptyAfterMove<std::uint64_t, int{detail::kGgufAlignment}> alignment_;
  detail::EmptyAfterMove<std::vector<std::pair<std::string, GgufValue>>> values_;
  detail::EmptyAfterMove<std::vector<Tensor>> tensors_;
  detail::EmptyAfterMove<std::map<std::string, std::size_t, std::less<>>> names_;
};

}  // namespace gosset::GOSSET_ABI
