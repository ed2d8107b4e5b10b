// SPDX-License-Identifier: Apache-2.0
#include "gemv_formats.hpp"

// Tables of levels, ternary and binary codes of gemv_bench.
namespace gosset::bench {

void registerLevels() {
  registerFormat<NormalFloat4>("NormalFloat4, 64", 64);
  registerFormat<LloydMax<3>>("LloydMax<3>, 128", 128);
  registerFormat<Ternary>("Ternary, rows", 0);
  registerFormat<Trits5>("Trits5, rows", 0);
  registerFormat<Binary>("Binary, rows", 0);
}

}  // namespace gosset::bench
