// SPDX-License-Identifier: Apache-2.0
//
// Products of a packed matrix with one vector, one thread: billion weights a second, GB/s, and the ratios to the FP16
// product and to a streaming read of the same run.
//
//   gemv_bench --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true --benchmark_out=gemv.json
//
// With --sets first, each by every instruction set that the program has and the machine knows: names begin with the
// set's.
//
// L2: one matrix of 128 x 4096. L3: one of 4096 x 4096. DRAM: matrices one after the other, more than 1 GB of them.

#include "gemv_formats.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>

namespace gosset::bench {
namespace {

/// Where matrix number i stands, of those that fit into the span.
const std::uint8_t* rotated(std::size_t i, std::size_t bytes, std::size_t span) {
  const std::size_t count = std::max<std::size_t>(1, std::min(span, Arena::instance().size()) / bytes);
  return Arena::instance().data() + i % count * bytes;
}

/// Reads all bytes of an FP16 matrix, and does nothing with them.
void stream(benchmark::State& state, Place place) {
  const auto bytes = static_cast<std::size_t>(2 * place.m * place.n);
  std::size_t i = 0;
  for (auto _ : state) {
    const std::uint8_t* p = rotated(i++, bytes, place.span);
    simd::Words sums[8] = {};
    for (std::size_t at = 0; at < bytes; at += sizeof(sums)) {
      simd::unroll<8>([&](auto k) {
        sums[k] ^= simd::load<simd::Words>(p + at + k * sizeof(simd::Words));
        if (k * sizeof(simd::Words) % 64 == 0) simd::prefetchToL2(p + at + k * sizeof(simd::Words) + 48 * 64);
      });
    }
    for (int k = 1; k < 8; ++k) sums[0] ^= sums[k];
    benchmark::DoNotOptimize(sums[0]);
  }
  count(state, place.m * place.n, static_cast<Index>(bytes));
}

template <class T>
void plain(benchmark::State& state, Place place) {
  const auto bytes = static_cast<std::size_t>(place.m * place.n) * sizeof(T);
  const Eigen::MatrixXf x = activations(place.n, 1);
  Eigen::VectorXf y(place.m);
  std::size_t i = 0;
  for (auto _ : state) {
    const auto* w = reinterpret_cast<const T*>(rotated(i++, bytes, place.span));
    gosset::detail::multiplyPlain(w, place.m, place.n, x.data(), y.data());
    benchmark::DoNotOptimize(y.data());
  }
  count(state, place.m * place.n, static_cast<Index>(bytes));
}

template <class T>
void eigen(benchmark::State& state, Place place) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto bytes = static_cast<std::size_t>(place.m * place.n) * sizeof(T);
  const Eigen::Vector<T, Eigen::Dynamic> x = activations(place.n, 1).cast<T>();
  Eigen::Vector<T, Eigen::Dynamic> y(place.m);
  std::size_t i = 0;
  for (auto _ : state) {
    const Eigen::Map<const Matrix> w(reinterpret_cast<const T*>(rotated(i++, bytes, place.span)), place.m, place.n);
    y.noalias() = w * x;
    benchmark::DoNotOptimize(y.data());
  }
  count(state, place.m * place.n, static_cast<Index>(bytes));
}

void registerAll() {
  for (const Place& place : kPlaces) {
    const std::string where = std::string(place.name) + "/";
    registerAs(where + "stream", [=](benchmark::State& state) { stream(state, place); });
    registerAs(where + "FP16", [=](benchmark::State& state) { plain<Float16>(state, place); });
    registerAs(where + "float", [=](benchmark::State& state) { plain<float>(state, place); });
    registerAs(where + "Eigen float", [=](benchmark::State& state) { eigen<float>(state, place); });
    if (place.span == 1)
      registerAs(where + "Eigen half", [=](benchmark::State& state) { eigen<Float16>(state, place); });
  }
  registerUniform();
  registerGroups();
  registerLevels();
  registerPoints();
  registerTrellis();
}

/// Prints as usual, and keeps the medians for a table of ratios.
class Reporter : public benchmark::ConsoleReporter {
 public:
  Reporter() : ConsoleReporter(OO_None) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Aggregate && run.aggregate_name != "median") continue;
      const std::string& name = run.run_name.function_name;
      if (run.run_type == Run::RT_Iteration && run.repetitions > 1) continue;
      speeds_[name] = {run.counters.at("weights/s"), run.counters.at("bytes/s")};
    }
  }

  void printRatios() const {
    std::printf("\n%-44s %12s %8s %8s %8s\n", "", "Gweights/s", "GB/s", "/ FP16", "/ stream");
    for (const auto& entry : speeds_) {  // no bindings: clang 14 lets no lambda take them
      const std::string& name = entry.first;
      const Speed& speed = entry.second;
      const std::string place = name.substr(0, name.rfind('/') + 1);
      const auto ratio = [&](const char* to, bool bytes) {
        const auto found = speeds_.find(place + to);
        if (found == speeds_.end()) return 0.;
        return bytes ? speed.bytes / found->second.bytes : speed.weights / found->second.weights;
      };
      std::printf("%-44s %12.2f %8.1f %8.2f %8.2f\n", name.c_str(), speed.weights * 1e-9, speed.bytes * 1e-9,
                  ratio("FP16", false), ratio("stream", true));
    }
  }

 private:
  struct Speed {
    double weights, bytes;
  };
  std::map<std::string, Speed> speeds_;
};

}  // namespace
}  // namespace gosset::bench

int main(int argc, char** argv) {
  Eigen::setNbThreads(1);
  gosset::bench::all_sets = argc > 1 && std::string_view(argv[1]) == "--sets";
  if (gosset::bench::all_sets) {
    argv[1] = argv[0];
    --argc, ++argv;
  }
  gosset::bench::registerAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  gosset::bench::Arena::instance();  // filled before anything is timed
  gosset::bench::Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.printRatios();
  benchmark::Shutdown();
}
