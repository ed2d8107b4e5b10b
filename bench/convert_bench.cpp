// SPDX-License-Identifier: Apache-2.0
//
// Single passes over a float matrix: quantize() with nearest codes, dequantizeTo(), and the Hadamard transform of its
// rows, against memcpy of the same floats in the same run. bytes/s counts the floats once.

#include <gosset/gosset.hpp>

#include <benchmark/benchmark.h>

#include <cstring>

namespace gosset::bench {
namespace {

constexpr Index kRows = 4096, kCols = 4096;

const RowMatrixXf& weights() {
  static const RowMatrixXf w = [] {
    RowMatrixXf random(kRows, kCols);
    for (Index i = 0; i < random.size(); ++i) {
      random.data()[i] = randomUniform(1, static_cast<std::uint64_t>(i)) - 0.5f;
    }
    return random;
  }();
  return w;
}

void count(benchmark::State& state) {
  const auto floats = static_cast<double>(kRows * kCols);
  state.counters["weights/s"] = benchmark::Counter(floats, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes/s"] = benchmark::Counter(4 * floats, benchmark::Counter::kIsIterationInvariantRate);
}

void copy(benchmark::State& state) {
  RowMatrixXf target = weights();
  for (auto _ : state) {
    std::memcpy(target.data(), weights().data(), sizeof(float) * static_cast<std::size_t>(kRows * kCols));
    benchmark::DoNotOptimize(target.data());
  }
  count(state);
}
BENCHMARK(copy);

template <class Format>
void pack(benchmark::State& state) {
  for (auto _ : state) {
    const auto q = quantize<Format>(weights());
    benchmark::DoNotOptimize(&q);
  }
  count(state);
}

/// From columns, and from rows in 16 bits.
template <class Format, class Matrix>
void packFrom(benchmark::State& state) {
  const Matrix w = weights().cast<typename Matrix::Scalar>();
  for (auto _ : state) {
    const auto q = quantize<Format>(w);
    benchmark::DoNotOptimize(&q);
  }
  count(state);
}

template <class Format>
void unpack(benchmark::State& state) {
  const auto q = quantize<Format>(weights());
  RowMatrixXf w(kRows, kCols);
  for (auto _ : state) {
    q.dequantizeTo(w);
    benchmark::DoNotOptimize(w.data());
  }
  count(state);
}

using Int8 = PerChannel<Symmetric<8>>;
using Int4 = Grouped<Symmetric<4>, 32>;
using Asym4 = Grouped<Asymmetric<4>, 64>;
using Asym3 = Grouped<Asymmetric<3>, 64>;
using Asym2 = Grouped<Asymmetric<2>, 64>;
using Nf4 = Grouped<NormalFloat4, 64>;
BENCHMARK(pack<Float16>);
BENCHMARK(pack<Int8>);
BENCHMARK(pack<Int4>);
BENCHMARK(pack<Asym4>);
BENCHMARK(pack<Asym3>);
BENCHMARK(pack<Asym2>);
BENCHMARK(pack<Nf4>);
BENCHMARK(pack<E8P>);
BENCHMARK(packFrom<Int4, Eigen::MatrixXf>);
BENCHMARK(packFrom<Int4, Eigen::Matrix<Float16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>);
BENCHMARK(packFrom<Int4, Eigen::Matrix<Float16, Eigen::Dynamic, Eigen::Dynamic>>);
BENCHMARK(unpack<Float16>);
BENCHMARK(unpack<Int8>);
BENCHMARK(unpack<Int4>);
BENCHMARK(unpack<Asym4>);
BENCHMARK(unpack<Asym3>);
BENCHMARK(unpack<Asym2>);
BENCHMARK(unpack<Nf4>);
BENCHMARK(unpack<E8P>);

void hadamard(benchmark::State& state) {
  RowMatrixXf w = weights();
  const HadamardTransform<float> transform(kCols);
  for (auto _ : state) {
    transform.forwardRows(w);
    benchmark::DoNotOptimize(w.data());
  }
  count(state);
}
BENCHMARK(hadamard);

}  // namespace
}  // namespace gosset::bench

int main(int argc, char** argv) {
  Eigen::setNbThreads(1);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
