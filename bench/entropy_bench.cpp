// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/core/random.hpp>
#include <gosset/entropy.hpp>
#include <gosset/matrix.hpp>
#include <gosset/train/learned_step.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

// The entropy coder on one core. bytes_per_second counts what goes in when it encodes and comes out when it decodes:
// bytes of the packed codes, of which a 2-bit format has four to a byte; codes_per_second counts these. `bits` are
// those that a code takes in the archive, all tables counted, beside `entropy`, that of the codes, taken for
// independent.
namespace gosset {
namespace {

RowMatrixXf gaussian(Index rows, Index cols) {
  RowMatrixXf w(rows, cols);
  for (Index i = 0; i < w.size(); ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const double u = (static_cast<double>(randomBits(1, 2 * at) >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(randomBits(1, 2 * at + 1) >> 11) * 0x1p-53;
    w.data()[i] = static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }
  return w;
}

constexpr Index kSize = 1024;

/// Gaussian weights, ternary with the threshold at this many standard deviations, in percent.
struct TernaryAt {
  using Format = PerTensor<Ternary>;
  static QuantizedMatrix<Format> make(std::int64_t percent) {
    const RowMatrixXf w = gaussian(kSize, kSize);
    LearnedStep<Format> steps(w);
    steps.scales()(0, 0) = static_cast<float>(2 * percent) / 100;  // the threshold is half the scale
    return steps.quantized(w);
  }
};

template <class F>
struct LeastSquaresOf {
  using Format = F;
  static QuantizedMatrix<Format> make(std::int64_t) {
    return quantize<F>(gaussian(kSize, kSize), Nearest{}, {.fit = LeastSquares{}});
  }
};

void count(benchmark::State& state, std::size_t bytes, double codes, double archived, double entropy) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
  state.counters["codes_per_second"] =
      benchmark::Counter(codes * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["bits"] = 8 * archived / codes;
  state.counters["entropy"] = entropy;
}

template <class Source>
void archiveMatrix(benchmark::State& state) {
  const auto q = Source::make(state.range(0));
  std::size_t size = 0;
  for (auto _ : state) {
    const auto bytes = archive(q);
    benchmark::DoNotOptimize(bytes.data());
    size = bytes.size();
  }
  count(state, static_cast<std::size_t>(q.bytes()), kSize * kSize, static_cast<double>(size), codeEntropy(q));
}

template <class Source>
void unarchiveMatrix(benchmark::State& state) {
  const auto q = Source::make(state.range(0));
  const auto bytes = archive(q);
  for (auto _ : state) {
    const auto back = unarchive<typename Source::Format>(bytes);
    benchmark::DoNotOptimize(&back);
  }
  count(state, static_cast<std::size_t>(q.bytes()), kSize * kSize, static_cast<double>(bytes.size()), codeEntropy(q));
}

#define GOSSET_BENCH_FORMAT(source, argument)               \
  BENCHMARK_TEMPLATE(archiveMatrix, source)->Arg(argument); \
  BENCHMARK_TEMPLATE(unarchiveMatrix, source)->Arg(argument)
GOSSET_BENCH_FORMAT(TernaryAt, 40);
GOSSET_BENCH_FORMAT(TernaryAt, 60);
GOSSET_BENCH_FORMAT(TernaryAt, 80);
GOSSET_BENCH_FORMAT(LeastSquaresOf<PerTensor<LloydMax<2>>>, 0);
GOSSET_BENCH_FORMAT(LeastSquaresOf<PerTensor<LloydMax<3>>>, 0);
GOSSET_BENCH_FORMAT(LeastSquaresOf<PerTensor<LloydMax<4>>>, 0);
GOSSET_BENCH_FORMAT(LeastSquaresOf<PerTensor<Symmetric<8>>>, 0);

/// Bytes that each hold one code: uniform below `levels`, or for 0 of N(0, 1) in steps of 1.
std::vector<std::uint8_t> codesOf(std::int64_t levels) {
  std::vector<std::uint8_t> codes(1 << 20);
  if (levels == 0) {
    const RowMatrixXf w = gaussian(1 << 10, 1 << 10);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<std::uint8_t>(std::lround(w.data()[i]) + 128);
    }
  } else {
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<std::uint8_t>(randomBits(2, i) % static_cast<std::uint64_t>(levels));
    }
  }
  return codes;
}

void encodeCodes(benchmark::State& state) {
  const auto codes = codesOf(state.range(0));
  std::size_t size = 0;
  for (auto _ : state) {
    const auto bytes = encodeBytes(codes);
    benchmark::DoNotOptimize(bytes.data());
    size = bytes.size();
  }
  count(state, codes.size(), static_cast<double>(codes.size()), static_cast<double>(size),
        codeEntropy(std::span<const std::uint8_t>(codes)));
}

void decodeCodes(benchmark::State& state) {
  const auto codes = codesOf(state.range(0));
  const auto bytes = encodeBytes(codes);
  std::vector<std::uint8_t> back(codes.size());
  for (auto _ : state) {
    decodeBytes(bytes, back);
    benchmark::DoNotOptimize(back.data());
    benchmark::ClobberMemory();
  }
  count(state, codes.size(), static_cast<double>(codes.size()), static_cast<double>(bytes.size()),
        codeEntropy(std::span<const std::uint8_t>(codes)));
}

BENCHMARK(encodeCodes)->Arg(0)->Arg(3)->Arg(16)->Arg(256);
BENCHMARK(decodeCodes)->Arg(0)->Arg(3)->Arg(16)->Arg(256);

}  // namespace
}  // namespace gosset
