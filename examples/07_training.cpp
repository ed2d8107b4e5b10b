// SPDX-License-Identifier: Apache-2.0
// Training through quantization: the forward pass sees rounded weights, the backward pass takes rounding for the
// identity. Here a layer with weights of -1, 0 and 1 learns to do what a float layer does; scales are fitted anew at
// each step, or trained along (learned step size). examples/llama/train --qat does so with a language model.
#include "data.hpp"

#include <gosset/gosset.hpp>

#include <cstdio>

int main() {
  using Format = gosset::PerChannel<gosset::Ternary>;
  const Eigen::MatrixXf target = example::gaussian(16, 48, 1);  // out x in
  Eigen::MatrixXf X = example::gaussian(400, 48, 2);            // tokens x in, correlated
  for (Eigen::Index j = 1; j < 48; ++j) X.col(j) = 0.8f * X.col(j - 1) + 0.6f * X.col(j);
  const Eigen::MatrixXf second = X.transpose() * X / 400;  // the mean of x x^T: all that the squared error needs
  const float whole = (target * second).cwiseProduct(target).sum();
  const auto lost = [&](const Eigen::MatrixXf& Wq) {
    return 100 * ((Wq - target) * second).cwiseProduct(Wq - target).sum() / whole;
  };
  const auto gradient = [&](const Eigen::MatrixXf& Wq) -> Eigen::MatrixXf { return 2 * (Wq - target) * second; };
  std::printf("rounded:        %2.0f%% of the output's energy lost\n",
              lost(gosset::quantize<Format>(target).dequantized()));

  Eigen::MatrixXf W = target;
  const gosset::FakeQuant<Format> fq;
  for (int step = 0; step < 300; ++step) W -= 0.01f * fq.backward(W, gradient(fq.forward(W)));
  std::printf("trained:        %2.0f%%\n", lost(gosset::quantize<Format>(W).dequantized()));

  W = target;
  gosset::LearnedStep<Format> steps(W);
  for (int step = 0; step < 300; ++step) {
    const auto g = steps.backward(W, gradient(steps.forward(W)));
    W -= 0.01f * g.weights;
    steps.scales() -= 0.01f * g.scales;
  }
  const gosset::QuantizedMatrix<Format> q = steps.quantized(W);  // the trained scales are what it stores
  std::printf("scales too:     %2.0f%%, in %.2f bits a weight\n", lost(q.dequantized()), q.bitsPerWeight());
}

/* Prints:
rounded:        26% of the output's energy lost
trained:        17%
scales too:     14%, in 2.38 bits a weight
*/
