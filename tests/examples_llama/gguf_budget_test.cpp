// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/gguf_budget.hpp"

#include "../../examples/llama/gguf_model_read.hpp"
#include "gguf_models.hpp"

// Types of GGUF files within a budget.
namespace llama::testing::gguf_budget_test {
namespace {

using ::testing::ElementsAre;
using ::testing::ThrowsMessage;
using namespace gguf;  // NOLINT: small models

TEST(GgufBudget, TextsAreBitsOrBytes) {
  EXPECT_EQ(parseGgufBudget("4.5").bits, 4.5);
  EXPECT_EQ(parseGgufBudget("4.5").bytes, 0u);
  EXPECT_EQ(parseGgufBudget("700B").bytes, 700u);
  EXPECT_EQ(parseGgufBudget("1.5kB").bytes, 1500u);
  EXPECT_EQ(parseGgufBudget("800MB").bytes, 800000000u);
  EXPECT_EQ(parseGgufBudget("4.25GB").bytes, 4250000000u);
  for (const char* text : {"", "MB", "4,5", "4.5 MB", "800mb", "-3", "0", "0MB", "nan", "inf", "1e300", "0.5B"}) {
    EXPECT_THAT(
        [&] { parseGgufBudget(text); },
        ThrowsMessage<std::invalid_argument>(
            "--budget: bits a weight expected, such as 4.5, or the file's bytes with their unit, such as 800MB, "
            "found \"" +
            std::string(text) + "\""));
  }
}

/// Two matrices of 1000 weights that may be of 100, 200 or 400 bytes, which files round up to multiples of 32.
std::vector<GgufCandidates> twoMatrices() {
  std::vector<GgufCandidates> result(2);
  result[0] = {{"a.weight", {10, 100}, {}}, {{"Q2_K", 100, 8}, {"Q4_K", 200, 2}, {"Q8_0", 400, 1}}};
  result[1] = {{"b.weight", {10, 10, 10}, {}}, {{"Q2_K", 100, 30}, {"Q4_K", 200, 20}, {"Q8_0", 400, 1}}};
  return result;
}

std::string typesOf(const GgufMixturePlan& plan) {
  return std::string(plan.types.at("a.weight").type) + " " + std::string(plan.types.at("b.weight").type);
}

TEST(GgufBudget, TheLeastLossWithinBitsIsChosen) {
  const auto matrices = twoMatrices();
  const auto plan = [&](double bits) { return planGgufTypes(matrices, {bits, 0}, 12345); };
  EXPECT_EQ(typesOf(plan(0.8)), "Q2_K Q2_K");
  EXPECT_EQ(typesOf(plan(1.2)), "Q2_K Q4_K");  // 28 rather than 32
  EXPECT_EQ(plan(1.2).loss, 28);
  EXPECT_EQ(typesOf(plan(1.999)), "Q4_K Q4_K");
  EXPECT_EQ(typesOf(plan(2.0)), "Q2_K Q8_0");
  EXPECT_EQ(typesOf(plan(2.4)), "Q4_K Q8_0");
  EXPECT_EQ(typesOf(plan(1e14)), "Q8_0 Q8_0");
  EXPECT_EQ(plan(3.2).types.at("a.weight").wanted, "Q8_0");
  EXPECT_THAT([&] { plan(0.79); },
              ThrowsMessage<std::invalid_argument>(
                  "--budget: the smallest of the types take 0.8 bits a weight, the budget is 0.79"));
}

TEST(GgufBudget, BytesAreThoseOfTheFile) {
  const auto matrices = twoMatrices();
  const auto plan = [&](std::uint64_t bytes) { return planGgufTypes(matrices, {0, bytes}, 1000); };
  EXPECT_EQ(typesOf(plan(1256)), "Q2_K Q2_K");  // 100 bytes and what stands behind them
  EXPECT_EQ(typesOf(plan(1351)), "Q2_K Q2_K");
  EXPECT_EQ(typesOf(plan(1352)), "Q2_K Q4_K");
  EXPECT_THAT([&] { plan(1255); }, ThrowsMessage<std::invalid_argument>(
                                       "--budget: the smallest of the types take 1256 bytes, the budget is 1255"));
  EXPECT_THAT([&] { plan(7); }, ThrowsMessage<std::invalid_argument>(
                                    "--budget: the smallest of the types take 1256 bytes, the budget is 7"));
}

Model wideModel(const char* type = "llama", nlohmann::json more = nlohmann::json::object()) {
  more.update({{"hidden_size", 64}, {"intermediate_size", 96}, {"head_dim", 16}, {"num_hidden_layers", 2}});
  Model model = modelOf(configOf(type, more));
  forEachLinear(model, [](const LinearInfo&, RowMatrixXf& w) { w *= 0.5f; });
  return model;
}

std::vector<std::string> namesOf(const GgufCandidates& matrix) {
  std::vector<std::string> names;
  for (const GgufCandidate& type : matrix.types) names.emplace_back(type.type);
  return names;
}

TEST(GgufBudget, CandidatesAreThoseThatRowsAreBlocksOf) {
  const Model model = modelOf(configOf("llama", {{"hidden_size", 256}, {"intermediate_size", 96}, {"head_dim", 6}}));
  const auto candidates = ggufCandidates(model, {});
  ASSERT_EQ(candidates.size(), 4u * 7u + 2u);
  EXPECT_EQ(candidates[0].plan.name, "token_embd.weight");
  EXPECT_THAT(namesOf(candidates[0]), ElementsAre("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0"));
  EXPECT_EQ(candidates[0].types[0].bytes, 30 * 84);
  EXPECT_EQ(candidates[4].plan.name, "blk.0.attn_output.weight");  // rows of 24 numbers
  EXPECT_THAT(namesOf(candidates[4]), ElementsAre("F16"));
  EXPECT_EQ(candidates[4].types[0].bytes, 256 * 24 * 2);
  EXPECT_EQ(candidates[7].plan.name, "blk.0.ffn_down.weight");
  EXPECT_THAT(namesOf(candidates[7]), ElementsAre("IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0"));
  EXPECT_THAT(namesOf(ggufCandidates(model, {"F16", "Q8_0", "Q4_K"})[0]), ElementsAre("Q4_K", "Q8_0", "F16"));
  EXPECT_THAT(namesOf(ggufCandidates(model, {"F16", "Q8_0", "Q4_K"})[7]), ElementsAre("Q8_0", "F16"));
  EXPECT_THAT(
      [&] {
        ggufCandidates(model, {"Q8_0", "Q4_K"});
      },
      ThrowsMessage<std::invalid_argument>(
          "--type: none of the types has blocks of which the rows of blk.0.attn_output.weight, 24 numbers, are "
          "made; name another one, such as F16"));
}

TEST(GgufBudget, NamesOfMixturesAreNoTypes) {
  requireGgufCandidate("Q4_K");
  requireGgufCandidate("F32");
  EXPECT_THAT([] { requireGgufCandidate("Q4_K_M"); },
              ThrowsMessage<std::invalid_argument>("--type: type \"Q4_K_M\" is none of GGUF's"));
  EXPECT_THAT([] { requireGgufCandidate("IQ2_S"); },
              ThrowsMessage<std::invalid_argument>(::testing::StartsWith("--type: type IQ2_S is none of ")));
}

std::vector<Sequence> someText() {
  std::vector<Sequence> text(4, Sequence(40));
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (std::size_t t = 0; t < 40; ++t) text[i][t] = static_cast<Token>((t * t * 7 + t * 3 + i * 11) % 30);
  }
  return text;
}

Calibration calibrationOn(const Model& model, const std::vector<Sequence>& text) {
  return calibrate(Engine(floatModel(model)), text, [] {});
}

std::vector<GgufCandidates> measured(const Model& model, const std::vector<std::string>& types, GgufRounding rounding) {
  auto matrices = ggufCandidates(model, types);
  std::size_t steps = 0;
  measureGgufLosses(matrices, model, rounding, calibrationOn(model, someText()), someText(), [&] { ++steps; });
  EXPECT_EQ(steps, matrices.size());
  return matrices;
}

TEST(GgufBudget, LossesAreOutputErrorsTimesWhatOneCosts) {
  const Model model = wideModel();
  const auto text = someText();
  const Calibration calibration = calibrationOn(model, text);
  const auto matrices = measured(model, {"Q4_0", "Q5_0", "Q8_0"}, GgufRounding::kGptq);
  const GgufCandidates& up = matrices[6];
  ASSERT_EQ(up.plan.name, "blk.0.ffn_up.weight");
  const RowMatrixXf& w = model.layers[0].w3;
  const gosset::Hessian& hessian = calibration.at("model.layers.0.mlp.up_proj.weight").hessian;
  const auto error = [&](const char* type) {
    const RowMatrixXf e = w - packGguf(type, w, GgufRounding::kGptq, &hessian).dequantized();
    return (e.cast<double>() * hessian.matrix() * e.cast<double>().transpose()).trace();
  };
  EXPECT_NEAR(up.types[0].loss / up.types[1].loss, error("Q4_0") / error("Q5_0"), 1e-6 * error("Q4_0") / error("Q5_0"));
  EXPECT_NEAR(up.types[2].loss / up.types[1].loss, error("Q8_0") / error("Q5_0"), 1e-6);
  Model changed = model;
  changed.layers[0].w3 = packGguf("Q5_0", w, GgufRounding::kGptq, &hessian).dequantized();
  QualityMeter meter;
  for (const Sequence& sequence : text) {
    const auto logits = [&](const Model& of) {
      const Engine engine(floatModel(of));
      KvCache cache(engine.config(), 40);
      return engine.forward(sequence, cache);
    };
    meter.add(sequence, logits(model), logits(changed));
  }
  EXPECT_NEAR(up.types[1].loss, meter.quality().klDivergence, 1e-2 * meter.quality().klDivergence);
}

/// Where a type holds a matrix as it is, what errors cost is told by a smaller one.
TEST(GgufBudget, TypesWithoutErrorCostNothing) {
  const Model model = wideModel();
  Model exact = model;
  forEachLinear(exact, [](const LinearInfo&, RowMatrixXf& w) { w = w.cast<gosset::Float16>().cast<float>().eval(); });
  for (const GgufCandidates& matrix : measured(exact, {"Q4_0", "F16", "F32"}, GgufRounding::kNearest)) {
    EXPECT_GT(matrix.types[0].loss, 0) << matrix.plan.name;
    EXPECT_EQ(matrix.types[1].loss, 0) << matrix.plan.name;
    EXPECT_EQ(matrix.types[2].loss, 0) << matrix.plan.name;
  }
}

/// What the file takes with the smallest type of each matrix.
std::uint64_t smallestFile(const std::vector<GgufCandidates>& matrices, std::uint64_t beside) {
  for (const GgufCandidates& matrix : matrices) {
    beside += static_cast<std::uint64_t>(gosset::ceilDiv(matrix.types[0].bytes, Index{32}) * 32);
  }
  return beside;
}

TEST(GgufBudget, FilesKeepTheBudgetAndMoreBytesLoseLess) {
  const TemporaryFolder folder;
  const nlohmann::json moe = {{"num_experts", 3},
                              {"num_experts_per_tok", 2},
                              {"moe_intermediate_size", 32},
                              {"decoder_sparse_step", 1},
                              {"norm_topk_prob", true}};
  for (const Model& model :
       {wideModel(), wideModel("phi3", {{"sliding_window", nullptr}}), wideModel("qwen3_moe", moe)}) {
    const Tokenizer tokenizer = anyTokenizer(30);
    GgufOptions options = inType("F16");
    options.types.emplace();
    const std::uint64_t beside = ggufBytesBesideMatrices(folder / "beside.gguf", model, tokenizer, options);
    EXPECT_FALSE(fs::exists(folder / "beside.gguf"));
    const auto matrices = measured(model, {"Q4_0", "Q5_0", "Q8_0"}, GgufRounding::kNearest);
    double before = std::numeric_limits<double>::infinity();
    for (const std::uint64_t more : {0u, 3000u, 9000u, 30000u}) {
      const std::uint64_t bytes = smallestFile(matrices, beside) + more;
      const GgufMixturePlan plan = planGgufTypes(matrices, {0, bytes}, beside);
      EXPECT_LT(plan.loss, before);
      before = plan.loss;
      options.types = plan.types;
      write(folder / "m.gguf", model, options);
      const std::uint64_t size = fs::file_size(folder / "m.gguf");
      EXPECT_LE(size, bytes);
      EXPECT_GT(size + 6000, bytes);
      EXPECT_TRUE(more > 0 || size == bytes);
      const gosset::GgufFile file(folder / "m.gguf");
      EXPECT_FALSE(file.contains("general.file_type"));
      for (const auto& [name, choice] : plan.types) EXPECT_EQ(file.info(name).type->name, choice.type) << name;
    }
  }
}

TEST(GgufBudget, EveryMatrixNeedsAType) {
  const TemporaryFolder folder;
  GgufOptions options = inType("F16");
  options.types = {{"token_embd.weight", {"F16", "F16"}}};
  EXPECT_THAT([&] { write(folder / "no.gguf", wideModel(), options); },
              ThrowsMessage<std::invalid_argument>("GGUF: no type was chosen for blk.0.attn_q.weight"));
}

}  // namespace
}  // namespace llama::testing::gguf_budget_test
