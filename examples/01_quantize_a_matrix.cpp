// SPDX-License-Identifier: Apache-2.0
// Shrink a matrix to 4 bits, multiply from the packed codes, and see what it cost.
#include <gosset/gosset.hpp>

#include <iostream>

int main() {
  const Eigen::MatrixXf W = Eigen::MatrixXf::Random(300, 417);  // out x in, any shape
  const Eigen::VectorXf x = Eigen::VectorXf::Random(417);

  using Int4 = gosset::Grouped<gosset::Asymmetric<4>, 64>;  // 4 bits, a scale and zero point for each 64 inputs
  const auto q = gosset::quantize<Int4>(W);
  const Eigen::VectorXf y = q * x;

  std::cout.precision(3);
  std::cout << q << '\n'
            << gosset::distortion(W, q.dequantized()) << '\n'
            << "relative error of the product " << (y - W * x).norm() / (W * x).norm() << '\n';
}

/* Prints:
Grouped<Asymmetric<4>, 64>, 300 x 417, 4.55 bits a weight, 71104 bytes
MSE 0.00135, SQNR 23.9 dB, max error 0.0666
relative error of the product 0.0626
*/
