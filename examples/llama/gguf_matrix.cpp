// SPDX-License-Identifier: Apache-2.0
#include "gguf_formats.hpp"

#include <gosset/io/gguf_quantized.hpp>

#include <cstring>
#include <stdexcept>

namespace llama {

using namespace gosset;  // NOLINT: a table of its names

AnyMatrix ggufMatrix(const GgmlType& type, Index rows, Index cols, std::span<const std::byte> bytes,
                     std::span<const Index> rowOf) {
  const auto wanted = static_cast<std::size_t>(rows * (cols / type.block)) * type.block_bytes;
  if (cols % type.block != 0 || bytes.size() != wanted) {
    throw std::invalid_argument("bytes: expected " + std::to_string(wanted) + " for " + std::to_string(rows) + " x " +
                                std::to_string(cols) + " numbers of " + std::string(type.name) + ", got " +
                                std::to_string(bytes.size()));
  }
  const std::size_t row = rows == 0 ? 0 : bytes.size() / static_cast<std::size_t>(rows);
  auto result = GgufFormats::visit(ggufFormatOf<GgufFormats>(type), [&]<class F>(std::type_identity<F>) {
    Packed<F> packed = Packed<F>::shaped(rows, cols);
    Packed<F>::fields(packed, [&](std::string_view, auto& field) {
      auto* to = reinterpret_cast<std::byte*>(gosset::writableValues(field).data());
      for (Index i = 0; i < rows; ++i) {
        const auto from = static_cast<std::size_t>(rowOf.empty() ? i : rowOf[static_cast<std::size_t>(i)]);
        std::memcpy(to + static_cast<std::size_t>(i) * row, bytes.data() + from * row, row);
      }
    });
    if (const std::string fault = packed.fault(); !fault.empty()) throw std::invalid_argument(fault);
    return AnyMatrix(QuantizedMatrix<F>(std::move(packed)));
  });
  return *std::move(result);
}

AnyMatrix readGgufTyped(const SafetensorsFile& file, const std::string& name) {
  return readAny<GgufFormats>(file, name);
}

}  // namespace llama
