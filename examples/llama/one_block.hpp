// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine.hpp"

#include <string>

// One block of a model, alone in memory: a model of one block, whose names are those that the block has in the whole.
namespace llama {

inline Config oneBlock(const Config& config, std::size_t block) {
  Config result = config;
  result.layers = 1;
  if (!config.blocks.empty()) result.blocks = {config.blocks[block]};
  return result;
}

/// A model without blocks: what turns the last block's output into logits.
inline Config noBlock(const Config& config) {
  Config result = config;
  result.layers = 0;
  result.blocks.clear();
  return result;
}

/// The name in the whole model of what is called `name` in the model of block `block` alone.
inline std::string nameInModel(const std::string& name, std::size_t block) {
  const std::string alone = blockName(0);
  return name.starts_with(alone) ? blockName(block) + name.substr(alone.size()) : name;
}

/// forEachLinear() of one block alone, with the names of the whole model.
template <class SomeWeights, class Visit>
void forEachLinearOf(SomeWeights& alone, std::size_t block, Visit&& visit) {
  forEachLinear(alone, [&](LinearInfo info, auto& linear) {
    info.name = nameInModel(info.name, block);
    visit(info, linear);
  });
}

/// forEachFloat() of one block alone, with the names of the whole model and without the last norm.
template <class SomeWeights, class Visit>
void forEachFloatOf(SomeWeights& alone, std::size_t block, Visit&& visit) {
  forEachFloat(alone, [&](FloatInfo info, auto& numbers) {
    if (!info.name.starts_with(blockName(0))) return;
    info.name = nameInModel(info.name, block);
    visit(info, numbers);
  });
}

inline FloatInfo finalNormInfo(const Config& config) { return {"model.norm.weight", {config.dim}}; }
inline LinearInfo outputInfo(const Config& config) { return {outputName(), config.vocab, config.dim}; }

}  // namespace llama
