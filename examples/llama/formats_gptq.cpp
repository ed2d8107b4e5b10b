// SPDX-License-Identifier: Apache-2.0
#include "formats_entry.hpp"

#include <gosset/codebook.hpp>

// Rounding with feedback by what enters the layer.
namespace llama::detail {

/// GPTQ with act-order, scales of least squared error.
template <class Format>
static std::unique_ptr<Linear> packGptq(const PackJob& job) {
  return packed<Format>(job, gosset::Gptq(job.inputs->hessian, {.act_order = true}), gosset::LeastSquares{});
}

/// The same for codes of several numbers.
template <class Format>
static std::unique_ptr<Linear> packLdlq(const PackJob& job) {
  return packed<Format>(job, gosset::Ldlq(job.inputs->hessian), gosset::LeastSquares{});
}

std::vector<FormatEntry> gptqFormats() {
  using namespace gosset;  // NOLINT: a table of its names
  using Asym4G32 = Grouped<Asymmetric<4>, 32>;
  using Asym3G32 = Grouped<Asymmetric<3>, 32>;
  using Asym2G32 = Grouped<Asymmetric<2>, 32>;
  using Asym4 = PerChannel<Asymmetric<4>>;
  using Asym3 = PerChannel<Asymmetric<3>>;
  using Asym2 = PerChannel<Asymmetric<2>>;
  using TernaryRow = PerChannel<Trits5>;
  return {
      calibrated<Asym4>("gptq4", "GPTQ, 4 bits, scale and zero point a row", &packGptq<Asym4>),
      calibrated<Asym3>("gptq3", "GPTQ, 3 bits, scale and zero point a row", &packGptq<Asym3>),
      calibrated<Asym2>("gptq2", "GPTQ, 2 bits, scale and zero point a row", &packGptq<Asym2>),
      calibrated<Asym4G32>("gptq4-g32", "GPTQ, 4 bits, scale and zero point for 32 weights", &packGptq<Asym4G32>),
      calibrated<Asym3G32>("gptq3-g32", "GPTQ, 3 bits, scale and zero point for 32 weights", &packGptq<Asym3G32>),
      calibrated<Asym2G32>("gptq2-g32", "GPTQ, 2 bits, scale and zero point for 32 weights", &packGptq<Asym2G32>),
      calibrated<TernaryRow>("ldlq-ternary", "LDLQ, 1.6 bits, a scale a row", &packLdlq<TernaryRow>),
  };
}

}  // namespace llama::detail
