// SPDX-License-Identifier: Apache-2.0
// Compiled twice, for two instruction sets, and linked: see CMakeLists.txt.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/matrix.hpp>

#include <cstddef>
#include <cstdio>
#include <cstring>

void productOfBase(float* y);
void productOfMore(float* y);

/// What is asked of gosset stands in floats: types of its own cannot go from one file to the other.
void PRODUCT(float* y) {
  Eigen::MatrixXf w(64, 64);
  for (Eigen::Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(i * i % 61) - 30;
  const auto q = gosset::quantize<gosset::Incoherent<gosset::Grouped<gosset::Symmetric<4>, 32>>>(w);
  Eigen::VectorXf::Map(y, 64) = q * Eigen::VectorXf(w.col(5));
}

#ifdef WITH_MAIN
int main() {
  float base[64], more[64];
  productOfBase(base);
  productOfMore(more);
  if (std::memcmp(base, more, sizeof(base)) != 0) return 1;
  std::printf("the same products\n");
  return 0;
}
#endif
