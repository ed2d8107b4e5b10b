// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/e8.hpp>
#include <gosset/codebook/e81b.hpp>
#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/e8p_rvq.hpp>
#include <gosset/core/random.hpp>
#include <gosset/core/types.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

// Speeds of the E8 codebooks on one core, in weights a second (items_per_second), on N(0,1) numbers in units of each
// codebook's best scale. The second-level cache holds the blocks.
namespace gosset {
namespace {

constexpr Index kBlocks = 1 << 13;

std::vector<float> gaussian(double size) {
  std::vector<float> x(8 * kBlocks);
  for (std::uint64_t i = 0; i < x.size(); ++i) {
    const double u = (static_cast<double>(randomBits(1, 2 * i) >> 11) + 0.5) * 0x1p-53;
    const double v = static_cast<double>(randomBits(1, 2 * i + 1) >> 11) * 0x1p-53;
    x[i] = static_cast<float>(size * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
  }
  return x;
}

void countWeights(benchmark::State& state) { state.SetItemsProcessed(state.iterations() * 8 * kBlocks); }

void e8Nearest(benchmark::State& state) {
  const std::vector<float> x = gaussian(1);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    for (std::size_t i = 0; i < x.size(); i += 8) E8::nearest(x.data() + i, y.data() + i);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  countWeights(state);
}
BENCHMARK(e8Nearest);

template <class C>
void encodeBlocks(benchmark::State& state) {
  const std::vector<float> x = gaussian(1 / static_cast<double>(C::kGaussianScale));
  std::vector<typename C::Code> codes(kBlocks);
  for (auto _ : state) {
    C::encodeBlocks(x.data(), kBlocks, codes.data());
    benchmark::DoNotOptimize(codes.data());
    benchmark::ClobberMemory();
  }
  countWeights(state);
}
BENCHMARK_TEMPLATE(encodeBlocks, E8P);
BENCHMARK_TEMPLATE(encodeBlocks, E81B);
BENCHMARK_TEMPLATE(encodeBlocks, E8PRvq3);
BENCHMARK_TEMPLATE(encodeBlocks, E8PRvq4);

/// One block a call, as a loop with feedback from block to block needs it.
template <class C>
void encodeOne(benchmark::State& state) {
  const std::vector<float> x = gaussian(1 / static_cast<double>(C::kGaussianScale));
  for (auto _ : state) {
    for (std::size_t i = 0; i < x.size(); i += 8) benchmark::DoNotOptimize(C::encode(x.data() + i));
  }
  countWeights(state);
}
BENCHMARK_TEMPLATE(encodeOne, E8P);

/// Inputs full of ties, which only the exact search settles: multiples of 1/8.
void encodeTies(benchmark::State& state) {
  std::vector<float> x = gaussian(1);
  for (float& c : x) c = std::round(8 * c) / 8;
  std::vector<E8P::Code> codes(kBlocks);
  for (auto _ : state) {
    E8P::encodeBlocks(x.data(), kBlocks, codes.data());
    benchmark::DoNotOptimize(codes.data());
    benchmark::ClobberMemory();
  }
  countWeights(state);
}
BENCHMARK(encodeTies);

template <class C>
void decodeBlocks(benchmark::State& state) {
  const std::vector<float> x = gaussian(1 / static_cast<double>(C::kGaussianScale));
  std::vector<typename C::Code> codes(kBlocks);
  C::encodeBlocks(x.data(), kBlocks, codes.data());
  std::vector<float> y(x.size());
  for (auto _ : state) {
    C::decodeBlocks(codes.data(), kBlocks, y.data());
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  countWeights(state);
}
BENCHMARK_TEMPLATE(decodeBlocks, E8P);
BENCHMARK_TEMPLATE(decodeBlocks, E81B);
BENCHMARK_TEMPLATE(decodeBlocks, E8PRvq3);
BENCHMARK_TEMPLATE(decodeBlocks, E8PRvq4);

}  // namespace
}  // namespace gosset
