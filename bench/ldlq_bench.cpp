// SPDX-License-Identifier: Apache-2.0
// Speed of quantizing one layer to 2 bits with QuIP#'s rounding: Hadamard, factorization, feedback, packing; and the
// most memory that the program has taken so far, its matrix and Hessian included.
#include <gosset/gosset.hpp>

#include <benchmark/benchmark.h>

#include <sys/resource.h>

#include <cmath>
#include <utility>

namespace {

using namespace gosset;

/// Correlated second moments of n inputs: neighbouring inputs have a correlation of 0.8.
Hessian correlatedHessian(Index n) {
  Eigen::MatrixXd h(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) h(i, j) = std::pow(0.8, std::abs(static_cast<double>(i - j)));
  }
  return Hessian::fromMatrix(std::move(h));
}

void ldlq(benchmark::State& state) {
  Eigen::setNbThreads(1);
  const Index m = state.range(0), n = state.range(1);
  const int sweeps = static_cast<int>(state.range(2));
  const RowMatrixXf w = RowMatrixXf::Random(m, n);
  for (auto _ : state) {
    state.PauseTiming();
    Hessian h = correlatedHessian(n);
    state.ResumeTiming();
    benchmark::DoNotOptimize(quantize<Incoherent<E8P>>(w, Ldlq(std::move(h), {.sweeps = sweeps})));
  }
  state.counters["weights/s"] =
      benchmark::Counter(static_cast<double>(m * n), benchmark::Counter::kIsIterationInvariantRate);
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  state.counters["peak MB"] = static_cast<double>(usage.ru_maxrss) / 1024;
}
BENCHMARK(ldlq)
    ->ArgNames({"m", "n", "sweeps"})
    ->Args({1024, 1024, 0})
    ->Args({4096, 4096, 0})
    ->Args({4096, 4096, 4})
    ->Args({28672, 8192, 4})
    ->Unit(benchmark::kMillisecond);

}  // namespace
