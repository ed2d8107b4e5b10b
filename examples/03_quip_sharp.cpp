// SPDX-License-Identifier: Apache-2.0
// QuIP#: 2 bits a weight by random Hadamard incoherence, the E8P lattice codebook, and rounding that sees the layer's
// activations. Plain rounding to 2 bits, with its scales, needs more and loses far more.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>
#include <iostream>

int main() {
  using gosset::Asymmetric, gosset::Grouped, gosset::Incoherent, gosset::E8P, gosset::Ldlq;
  Eigen::MatrixXf W = example::gaussian(256, 344, 1);   // out x in
  W.col(7) *= 20.f;                                     // an outlier channel
  Eigen::MatrixXf X = example::gaussian(2000, 344, 2);  // tokens x in, correlated as activations are
  for (Eigen::Index j = 1; j < X.cols(); ++j) X.col(j) = 0.8f * X.col(j - 1) + 0.6f * X.col(j);

  gosset::Hessian H(344);
  H.accumulate(X);  // batch by batch

  const auto plain = gosset::quantize<Grouped<Asymmetric<2>, 32>>(W);
  const auto quip = gosset::quantize<Incoherent<E8P>>(W, Ldlq{H});
  const auto report = [&](const auto& q) {
    std::cout << q << '\n' << std::flush;
    std::printf("  output energy lost %.0f%%\n", 100 * gosset::proxyLoss(W, q.dequantized(), H));
    std::fflush(stdout);
  };
  report(plain);
  report(quip);
}

/* Prints:
Grouped<Asymmetric<2>, 32>, 256 x 344, 3.07013 bits a weight, 33796 bytes
  output energy lost 56%
Incoherent<E8P>, 256 x 344, 2.00127 bits a weight, 22030 bytes
  output energy lost 4%
*/
