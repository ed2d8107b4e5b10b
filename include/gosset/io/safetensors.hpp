// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/atomic_file.hpp>
#include <gosset/io/dtype.hpp>
#include <gosset/io/float8.hpp>
#include <gosset/io/mapped_file.hpp>
#include <gosset/io/safetensors_header.hpp>

#include <nlohmann/json.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

namespace detail {

/// A number of a file as another type; 16-bit floats go by way of float, which holds them exactly.
template <RealScalar To, FileScalar From>
To convertScalar(From value) {
  constexpr auto isHalf = []<class T>(std::type_identity<T>) {
    return std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;
  };
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (isHalf(std::type_identity<From>{}) || isHalf(std::type_identity<To>{})) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace detail

/// A safetensors file open for reading. The whole header is checked on opening, so that a file that opens is sound:
/// every tensor lies inside it, has its full length, and shares no byte with another.
///
/// Tensors are row-major, as in the file. The maps point into the file's memory, which lives as long as this object, a
/// copy of it or a keeper(); moving it leaves them valid. Const functions may be called from many threads.
///
/// Of the types that no type of C++ holds, floats of 8 bits are converted by matrixAs(), vectorAs() and flatAs(). All
/// others (F4, F6_E2M3, F6_E3M2, C64, and whatever gosset has never heard of) have an info() and a data(), and no
/// numbers: asking for them is a FormatError.
class SafetensorsFile {
 public:
  template <FileScalar T>
  using MatrixMap = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
  template <FileScalar T>
  using VectorMap = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>>;

  /// Opens and checks `path`. Throws FormatError, which names the path, the tensor and the byte, where it cannot be
  /// read or breaks a rule of the format.
  explicit SafetensorsFile(const std::filesystem::path& path, FileAccess access = FileAccess::kMap)
      : path_(path), file_(path, access), header_(detail::readSafetensorsHeader(file_.bytes(), path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::size_t bytes() const { return file_.bytes().size(); }

  /// Shared ownership of the file's memory, for a reader whose maps shall outlive this object: they stay valid while
  /// one of these lives.
  ///
  ///     std::shared_ptr<const void> keeper;
  ///     std::span<const std::byte> codes;
  ///     {
  ///       const SafetensorsFile file("model.safetensors");
  ///       codes = file.data("codes");
  ///       keeper = file.keeper();
  ///     }  // codes are there still
  std::shared_ptr<const void> keeper() const { return file_.keeper(); }

  /// The strings of the header's "__metadata__".
  const MetadataMap& metadata() const { return header_.metadata; }

  /// All tensors, by name.
  const TensorMap& tensors() const { return header_.tensors; }

  /// The tensors' names, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : header_.tensors) result.push_back(entry.first);
    return result;
  }

  bool contains(std::string_view name) const { return header_.tensors.find(name) != header_.tensors.end(); }

  /// Type, shape and place of a tensor. Throws FormatError where there is none of that name.
  const TensorInfo& info(std::string_view name) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) detail::fileError(path_, "holds no tensor ", detail::printable(name));
    return found->second;
  }

  /// A tensor's bytes as they lie in the file.
  std::span<const std::byte> data(std::string_view name) const& { return dataOf(info(name)); }

  /// A tensor of rank 2 as a matrix in the file's memory; rank 1 gives one row, rank 0 one number. Throws FormatError
  /// where the tensor is missing, has another type or a higher rank, is a BOOL other than 0 and 1, or lies at an
  /// address that its type cannot be read from (old Python writers left headers unaligned): matrixAs() reads such a
  /// tensor.
  template <FileScalar T>
  MatrixMap<T> matrix(std::string_view name) const& {
    const auto [rows, cols] = matrixShape(name);
    return MatrixMap<T>(mapped<T>(name), rows, cols);
  }

  /// A tensor of rank 1 or 0 as a column vector in the file's memory. Throws as matrix() does; vectorAs() copies.
  template <FileScalar T>
  VectorMap<T> vector(std::string_view name) const& {
    return VectorMap<T>(mapped<T>(name), vectorSize(name));
  }

  /// All numbers of a tensor of any rank in the file's order. Throws as matrix() does; flatAs() copies.
  template <FileScalar T>
  VectorMap<T> flat(std::string_view name) const& {
    return VectorMap<T>(mapped<T>(name), info(name).size());
  }

  /// As matrix(), but a copy, converted from whatever type the file holds and read from any address. 64-bit numbers
  /// are rounded to T (to half and bfloat16 by way of float).
  template <RealScalar T>
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> matrixAs(std::string_view name) const {
    requireNumbers(name);
    const auto [rows, cols] = matrixShape(name);
    Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> result(rows, cols);
    convert(name, result.data());
    return result;
  }

  /// As vector(), but a converted copy.
  template <RealScalar T>
  Eigen::Matrix<T, Eigen::Dynamic, 1> vectorAs(std::string_view name) const {
    requireNumbers(name);
    Eigen::Matrix<T, Eigen::Dynamic, 1> result(vectorSize(name));
    convert(name, result.data());
    return result;
  }

  /// As flat(), but a converted copy.
  template <RealScalar T>
  Eigen::Matrix<T, Eigen::Dynamic, 1> flatAs(std::string_view name) const {
    requireNumbers(name);
    Eigen::Matrix<T, Eigen::Dynamic, 1> result(info(name).size());
    convert(name, result.data());
    return result;
  }

  // Maps into a file that ends with the statement would dangle.
  std::span<const std::byte> data(std::string_view) const&& = delete;
  template <FileScalar T>
  MatrixMap<T> matrix(std::string_view) const&& = delete;
  template <FileScalar T>
  VectorMap<T> vector(std::string_view) const&& = delete;
  template <FileScalar T>
  VectorMap<T> flat(std::string_view) const&& = delete;

  /// Throws FormatError about a tensor: "gosset: path: tensor 'name' at byte N: ...".
  template <class... Parts>
  [[noreturn]] void fail(std::string_view name, const Parts&... parts) const {
    failAt(name, info(name).begin, parts...);
  }

 private:
  template <class... Parts>
  [[noreturn]] void failAt(std::string_view name, std::size_t byte, const Parts&... parts) const {
    detail::fileError(path_, "tensor ", detail::printable(name), " at byte ", byte, ": ", parts...);
  }

  std::span<const std::byte> dataOf(const TensorInfo& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.bytes());
  }

  std::pair<Index, Index> matrixShape(std::string_view name) const {
    const std::vector<Index>& shape = info(name).shape;
    if (shape.size() > 2) fail(name, "expected a matrix, got shape ", detail::listText(std::span(shape)));
    return {shape.size() < 2 ? 1 : shape[0], shape.empty() ? 1 : shape.back()};
  }

  Index vectorSize(std::string_view name) const {
    const TensorInfo& tensor = info(name);
    if (tensor.shape.size() > 1) fail(name, "expected a vector, got shape ", detail::listText(std::span(tensor.shape)));
    return tensor.size();
  }

  /// Before memory for them is asked for: of a type without a size, a file may claim any number.
  void requireNumbers(std::string_view name) const {
    const TensorInfo& tensor = info(name);
    if (hasFileScalar(tensor.dtype) || isFloat8(tensor.dtype)) return;
    fail(name, "gosset reads no numbers of type ", detail::typeText(tensor));
  }

  template <FileScalar T>
  const T* mapped(std::string_view name) const {
    const TensorInfo& tensor = info(name);
    if (tensor.dtype != dtypeOf<T>()) {
      fail(name, "expected ", dtypeName(dtypeOf<T>()), ", the file holds ", detail::typeText(tensor));
    }
    const std::span<const std::byte> bytes = dataOf(tensor);
    if (bytes.empty()) return nullptr;
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0) {
      fail(name, dtypeName(tensor.dtype),
           " cannot be mapped from an odd address; read a copy with matrixAs, vectorAs or flatAs");
    }
    checkBools(name, tensor);
    return reinterpret_cast<const T*>(bytes.data());
  }

  /// A bool that is neither 0 nor 1 has no meaning in C++.
  void checkBools(std::string_view name, const TensorInfo& tensor) const {
    if (tensor.dtype != Dtype::kBool) return;
    const std::span<const std::byte> bytes = dataOf(tensor);
    const auto wrong = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; });
    if (wrong != bytes.end()) {
      failAt(name, tensor.begin + static_cast<std::size_t>(wrong - bytes.begin()), "a BOOL must be 0 or 1, got ",
             std::to_integer<int>(*wrong));
    }
  }

  template <RealScalar T>
  void convert(std::string_view name, T* to) const {
    const TensorInfo& tensor = info(name);
    checkBools(name, tensor);
    const std::byte* from = dataOf(tensor).data();
    const Index size = tensor.size();
    if (isFloat8(tensor.dtype)) {
      const std::array<float, 256> values = detail::float8Values(tensor.dtype);
      for (Index i = 0; i < size; ++i) {
        to[i] = detail::convertScalar<T>(values[std::to_integer<std::size_t>(from[i])]);
      }
      return;
    }
    visitDtype(tensor.dtype, [&]<class From>(std::type_identity<From>) {
      for (Index i = 0; i < size; ++i) {
        From value;
        std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
        to[i] = detail::convertScalar<T>(value);
      }
    });
  }

  std::filesystem::path path_;
  MappedFile file_;
  detail::EmptyAfterMove<detail::SafetensorsHeader> header_;
};

/// Collects tensors and writes them as one safetensors file, laid out as the reference implementation does it: wider
/// types first, then by name, without holes, the header padded with spaces, so that every tensor is aligned for its
/// type and the first begins at a multiple of kAlignment bytes from the file's beginning.
///
///     SafetensorsWriter writer;
///     writer.add("weight", w);
///     writer.write("model.safetensors");
class SafetensorsWriter {
 public:
  static constexpr std::size_t kAlignment = MappedFile::kAlignment;

  /// Takes a tensor's bytes, piece by piece, in row-major order.
  using Put = std::function<void(std::span<const std::byte>)>;
  /// Gives a tensor's bytes to a Put; called once in each write().
  using Source = std::function<void(const Put&)>;

  /// Adds a copy of any dense expression: rank 2, or rank 1 where the type is a vector. As with all adding functions,
  /// `name` is new, valid UTF-8 and not "__metadata__", else std::invalid_argument.
  template <class Derived>
  requires FileScalar<typename Derived::Scalar>
  void add(std::string_view name, const Eigen::DenseBase<Derived>& values) {
    using T = typename Derived::Scalar;
    using Copy = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    auto copy = std::make_shared<Copy>(values.rows(), values.cols());
    *copy = values.derived();
    std::vector<Index> shape = {values.rows(), values.cols()};
    if (Derived::IsVectorAtCompileTime) shape = {values.size()};
    addSource(name, dtypeOf<T>(), std::move(shape), [copy](const Put& put) {
      put(std::as_bytes(std::span<const T>(copy->data(), static_cast<std::size_t>(copy->size()))));
    });
  }

  /// Adds a copy of numbers in row-major order, of any shape ({} for a lone number).
  template <FileScalar T>
  void add(std::string_view name, std::vector<Index> shape, std::type_identity_t<std::span<const T>> values) {
    requireSize(name, shape, values.size());
    auto copy = std::make_shared<std::vector<std::byte>>(values.size_bytes());
    std::copy_n(std::as_bytes(values).data(), values.size_bytes(), copy->data());
    addSource(name, dtypeOf<T>(), std::move(shape), [copy](const Put& put) { put(*copy); });
  }

  /// As add(), without the copy: `values` must stay as they are until the last write().
  template <FileScalar T>
  void addView(std::string_view name, std::vector<Index> shape, std::type_identity_t<std::span<const T>> values) {
    requireSize(name, shape, values.size());
    addSource(name, dtypeOf<T>(), std::move(shape), [values](const Put& put) { put(std::as_bytes(values)); });
  }

  /// Adds a tensor whose bytes are made only when the file is written, for models that do not fit into memory at once.
  void addSource(std::string_view name, Dtype dtype, std::vector<Index> shape, Source source) {
    detail::require(name != detail::kMetadataKey, "name: '", name, "' is reserved for metadata");
    requireUtf8("name", name);
    detail::require(!contains(name), "name: tensor ", detail::printable(name), " was added before");
    for (const Index dimension : shape) {
      detail::require(dimension >= 0, "shape: expected dimensions of at least 0, got ", dimension, " for tensor ",
                      detail::printable(name));
    }
    detail::require(shape.size() <= detail::kMaxRank, "shape: expected at most ", detail::kMaxRank, " dimensions, got ",
                    shape.size(), " for tensor ", detail::printable(name));
    detail::require(dtype != Dtype::kUnknown, "dtype: expected a known type for tensor ", detail::printable(name),
                    ", got ", dtypeName(dtype));
    const std::optional<std::uint64_t> bytes = detail::tensorBytes(dtype, shape);
    detail::require(bytes.has_value(), "shape: tensor ", detail::printable(name), " would take ",
                    detail::tensorBytesText(dtype, shape));
    tensors_.emplace(std::string(name), Tensor{dtype, std::move(shape), *bytes, std::move(source)});
  }

  /// Adds all that another one has collected, or nothing where a tensor's name is taken: std::invalid_argument.
  void add(SafetensorsWriter&& other) {
    for (const auto& [name, tensor] : other.tensors_) {
      detail::require(!contains(name), "name: tensor ", detail::printable(name), " was added before");
    }
    for (const auto& entry : other.metadata_) {
      if (const auto found = metadata_.find(entry.first); found != metadata_.end()) metadata_.erase(found);
    }
    tensors_.merge(other.tensors_);  // without an allocation
    metadata_.merge(other.metadata_);
  }

  /// Whether a tensor of that name was added.
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

  /// Adds a string to the file's metadata, or replaces it. Both are valid UTF-8, else std::invalid_argument.
  void setMetadata(std::string_view key, std::string_view value) {
    requireUtf8("key", key);
    requireUtf8("value", value);
    metadata_.insert_or_assign(std::string(key), std::string(value));
  }

  /// Writes the file (as AtomicFile does: whole or not at all; a file that was there stays whole until then). Throws
  /// FormatError where the system cannot, std::invalid_argument where a source gives another number of bytes than its
  /// shape takes; what a source throws passes through.
  void write(const std::filesystem::path& path) const {
    const std::vector<const Entry*> order = fileOrder();
    const std::string header = headerText(order);
    AtomicFile file(path);
    const std::uint64_t length = header.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(std::as_bytes(std::span(header)));
    for (const Entry* entry : order) writeTensor(file, *entry);
    file.commit();
  }

 private:
  struct Tensor {
    Dtype dtype;
    std::vector<Index> shape;
    std::uint64_t bytes;
    Source source;
  };
  using Entry = std::pair<const std::string, Tensor>;

  static void requireUtf8(const char* argument, std::string_view text) {
    try {
      (void)quoted(text);
    } catch (const nlohmann::json::exception&) {
      detail::invalidArgument(argument, ": expected valid UTF-8, got ", detail::printable(text));
    }
  }

  static std::string quoted(std::string_view text) { return nlohmann::json(text).dump(); }

  static void requireSize(std::string_view name, std::span<const Index> shape, std::size_t size) {
    const std::optional<std::uint64_t> numbers = detail::tensorNumbers(shape);
    detail::require(numbers == size, "values: tensor ", detail::printable(name), " of shape ", detail::listText(shape),
                    " got ", size, " numbers");
  }

  std::vector<const Entry*> fileOrder() const {
    std::vector<const Entry*> order;
    for (const Entry& entry : tensors_) order.push_back(&entry);
    // What fills whole cache lines first, so that all of it starts where one does; then the widest types first, so that
    // every number is aligned; then by name.
    const auto rank = [](const Entry* entry) {
      constexpr std::uint64_t kLine = 64;
      return std::pair(entry->second.bytes % kLine != 0, -static_cast<int>(entry->second.dtype));
    };
    std::sort(order.begin(), order.end(), [&](const Entry* a, const Entry* b) {
      return rank(a) != rank(b) ? rank(a) < rank(b) : a->first < b->first;
    });
    return order;
  }

  std::string headerText(const std::vector<const Entry*>& order) const {
    // Not by an object of nlohmann's: one that is destroyed asks for memory, and there may be none.
    std::string text = "{";
    const auto comma = [&](std::size_t first) { return text.size() > first ? "," : ""; };
    if (!metadata_.empty()) {
      text += quoted(detail::kMetadataKey) + ":{";
      const std::size_t first = text.size();
      for (const auto& [key, value] : metadata_) text.append(comma(first)).append(quoted(key) + ":" + quoted(value));
      text += "}";
    }
    std::uint64_t offset = 0;
    for (const Entry* entry : order) {
      const auto& [name, tensor] = *entry;
      detail::require(offset + tensor.bytes >= offset, "tensors: together they would take more than 2^64 bytes");
      text.append(comma(1)).append(quoted(name) + ":{\"dtype\":" + quoted(dtypeName(tensor.dtype)) + ",\"shape\":[");
      const std::size_t first = text.size();
      for (const Index dimension : tensor.shape) text.append(comma(first)).append(std::to_string(dimension));
      text += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + tensor.bytes) + "]}";
      offset += tensor.bytes;
    }
    text += "}";
    const std::size_t data_begin = (8 + text.size() + kAlignment - 1) / kAlignment * kAlignment;
    text.resize(data_begin - 8, ' ');
    detail::require(text.size() <= detail::kMaxHeaderBytes, "tensors: the file's header would take ", text.size(),
                    " bytes, more than the ", detail::kMaxHeaderBytes, " allowed");
    return text;
  }

  static void writeTensor(AtomicFile& file, const Entry& entry) {
    const auto& [name, tensor] = entry;
    std::uint64_t put = 0;
    const std::uint64_t expected = tensor.bytes;
    tensor.source([&](std::span<const std::byte> bytes) {
      put += bytes.size();
      if (put <= expected) file.write(bytes);
    });
    detail::require(put == expected, "source: tensor ", detail::printable(name), " takes ", expected,
                    " bytes, its source gave ", put);
  }

  detail::EmptyAfterMove<std::map<std::string, Tensor, std::less<>>> tensors_;
  detail::EmptyAfterMove<MetadataMap> metadata_;
};

}  // namespace gosset::GOSSET_ABI
