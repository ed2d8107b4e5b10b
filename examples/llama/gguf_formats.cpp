// SPDX-License-Identifier: Apache-2.0
#include "gguf_formats.hpp"

#include <gosset/io/gguf_quantized.hpp>
#include <gosset/rounding.hpp>

#include <stdexcept>
#include <utility>

namespace llama {

namespace {

using namespace gosset;  // NOLINT: a table of its names

using Written = FormatList<float, Float16, BFloat16, ggml::Q4_0, ggml::Q4_1, ggml::Q5_0, ggml::Q5_1, ggml::Q8_0,
                           ggml::Q2_K, ggml::Q3_K, ggml::Q4_K, ggml::Q5_K, ggml::Q6_K, ggml::IQ4_NL, ggml::IQ4_XS,
                           ggml::TQ1_0, ggml::TQ2_0, ggml::MXFP4>;

/// The inputs' mean squares alone.
Hessian diagonalOf(Hessian hessian) {
  const double tokens = hessian.tokens();
  Eigen::MatrixXd h = std::move(hessian).matrix();
  for (Index i = 0; i < h.cols(); ++i) {
    h.col(i).head(i).setZero();
    h.col(i).tail(h.rows() - i - 1).setZero();
  }
  return Hessian::fromMatrix(std::move(h), tokens);
}

Gptq gptqOf(Hessian hessian, GgufRounding rounding, const GgufFeedback& feedback) {
  if (rounding == GgufRounding::kImportance) return Gptq(diagonalOf(std::move(hessian)), {.sweeps = 0});
  const GptqOptions usual;
  return Gptq(std::move(hessian), {.damping = feedback.damping.value_or(usual.damping),
                                   .sweeps = feedback.sweeps.value_or(4),
                                   .act_order = feedback.byDiagonal.value_or(usual.act_order)});
}

}  // namespace

AnyMatrix packGguf(std::string_view type, const RowMatrixXf& weights, GgufRounding rounding,
                   std::optional<Hessian> hessian, const GgufFeedback& feedback) {
  const GgmlType* found = gosset::detail::ggmlTypeNamed(type);
  if (found == nullptr) throw std::invalid_argument("type \"" + std::string(type) + "\" is none of GGUF's");
  const std::string format = ggufFormatOf<Written>(*found);
  const QuantizeOptions options = {.fit = LeastSquares{}};
  if (rounding == GgufRounding::kNearest || !format.starts_with("ggml::")) {
    return quantizeAs<Written>(format, weights, Nearest{}, options);
  }
  if (!hessian) throw std::invalid_argument("this rounding needs the inputs' second moments");
  Gptq gptq = gptqOf(*std::exchange(hessian, std::nullopt), rounding, feedback);
  return quantizeAs<Written>(format, weights, std::move(gptq), options);
}

AnyMatrix packGguf(std::string_view type, const RowMatrixXf& weights, GgufRounding rounding, const Hessian* hessian) {
  return packGguf(type, weights, rounding, hessian != nullptr ? std::optional(*hessian) : std::nullopt, {});
}

}  // namespace llama
