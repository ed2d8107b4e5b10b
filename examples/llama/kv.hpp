// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "evaluate.hpp"

#include <memory>
#include <string>
#include <vector>

// The formats of a KV cache that the programs know by name. Another one is a line in kv.cpp.
namespace llama {

struct KvFormatEntry {
  std::string name;   ///< on the command line
  std::string about;  ///< for people
  std::unique_ptr<CompressedKv> (*make)(const Config&, Index window);
};

/// All of them. It stands in kv.cpp, as instantiating every one takes a compiler a while.
const std::vector<KvFormatEntry>& kvFormatTable();

/// Throws std::invalid_argument, which lists the names there are, for another one.
inline const KvFormatEntry& findKvFormat(const std::string& name) {
  std::string known;
  for (const KvFormatEntry& entry : kvFormatTable()) {
    if (entry.name == name) return entry;
    known += (known.empty() ? "" : ", ") + entry.name;
  }
  throw std::invalid_argument("KV format \"" + name + "\" is none of " + known);
}

/// Runs a sequence token by token, as while text is written, and calls use(t, logits) behind each: vocab x 1. So every
/// query meets what is packed by then and, in the window, what is not.
template <class Use>
void runStreamed(const Engine& engine, const Sequence& sequence, KvCache& cache, Use&& use) {
  for (std::size_t t = 0; t < sequence.size(); ++t) {
    use(static_cast<Index>(t), Eigen::MatrixXf(engine.forwardLast({&sequence[t], 1}, cache)));
  }
}

/// All of them: vocab x tokens.
inline Eigen::MatrixXf streamedLogits(const Engine& engine, const Sequence& sequence, KvCache& cache) {
  Eigen::MatrixXf logits(engine.config().vocab, static_cast<Index>(sequence.size()));
  runStreamed(engine, sequence, cache, [&](Index t, const Eigen::MatrixXf& column) { logits.col(t) = column; });
  return logits;
}

}  // namespace llama
