// SPDX-License-Identifier: Apache-2.0
#include <gosset/gosset.hpp>

int main() {
  const Eigen::MatrixXf w = Eigen::MatrixXf::Identity(9, 7);
  const auto q = gosset::quantize<gosset::Grouped<gosset::Asymmetric<4>, 4>>(w);
  const Eigen::VectorXf sums = q * Eigen::VectorXf::Ones(7);
  return sums.isApprox(w.rowwise().sum(), 1e-2f) ? 0 : 1;
}
