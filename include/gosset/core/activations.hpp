// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

namespace gosset::GOSSET_ABI {

/// What a product does with the activations.
enum class Activations {
  kRounded,          ///< rounded to 8 bits in groups of 32 where that is faster; relative error of the result below 1%,
                     ///< also where a few activations dwarf the others: these are rounded apart. That is the error of
                     ///< the sums' parts: a sum that comes out small because its parts cancel is off by more of itself.
                     ///< kernel/activations.hpp says what is split, and which numbers in most groups escape it
  kFloat,            ///< taken as they are
  kRoundedPerToken,  ///< always rounded to 8 bits, one scale max |x| / 127 for a token, found as it comes: by every
                     ///< format of codes, so that PerChannel<Symmetric<8>> multiplies integers alone (W8A8). Float
                     ///< formats, and what wrappers keep in floats, take them as they are. No bound on the error goes
                     ///< with it: a single large activation drowns the others, which is how the method is published
};

}  // namespace gosset::GOSSET_ABI
