// SPDX-License-Identifier: Apache-2.0
#include "gemv_formats.hpp"

// Codebooks of gemv_bench with points of E8.
namespace gosset::bench {

void registerPoints() {
  registerFormat<E8P>("E8P", 0);
  registerFormat<E8PRvq3>("E8PRvq3", 0);
  registerFormat<E8PRvq4>("E8PRvq4", 0);
}

}  // namespace gosset::bench
