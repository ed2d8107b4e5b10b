// SPDX-License-Identifier: Apache-2.0
#include "gguf_formats.hpp"

#include <gosset/io/gguf_quantized.hpp>
#include <gosset/rounding.hpp>

#include <stdexcept>

namespace llama {

namespace {

using namespace gosset;  // NOLINT: a table of its names

using Written = FormatList<float, Float16, BFloat16, ggml::Q4_0, ggml::Q4_1, ggml::Q5_0, ggml::Q5_1, ggml::Q8_0,
                           ggml::Q2_K, ggml::Q3_K, ggml::Q4_K, ggml::Q5_K, ggml::Q6_K, ggml::IQ4_NL, ggml::IQ4_XS,
                           ggml::TQ1_0, ggml::TQ2_0, ggml::MXFP4>;

/// The inputs' mean squares alone.
Hessian diagonalOf(const Hessian& hessian) {
  return Hessian::fromMatrix(Eigen::MatrixXd(hessian.matrix().diagonal().asDiagonal()));
}

}  // namespace

AnyMatrix packGguf(std::string_view type, const RowMatrixXf& weights, GgufRounding rounding, const Hessian* hessian) {
  const GgmlType* found = gosset::detail::ggmlTypeNamed(type);
  if (found == nullptr) throw std::invalid_argument("type \"" + std::string(type) + "\" is none of GGUF's");
  const std::string format = ggufFormatOf<Written>(*found);
  const QuantizeOptions options = {.fit = LeastSquares{}};
  if (rounding == GgufRounding::kNearest || !format.starts_with("ggml::")) {
    return quantizeAs<Written>(format, weights, Nearest{}, options);
  }
  if (hessian == nullptr) throw std::invalid_argument("this rounding needs the inputs' second moments");
  const bool all = rounding == GgufRounding::kGptq;
  return quantizeAs<Written>(format, weights, Gptq(all ? *hessian : diagonalOf(*hessian), {.sweeps = all ? 4 : 0}),
                             options);
}

}  // namespace llama
