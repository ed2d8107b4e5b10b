// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/checkpoint_llama2c.hpp"

#include "files.hpp"
#include "reference.hpp"

#include <limits>
#include <utility>

namespace llama::testing::checkpoint_llama2c_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

TEST(Llama2c, EveryWeightIsRead) {
  const TemporaryFolder folder;
  for (const bool ownOutput : {false, true}) {
    const Model model = randomModel(smallConfig(), ownOutput);
    writeBytes(folder / "m.bin", llama2cBytes(model));
    expectSame(readLlama2c(folder / "m.bin"), model);
  }
}

TEST(Llama2c, AWeightThatIsNotFiniteIsNamed) {
  const TemporaryFolder folder;
  Model model = randomModel(smallConfig(), true);
  const auto refused = [&](float& weight, const std::string& text) {
    const float before = std::exchange(weight, std::numeric_limits<float>::quiet_NaN());
    writeBytes(folder / "m.bin", llama2cBytes(model));
    weight = before;
    expectThrows<FormatError>([&] { readLlama2c(folder / "m.bin"); }, "m.bin: " + text);
  };
  refused(model.embedding(3, 4), "model.embed_tokens.weight: finite weights expected, found nan at (3, 4) of 31 x 24");
  refused(model.layers[0].wq(23, 5),
          "model.layers.0.self_attn.q_proj.weight: finite weights expected, found nan at (23, 5) of 24 x 24");
  refused(model.finalNorm[7], "model.norm.weight: finite weights expected, found nan at (7, 0) of 24 x 1");
  refused((*model.output)(0, 0), "lm_head.weight: finite weights expected, found nan at (0, 0) of 31 x 24");
}

TEST(Llama2c, AnyOtherLengthIsRefused) {
  const TemporaryFolder folder;
  const std::string bytes = llama2cBytes(randomModel(smallConfig(), false));
  for (std::size_t size = 0; size < bytes.size(); size += size < 40 ? 1 : 997) {
    writeBytes(folder / "m.bin", bytes.substr(0, size));
    EXPECT_THROW(readLlama2c(folder / "m.bin"), FormatError) << size;
  }
  writeBytes(folder / "m.bin", bytes + "x");
  expectThrows<FormatError>(
      [&] { readLlama2c(folder / "m.bin"); },
      "m.bin: its sizes ask for " + std::to_string(bytes.size()) + " bytes, found " + std::to_string(bytes.size() + 1));
}

TEST(Llama2c, SizesThatCannotBeAreRefusedBeforeMemoryIsAskedFor) {
  const TemporaryFolder folder;
  struct Lie {
    std::size_t field;
    std::int32_t value;
    const char* text;
  };
  constexpr std::int32_t kHuge = 2147483647, kLeast = -2147483647 - 1;
  const Lie lies[] = {{0, 0, "dim (0) must be a multiple of heads"},
                      {0, 25, "dim (25) must be a multiple of heads (6)"},
                      {0, kLeast, "dim ("},
                      {0, 59988, "its sizes ask for"},
                      {1, -1, "hidden must lie in 1 .. 1048576, found -1"},
                      {1, kHuge, "hidden must lie in"},
                      {2, kHuge, "layers must lie in"},
                      {2, 10000, "its sizes ask for"},
                      {3, 0, "must be a multiple of heads (0)"},
                      {3, 8, "head dim must be even, found 3"},
                      {4, 4, "heads (6) must be a multiple of kv heads (4)"},
                      {4, 0, "kv heads must lie in"},
                      {5, 0, "vocab must lie in"},
                      {5, kLeast, "vocab must lie in"},
                      {6, kHuge, "context must lie in"}};
  const std::string bytes = llama2cBytes(randomModel(smallConfig(), false));
  for (const Lie& lie : lies) {
    std::string changed = bytes;
    std::memcpy(changed.data() + lie.field * sizeof(std::int32_t), &lie.value, sizeof(std::int32_t));
    writeBytes(folder / "m.bin", changed);
    expectThrows<FormatError>([&] { readLlama2c(folder / "m.bin"); }, lie.text);
  }
}

TEST(Llama2c, WhatIsNoFileIsToldPlainly) {
  const TemporaryFolder folder;
  expectThrows<FormatError>([&] { readLlama2c(folder / "none.bin"); }, "none.bin: there is no such file");
  expectThrows<FormatError>([&] { readLlama2c(folder.path()); }, "this is not a file");
  writeBytes(folder / "short.bin", "abc");
  expectThrows<FormatError>([&] { readLlama2c(folder / "short.bin"); },
                            "short.bin: a llama2.c checkpoint begins with 28 bytes of sizes, found 3 bytes");
}

}  // namespace
}  // namespace llama::testing::checkpoint_llama2c_test
