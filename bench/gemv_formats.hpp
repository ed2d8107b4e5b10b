// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "packed_arena.hpp"

#include <benchmark/benchmark.h>

#include <string>

// What the parts of gemv_bench have in common: its formats are shared out among files, for they take long to compile.
namespace gosset::bench {

struct Place {
  const char* name;
  Index m, n;
  std::size_t span;  ///< bytes over which matrices rotate
};
inline constexpr std::size_t kAll = std::size_t{1200} << 20;
inline constexpr Place kPlaces[] = {{"L2/128x4096", 128, 4096, 1},
                                    {"L3/4096x4096", 4096, 4096, 1},
                                    {"DRAM/4096x4096", 4096, 4096, kAll},
                                    {"DRAM/11008x4096", 11008, 4096, kAll},
                                    {"DRAM/4096x11008", 4096, 11008, kAll}};

/// Whether all sets are measured, or the one that runs.
inline bool all_sets = false;

inline void count(benchmark::State& state, Index weights, Index bytes) {
  state.counters["weights/s"] =
      benchmark::Counter(static_cast<double>(weights), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes/s"] =
      benchmark::Counter(static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
}

/// Registers PLACE/NAME, or SET/PLACE/NAME for each set.
template <class Measure>
void registerAs(const std::string& name, const Measure& measure) {
  if (!all_sets) {
    benchmark::RegisterBenchmark(name.c_str(), measure);
    return;
  }
  for (const std::string& set : instructionSets()) {
    benchmark::RegisterBenchmark((set + "/" + name).c_str(), [set, measure](benchmark::State& state) {
      useInstructionSet(set);
      measure(state);
    });
  }
}

template <Codebook C, int kPieces>
void packed(benchmark::State& state, Place place, Index group, Activations mode) {
  const Matrices<C, kPieces> matrices(place.m, place.n, group, place.span);
  const Eigen::MatrixXf x = activations(place.n, 1);
  Eigen::VectorXf y(place.m);
  std::size_t i = 0;
  for (auto _ : state) {
    gosset::detail::multiplyCodes(matrices[i++], mode, x.data(), place.n, 1, place.n, y.data(), place.m);
    benchmark::DoNotOptimize(y.data());
  }
  count(state, place.m * place.n, matrices.bytes());
}

/// kPieces: as detail::piecesOf<C>(group) has it.
template <Codebook C, int kPieces = 1>
void registerFormat(const std::string& name, Index group) {
  for (const Activations mode : {Activations::kRounded, Activations::kFloat}) {
    for (const Place& place : kPlaces) {
      const std::string full = std::string(place.name) + "/" + name + (mode == Activations::kFloat ? ", float" : "");
      registerAs(full, [=](benchmark::State& state) { packed<C, kPieces>(state, place, group, mode); });
    }
  }
}

// Each in a file of its own.
void registerUniform();
void registerGroups();
void registerLevels();
void registerPoints();
void registerTrellis();

}  // namespace gosset::bench
