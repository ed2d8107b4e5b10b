// SPDX-License-Identifier: Apache-2.0
// How far each codebook is from the best that any could do: the mean squared error on Gaussian numbers, in units of
// their variance, with one scale of least squares, beside Shannon's bound D(R) = 2^(-2R) at the bits of its codes.
// Lattices, which code eight numbers at once, come nearer than any single numbers can; Lloyd-Max is the best of the
// latter.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cmath>
#include <cstdio>

const Eigen::MatrixXf kNumbers = example::gaussian(256, 1024, 1);

template <class Codebook>
void row() {
  const auto q = gosset::quantize<Codebook>(kNumbers, gosset::Nearest{}, {.fit = gosset::LeastSquares{}});
  const double bits = static_cast<double>(Codebook::kBits) / Codebook::kDim;
  const double mse = std::pow(gosset::distortion(kNumbers, q.dequantized()).relative, 2);
  const double bound = gosset::gaussianDistortion(bits);
  std::printf("%-14s %4.1f  %.4f  %.4f  %4.1f dB\n", Codebook::name().c_str(), bits, mse, bound,
              10 * std::log10(mse / bound));
}

int main() {
  std::printf("codebook       bits     MSE   bound      gap\n");
  row<gosset::Binary>();
  row<gosset::Trits5>();
  row<gosset::Asymmetric<2>>();
  row<gosset::LloydMax<2>>();
  row<gosset::E8P>();
  row<gosset::Asymmetric<3>>();
  row<gosset::LloydMax<3>>();
  row<gosset::E8PRvq3>();
  row<gosset::Asymmetric<4>>();
  row<gosset::NormalFloat4>();
  row<gosset::LloydMax<4>>();
  row<gosset::E8PRvq4>();
}

/* Prints:
codebook       bits     MSE   bound      gap
Binary          1.0  0.3633  0.2500   1.6 dB
Trits5          1.6  0.1900  0.1088   2.4 dB
Asymmetric<2>   2.0  0.1190  0.0625   2.8 dB
LloydMax<2>     2.0  0.1176  0.0625   2.7 dB
E8P             2.0  0.0912  0.0625   1.6 dB
Asymmetric<3>   3.0  0.0375  0.0156   3.8 dB
LloydMax<3>     3.0  0.0346  0.0156   3.4 dB
E8PRvq3         3.0  0.0284  0.0156   2.6 dB
Asymmetric<4>   4.0  0.0116  0.0039   4.7 dB
NormalFloat4    4.0  0.0099  0.0039   4.1 dB
LloydMax<4>     4.0  0.0095  0.0039   3.9 dB
E8PRvq4         4.0  0.0075  0.0039   2.8 dB
*/
