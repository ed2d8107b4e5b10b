// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/engine.hpp"
#include "../../examples/llama/kv.hpp"
#include "../../examples/llama/packed_file.hpp"
#include "files.hpp"
#include "numpy_models.hpp"

#include <set>

// Every family against a forward pass in Python and double (families.py), on tiny random models in its layout.
namespace llama::testing::families_test {
namespace {

class Families : public NumpyModels<Families> {
 public:
  static constexpr const char* kScript = "families.py";

 protected:
  /// As near as 16-bit rounding leaves them; but where a router is nearly undecided, rounding may choose another
  /// expert, which all later tokens then look back at.
  void expectNear(const Eigen::MatrixXf& logits, const Config& config) const {
    EXPECT_LT(error(logits), config.experts.count > 0 ? 0.25 : 5e-3);
  }

  Index tokens() const { return static_cast<Index>(ids_.size()); }
};

constexpr double kTolerance = 1e-5;

TEST_P(Families, AllTokensAtOnceAreThoseOfDouble) {
  const Engine engine(floatModel(readHuggingFace(folder_)));
  KvCache cache(engine.config(), tokens());
  const double worst = error(engine.forward(ids_, cache));
  RecordProperty("error", std::to_string(worst * 1e6) + "e-6");
  EXPECT_LT(worst, kTolerance);
  EXPECT_GT(logits_.cwiseAbs().maxCoeff(), 0.5);
}

TEST_P(Families, TokenByTokenAndPiecesAreThoseOfDouble) {
  const Engine engine(floatModel(readHuggingFace(folder_)));
  KvCache single(engine.config(), tokens()), pieces(engine.config(), tokens());
  EXPECT_LT(error(streamedLogits(engine, ids_, single)), kTolerance);
  Eigen::MatrixXf logits(engine.config().vocab, tokens());
  Index at = 0;
  for (const Index size : {3, 1, 17, 19}) {
    logits.middleCols(at, size) = engine.forward({ids_.data() + at, static_cast<std::size_t>(size)}, pieces);
    at += size;
  }
  ASSERT_EQ(at, tokens());
  EXPECT_LT(error(logits), kTolerance);
}

TEST_P(Families, CachesIn16BitsSeeTheSameTokens) {
  const Engine engine(floatModel(readHuggingFace(folder_)));
  for (const Index window : {4, 100}) {
    KvCache cache(engine.config(), tokens(), findKvFormat("fp16").make(engine.config(), window));
    expectNear(streamedLogits(engine, ids_, cache), engine.config());
  }
  KvCache cache(engine.config(), tokens(), findKvFormat("kivi4").make(engine.config(), 8));
  EXPECT_LT(error(streamedLogits(engine, ids_, cache)), 0.5);
}

TEST_P(Families, APackedFileHoldsAllOfIt) {
  const Model model = readHuggingFace(folder_);
  const auto halves = [](const LinearInfo& info, const RowMatrixXf& weights) {
    return findFormat("fp16").pack({info, weights});
  };
  const fs::path path = folder_ / "packed.safetensors";
  savePacked(path, packModel(model, Floats::kFloat16, halves, halves), anyTokenizer(model.config.vocab));
  const PackedFile read = readPackedFile(path);
  fs::remove(path);
  EXPECT_EQ(read.model.config, model.config);
  EXPECT_EQ(read.model.output.has_value(), model.output.has_value());
  const Engine engine(read.model);
  KvCache cache(engine.config(), tokens());
  expectNear(engine.forward(ids_, cache), engine.config());
}

TEST_P(Families, EveryLinearLayerIsCalibrated) {
  const Model model = readHuggingFace(folder_);
  const Engine engine(floatModel(model));
  Calibration calibration = calibrate(engine, {ids_}, [] {});
  const std::vector<std::string> starved = calibrateStarvedExperts(engine, calibration);
  EXPECT_EQ(starved.empty(), model.config.experts.count == 0);  // 40 tokens are few
  for (const std::string& name : starved) {
    EXPECT_EQ(calibration.at(name + "down_proj.weight").tokens.rows(), tokens()) << name;
    const std::string router = name.substr(0, name.find("experts.")) + "gate.weight";
    EXPECT_EQ(calibration.at(name + "gate_proj.weight").tokens, calibration.at(router).tokens) << name;
  }
  for (const char* format : {"gptq4", "quip#2"}) {
    const PackedModel packed = packModel(
        model, findFormat(format), findFormat("int8"), 1,
        [](const LinearInfo&, const RowMatrixXf&, const gosset::AnyMatrix&) {}, calibration);
    KvCache cache(model.config, tokens());
    EXPECT_TRUE(Engine(packed).forward(ids_, cache).allFinite()) << format;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Families,
                         ::testing::Values("Llama2", "LlamaBiases", "Llama3", "LlamaLinear", "LlamaNewConfig",
                                           "SmolLM2", "Mistral", "MistralNoWindow", "Mixtral", "Qwen2", "Qwen2Window",
                                           "Qwen2LayerTypes", "Qwen2Yarn", "Qwen3", "Qwen3Yarn", "Qwen3YarnFactor",
                                           "Qwen2Moe", "Qwen3Moe", "Qwen3MoeStep", "Gemma", "GemmaFloat", "Gemma2",
                                           "Gemma3", "Gemma3NewConfig", "Gemma3Vision", "Gemma3NewVision", "Phi3",
                                           "Phi4Partial", "SmolLM3", "SmolLM3Interval", "GemmaBiases"),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace llama::testing::families_test
