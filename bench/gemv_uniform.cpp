// SPDX-License-Identifier: Apache-2.0
#include "gemv_formats.hpp"

// Uniform codes of gemv_bench.
namespace gosset::bench {

void registerUniform() {
  registerFormat<Symmetric<8>>("Symmetric<8>, rows", 0);
  registerFormat<Asymmetric<6>>("Asymmetric<6>, 128", 128);
  registerFormat<Asymmetric<5>>("Asymmetric<5>, 128", 128);
  registerFormat<Symmetric<4>>("Symmetric<4>, 32", 32);
  registerFormat<Asymmetric<4>>("Asymmetric<4>, 128", 128);
  registerFormat<Asymmetric<4>>("Asymmetric<4>, 32", 32);
  registerFormat<Asymmetric<3>>("Asymmetric<3>, 128", 128);
  registerFormat<Asymmetric<2>>("Asymmetric<2>, 128", 128);
}

}  // namespace gosset::bench
