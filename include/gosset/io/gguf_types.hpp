// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

// The types of a GGUF file, by the numbers that files have for them.
// Source: github.com/ggml-org/ggml, docs/gguf.md and include/ggml.h.
namespace gosset::GOSSET_ABI {

/// Types of a file's metadata.
enum class GgufValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

/// A type of a file's tensors: rows of whole blocks.
struct GgmlType {
  std::uint32_t id;         ///< the number in files
  std::string_view name;    ///< as ggml writes it, in capitals
  Index block;              ///< numbers in a block
  std::size_t block_bytes;  ///< and its bytes
};

namespace detail {

inline constexpr std::array<std::string_view, 13> kGgufValueNames = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                                                     "int32",  "float32", "bool",   "string", "array",
                                                                     "uint64", "int64",   "float64"};

/// Bytes of a value; 0 for strings and arrays.
inline constexpr std::array<std::size_t, 13> kGgufValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

inline constexpr std::array<GgmlType, 35> kGgmlTypes = {{
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18},    {42, "Q2_0", 64, 18},
}};

}  // namespace detail

/// The name of a type in messages, such as "uint32".
constexpr std::string_view ggufValueName(GgufValueType type) {
  return detail::kGgufValueNames[static_cast<std::size_t>(type)];
}

/// The type of that number; null where there is none that gosset knows.
constexpr const GgmlType* ggmlType(std::uint32_t id) {
  for (const GgmlType& type : detail::kGgmlTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

static_assert(ggmlType(42)->block_bytes == 18 && ggmlType(4) == nullptr);

}  // namespace gosset::GOSSET_ABI
