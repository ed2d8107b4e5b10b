// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <string>
#include <vector>

namespace llama {

using gosset::Index;

/// What became of one matrix.
struct PackedLinear {
  std::string name, format;
  double bitsPerWeight = 0;
  double sqnr = 0;  ///< decibels
  Index weights = 0, bytes = 0;
  double seconds = 0;  ///< of the clock, for packing
};

struct BlockReport {
  std::vector<PackedLinear> linears;
  std::vector<std::string> starved;  ///< experts that got too few tokens, and have those of their whole block
  int passes = 0;                    ///< over the text
};

}  // namespace llama
