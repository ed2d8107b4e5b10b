// SPDX-License-Identifier: Apache-2.0
#include "gemv_formats.hpp"

// Trellis codes of gemv_bench.
namespace gosset::bench {

void registerTrellis() {
  registerFormat<Trellis<3, 2>>("Trellis<3, 2>", 0);
  registerFormat<Trellis<2>>("Trellis<2>", 0);
  registerFormat<Trellis<3>>("Trellis<3>", 0);
  registerFormat<Trellis<4>>("Trellis<4>", 0);
  registerFormat<TrellisMixed>("TrellisMixed, 2 bits", 0);
}

}  // namespace gosset::bench
