// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/concepts.hpp>
#include <gosset/format/ggml.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/io/gguf.hpp>
#include <gosset/io/gguf_writer.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/format_list.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

// Tensors of GGUF files as matrices of the format that they are in.
namespace gosset::GOSSET_ABI {

/// The formats whose bytes GGUF files hold.
using GgufFormats =
    FormatList<float, Float16, BFloat16, ggml::Q4_0, ggml::Q4_1, ggml::Q5_0, ggml::Q5_1, ggml::Q8_0, ggml::Q2_K,
               ggml::Q3_K, ggml::Q4_K, ggml::Q5_K, ggml::Q6_K, ggml::IQ4_NL, ggml::IQ4_XS, ggml::TQ1_0, ggml::TQ2_0,
               ggml::MXFP4, ggml::IQ2_XXS, ggml::IQ2_XS, ggml::IQ2_S, ggml::IQ3_XXS, ggml::IQ3_S>;

namespace detail {

/// The tensor in the format that it is known to be in.
template <Format F>
Packed<F> readGgufPacked(const GgufFile& file, std::string_view name, PackedAccess access) {
  const auto [rows, cols] = file.matrixShape(name);
  const std::span<const std::byte> bytes = file.data(name);
  Packed<F> packed = [rows = rows, cols = cols] {
    const DeferredArrays deferred;
    return Packed<F>::shaped(rows, cols);
  }();
  Packed<F>::fields(packed, [&](std::string_view, auto& field) {
    using T = typename decltype(fieldValues(std::as_const(field)))::value_type;
    if (access == PackedAccess::kView && reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0) {
      return field.show({reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)}, file.keeper());
    }
    if (!bytes.empty()) std::memcpy(writableValues(field).data(), bytes.data(), bytes.size());
  });
  if (const std::string fault = packed.fault(); !fault.empty()) {
    file.fail(name, "its ", Packed<F>::formatName(), " makes no sense: ", fault);
  }
  return packed;
}

}  // namespace detail

/// Reads a tensor of rank 2 (of rank 1: one row) that is in format F, one of ggml's or plain floats; unless asked
/// otherwise it shows the file's memory rather than a copy, which stays mapped as long as the matrix or a copy of it
/// lives. Throws FormatError where the tensor is missing, of another type or a higher rank, or holds scales or numbers
/// that are not finite.
template <Format F>
QuantizedMatrix<F> readGguf(const GgufFile& file, std::string_view name, PackedAccess access = PackedAccess::kView) {
  const GgmlType* type = detail::ggmlTypeOfFormat(Packed<F>::formatName());
  if (file.info(name).type != type) {
    file.fail(name, "expected ", type != nullptr ? std::string(type->name) : Packed<F>::formatName(),
              ", the file holds ", file.info(name).type->name);
  }
  return QuantizedMatrix<F>(detail::readGgufPacked<F>(file, name, access));
}

/// The same in whatever format the tensor is, of those in a list. Throws FormatError where the list lacks it.
template <class List = GgufFormats>
requires requires { List::names(); }
AnyMatrix readGguf(const GgufFile& file, std::string_view name, PackedAccess access = PackedAccess::kView) {
  std::string format = detail::concat("ggml::", file.info(name).type->name);
  for (const std::string& each : List::names()) {
    if (detail::ggmlTypeOfFormat(each) == file.info(name).type) format = each;
  }
  auto result = List::visit(format, [&]<class F>(std::type_identity<F>) {
    return AnyMatrix(QuantizedMatrix<F>(detail::readGgufPacked<F>(file, name, access)));
  });
  if (!result) {
    file.fail(name, "it is of type ", file.info(name).type->name,
              ", which is not among those known here: ", List::text());
  }
  return *std::move(result);
}

}  // namespace gosset::GOSSET_ABI
