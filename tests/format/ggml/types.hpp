// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/random.hpp>
#include <gosset/format/ggml.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gosset::testing {

/// All of ggml's layouts that gosset writes.
using GgmlTypes =
    ::testing::Types<ggml::Q4_0, ggml::Q4_1, ggml::Q5_0, ggml::Q5_1, ggml::Q8_0, ggml::IQ4_NL, ggml::MXFP4, ggml::Q2_K,
                     ggml::Q3_K, ggml::Q4_K, ggml::Q5_K, ggml::Q6_K, ggml::IQ4_XS, ggml::TQ1_0, ggml::TQ2_0>;

/// And those that it only reads.
using GgmlReadTypes =
    ::testing::Types<ggml::Q4_0, ggml::Q4_1, ggml::Q5_0, ggml::Q5_1, ggml::Q8_0, ggml::IQ4_NL, ggml::MXFP4, ggml::Q2_K,
                     ggml::Q3_K, ggml::Q4_K, ggml::Q5_K, ggml::Q6_K, ggml::IQ4_XS, ggml::TQ1_0, ggml::TQ2_0,
                     ggml::IQ2_XXS, ggml::IQ2_XS, ggml::IQ2_S, ggml::IQ3_XXS, ggml::IQ3_S>;

struct GgmlNames {
  template <class F>
  static std::string GetName(int) {
    std::string name;
    for (const char c : F::kName) {
      if (c != '_') name += c;
    }
    return name;
  }
};

/// Block `number` of a stream of random bytes, sound or not.
template <class F>
std::vector<std::uint8_t> randomBlock(std::uint64_t number) {
  std::vector<std::uint8_t> block(static_cast<std::size_t>(F::kBlockBytes));
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::uint8_t>(randomBits(number, i));
  return block;
}

}  // namespace gosset::testing
