// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/io/file_descriptor.hpp>
#include <gosset/io/gguf_types.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The header of a GGUF file, read as if an enemy had written it. All numbers little-endian:
//
//   "GGUF"  u32 version, 2 or 3  u64 tensors  u64 keys
//   a key      string key, u32 type, value      a string: u64 length, bytes
//                                               an array: u32 type of its elements, u64 count, elements
//   a tensor   string name, u32 rank, rank x u64 dimensions (the length of a row first), u32 type, u64 offset
//   zeros up to a multiple of the alignment: "general.alignment", or 32
//   the tensors' bytes, offsets counted from here, each a multiple of the alignment
//
// Source: github.com/ggml-org/ggml, docs/gguf.md; the most dimensions are ggml's.
namespace gosset::GOSSET_ABI {

/// What a tensor of a GGUF file is and where it lies.
struct GgufTensor {
  const GgmlType* type = nullptr;
  std::vector<Index> shape;  ///< the length of a row last, as in other files: m x n
  std::size_t begin = 0;     ///< its first byte, counted from the beginning of the file
  std::size_t end = 0;       ///< one past its last byte

  std::size_t bytes() const { return end - begin; }
  /// How many numbers it has.
  Index size() const { return static_cast<Index>(bytes() / type->block_bytes) * type->block; }
};

namespace detail {

static_assert(std::endian::native == std::endian::little, "gosset/io maps little-endian files as they are");

inline constexpr std::string_view kGgufMagic = "GGUF", kAlignmentKey = "general.alignment";
inline constexpr int kGgufAlignment = 32;
inline constexpr std::uint64_t kMostGgufAlignment = std::uint64_t{1} << 30;
inline constexpr std::size_t kMostGgufRank = 4, kMostGgufNesting = 16, kMostGgufName = 65535;

struct GgufHeader {
  struct Value {
    GgufValueType type;
    std::size_t begin, end;
  };
  template <class T>
  using Named = std::map<std::string, T, std::less<>>;

  std::uint32_t version = 0;
  std::uint64_t alignment = kGgufAlignment;
  std::vector<std::string> keys, names;  ///< in the file's order
  Named<Value> values;
  Named<GgufTensor> tensors;
};

/// Takes a header from front to back.
class GgufHeaderReader {
 public:
  GgufHeaderReader(std::span<const std::byte> bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}

  GgufHeader read() {
    readMagic();
    const auto tensors = count("tensors", 24), keys = count("keys", 13);
    for (std::uint64_t i = 0; i < keys; ++i) readKey();
    readAlignment();
    for (std::uint64_t i = 0; i < tensors; ++i) readTensor();
    placeTensors();
    return std::move(header_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void failAt(std::size_t byte, const Parts&... parts) const {
    fileError(path_, "byte ", byte, ": ", parts...);
  }
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    failAt(at_, parts...);
  }

  std::size_t left() const { return bytes_.size() - at_; }

  void need(std::uint64_t size, std::string_view what) const {
    if (size > left())
      fail("the file ends within ", what, ", of which ", size, " bytes were expected and ", left(), " are left");
  }

  template <class T>
  T take(std::string_view what) {
    need(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string_view takeText(std::string_view what) {
    const auto size = take<std::uint64_t>(what);
    need(size, what);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<std::size_t>(size));
    at_ += text.size();
    return text;
  }

  /// A number of things that take at least `least` bytes each.
  std::uint64_t count(std::string_view what, std::size_t least) {
    const std::size_t at = at_;
    const auto number = take<std::uint64_t>(what);
    if (number > left() / least) {
      failAt(at, "it claims ", number, " ", what, ", of which the ", left(), " bytes left hold at most ",
             left() / least);
    }
    return number;
  }

  void readMagic() {
    const auto magic = take<std::uint32_t>("the magic number");
    if (std::memcmp(&magic, kGgufMagic.data(), kGgufMagic.size()) != 0)
      failAt(0, "expected 'GGUF', this is no GGUF file");
    header_.version = take<std::uint32_t>("the version");
    constexpr std::uint32_t kLow = 0xffff;
    if ((header_.version & kLow) == 0 && header_.version != 0)
      failAt(4, "a big-endian file; gosset reads little-endian ones");
    if (header_.version != 2 && header_.version != 3) {
      failAt(4, "expected version 2 or 3, got ", header_.version);
    }
  }

  std::string takeName(std::string_view what) {
    const std::size_t at = at_;
    const std::string_view name = takeText(what);
    if (name.empty() || name.size() > kMostGgufName) {
      failAt(at, what, " has ", name.size(), " bytes; expected 1 to ", kMostGgufName);
    }
    return std::string(name);
  }

  GgufValueType takeType() {
    const std::size_t at = at_;
    const auto type = take<std::uint32_t>("a value's type");
    if (type >= kGgufValueNames.size())
      failAt(at, "a value's type is ", type, "; expected 0 to ", kGgufValueNames.size() - 1);
    return static_cast<GgufValueType>(type);
  }

  void readKey() {
    const std::size_t at = at_;
    std::string key = takeName("a key");
    const GgufValueType type = takeType();
    const std::size_t begin = at_;
    skipValue(type, 0);
    if (!header_.values.emplace(key, GgufHeader::Value{type, begin, at_}).second) {
      failAt(at, "the key ", printable(key), " appears twice");
    }
    header_.keys.push_back(std::move(key));
  }

  /// Checks a value and goes behind it.
  void skipValue(GgufValueType type, std::size_t depth) {
    if (type == GgufValueType::kString) return static_cast<void>(takeText("a string"));
    if (type == GgufValueType::kArray) return skipArray(depth + 1);
    skipNumbers(type, 1);
  }

  void skipNumbers(GgufValueType type, std::uint64_t count) {
    const std::size_t size = kGgufValueBytes[static_cast<std::size_t>(type)] * static_cast<std::size_t>(count);
    need(size, "a value");
    const auto values = bytes_.subspan(at_, size);
    if (type == GgufValueType::kBool) {
      const auto wrong = std::find_if(values.begin(), values.end(), [](std::byte b) { return b > std::byte{1}; });
      if (wrong != values.end()) {
        failAt(at_ + static_cast<std::size_t>(wrong - values.begin()), "a bool must be 0 or 1, got ",
               std::to_integer<int>(*wrong));
      }
    }
    at_ += size;
  }

  void skipArray(std::size_t depth) {
    if (depth > kMostGgufNesting) fail("arrays are nested more than ", kMostGgufNesting, " deep");
    const GgufValueType element = takeType();
    const std::size_t size = kGgufValueBytes[static_cast<std::size_t>(element)];
    const std::uint64_t number = count("elements", size > 0 ? size : element == GgufValueType::kString ? 8 : 12);
    if (size > 0) return skipNumbers(element, number);
    for (std::uint64_t i = 0; i < number; ++i) skipValue(element, depth);
  }

  void readAlignment() {
    const auto found = header_.values.find(kAlignmentKey);
    if (found == header_.values.end()) return;
    const GgufHeader::Value& value = found->second;
    if (value.type != GgufValueType::kU32) {
      failAt(value.begin, "general.alignment: expected a uint32, got ", ggufValueName(value.type));
    }
    std::uint32_t alignment;
    std::memcpy(&alignment, bytes_.data() + value.begin, sizeof(alignment));
    if (!std::has_single_bit(alignment) || alignment > kMostGgufAlignment) {
      failAt(value.begin, "general.alignment: expected a power of two up to ", kMostGgufAlignment, ", got ", alignment);
    }
    header_.alignment = alignment;
  }

  void readTensor() {
    const std::size_t at = at_;
    std::string name = takeName("a tensor's name");
    if (header_.tensors.contains(name)) failAt(at, "tensor ", printable(name), " appears twice");
    const auto rank = take<std::uint32_t>("a tensor's rank");
    if (rank > kMostGgufRank) {
      failAt(at, "tensor ", printable(name), ": expected at most ", kMostGgufRank, " dimensions, got ", rank);
    }
    GgufTensor tensor;
    for (std::uint32_t i = 0; i < rank; ++i) {
      const auto dimension = take<std::uint64_t>("a tensor's dimensions");
      if (dimension > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
        failAt(at, "tensor ", printable(name), ": a dimension is ", dimension);
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<Index>(dimension));
    }
    const auto type = take<std::uint32_t>("a tensor's type");
    tensor.type = ggmlType(type);
    if (tensor.type == nullptr) failAt(at, "tensor ", printable(name), ": type ", type, " is none that gosset knows");
    const Index width = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (width % tensor.type->block != 0) {
      failAt(at, "tensor ", printable(name), ": rows of ", tensor.type->name, " are made of blocks of ",
             tensor.type->block, " numbers, got ", width);
    }
    const auto offset = take<std::uint64_t>("a tensor's offset");
    const std::optional<std::uint64_t> size = bytesOf(tensor);
    if (!size || *size > bytes_.size() || offset > bytes_.size()) {
      failAt(at, "tensor ", printable(name), ": ", bytes_.size(), " bytes of file cannot hold it");
    }
    if (offset % header_.alignment != 0) {
      failAt(at, "tensor ", printable(name), ": its offset ", offset, " is no multiple of the alignment, ",
             header_.alignment);
    }
    tensor.begin = static_cast<std::size_t>(offset);  // from where the data begins
    tensor.end = tensor.begin + static_cast<std::size_t>(*size);
    header_.names.push_back(name);
    header_.tensors.emplace(std::move(name), std::move(tensor));
  }

  /// Nothing where they do not fit into 64 bits.
  static std::optional<std::uint64_t> bytesOf(const GgufTensor& tensor) {
    if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end()) return 0;
    std::uint64_t bytes = tensor.type->block_bytes;
    bool is_width = true;
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it, is_width = false) {
      const auto factor = static_cast<std::uint64_t>(is_width ? *it / tensor.type->block : *it);
      if (bytes > std::numeric_limits<std::uint64_t>::max() / factor) return std::nullopt;
      bytes *= factor;
    }
    return bytes;
  }

  /// Tensors may come in any order and with gaps between them, but share no byte.
  void placeTensors() {
    const std::uint64_t mask = header_.alignment - 1;
    const std::uint64_t data = (at_ + mask) & ~mask;
    std::vector<std::pair<const std::string*, const GgufTensor*>> order;
    for (auto& [name, tensor] : header_.tensors) {
      if (tensor.end > bytes_.size() || data > bytes_.size() - tensor.end) {
        if (tensor.bytes() == 0) {
          tensor.begin = tensor.end = 0;
          continue;
        }
        fileError(path_, "tensor ", printable(name), ": it would end at byte ", data + tensor.end,
                  ", the file at byte ", bytes_.size());
      }
      tensor.begin += static_cast<std::size_t>(data);
      tensor.end += static_cast<std::size_t>(data);
      if (tensor.bytes() > 0) order.emplace_back(&name, &tensor);
    }
    std::sort(order.begin(), order.end(),
              [](const auto& a, const auto& b) { return a.second->begin < b.second->begin; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (order[i].second->begin < order[i - 1].second->end) {
        fileError(path_, "tensor ", printable(*order[i].first), " at byte ", order[i].second->begin,
                  " shares bytes with tensor ", printable(*order[i - 1].first));
      }
    }
  }

  std::span<const std::byte> bytes_;
  const std::filesystem::path& path_;
  std::size_t at_ = 0;
  GgufHeader header_;
};

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
