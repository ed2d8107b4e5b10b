// SPDX-License-Identifier: Apache-2.0
// Speed of quantizing one square layer to 2 bits with QuIP#'s rounding: Hadamard, factorization, feedback, packing.
#include <gosset/gosset.hpp>

#include <benchmark/benchmark.h>

#include <cmath>

namespace {

using namespace gosset;

/// Correlated second moments of n inputs: neighbouring inputs have a correlation of 0.8.
Hessian correlatedHessian(Index n) {
  Eigen::MatrixXd h(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) h(i, j) = std::pow(0.8, std::abs(static_cast<double>(i - j)));
  }
  return Hessian::fromMatrix(h);
}

void ldlq(benchmark::State& state) {
  Eigen::setNbThreads(1);
  const Index n = state.range(0);
  const int sweeps = static_cast<int>(state.range(1));
  const RowMatrixXf w = RowMatrixXf::Random(n, n);
  const Hessian h = correlatedHessian(n);
  for (auto _ : state) benchmark::DoNotOptimize(quantize<Incoherent<E8P>>(w, Ldlq(h, {.sweeps = sweeps})));
  state.counters["weights/s"] =
      benchmark::Counter(static_cast<double>(n * n), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(ldlq)
    ->ArgNames({"n", "sweeps"})
    ->Args({1024, 0})
    ->Args({4096, 0})
    ->Args({4096, 4})
    ->Unit(benchmark::kMillisecond);

}  // namespace
