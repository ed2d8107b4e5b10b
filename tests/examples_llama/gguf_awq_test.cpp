// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/gguf_awq.hpp"

#include "../../examples/llama/gguf_model_read.hpp"
#include "gguf_models.hpp"

#include <gosset/theory/proxy_loss.hpp>

// Activation-aware scales folded into what comes before: the model computes the same, and rounding loses less.
namespace llama::testing::gguf_awq_test {
namespace {

using ::testing::ThrowsMessage;
using namespace gguf;  // NOLINT: small models

/// With rows that are blocks of 32.
nlohmann::json wide(nlohmann::json said) {
  said.update({{"hidden_size", 32}, {"intermediate_size", 64}, {"head_dim", 16}, {"num_hidden_layers", 2}});
  for (const char* hidden : {"moe_intermediate_size", "shared_expert_intermediate_size"}) {
    if (said.contains(hidden)) said[hidden] = 32;
  }
  if (said.contains("query_pre_attn_scalar")) said["query_pre_attn_scalar"] = 16;
  return said;
}

/// Inputs of which number 5 is 30 times as large as others, of routers, too.
Calibration loudAtFive(const Model& model) {
  Calibration calibration = calibrationOf(model);
  for (std::size_t i = 0; i < model.layers.size(); ++i) calibration.try_emplace(routerName(i), model.config.dim);
  for (auto& [name, inputs] : calibration) {
    RowMatrixXf x(200, inputs.hessian.size());
    fill(x, 11);
    x.col(5) *= 30.f;
    inputs = LayerInputs(x.cols());
    inputs.add(x);
  }
  return calibration;
}

Eigen::MatrixXf logitsOf(const Model& model) {
  const Engine engine(floatModel(model));
  std::vector<Token> tokens(12);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * 7 % 30);
  KvCache cache(engine.config(), 12);
  return engine.forward(tokens, cache);
}

/// Small weights, so that no softmax has one winner.
Model quietModel(const nlohmann::json& said) {
  Model model = modelOf(said);
  forEachLinear(model, [](const LinearInfo&, RowMatrixXf& w) { w *= 0.1f; });
  return model;
}

AwqFolded folded(const Model& model, const Calibration& calibration, const GgufOptions& options,
                 std::vector<AwqScales>* said = nullptr) {
  return foldAwq(model, calibration, options, [&](const AwqScales& scales) {
    if (said != nullptr) said->push_back(scales);
  });
}

TEST(GgufAwq, EveryFamilyComputesTheSame) {
  const TemporaryFolder folder;
  for (const nlohmann::json& narrow : configs()) {
    const nlohmann::json config = wide(narrow);
    SCOPED_TRACE(config.dump());
    const Model model = quietModel(config);
    std::vector<AwqScales> said;
    const AwqFolded result = folded(model, loudAtFive(model), inType("Q4_0"), &said);
    EXPECT_TRUE(std::any_of(said.begin(), said.end(), [](const AwqScales& scales) { return scales.most > 1.2f; }));
    write(folder / "m.gguf", result.model);
    const Eigen::MatrixXf exact = logitsOf(model);
    const Eigen::MatrixXf after = logitsOf(floatsOf(readGgufModel(folder / "m.gguf").model));
    EXPECT_LT((after - exact).cwiseAbs().maxCoeff(), 2e-5f * exact.cwiseAbs().maxCoeff());
    EXPECT_EQ(result.model.embedding, model.embedding);
  }
}

TEST(GgufAwq, ColumnsAreMultipliedAndNormsDivided) {
  const Model model = quietModel(wide(configOf("llama", {{"tie_word_embeddings", true}})));
  std::vector<AwqScales> said;
  const AwqFolded result = folded(model, loudAtFive(model), inType("Q4_0"), &said);
  const auto &before = model.layers[1], &after = result.model.layers[1];
  const Eigen::VectorXf s = before.attentionNorm.cwiseQuotient(after.attentionNorm);
  EXPECT_EQ(s.maxCoeff(), s[5]);
  EXPECT_GT(s[5], 2.f * s[6]);
  EXPECT_NEAR(s.maxCoeff() * s.minCoeff(), 1.f, 1e-4f);
  for (const auto& [matrix, was] : {std::pair(&after.wq, &before.wq), {&after.wk, &before.wk}}) {
    EXPECT_LT((*matrix - *was * s.asDiagonal()).norm(), 1e-6f * matrix->norm());
  }
  // Two heads share a head of values, so 16 scales serve columns 0 .. 15 and 16 .. 31 of attention's output.
  const Eigen::VectorXf v =
      after.wo.col(3).cwiseQuotient(before.wo.col(3)).array() - after.wo(0, 19) / before.wo(0, 19);
  EXPECT_LT(v.cwiseAbs().maxCoeff(), 1e-5f);
  EXPECT_NEAR(after.wv(3, 7) / before.wv(3, 7) * (after.wo(0, 3) / before.wo(0, 3)), s[7], 1e-4f * s[7]);
  EXPECT_NEAR(after.w2(9, 5) / before.w2(9, 5) * (after.w3(5, 5) / before.w3(5, 5)),
              before.ffnNorm[5] / after.ffnNorm[5], 1e-3f);
  EXPECT_EQ(result.model.finalNorm, model.finalNorm);  // the output matrix embeds, too
  std::vector<std::string> divided;
  for (const AwqScales& scales : said) {
    divided.push_back(scales.divided);
    EXPECT_LE(scales.least, scales.most);
  }
  EXPECT_EQ(divided, (std::vector<std::string>{
                         "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.v_proj.weight",
                         "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.up_proj.weight",
                         "model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.v_proj.weight",
                         "model.layers.1.post_attention_layernorm.weight", "model.layers.1.mlp.up_proj.weight"}));
}

TEST(GgufAwq, HeadsThatShareValuesShareScales) {
  Config c;
  c.heads = 4;
  c.kvHeads = 2;
  c.headDim = 2;
  Eigen::VectorXf s(8);
  s << 1, 2, 3, 6, 5, 5, 7, 9;
  const Eigen::VectorXf shared = detail::sharedByHeads(s, c);
  EXPECT_THAT(std::vector<float>(shared.begin(), shared.end()), ::testing::ElementsAre(2, 4, 2, 4, 6, 7, 6, 7));
  const Eigen::VectorXf values = detail::scalesOfValues(shared, c);
  EXPECT_THAT(std::vector<float>(values.begin(), values.end()), ::testing::ElementsAre(2, 4, 6, 7));
}

TEST(GgufAwq, AnOutputMatrixOfItsOwnTakesTheLastNorm) {
  const Model model = quietModel(wide(configOf("llama")));
  std::vector<AwqScales> said;
  const AwqFolded result = folded(model, loudAtFive(model), inType("Q4_0"), &said);
  EXPECT_EQ(said.back().divided, "model.norm.weight");
  const float s = model.finalNorm[5] / result.model.finalNorm[5];
  EXPECT_GT(s, 1.5f);
  EXPECT_NEAR((*result.model.output)(2, 5), s * (*model.output)(2, 5), 1e-4f);
}

TEST(GgufAwq, WhatEntersIsDividedToo) {
  const Model model = quietModel(wide(configOf("llama")));
  const Calibration calibration = loudAtFive(model);
  const AwqFolded result = folded(model, calibration, inType("Q4_0"));
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const Eigen::VectorXf s = model.layers[1].attentionNorm.cwiseQuotient(result.model.layers[1].attentionNorm);
  const LayerInputs &before = calibration.at(name), &after = result.calibration.at(name);
  EXPECT_LT((after.tokens * s.asDiagonal() - before.tokens).norm(), 1e-5f * before.tokens.norm());
  EXPECT_NEAR(after.hessian.matrix()(5, 7) * static_cast<double>(s[5] * s[7]), before.hessian.matrix()(5, 7), 1e-4);
  EXPECT_EQ(after.hessian.tokens(), before.hessian.tokens());
}

TEST(GgufAwq, LosesLessAndNeverMore) {
  nlohmann::json one = wide(configOf("llama"));
  one["num_hidden_layers"] = 1;
  const Model model = quietModel(one);
  const Calibration loud = loudAtFive(model), even = calibrationOf(model);
  const auto loss = [&](const Calibration& calibration, GgufRounding rounding, bool awq) {
    const GgufOptions options = inType("Q4_0", rounding);
    const AwqFolded result = awq ? folded(model, calibration, options) : AwqFolded{model, calibration};
    double sum = 0;
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
      const std::string full = std::string("model.layers.0.self_attn.") + name + ".weight";
      const RowMatrixXf& w = *detail::matricesOf(result.model).at(full);
      const gosset::Hessian& h = result.calibration.at(full).hessian;
      const RowMatrixXf after = packGguf("Q4_0", w, rounding, &h).dequantized();
      // Values are divided by scales of their own behind the search: relative losses tell.
      sum += gosset::proxyLoss(w, after, h);
    }
    return sum;
  };
  for (const GgufRounding rounding : {GgufRounding::kNearest, GgufRounding::kImportance, GgufRounding::kGptq}) {
    EXPECT_LE(loss(even, rounding, true), 1.02 * loss(even, rounding, false));
    EXPECT_LT(loss(loud, rounding, true), loss(loud, rounding, false));
  }
  EXPECT_LT(loss(loud, GgufRounding::kNearest, true), 0.85 * loss(loud, GgufRounding::kNearest, false));
}

TEST(GgufAwq, TypesOfFloatsNeedNoScales) {
  const Model model = quietModel(wide(configOf("llama")));
  const AwqFolded result = folded(model, {}, inType("F16"));
  EXPECT_EQ(result.model.layers[0].wq, model.layers[0].wq);
  EXPECT_EQ(result.model.layers[0].attentionNorm, model.layers[0].attentionNorm);
  const Model narrow = quietModel(configOf("llama", {{"head_dim", 6}}));  // rows of 24 and 20 numbers stay floats
  EXPECT_EQ(folded(narrow, {}, inType("Q4_0")).model.layers[0].w2, narrow.layers[0].w2);
}

TEST(GgufAwq, WhatItCannotDoIsRefusedByName) {
  Model model = quietModel(wide(configOf("llama")));
  Calibration calibration = loudAtFive(model);
  calibration.erase("model.layers.1.mlp.down_proj.weight");
  EXPECT_THAT([&] { folded(model, calibration, inType("Q4_0")); },
              ThrowsMessage<std::invalid_argument>(
                  "--awq: nothing is known of what enters model.layers.1.mlp.down_proj.weight"));
  calibration = loudAtFive(model);
  calibration.insert_or_assign("model.layers.0.mlp.gate_proj.weight", LayerInputs(7));
  EXPECT_THAT(
      [&] { folded(model, calibration, inType("Q4_0")); },
      ThrowsMessage<std::invalid_argument>(
          "--awq: model.layers.0.mlp.gate_proj.weight: gosset: Awq: expected a matrix of 7 inputs, as the activations "
          "have, got 32"));
  model.layers[1].ffnNorm.resize(0);
  EXPECT_THAT([&] { folded(model, loudAtFive(model), inType("Q4_0")); },
              ThrowsMessage<std::invalid_argument>(
                  "--awq: model.layers.1.mlp.gate_proj.weight has no norm before it that could be divided"));
}

}  // namespace
}  // namespace llama::testing::gguf_awq_test
