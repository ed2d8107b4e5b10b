// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/io/gguf_types.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
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

template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;

/// The type that a file has for a T; nothing where it has none.
template <class T>
constexpr std::optional<GgufValueType> ggufTypeOf() {
  if constexpr (std::is_same_v<T, bool>) {
    return GgufValueType::kBool;
  } else if constexpr (std::is_same_v<T, char>) {
    return std::nullopt;
  } else if constexpr (std::is_integral_v<T>) {
    constexpr GgufValueType kUnsigned[] = {GgufValueType::kU8, GgufValueType::kU16, GgufValueType::kU32,
                                           GgufValueType::kU64};
    constexpr GgufValueType kSigned[] = {GgufValueType::kI8, GgufValueType::kI16, GgufValueType::kI32,
                                         GgufValueType::kI64};
    constexpr int kPlace = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return std::is_signed_v<T> ? kSigned[kPlace] : kUnsigned[kPlace];
  } else if constexpr (std::is_same_v<T, float>) {
    return GgufValueType::kF32;
  } else if constexpr (std::is_same_v<T, double>) {
    return GgufValueType::kF64;
  } else if constexpr (std::is_same_v<T, std::string>) {
    return GgufValueType::kString;
  } else if constexpr (kIsVector<T>) {
    return ggufTypeOf<typename T::value_type>() ? std::optional(GgufValueType::kArray) : std::nullopt;
  } else {
    return std::nullopt;
  }
}

}  // namespace detail

/// What a GGUF file's metadata can hold: bool, integers, float, double, std::string, and std::vectors of these, nested.
template <class T>
concept GgufMetadata = detail::ggufTypeOf<T>()
.has_value();

namespace detail {

template <class T>
T takeNumber(const std::byte*& at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  at += sizeof(T);
  return value;
}

/// An integer of a file as a T, where that holds it.
template <class T, class From>
bool takeInteger(const std::byte*& at, T& value) {
  const From from = takeNumber<From>(at);
  value = static_cast<T>(from);
  return std::in_range<T>(from);
}

template <class T>
requires std::is_integral_v<T>
bool takeValue(GgufValueType type, const std::byte*& at, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (type != GgufValueType::kBool) return false;
    value = takeNumber<std::uint8_t>(at) != 0;
    return true;
  } else {
    switch (type) {
      case GgufValueType::kU8:
        return takeInteger<T, std::uint8_t>(at, value);
      case GgufValueType::kI8:
        return takeInteger<T, std::int8_t>(at, value);
      case GgufValueType::kU16:
        return takeInteger<T, std::uint16_t>(at, value);
      case GgufValueType::kI16:
        return takeInteger<T, std::int16_t>(at, value);
      case GgufValueType::kU32:
        return takeInteger<T, std::uint32_t>(at, value);
      case GgufValueType::kI32:
        return takeInteger<T, std::int32_t>(at, value);
      case GgufValueType::kU64:
        return takeInteger<T, std::uint64_t>(at, value);
      case GgufValueType::kI64:
        return takeInteger<T, std::int64_t>(at, value);
      default:
        return false;
    }
  }
}

template <std::floating_point T>
bool takeValue(GgufValueType type, const std::byte*& at, T& value) {
  if (type == GgufValueType::kF32) {
    value = static_cast<T>(takeNumber<float>(at));
    return true;
  }
  if (type != GgufValueType::kF64 || !std::is_same_v<T, double>) return false;
  value = static_cast<T>(takeNumber<double>(at));
  return true;
}

inline bool takeValue(GgufValueType type, const std::byte*& at, std::string& value) {
  if (type != GgufValueType::kString) return false;
  const auto size = static_cast<std::size_t>(takeNumber<std::uint64_t>(at));
  value.assign(reinterpret_cast<const char*>(at), size);
  at += size;
  return true;
}

/// Whether values of a type can be a T.
template <class T>
constexpr bool takesValuesOf(GgufValueType type) {
  constexpr GgufValueType kExact = *ggufTypeOf<T>();
  if (type == kExact) return true;
  if constexpr (std::is_same_v<T, double>) return type == GgufValueType::kF32;
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    return type <= GgufValueType::kI32 || type == GgufValueType::kU64 || type == GgufValueType::kI64;
  }
  return false;
}

template <class T>
bool takeValue(GgufValueType type, const std::byte*& at, std::vector<T>& values) {
  if (type != GgufValueType::kArray) return false;
  const auto element = static_cast<GgufValueType>(takeNumber<std::uint32_t>(at));
  const auto count = takeNumber<std::uint64_t>(at);
  if (!takesValuesOf<T>(element)) return false;
  values.reserve(static_cast<std::size_t>(count));  // each takes bytes of the file, so that there are not too many
  for (std::uint64_t i = 0; i < count; ++i) {
    T value{};
    if (!takeValue(element, at, value)) return false;
    values.push_back(std::move(value));
  }
  return true;
}

template <class T>
void putNumber(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

inline void putString(std::string& bytes, std::string_view text) {
  putNumber<std::uint64_t>(bytes, text.size());
  bytes += text;
}

template <class T>
void putValue(std::string& bytes, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    putString(bytes, value);
  } else if constexpr (kIsVector<T>) {
    using Element = typename T::value_type;
    putNumber(bytes, static_cast<std::uint32_t>(*ggufTypeOf<Element>()));
    putNumber<std::uint64_t>(bytes, value.size());
    for (std::size_t i = 0; i < value.size(); ++i) putValue<Element>(bytes, value[i]);
  } else {
    putNumber(bytes, value);
  }
}

}  // namespace detail

/// One value of a GGUF file's metadata, of whatever type it is: as it lies in a file that was read, which stays mapped
/// as long as the value lives, or as it will be written.
class GgufValue {
 public:
  /// The bool false.
  GgufValue() : GgufValue(false) {}

  template <GgufMetadata T>
  explicit GgufValue(const T& value) : type_(*detail::ggufTypeOf<T>()) {
    auto bytes = std::make_shared<std::string>();
    detail::putValue(*bytes, value);
    bytes_ = std::as_bytes(std::span(*bytes));
    keeper_ = std::move(bytes);
  }

  /// What is known to be sound: a number, a string behind its length, or an array behind its type and length.
  GgufValue(GgufValueType type, std::span<const std::byte> bytes, std::shared_ptr<const void> keeper)
      : type_(type), bytes_(bytes), keeper_(std::move(keeper)) {}

  // Moves are copies, so that none is left without its bytes.
  GgufValue(const GgufValue&) = default;
  GgufValue& operator=(const GgufValue&) = default;
  ~GgufValue() = default;

  GgufValueType type() const { return type_; }

  /// As they lie in a file behind the type's number.
  std::span<const std::byte> bytes() const { return bytes_; }

  /// The type of an array's elements; nothing where it is none.
  std::optional<GgufValueType> elementType() const {
    if (type_ != GgufValueType::kArray) return std::nullopt;
    const std::byte* at = bytes_.data();
    return static_cast<GgufValueType>(detail::takeNumber<std::uint32_t>(at));
  }

  /// The value as a T; nothing where it is none: integers go into every type of integer that holds them, float32 also
  /// into double.
  template <GgufMetadata T>
  std::optional<T> as() const {
    const std::byte* at = bytes_.data();
    T value{};
    if (!detail::takeValue(type_, at, value)) return std::nullopt;
    return value;
  }

  /// What it is, for messages: "uint32", "array of string".
  std::string typeText() const {
    const std::optional<GgufValueType> element = elementType();
    return std::string(ggufValueName(type_)) + (element ? " of " + std::string(ggufValueName(*element)) : "");
  }

  /// Equal in type and bytes.
  friend bool operator==(const GgufValue& a, const GgufValue& b) {
    return a.type_ == b.type_ && std::ranges::equal(a.bytes_, b.bytes_);
  }

 private:
  GgufValueType type_;
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> keeper_;
};

}  // namespace gosset::GOSSET_ABI
