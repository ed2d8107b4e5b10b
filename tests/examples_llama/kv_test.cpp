// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/kv.hpp"

#include "reference.hpp"

#include <limits>

namespace llama::testing::kv_test {
namespace {

double distance(const Engine& engine, const Sequence& tokens, const Eigen::MatrixXf& exact, const char* name,
                Index window) {
  KvCache cache(engine.config(), 40, findKvFormat(name).make(engine.config(), window));
  return static_cast<double>((streamedLogits(engine, tokens, cache) - exact).norm() / exact.norm());
}

TEST(Kv, LogitsOverACompressedCacheAreNearThoseOverFloats) {
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  const auto tokens = randomTokens(model.config, 40);
  KvCache floats(model.config, 40);
  const Eigen::MatrixXf exact = streamedLogits(engine, tokens, floats);
  EXPECT_LT(distance(engine, tokens, exact, "fp16", 8), 2e-3);
  EXPECT_LT(distance(engine, tokens, exact, "kivi4", 8), 0.1);
  EXPECT_LT(distance(engine, tokens, exact, "kivi4", 8), distance(engine, tokens, exact, "kivi2", 8));
  for (const KvFormatEntry& entry : kvFormatTable()) {
    EXPECT_LT(distance(engine, tokens, exact, entry.name.c_str(), 100), 2e-3) << entry.name << ", all in the window";
  }
}

TEST(Kv, PromptsAndBytes) {
  const Model model = randomModel(smallConfig(), false);
  const Engine engine(floatModel(model));
  const auto tokens = randomTokens(model.config, 40);
  KvCache floats(model.config, 40), cache(model.config, 40, findKvFormat("fp16").make(model.config, 16));
  const Eigen::MatrixXf exact = engine.forward(tokens, floats);
  EXPECT_LT((engine.forward(tokens, cache) - exact).norm(), 2e-3f * exact.norm());
  EXPECT_EQ(cache.compressed()->bytes(), 40 * 2 * model.config.layers * model.config.kvDim() * 2);
  cache.clear();
  EXPECT_EQ(cache.compressed()->bytes(), 0);
  EXPECT_EQ(floats.compressed(), nullptr);
}

TEST(Kv, LayersWithAWindowForgetWhatNoQuerySees) {
  Model model = randomModel(smallConfig(), false);
  const auto layers = static_cast<std::size_t>(model.config.layers);
  model.config.blocks.assign(layers, Block());
  model.config.blocks[1].window = 5;
  const Engine engine(floatModel(model));
  const auto tokens = randomTokens(model.config, 40);
  KvCache floats(model.config, 40), cache(model.config, 40, findKvFormat("fp16").make(model.config, 2));
  const Eigen::MatrixXf exact = streamedLogits(engine, tokens, floats);
  EXPECT_LT((streamedLogits(engine, tokens, cache) - exact).norm(), 2e-3f * exact.norm());
  const Index token = 2 * model.config.kvDim() * 2;
  // The last append forgets blocks of 2 that end at 39 - 5 or before.
  EXPECT_EQ(cache.compressed()->bytes(), (40 * (model.config.layers - 1) + 40 - 34) * token);
  KvCache pieces(model.config, 40, findKvFormat("fp16").make(model.config, 2));
  engine.forward({tokens.data(), 17}, pieces);
  const Eigen::MatrixXf rest = engine.forward({tokens.data() + 17, 23}, pieces);
  EXPECT_LT((rest - exact.rightCols(23)).norm(), 2e-3f * exact.norm());
}

TEST(Kv, ALayerWhoseKeysAreNotFiniteIsNamed) {
  const Config config = smallConfig();
  const Eigen::MatrixXf values = Eigen::MatrixXf::Ones(config.kvDim(), 3);
  Eigen::MatrixXf keys = values;
  keys(1, 2) = std::numeric_limits<float>::quiet_NaN();
  for (const char* name : {"fp16", "kivi4"}) {
    const auto cache = findKvFormat(name).make(config, 8);
    gosset::testing::expectThrows([&] { cache->append(1, keys, values); }, "model.layers.1.self_attn: gosset: ");
  }
}

TEST(Kv, UnknownNamesAreRefused) {
  try {
    findKvFormat("kivi5");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("KV format \"kivi5\" is none of fp16, kivi4"));
  }
}

}  // namespace
}  // namespace llama::testing::kv_test
