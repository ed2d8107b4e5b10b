// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace gosset::GOSSET_ABI {

/// The number types of a safetensors file, in the order in which the reference implementation ranks them: wider types
/// are greater, so that a file sorted from the greatest down has every tensor aligned.
enum class Dtype : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
  kUnknown  ///< one that a file names and gosset has never heard of: its numbers take as many bytes as the file says
};

namespace detail {

struct DtypeEntry {
  std::string_view name;
  std::size_t bits;
};

inline constexpr std::array<DtypeEntry, 22> kDtypes = {
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};

}  // namespace detail

/// The name in a file's header, such as "BF16"; of kUnknown, "unknown".
constexpr std::string_view dtypeName(Dtype dtype) {
  return dtype == Dtype::kUnknown ? "unknown" : detail::kDtypes[static_cast<std::size_t>(dtype)].name;
}

/// Bits a number; 0 for kUnknown.
constexpr std::size_t dtypeBits(Dtype dtype) {
  return dtype == Dtype::kUnknown ? 0 : detail::kDtypes[static_cast<std::size_t>(dtype)].bits;
}

/// The fewest bytes that hold a number: what a tensor of the type is aligned to.
constexpr std::size_t dtypeSize(Dtype dtype) { return (dtypeBits(dtype) + 7) / 8; }

/// The type of that name, or nothing where gosset does not know it.
constexpr std::optional<Dtype> dtypeFromName(std::string_view name) {
  for (std::size_t i = 0; i < detail::kDtypes.size(); ++i) {
    if (detail::kDtypes[i].name == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

/// Whether it is one of the floats of 8 bits, which no type of C++ holds, but float all values of.
constexpr bool isFloat8(Dtype dtype) { return dtype >= Dtype::kF8E5M2 && dtype <= Dtype::kF8E5M2Fnuz; }

/// Whether a type of C++ or Eigen holds its numbers as they lie in a file, so that they can be mapped.
constexpr bool hasFileScalar(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF4:
    case Dtype::kF6E2M3:
    case Dtype::kF6E3M2:
    case Dtype::kC64:
    case Dtype::kUnknown:
      return false;
    default:
      return !isFloat8(dtype);
  }
}

/// The number types of C++ and Eigen that have a Dtype.
template <class T>
concept FileScalar = std::same_as<T, bool> || std::same_as<T, std::uint8_t> || std::same_as<T, std::int8_t> ||
    std::same_as<T, std::int16_t> || std::same_as<T, std::uint16_t> || std::same_as<T, Float16> ||
    std::same_as<T, BFloat16> || std::same_as<T, std::int32_t> || std::same_as<T, std::uint32_t> ||
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t> ||
    std::same_as<T, std::uint64_t>;

/// Calls visit(std::type_identity<T>{}) with the C++ type T of `dtype`, and returns what it returns. Throws
/// std::invalid_argument where hasFileScalar(dtype) is false.
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
      return visit(std::type_identity<std::uint64_t>{});
    default:
      break;
  }
  detail::invalidArgument("visitDtype: no type of C++ holds numbers of type ", dtypeName(dtype));
}

/// The Dtype of a C++ type.
template <FileScalar T>
constexpr Dtype dtypeOf() {
  for (std::size_t i = 0; i < detail::kDtypes.size(); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const auto isT = []<class U>(std::type_identity<U>) { return std::is_same_v<T, U>; };
    if (hasFileScalar(dtype) && visitDtype(dtype, isT)) return dtype;
  }
  return Dtype::kU64;  // not reached: FileScalar lists the same types
}

static_assert(dtypeOf<float>() == Dtype::kF32 && dtypeOf<std::uint64_t>() == Dtype::kU64 &&
              dtypeFromName("F16") == dtypeOf<Float16>() && sizeof(bool) == dtypeSize(Dtype::kBool));

}  // namespace gosset::GOSSET_ABI
