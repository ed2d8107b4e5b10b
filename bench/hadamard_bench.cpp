// SPDX-License-Identifier: Apache-2.0
#include <gosset/hadamard/transform.hpp>

#include <benchmark/benchmark.h>

#include <cmath>

// The fast Hadamard transform in place. GFLOP/s counts n log2(n) additions a vector, whatever n is, so that lengths can
// be compared; a factor that is no power of two needs more.
namespace gosset {
namespace {

void count(benchmark::State& state, Index vectors, Index n) {
  const double additions = static_cast<double>(vectors * n) * std::log2(static_cast<double>(n));
  state.counters["GFLOP/s"] =
      benchmark::Counter(additions * 1e-9, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

template <class Scalar>
void vectorByCall(benchmark::State& state) {
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> x = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>::Random(state.range(0));
  for (auto _ : state) {
    hadamard(x);
    benchmark::DoNotOptimize(x.data());
    benchmark::ClobberMemory();
  }
  count(state, 1, x.size());
}

void vectorByTransform(benchmark::State& state) {
  Eigen::VectorXf x = Eigen::VectorXf::Random(state.range(0));
  const HadamardTransform<float> transform(x.size());
  for (auto _ : state) {
    transform.forward(x);
    benchmark::DoNotOptimize(x.data());
    benchmark::ClobberMemory();
  }
  count(state, 1, x.size());
}

void rows(benchmark::State& state) {
  RowMatrixXf w = RowMatrixXf::Random(state.range(0), state.range(1));
  for (auto _ : state) {
    hadamardRows(w);
    benchmark::ClobberMemory();
  }
  count(state, w.rows(), w.cols());
}

void cols(benchmark::State& state) {
  RowMatrixXf w = RowMatrixXf::Random(state.range(1), state.range(0));
  for (auto _ : state) {
    hadamardCols(w);
    benchmark::ClobberMemory();
  }
  count(state, w.cols(), w.rows());
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"vectors", "n"});
  for (auto [m, n] : {std::pair{4096, 256}, {1024, 1024}, {4096, 4096}, {1024, 4096}, {512, 11008}, {1024, 14336}}) {
    benchmark->Args({m, n});
  }
  benchmark->UseRealTime();
}

BENCHMARK(vectorByCall<float>)->RangeMultiplier(4)->Range(64, 1 << 22)->Arg(1 << 13)->Arg(1 << 15);
BENCHMARK(vectorByCall<double>)->RangeMultiplier(16)->Range(64, 1 << 18);
BENCHMARK(vectorByTransform)->Arg(768)->Arg(3584)->Arg(5120)->Arg(8960)->Arg(11008)->Arg(13696)->Arg(14336)->Arg(29568);
BENCHMARK(rows)->Apply(shapes);
BENCHMARK(cols)->Apply(shapes);

}  // namespace
}  // namespace gosset
