// SPDX-License-Identifier: Apache-2.0
#include "formats_entry.hpp"

#include <gosset/calibration.hpp>
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/format/channel_scaled.hpp>

// Formats made for the activations: scales of input channels, and 8-bit activations with one scale a token.
namespace llama::detail {

namespace {

using namespace gosset;  // NOLINT: a table of its names
using Int8 = PerChannel<Symmetric<8>>;
using SmoothInt8 = ChannelScaled<Int8>;

std::unique_ptr<Linear> packPerToken(const PackJob& job) { return packed<Int8>(job, Nearest{}, PublishedRule{}, true); }

std::unique_ptr<Linear> packSmoothQuant(const PackJob& job) {
  const SmoothQuantSearch found = searchSmoothQuant(job.weights, job.inputs->tokens);
  return packed<SmoothInt8>(job, ChannelScales(found.s), PublishedRule{}, true);
}

/// The published threshold of 6 is an absolute number for large models; here it counts in medians.
std::unique_ptr<Linear> packLlmInt8(const PackJob& job) {
  const OutlierColumns columns(job.inputs->tokens, {.threshold = 6, .relative_to_median = true});
  return packed<LlmInt8>(job, columns, PublishedRule{}, true);
}

template <class Format>
std::unique_ptr<Linear> packAwq(const PackJob& job) {
  return packed<Format>(job, Awq(job.inputs->tokens));
}

}  // namespace

std::vector<FormatEntry> activationFormats() {
  using Awq4 = ChannelScaled<Grouped<Asymmetric<4>, 32>>;
  using Awq3 = ChannelScaled<Grouped<Asymmetric<3>, 32>>;
  using Awq2 = ChannelScaled<Grouped<Asymmetric<2>, 32>>;
  return {
      entry<Int8>("w8a8", "int8, with activations in 8 bits and a scale a token", &packPerToken),
      calibrated<SmoothInt8>("smoothquant", "w8a8 with input channels evened out, alpha searched", &packSmoothQuant),
      calibrated<LlmInt8>("llm-int8", "w8a8 with outlier columns in 16 bits", &packLlmInt8),
      calibrated<Awq4>("awq4-g32", "AWQ, 4 bits, scale and zero point for 32 weights", &packAwq<Awq4>),
      calibrated<Awq3>("awq3-g32", "AWQ, 3 bits, scale and zero point for 32 weights", &packAwq<Awq3>),
      calibrated<Awq2>("awq2-g32", "AWQ, 2 bits, scale and zero point for 32 weights", &packAwq<Awq2>),
  };
}

}  // namespace llama::detail
