// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats.hpp"

#include <gosset/rounding.hpp>

#include <concepts>

// How lines of the format table are made.
namespace llama::detail {

/// The parts of the table, each compiled by itself.
std::vector<FormatEntry> scalarFormats();
std::vector<FormatEntry> gptqFormats();
std::vector<FormatEntry> latticeFormats();
std::vector<FormatEntry> activationFormats();
std::vector<FormatEntry> sparseFormats();

template <class Format, class Rounding = gosset::Nearest>
std::unique_ptr<Linear> packed(const PackJob& job, const Rounding& rounding = {},
                               const gosset::ScaleFit& fit = gosset::PublishedRule{}, bool perToken = false) {
  return std::make_unique<QuantizedLinear<Format>>(
      gosset::quantize<Format>(job.weights, rounding, {.fit = fit, .seed = job.seed}), perToken);
}

/// Scales as published, nearest codes.
template <class Format>
std::unique_ptr<Linear> packNearest(const PackJob& job) {
  return packed<Format>(job);
}

/// Scales searched for the least squared error.
template <class Format>
std::unique_ptr<Linear> packLeastSquares(const PackJob& job) {
  return packed<Format>(job, gosset::Nearest{}, gosset::LeastSquares{});
}

using Pack = std::unique_ptr<Linear> (*)(const PackJob&);

template <class Format>
FormatEntry entry(const char* name, const char* about, Pack pack = &packNearest<Format>) {
  return {name, about, gosset::Packed<Format>::formatName(), pack, &QuantizedLinear<Format>::read};
}

/// One that looks at what enters the layers.
template <class Format>
FormatEntry calibrated(const char* name, const char* about, Pack pack) {
  FormatEntry result = entry<Format>(name, about, pack);
  result.needsCalibration = true;
  return result;
}

}  // namespace llama::detail
