// SPDX-License-Identifier: Apache-2.0
// Trellis codes: any eighth of a bit from 1 to 6 a weight, with less error than lattices. Where tiles of columns have
// rates of their own, those that matter most get more bits, at the same average.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>
#include <iostream>

int main() {
  using gosset::Incoherent, gosset::E8P, gosset::Ldlq, gosset::Trellis, gosset::TrellisMixed;
  const Eigen::MatrixXf W = example::gaussian(256, 344, 1);  // out x in
  Eigen::MatrixXf X = example::gaussian(2000, 344, 2);       // tokens x in, correlated as activations are
  for (Eigen::Index j = 1; j < X.cols(); ++j) X.col(j) = 0.9f * X.col(j - 1) + 0.45f * X.col(j);

  gosset::Hessian H(344);
  H.accumulate(X);

  const auto report = [&](const auto& q) {
    std::cout << q << '\n' << std::flush;
    std::printf("  output energy lost %.1f%%\n", 100 * gosset::proxyLoss(W, q.dequantized(), H));
    std::fflush(stdout);
  };
  report(gosset::quantize<Incoherent<E8P>>(W, Ldlq{H}));
  report(gosset::quantize<Incoherent<Trellis<2>>>(W, Ldlq{H}));
  report(gosset::quantize<Incoherent<TrellisMixed>>(W, Ldlq{H, {.mean_bits = 2}}));
  report(gosset::quantize<Incoherent<Trellis<5, 2>>>(W, Ldlq{H}));
}

/* Prints:
Incoherent<E8P>, 256 x 344, 2.00127 bits a weight, 22030 bytes
  output energy lost 2.1%
Incoherent<Trellis<2>>, 256 x 344, 2.00127 bits a weight, 22030 bytes
  output energy lost 1.7%
Incoherent<TrellisMixed>, 256 x 344, 2.00527 bits a weight, 22074 bytes
  output energy lost 1.3%
Incoherent<Trellis<5, 2>>, 256 x 344, 2.50127 bits a weight, 27534 bytes
  output energy lost 0.8%
*/
