// SPDX-License-Identifier: Apache-2.0
#include "gemv_formats.hpp"

// Groups of gemv_bench that end within a tile.
namespace gosset::bench {

void registerGroups() {
  registerFormat<Asymmetric<4>, 2>("Asymmetric<4>, 48", 48);
  registerFormat<Asymmetric<4>, 2>("Asymmetric<4>, 16", 16);
  registerFormat<Asymmetric<4>, 4>("Asymmetric<4>, 8", 8);
  registerFormat<Asymmetric<4>, 0>("Asymmetric<4>, 20", 20);
}

}  // namespace gosset::bench
