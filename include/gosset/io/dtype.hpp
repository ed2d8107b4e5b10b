// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace gosset {

/// The number types of a safetensors file, in the order in which the reference implementation ranks them: wider types
/// are greater, so that a file sorted from the greatest down has every tensor aligned.
enum class Dtype : std::uint8_t { kBool, kU8, kI8, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kF64, kI64, kU64 };

namespace detail {

struct DtypeEntry {
  std::string_view name;
  std::size_t size;
};

inline constexpr std::array<DtypeEntry, 13> kDtypes = {{{"BOOL", 1},
                                                        {"U8", 1},
                                                        {"I8", 1},
                                                        {"I16", 2},
                                                        {"U16", 2},
                                                        {"F16", 2},
                                                        {"BF16", 2},
                                                        {"I32", 4},
                                                        {"U32", 4},
                                                        {"F32", 4},
                                                        {"F64", 8},
                                                        {"I64", 8},
                                                        {"U64", 8}}};

}  // namespace detail

/// The name in a file's header, such as "BF16".
constexpr std::string_view dtypeName(Dtype dtype) { return detail::kDtypes[static_cast<std::size_t>(dtype)].name; }

/// Bytes a number.
constexpr std::size_t dtypeSize(Dtype dtype) { return detail::kDtypes[static_cast<std::size_t>(dtype)].size; }

/// The type of that name, or nothing where gosset does not know it.
constexpr std::optional<Dtype> dtypeFromName(std::string_view name) {
  for (std::size_t i = 0; i < detail::kDtypes.size(); ++i) {
    if (detail::kDtypes[i].name == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

/// The number types of C++ and Eigen that have a Dtype.
template <class T>
concept FileScalar = std::same_as<T, bool> || std::same_as<T, std::uint8_t> || std::same_as<T, std::int8_t> ||
    std::same_as<T, std::int16_t> || std::same_as<T, std::uint16_t> || std::same_as<T, Float16> ||
    std::same_as<T, BFloat16> || std::same_as<T, std::int32_t> || std::same_as<T, std::uint32_t> ||
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t> ||
    std::same_as<T, std::uint64_t>;

/// Calls visit(std::type_identity<T>{}) with the C++ type T of `dtype`, and returns what it returns.
template <class Visitor>
constexpr decltype(auto) visitDtype(Dtype dtype, Visitor&& visit) {
  switch (dtype) {
    case Dtype::kBool:
      return visit(std::type_identity<bool>{});
    case Dtype::kU8:
      return visit(std::type_identity<std::uint8_t>{});
    case Dtype::kI8:
      return visit(std::type_identity<std::int8_t>{});
    case Dtype::kI16:
      return visit(std::type_identity<std::int16_t>{});
    case Dtype::kU16:
      return visit(std::type_identity<std::uint16_t>{});
    case Dtype::kF16:
      return visit(std::type_identity<Float16>{});
    case Dtype::kBF16:
      return visit(std::type_identity<BFloat16>{});
    case Dtype::kI32:
      return visit(std::type_identity<std::int32_t>{});
    case Dtype::kU32:
      return visit(std::type_identity<std::uint32_t>{});
    case Dtype::kF32:
      return visit(std::type_identity<float>{});
    case Dtype::kF64:
      return visit(std::type_identity<double>{});
    case Dtype::kI64:
      return visit(std::type_identity<std::int64_t>{});
    case Dtype::kU64:
      break;
  }
  return visit(std::type_identity<std::uint64_t>{});
}

/// The Dtype of a C++ type.
template <FileScalar T>
constexpr Dtype dtypeOf() {
  for (std::size_t i = 0; i < detail::kDtypes.size(); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    if (visitDtype(dtype, []<class U>(std::type_identity<U>) { return std::is_same_v<T, U>; })) return dtype;
  }
  return Dtype::kU64;  // not reached: FileScalar lists the same types
}

static_assert(dtypeOf<float>() == Dtype::kF32 && dtypeOf<std::uint64_t>() == Dtype::kU64 &&
              dtypeFromName("F16") == dtypeOf<Float16>() && sizeof(bool) == dtypeSize(Dtype::kBool));

}  // namespace gosset
