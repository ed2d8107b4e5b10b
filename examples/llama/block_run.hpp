// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "activation_file.hpp"
#include "one_block.hpp"
#include "quality.hpp"

#include <concepts>
#include <string>
#include <vector>

// Runs texts through a model part by part: from the file with the activations before a block to the one behind it.
namespace llama {

/// How many tokens go through a block at once.
inline constexpr Index kTokensAtOnce = 512;

inline Index tokensOf(const std::vector<Sequence>& sequences) {
  Index tokens = 0;
  for (const Sequence& sequence : sequences) tokens += static_cast<Index>(sequence.size());
  return tokens;
}

/// Calls use(first, count, begins) for each piece of each sequence: its first token, counted over all sequences, how
/// many it has, and whether a sequence begins with it.
template <class Use>
void forEachPiece(const std::vector<Sequence>& sequences, Use&& use) {
  Index first = 0;
  for (const Sequence& sequence : sequences) {
    const auto size = static_cast<Index>(sequence.size());
    for (Index at = 0; at < size; at += kTokensAtOnce) {
      use(first + at, std::min(kTokensAtOnce, size - at), at == 0);
    }
    first += size;
  }
}

/// The embedded tokens of all sequences. rowOf(token) gives a row of the embedding.
template <class RowOf>
void embedInto(const std::filesystem::path& path, const ActivationShape& shape, const std::vector<Sequence>& sequences,
               const Config& config, RowOf&& rowOf) {
  ActivationWriter writer(path, shape);
  for (const Sequence& sequence : sequences) {
    Eigen::MatrixXf x(config.dim, static_cast<Index>(sequence.size()));
    for (std::size_t t = 0; t < sequence.size(); ++t) {
      x.col(static_cast<Index>(t)) = config.embeddingScale * rowOf(sequence[t]).transpose();
    }
    writer.add(x);
  }
  writer.commit();
}

/// Runs all sequences through the one block of `engine`, of which use(x) gets what comes out, dim x tokens, piece by
/// piece; step() comes after each.
template <class Use, class Step>
requires std::invocable<Use, const Eigen::MatrixXf&>
void runBlock(const Engine& engine, const std::vector<Sequence>& sequences, const ActivationFile& in, Use&& use,
              const Observer& observer, Step&& step) {
  std::size_t longest = 0;
  for (const Sequence& sequence : sequences) longest = std::max(longest, sequence.size());
  KvCache cache(engine.config(), static_cast<Index>(longest));
  forEachPiece(sequences, [&](Index first, Index count, bool begins) {
    if (begins) cache.clear();
    const Eigen::MatrixXf y = engine.throughBlock(0, in.read(first, count), cache, observer);
    cache.advance(count);
    use(y);
    step();
  });
}

/// The same into a file. Without a writer what comes out is forgotten.
template <class Step>
void runBlock(const Engine& engine, const std::vector<Sequence>& sequences, const ActivationFile& in,
              ActivationWriter* out, const Observer& observer, Step&& step) {
  const auto use = [&](const Eigen::MatrixXf& y) {
    if (out != nullptr) out->add(y);
  };
  runBlock(engine, sequences, in, use, observer, step);
}

}  // namespace llama
