// SPDX-License-Identifier: Apache-2.0
#include "gguf_formats.hpp"

#include <gosset/io/gguf_quantized.hpp>
#include <gosset/rounding.hpp>

#include <cstring>
#include <stdexcept>

namespace llama {

namespace {

using namespace gosset;  // NOLINT: a table of its names

using Written = FormatList<float, Float16, BFloat16, ggml::Q4_0, ggml::Q4_1, ggml::Q5_0, ggml::Q5_1, ggml::Q8_0,
                           ggml::Q2_K, ggml::Q3_K, ggml::Q4_K, ggml::Q5_K, ggml::Q6_K, ggml::IQ4_NL, ggml::IQ4_XS,
                           ggml::TQ1_0, ggml::TQ2_0, ggml::MXFP4>;

/// As FormatLists have it.
template <class List>
std::string formatOf(const GgmlType& type) {
  for (const std::string& name : List::names()) {
    if (gosset::detail::ggmlTypeOfFormat(name) == &type) return name;
  }
  throw std::invalid_argument("type " + std::string(type.name) + " is none of " + List::text());
}

/// The inputs' mean squares alone.
Hessian diagonalOf(const Hessian& hessian) {
  return Hessian::fromMatrix(Eigen::MatrixXd(hessian.matrix().diagonal().asDiagonal()));
}

}  // namespace

AnyMatrix packGguf(std::string_view type, const RowMatrixXf& weights, GgufRounding rounding, const Hessian* hessian) {
  const GgmlType* found = gosset::detail::ggmlTypeNamed(type);
  if (found == nullptr) throw std::invalid_argument("type \"" + std::string(type) + "\" is none of GGUF's");
  const std::string format = formatOf<Written>(*found);
  const QuantizeOptions options = {.fit = LeastSquares{}};
  if (rounding == GgufRounding::kNearest || !format.starts_with("ggml::")) {
    return quantizeAs<Written>(format, weights, Nearest{}, options);
  }
  if (hessian == nullptr) throw std::invalid_argument("this rounding needs the inputs' second moments");
  const bool all = rounding == GgufRounding::kGptq;
  return quantizeAs<Written>(format, weights, Gptq(all ? *hessian : diagonalOf(*hessian), {.sweeps = all ? 4 : 0}),
                             options);
}

AnyMatrix ggufMatrix(const GgmlType& type, Index rows, Index cols, std::span<const std::byte> bytes,
                     std::span<const Index> rowOf) {
  const auto wanted = static_cast<std::size_t>(rows * (cols / type.block)) * type.block_bytes;
  if (cols % type.block != 0 || bytes.size() != wanted) {
    throw std::invalid_argument("bytes: expected " + std::to_string(wanted) + " for " + std::to_string(rows) + " x " +
                                std::to_string(cols) + " numbers of " + std::string(type.name) + ", got " +
                                std::to_string(bytes.size()));
  }
  const std::size_t row = rows == 0 ? 0 : bytes.size() / static_cast<std::size_t>(rows);
  auto result = GgufFormats::visit(formatOf<GgufFormats>(type), [&]<class F>(std::type_identity<F>) {
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

}  // namespace llama
