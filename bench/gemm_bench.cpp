// SPDX-License-Identifier: Apache-2.0
//
// Products of a packed 4096 x 4096 matrix with many vectors, one thread, against Eigen's float product; and the two
// cores of a machine together. GFLOP/s = 2 m n t / time.

#include "packed_arena.hpp"

#include <benchmark/benchmark.h>

namespace gosset::bench {
namespace {

constexpr Index kRows = 4096, kCols = 4096;

void countFlops(benchmark::State& state, Index rows, Index tokens) {
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * static_cast<double>(rows * kCols * tokens),
                                                benchmark::Counter::kIsIterationInvariantRate);
}

void eigenFloat(benchmark::State& state) {
  const Index tokens = state.range(0);
  const Eigen::MatrixXf w = activations(kRows, kCols), x = activations(kCols, tokens);
  Eigen::MatrixXf y(kRows, tokens);
  Eigen::setNbThreads(1);
  for (auto _ : state) {
    y.noalias() = w * x;
    benchmark::DoNotOptimize(y.data());
  }
  countFlops(state, kRows, tokens);
}
BENCHMARK(eigenFloat)->Arg(32)->Arg(512);

template <Codebook C, Index kGroup, Activations kMode>
void packed(benchmark::State& state) {
  const Index tokens = state.range(0);
  const Matrices<C> matrices(kRows, kCols, kGroup, 1);
  const Eigen::MatrixXf x = activations(kCols, tokens);
  Eigen::MatrixXf y(kRows, tokens);
  Eigen::setNbThreads(1);
  for (auto _ : state) {
    gosset::detail::multiplyCodes(matrices[0], kMode, x.data(), kCols, tokens, kCols, y.data(), kRows);
    benchmark::DoNotOptimize(y.data());
  }
  countFlops(state, kRows, tokens);
}
constexpr auto kRounded = Activations::kRounded;
constexpr auto kFloat = Activations::kFloat;
BENCHMARK(packed<Symmetric<8>, 0, kRounded>)->Arg(2)->Arg(8)->Arg(32)->Arg(512);
BENCHMARK(packed<Asymmetric<4>, 128, kRounded>)->Arg(2)->Arg(8)->Arg(32)->Arg(512);
BENCHMARK(packed<NormalFloat4, 64, kRounded>)->Arg(32)->Arg(512);
BENCHMARK(packed<Asymmetric<2>, 128, kRounded>)->Arg(32)->Arg(512);
BENCHMARK(packed<E8P, 0, kRounded>)->Arg(2)->Arg(8)->Arg(32)->Arg(512);
BENCHMARK(packed<E8PRvq4, 0, kRounded>)->Arg(32)->Arg(512);
BENCHMARK(packed<Symmetric<8>, 0, kFloat>)->Arg(32)->Arg(512);
BENCHMARK(packed<Asymmetric<4>, 128, kFloat>)->Arg(32)->Arg(512);
BENCHMARK(packed<Trellis<2>, 0, kRounded>)->Arg(2)->Arg(8)->Arg(32)->Arg(512);
BENCHMARK(packed<TrellisMixed, 0, kRounded>)->Arg(32)->Arg(512);
BENCHMARK(packed<Trellis<3>, 0, kRounded>)->Arg(32)->Arg(512);
BENCHMARK(packed<Trellis<4>, 0, kRounded>)->Arg(32)->Arg(512);
BENCHMARK(packed<E8P, 0, kFloat>)->Arg(32)->Arg(512);

/// A matrix that two caches hold, on 1 and 2 threads.
template <Codebook C, Index kGroup>
void threads(benchmark::State& state) {
  constexpr Index kFew = 1024;
  const Matrices<C> matrices(kFew, kCols, kGroup, 1);
  const Eigen::MatrixXf x = activations(kCols, 1);
  Eigen::VectorXf y(kFew);
  Eigen::setNbThreads(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    gosset::detail::multiplyCodes(matrices[0], kRounded, x.data(), kCols, 1, kCols, y.data(), kFew);
    benchmark::DoNotOptimize(y.data());
  }
  countFlops(state, kFew, 1);
  Eigen::setNbThreads(1);
}
BENCHMARK(threads<Asymmetric<4>, 128>)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(threads<E8P, 0>)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace
}  // namespace gosset::bench

BENCHMARK_MAIN();
