// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/io/dtype.hpp>
#include <gosset/io/file_descriptor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The header of a safetensors file, read as if an enemy had written it. The layout, all numbers little-endian:
//
//   byte 0    8 bytes: n, the header's length
//   byte 8    n bytes: a JSON object {"name": {"dtype": "F32", "shape": [m, n], "data_offsets": [begin, end]}, ...},
//             padded with blanks, so that the numbers are aligned; the name "__metadata__" holds an object of strings
//             instead, or null for none
//   byte 8+n  the tensors' numbers, row-major; begin and end count from here. They follow each other without a hole.
//
// Source: github.com/huggingface/safetensors, README.md, "Format"; the limit on the header's length is the reference
// implementation's.
namespace gosset::GOSSET_ABI {

/// What a tensor is and where it lies in its file.
struct TensorInfo {
  Dtype dtype = Dtype::kF32;
  std::vector<Index> shape;  ///< empty for a lone number
  std::size_t begin = 0;     ///< its first byte, counted from the beginning of the file
  std::size_t end = 0;       ///< one past its last byte
  std::string unknown_type;  ///< where dtype is kUnknown, what the file calls it

  /// The type's name as in the file.
  std::string_view typeName() const { return dtype == Dtype::kUnknown ? unknown_type : dtypeName(dtype); }
  std::size_t bytes() const { return end - begin; }
  /// How many numbers it has.
  Index size() const {
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;  // whatever the others multiply to
    return std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>());
  }
};

using TensorMap = std::map<std::string, TensorInfo, std::less<>>;
using MetadataMap = std::map<std::string, std::string, std::less<>>;

namespace detail {

static_assert(std::endian::native == std::endian::little, "gosset/io maps little-endian files as they are");

inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr std::size_t kMaxRank = 64;  // numpy's limit; keeps a header of brackets and commas from growing
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// a * b, or nothing where it does not fit into 64 bits.
constexpr std::optional<std::uint64_t> checkedProduct(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

/// How many numbers a tensor has, or nothing where that does not fit into 64 bits. Dimensions are not negative.
inline std::optional<std::uint64_t> tensorNumbers(std::span<const Index> shape) {
  std::optional<std::uint64_t> numbers = 1;
  for (const Index dimension : shape) {
    if (numbers) numbers = checkedProduct(*numbers, static_cast<std::uint64_t>(dimension));
  }
  return numbers;
}

/// The fewest numbers of a known type that fill whole bytes.
constexpr std::uint64_t numbersTogether(Dtype dtype) { return 8 / std::gcd(std::size_t{8}, dtypeBits(dtype)); }

/// The bytes that a tensor of a known type takes, or nothing where they are no whole number or do not fit into 64 bits.
inline std::optional<std::uint64_t> tensorBytes(Dtype dtype, std::span<const Index> shape) {
  const std::optional<std::uint64_t> numbers = tensorNumbers(shape);
  const std::uint64_t together = numbersTogether(dtype);
  if (!numbers || *numbers % together != 0) return std::nullopt;
  return checkedProduct(*numbers / together, together * dtypeBits(dtype) / 8);
}

/// "16 bytes", or what is wrong with them where tensorBytes() gives nothing.
inline std::string tensorBytesText(Dtype dtype, std::span<const Index> shape) {
  if (const auto bytes = tensorBytes(dtype, shape)) return std::to_string(*bytes) + " bytes";
  const std::optional<std::uint64_t> numbers = tensorNumbers(shape);
  return numbers && *numbers % numbersTogether(dtype) != 0 ? "no whole number of bytes" : "more than 2^64 bytes";
}

/// "[2, 3]"
template <class Number>
std::string listText(std::span<const Number> numbers) {
  std::string text = "[";
  for (const Number number : numbers) text += (text.size() > 1 ? ", " : "") + std::to_string(number);
  return text + "]";
}

/// A tensor's type for a message.
inline std::string typeText(const TensorInfo& tensor) {
  return tensor.dtype == Dtype::kUnknown ? printable(tensor.unknown_type) : std::string(dtypeName(tensor.dtype));
}

/// A forward iterator over text that tells how far it has been read.
class ReadingIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  ReadingIterator() = default;
  ReadingIterator(const char* at, std::size_t* read) : at_(at), read_(read) {}

  reference operator*() const { return *at_; }
  ReadingIterator& operator++() {
    ++at_;
    ++*read_;
    return *this;
  }
  ReadingIterator operator++(int) {
    const ReadingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const ReadingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const ReadingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_ = nullptr;
  std::size_t* read_ = nullptr;
};

/// Takes the header event by event (the parser itself is not recursive, and no tree is built), so that whatever the
/// format does not allow is refused where it stands: nesting by its first bracket too many, names at their second
/// coming.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  /// `text` is the header, which starts at byte 8; `data_bytes` is what the file holds after it.
  HeaderReader(std::string_view text, std::uint64_t data_bytes, const std::filesystem::path& path)
      : text_(text), data_begin_(8 + text.size()), data_bytes_(data_bytes), path_(path) {}

  /// Reads the header, or throws FormatError.
  void read() {
    nlohmann::json::sax_parse(ReadingIterator(text_.data(), &read_),
                              ReadingIterator(text_.data() + text_.size(), &read_), this);
  }

  TensorMap takeTensors() { return std::move(tensors_); }
  MetadataMap takeMetadata() { return std::move(metadata_); }

  bool null() override {
    if (place_ == Place::kNames && name_ == kMetadataKey) return true;  // how some writers say that there is none
    return unexpected("null");
  }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override { return unexpected("the negative number ", value); }
  bool number_float(number_float_t, const string_t& text) override {
    return unexpected("the number ", printable(text));
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      addDimension(value);
    } else if (place_ == Place::kOffsets) {
      if (offset_count_ == 2) fail("data_offsets holds more than two numbers");
      offsets_[offset_count_++] = value;
    } else {
      unexpected("the number ", value);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata_.emplace(std::move(key_), std::move(value));
    } else if (place_ == Place::kTensor && field_ == Field::kDtype) {
      // A tensor of a type of the future must not keep its neighbours from being read.
      tensor_.dtype = dtypeFromName(value).value_or(Dtype::kUnknown);
      if (tensor_.dtype == Dtype::kUnknown) tensor_.unknown_type = std::move(value);
    } else {
      unexpected("the string ", printable(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kNames;
    } else if (place_ == Place::kNames) {
      place_ = name_ == kMetadataKey ? Place::kMetadata : Place::kTensor;
      tensor_ = {};
      offset_count_ = 0;
      seen_ = {};
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (place_ == Place::kNames) {
      name_ = std::move(value);
      const bool again = name_ == kMetadataKey ? std::exchange(metadata_seen_, true) : tensors_.contains(name_);
      if (again) fail("the name appears twice");
    } else if (place_ == Place::kMetadata) {
      if (metadata_.contains(value)) fail("the key ", printable(value), " appears twice");
      key_ = std::move(value);
    } else {
      startField(value);
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kTensor && field_ == Field::kShape) {
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && field_ == Field::kOffsets) {
      place_ = Place::kOffsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offset_count_ != 2)
      fail("data_offsets must hold two numbers, got ", offset_count_);
    place_ = Place::kTensor;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) finishTensor();
    place_ = Place::kNames;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fileError(path_, "byte ", 7 + position, ": the header is not valid JSON in UTF-8");
  }

 private:
  enum class Place { kOutside, kNames, kTensor, kMetadata, kShape, kOffsets };
  enum class Field { kDtype, kShape, kOffsets };
  static constexpr std::array<std::string_view, 3> kFieldNames = {"dtype", "shape", "data_offsets"};

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    const std::size_t at = 7 + read_;  // the last byte that was read
    if (place_ == Place::kOutside) fileError(path_, "byte ", at, ": ", parts...);
    fileError(path_, name_ == kMetadataKey ? "" : "tensor ", printable(name_), " at byte ", at, ": ", parts...);
  }

  template <class... Parts>
  [[noreturn]] bool unexpected(const Parts&... came) const {
    switch (place_) {
      case Place::kOutside:
        fail("the header must be an object, got ", came...);
      case Place::kNames:
        fail("expected an object, got ", came...);
      case Place::kTensor:
        fail(fieldName(), " must be ", field_ == Field::kDtype ? "a string" : "an array", ", got ", came...);
      case Place::kMetadata:
        fail("the value of ", printable(key_), " must be a string, got ", came...);
      default:
        fail(fieldName(), " must hold integers of at least 0, got ", came...);
    }
  }

  std::string_view fieldName() const { return kFieldNames[static_cast<std::size_t>(field_)]; }

  void startField(std::string_view name) {
    const auto found = std::find(kFieldNames.begin(), kFieldNames.end(), name);
    if (found == kFieldNames.end()) fail("the field ", printable(name), " is unknown");
    const auto index = static_cast<std::size_t>(found - kFieldNames.begin());
    if (std::exchange(seen_[index], true)) fail("the field ", printable(name), " appears twice");
    field_ = static_cast<Field>(index);
  }

  void addDimension(std::uint64_t value) {
    if (tensor_.shape.size() == kMaxRank) fail("the shape has more than ", kMaxRank, " dimensions");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
      fail("the dimension ", value, " is too large");
    tensor_.shape.push_back(static_cast<Index>(value));
  }

  void finishTensor() {
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      if (!seen_[i]) fail("the field ", printable(kFieldNames[i]), " is missing");
    }
    const auto [begin, end] = offsets_;
    const std::string offsets = "data_offsets " + listText(std::span<const std::uint64_t>(offsets_));
    if (begin > end) fail(offsets, " end before they begin");
    if (end > data_bytes_) fail(offsets, " reach past the end of the data, which has ", data_bytes_, " bytes");
    const std::string shape = listText(std::span<const Index>(tensor_.shape));
    if (tensor_.dtype == Dtype::kUnknown) {
      const std::optional<std::uint64_t> numbers = tensorNumbers(tensor_.shape);
      if (!numbers || *numbers > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
        fail("the shape ", shape, " has more than 2^63 numbers");
      }
    } else if (tensorBytes(tensor_.dtype, tensor_.shape) != end - begin) {
      fail(offsets, " hold ", end - begin, " bytes, but ", dtypeName(tensor_.dtype), " of shape ", shape, " takes ",
           tensorBytesText(tensor_.dtype, tensor_.shape));
    }
    tensor_.begin = data_begin_ + static_cast<std::size_t>(begin);
    tensor_.end = data_begin_ + static_cast<std::size_t>(end);
    tensors_.emplace(name_, std::move(tensor_));
  }

  std::string_view text_;
  std::size_t data_begin_;
  std::uint64_t data_bytes_;
  const std::filesystem::path& path_;
  std::size_t read_ = 0;  // bytes of text_

  Place place_ = Place::kOutside;
  std::string name_;  // the tensor's, while in one
  std::string key_;   // of the metadata's next value
  Field field_ = Field::kDtype;
  std::array<bool, 3> seen_{};
  TensorInfo tensor_;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;

  TensorMap tensors_;
  MetadataMap metadata_;
  bool metadata_seen_ = false;
};

struct SafetensorsHeader {
  MetadataMap metadata;
  TensorMap tensors;
};

/// Throws FormatError unless the tensors, taken in the file's order, cover [begin, end) exactly.
inline void checkTiling(const TensorMap& tensors, std::size_t begin, std::size_t end,
                        const std::filesystem::path& path) {
  std::vector<const TensorMap::value_type*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::size_t covered = begin;
  const TensorMap::value_type* previous = nullptr;
  for (const auto* entry : order) {
    const auto& [name, info] = *entry;
    if (info.begin < covered) {
      fileError(path, "tensor ", printable(name), " at byte ", info.begin, ": overlaps tensor ",
                printable(previous->first), ", which ends at byte ", covered);
    }
    if (info.begin > covered) {
      fileError(path, "tensor ", printable(name), " at byte ", info.begin, ": leaves a hole, expected it at byte ",
                covered);
    }
    covered = info.end;
    previous = entry;
  }
  if (covered != end) fileError(path, "byte ", covered, ": the last tensor ends here, but the file at byte ", end);
}

/// Reads and checks the header of a whole file. Time and memory are bounded by the file's own size. Throws FormatError
/// that names `path`, the tensor and the byte.
inline SafetensorsHeader readSafetensorsHeader(std::span<const std::byte> file, const std::filesystem::path& path) {
  if (file.size() < 8) fileError(path, "byte 0: expected the header's length in 8 bytes, the file has ", file.size());
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  if (length > kMaxHeaderBytes) {
    fileError(path, "byte 0: the header's length is ", length, " bytes, more than the ", kMaxHeaderBytes, " allowed");
  }
  if (length > file.size() - 8) {
    fileError(path, "byte 0: the header's length is ", length, " bytes, but the file ends at byte ", file.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, static_cast<std::size_t>(length));
  // Blanks before it are no more than padding: the reference implementation takes them too.
  const std::size_t first = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  if (!text.substr(first).starts_with('{')) fileError(path, "byte ", 8 + first, ": the header must start with '{'");
  // nlohmann's parser takes a NUL for the end of the text, and would not look at what follows.
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) fileError(path, "byte ", 8 + nul, ": the header holds a NUL");

  const std::size_t data_begin = 8 + text.size();
  HeaderReader reader(text, file.size() - data_begin, path);
  reader.read();
  SafetensorsHeader header{reader.takeMetadata(), reader.takeTensors()};
  checkTiling(header.tensors, data_begin, file.size(), path);
  return header;
}

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
