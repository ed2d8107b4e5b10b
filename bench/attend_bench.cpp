// SPDX-License-Identifier: Apache-2.0
//
// Attention of one new token over a KV cache, one thread: 32 heads on 8 KV heads of 128. Milliseconds, and the ratio to
// 16-bit floats of the same run, with queries and weights as they are and rounded; the same for the 512 newest of 4096
// tokens at once, as a prompt asks for; and how fast tokens are taken in, one by one and flushed, or as a prompt.
//
//   attend_bench --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true

#include <gosset/codebook.hpp>
#include <gosset/kv.hpp>

#include <benchmark/benchmark.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>

namespace gosset::bench {
namespace {

constexpr KvShape kShape{.heads = 32, .kv_heads = 8, .head_dim = 128};
constexpr Index kContexts[] = {4096, 32768};

/// Between -2 and 2, with two channels a head 10 times as large.
RowMatrixXf tokens(Index count, std::uint64_t seed) {
  RowMatrixXf w(count, kShape.kvWidth());
  for (Index i = 0; i < w.size(); ++i) {
    w.data()[i] = 4 * randomUniform(seed, static_cast<std::uint64_t>(i)) - 2;
    if (i % 64 == 9) w.data()[i] *= 10;
  }
  return w;
}

template <class Keys, class Values>
const KvCache<Keys, Values>& filled(Index context) {
  static std::map<Index, std::unique_ptr<KvCache<Keys, Values>>> caches;
  auto& cache = caches[context];
  if (!cache) {
    cache = std::make_unique<KvCache<Keys, Values>>(kShape);
    for (Index at = 0; at < context; at += 4096) {
      const auto seed = static_cast<std::uint64_t>(at);
      cache->append(tokens(4096, seed), tokens(4096, seed + 1));
    }
  }
  return *cache;
}

template <class Keys, class Values>
void attend(benchmark::State& state, Index context, Activations activations) {
  const auto& cache = filled<Keys, Values>(context);
  const Eigen::VectorXf q = tokens(4, 99).reshaped().head(kShape.queryWidth()) / 8;
  Eigen::VectorXf output(kShape.queryWidth());
  AttendWorkspace workspace;
  for (auto _ : state) {
    cache.attendTo(q, output, {.workspace = &workspace, .activations = activations});
    benchmark::DoNotOptimize(output.data());
  }
  state.counters["bits"] = cache.bitsPerElement();
}

template <class Keys, class Values>
void prefill(benchmark::State& state, Activations activations) {
  const auto& cache = filled<Keys, Values>(kContexts[0]);
  const RowMatrixXf q = tokens(2048, 99).reshaped<Eigen::RowMajor>(512, kShape.queryWidth()) / 8;
  RowMatrixXf output(q.rows(), q.cols());
  AttendWorkspace workspace;
  for (auto _ : state) {
    cache.attendTo(q, output, {.workspace = &workspace, .activations = activations});
    benchmark::DoNotOptimize(output.data());
  }
  state.counters["queries/s"] =
      benchmark::Counter(static_cast<double>(q.rows()), benchmark::Counter::kIsIterationInvariantRate);
}

template <class Keys, class Values>
void append(benchmark::State& state, Index atOnce) {
  const RowMatrixXf k = tokens(1024, 1), v = tokens(1024, 2);
  for (auto _ : state) {
    KvCache<Keys, Values> cache(kShape);
    for (Index at = 0; at < k.rows(); at += atOnce) cache.append(k.middleRows(at, atOnce), v.middleRows(at, atOnce));
    benchmark::DoNotOptimize(cache);
  }
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(k.rows()), benchmark::Counter::kIsIterationInvariantRate);
}

/// With queries and weights as they are, and rounded.
template <class Function, class... Arguments>
void registerBoth(const std::string& full, const std::string& name, const Function& function, Arguments... arguments) {
  const auto add = [&](const std::string& which, Activations activations) {
    benchmark::RegisterBenchmark(which.c_str(), function, arguments..., activations)->Unit(benchmark::kMillisecond);
  };
  add(full, Activations::kFloat);
  if (name != "FP16") add(full + ", rounded", Activations::kRounded);
}

template <class Keys, class Values = Keys>
void registerFormat(const std::string& name) {
  for (const Index context : kContexts) {
    const std::string full = "attend/" + std::to_string(context) + "/" + name;
    registerBoth(full, name, attend<Keys, Values>, context);
  }
  registerBoth("prefill/" + name, name, prefill<Keys, Values>);
  for (const Index atOnce : {1, 1024}) {
    const std::string full = (atOnce == 1 ? "append/one by one/" : "append/prompt/") + name;
    benchmark::RegisterBenchmark(full.c_str(), append<Keys, Values>, atOnce)->Unit(benchmark::kMillisecond);
  }
}

void registerAll() {
  registerFormat<Float16>("FP16");
  registerFormat<Kivi<8, 64>>("8 bits");
  registerFormat<Kivi<4, 64>>("4 bits");
  registerFormat<Kivi<3, 64>>("3 bits");
  registerFormat<Kivi<2, 64>>("2 bits");
  registerFormat<Incoherent<Grouped<E8P, 64>>>("E8P, rotated");
  registerFormat<GearL<2, 64, 4>>("GearL 2");
  registerFormat<Gear<2, 64, 4, 20>>("Gear 2");
  registerFormat<Gear<4, 64, 4, 20>>("Gear 4");
  registerFormat<KvPreset2::Keys, KvPreset2::Values>("KvPreset2");
  registerFormat<KvPreset3::Keys, KvPreset3::Values>("KvPreset3");
  registerFormat<KvPreset4::Keys, KvPreset4::Values>("KvPreset4");
  registerFormat<KvTrellis2::Keys, KvTrellis2::Values>("KvTrellis2");
  registerFormat<KvTrellis25::Keys, KvTrellis25::Values>("KvTrellis25");
  registerFormat<KvTrellis3::Keys, KvTrellis3::Values>("KvTrellis3");
  registerFormat<KvTrellis4::Keys, KvTrellis4::Values>("KvTrellis4");
}

/// Prints as usual, and keeps the least times for a table of ratios.
class Reporter : public benchmark::ConsoleReporter {
 public:
  Reporter() : ConsoleReporter(OO_None) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Aggregate) continue;
      const double time = run.GetAdjustedCPUTime();
      const auto [at, isNew] = times_.emplace(run.run_name.function_name, time);
      if (!isNew) at->second = std::min(at->second, time);
    }
  }

  void printRatios() const {
    std::printf("\n%-36s %9s %8s\n", "least of all repetitions", "ms", "/ FP16");
    for (const auto& [name, time] : times_) {
      const auto base = times_.find(name.substr(0, name.rfind('/') + 1) + "FP16");
      std::printf("%-36s %9.3f %8.2f\n", name.c_str(), time, base == times_.end() ? 0. : base->second / time);
    }
  }

 private:
  std::map<std::string, double> times_;
};

}  // namespace
}  // namespace gosset::bench

int main(int argc, char** argv) {
  Eigen::setNbThreads(1);
  gosset::bench::registerAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  gosset::bench::Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.printRatios();
  benchmark::Shutdown();
}
