// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/scale/fit.hpp>

#include <cstdint>

namespace gosset::GOSSET_ABI {

/// What a user may ask of quantize() besides the format and the rounding.
struct QuantizeOptions {
  ScaleFit fit = PublishedRule{};  ///< how scales and zero points are found
  std::uint64_t seed = 0;          ///< of the random signs in Incoherent formats, kept there; of LowRank's first guess
  int low_rank_iterations = 4;     ///< of the subspace iteration in LowRank formats, at least 0
};

}  // namespace gosset::GOSSET_ABI
