// SPDX-License-Identifier: Apache-2.0
//
// Decoding with a Llama of 1.03 billion weights, random and made in memory: tokens a second per format, one thread. The
// engine is that of examples/llama; embedding and norms stay in float.
//
//   decode_bench --benchmark_min_time=4

#include <gosset/gosset.hpp>

#include <engine.hpp>

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace gosset::bench {
namespace {

/// 22 layers of width 2048, 32 heads on 4, 32000 tokens known.
const llama::Config kConfig = {.dim = 2048,
                               .hidden = 5632,
                               .layers = 22,
                               .heads = 32,
                               .kvHeads = 4,
                               .headDim = 64,
                               .vocab = 32000,
                               .context = 2048};

template <class Format>
struct InnerOf {
  using type = Format;
};
template <class Format>
struct InnerOf<Incoherent<Format>> : InnerOf<Format> {};

/// Uniform numbers of the variance 1 / cols, which keeps activations at their size.
RowMatrixXf randomWeights(Index rows, Index cols, std::uint64_t seed) {
  RowMatrixXf w(rows, cols);
  const float width = std::sqrt(12.f / static_cast<float>(cols));
  parallelFor(rows, 16 * cols, [&](Index row) {
    for (Index col = 0; col < cols; ++col) {
      w(row, col) = width * (randomUniform(seed, static_cast<std::uint64_t>(row * cols + col)) - 0.5f);
    }
  });
  return w;
}

/// A matrix of random numbers. Of trellis codes random bits, any of which are a walk: to find one for each number would
/// take hours.
template <class Format>
AnyMatrix randomMatrix(Index rows, Index cols, std::uint64_t seed) {
  if constexpr (TrellisCodebook<typename InnerOf<Format>::type>) {
    auto packed = Packed<Format>::shaped(rows, cols);
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        if constexpr (std::is_same_v<T, std::uint8_t>) values[i] = static_cast<T>(randomBits(seed, i));
        if (name.ends_with("scales")) values[i] = static_cast<T>(1 / std::sqrt(static_cast<float>(cols)));
      }
    });
    return AnyMatrix(QuantizedMatrix<Format>(std::move(packed)));
  } else {
    return AnyMatrix(quantize<Format>(randomWeights(rows, cols, seed)));
  }
}

/// Packed as it is made, so that no more than one layer is in float at a time.
template <class Format>
llama::PackedModel randomModel() {
  std::uint64_t seed = 0;
  llama::PackedModel model;
  model.config = kConfig;
  model.embedding = AnyMatrix(quantize<float>(randomWeights(kConfig.vocab, kConfig.dim, ++seed)));
  model.finalNorm = Eigen::VectorXf::Ones(kConfig.dim);
  model.layers.resize(static_cast<std::size_t>(kConfig.layers));
  for (auto& layer : model.layers) {
    layer.attentionNorm = layer.ffnNorm = Eigen::VectorXf::Ones(kConfig.dim);
  }
  model.output.emplace();
  llama::forEachLinear(model, [&](const llama::LinearInfo& info, AnyMatrix& place) {
    place = randomMatrix<Format>(info.rows, info.cols, ++seed);
  });
  return model;
}

template <class Format>
void decode(benchmark::State& state) {
  Eigen::setNbThreads(0);
  const llama::Engine engine(randomModel<Format>());
  Eigen::setNbThreads(1);
  const Index bytes = llama::linearBytes(engine.model());
  llama::KvCache cache(kConfig, 512);
  llama::Token token = 1;
  for (auto _ : state) {
    if (cache.size() == cache.capacity()) cache.clear();
    const Eigen::VectorXf logits = engine.forwardLast(std::span(&token, 1), cache);
    Index best = 0;
    logits.maxCoeff(&best);
    token = static_cast<llama::Token>(best);
  }
  state.counters["tokens/s"] = benchmark::Counter(1, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB"] = static_cast<double>(bytes) * 1e-9;
  state.counters["bytes/s"] =
      benchmark::Counter(static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
}

using Int8 = PerChannel<Symmetric<8>>;
using Int4 = Grouped<Asymmetric<4>, 128>;
using Int3 = Grouped<Asymmetric<3>, 128>;
using Int2 = Grouped<Asymmetric<2>, 128>;
BENCHMARK(decode<Float16>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Int8>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Int4>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Int3>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Int2>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Incoherent<E8PRvq4>>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Incoherent<E8P>>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Incoherent<Trellis<4>>>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Incoherent<TrellisMixed>>)->Unit(benchmark::kMillisecond);
BENCHMARK(decode<Incoherent<Trellis<2>>>)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace gosset::bench

BENCHMARK_MAIN();
