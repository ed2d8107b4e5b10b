// SPDX-License-Identifier: Apache-2.0
// GPTQ: codes chosen with the layer's activations in view, so that the errors of a row cancel in its output. The format
// is the same as without: 3 bits, a scale and a zero point for each 64 inputs.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>

int main() {
  using Format = gosset::Grouped<gosset::Asymmetric<3>, 64>;
  const Eigen::MatrixXf W = example::gaussian(192, 256, 1);      // out x in
  const Eigen::MatrixXf X = example::activations(2000, 256, 2);  // calibration: tokens x in
  const Eigen::MatrixXf unseen = example::activations(500, 256, 3);
  gosset::Hessian H(256);
  H.accumulate(X);  // batch by batch, where there is more

  const auto report = [&](const char* name, const gosset::QuantizedMatrix<Format>& q) {
    const Eigen::MatrixXf y = W * unseen.transpose(), yq = q.dequantized() * unseen.transpose();
    std::printf("%-21s %.2f bits a weight, weight error %2.0f%%, output error %4.1f%%\n", name, q.bitsPerWeight(),
                100 * gosset::distortion(W, q.dequantized()).relative, 100.0 * (yq - y).norm() / y.norm());
  };
  report("nearest", gosset::quantize<Format>(W));
  report("GPTQ", gosset::quantize<Format>(W, gosset::Gptq{H}));
  report("GPTQ, largest first", gosset::quantize<Format>(W, gosset::Gptq(H, {.act_order = true})));
}

/* Prints:
nearest               3.50 bits a weight, weight error 19%, output error 19.4%
GPTQ                  3.50 bits a weight, weight error 39%, output error 13.3%
GPTQ, largest first   3.50 bits a weight, weight error 39%, output error 10.8%
*/
