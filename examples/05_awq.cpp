// SPDX-License-Identifier: Apache-2.0
// AWQ: inputs that carry large activations get finer steps, by scaling their columns up before rounding and back down
// in the product. And the other way round such activations are met: their few columns kept in 16 bits, as LLM.int8()
// does.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>

int main() {
  using Int3 = gosset::Grouped<gosset::Asymmetric<3>, 64>;
  const Eigen::MatrixXf W = example::gaussian(192, 256, 1);      // out x in
  const Eigen::MatrixXf X = example::activations(1000, 256, 2);  // calibration: tokens x in
  const Eigen::MatrixXf unseen = example::activations(500, 256, 3);

  const auto report = [&](const char* name, const auto& q) {
    const Eigen::MatrixXf y = W * unseen.transpose(), yq = q * unseen.transpose();
    std::printf("%-16s %4.1f bits a weight, output error %4.1f%%\n", name, q.bitsPerWeight(),
                100.0 * (yq - y).norm() / y.norm());
  };
  report("nearest", gosset::quantize<Int3>(W));
  report("AWQ", gosset::quantize<gosset::ChannelScaled<Int3>>(W, gosset::Awq{X}));
  report("8 bits", gosset::quantize<gosset::PerChannel<gosset::Symmetric<8>>>(W));
  const gosset::OutlierColumns large(X, {.threshold = 20.f});
  std::printf("%d of 256 inputs reach magnitudes of 20\n", static_cast<int>(large.columns().size()));
  report("LLM.int8()", gosset::quantize<gosset::LlmInt8>(W, large));
}

/* Prints:
nearest           3.5 bits a weight, output error 19.4%
AWQ               3.6 bits a weight, output error  6.4%
8 bits            8.1 bits a weight, output error  0.7%
3 of 256 inputs reach magnitudes of 20
LLM.int8()        8.3 bits a weight, output error  0.3%
*/
