// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/budget.hpp"

#include "reference.hpp"

#include <limits>

namespace llama::testing::budget_test {
namespace {

using gosset::testing::expectThrows;

class Budget : public ::testing::Test {
 protected:
  Budget()
      : model_(randomModel(smallConfig(), true)),
        texts_({randomTokens(model_.config, 40), randomTokens(model_.config, 30, 10)}) {}

  std::vector<LayerCandidates> candidates(const std::vector<const char*>& names, const Calibration& calibration = {}) {
    std::vector<const FormatEntry*> formats;
    for (const char* name : names) formats.push_back(&findFormat(name));
    return measureCandidates(model_, formats, 1, calibration, texts_, [&] { ++steps_; });
  }

  static Index weights(const std::vector<LayerCandidates>& layers) {
    Index sum = 0;
    for (const auto& layer : layers) sum += layer.info.rows * layer.info.cols;
    return sum;
  }

  gosset::AnyMatrix packedLayer(std::uint64_t layer, const std::string& format, const Calibration& calibration = {}) {
    gosset::AnyMatrix result;
    std::uint64_t index = 0;
    forEachLinear(model_, [&](const LinearInfo& info, const RowMatrixXf& weights) {
      if (index++ == layer) result = packLayer(info, weights, findFormat(format), 1, layer, calibration);
    });
    return result;
  }

  Model model_;
  std::vector<Sequence> texts_;
  int steps_ = 0;
};

TEST_F(Budget, MeasuresEveryLayerInEveryFormatAlone) {
  const auto layers = candidates({"fp16", "int8", "asym2-g32"});
  ASSERT_EQ(layers.size(), 15u);
  EXPECT_EQ(steps_, 45);
  EXPECT_EQ(layers[0].info.name, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(layers[14].info.name, "lm_head.weight");
  for (const auto& layer : layers) {
    ASSERT_EQ(layer.candidates.size(), 3u);
    EXPECT_EQ(layer.candidates[0].bytes, 2 * layer.info.rows * layer.info.cols) << layer.info.name;
    EXPECT_LT(layer.candidates[0].klDivergence, 1e-6) << layer.info.name;
    EXPECT_LT(layer.candidates[1].klDivergence, 1e-3) << layer.info.name;
    EXPECT_GT(layer.candidates[2].klDivergence, 10 * layer.candidates[1].klDivergence) << layer.info.name;
  }
}

TEST_F(Budget, ADivergenceIsThatOfTheModelWithThisLayerPacked) {
  const std::vector<const char*> names = {"asym2-g32", "int4-stochastic"};  // the latter by the layer's own seed
  const auto layers = candidates(names);
  const Engine exact(floatModel(model_));
  Logits reference(2);
  runSequences(exact, texts_, [&](std::size_t i, Eigen::MatrixXf logits) { reference[i] = std::move(logits); });
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::size_t index = 0;
    PackedModel model = floatModel(model_);
    forEachLinear(model, [&](const LinearInfo&, gosset::AnyMatrix& matrix) {
      if (index++ == 5) matrix = floatMatrix(packedLayer(5, names[i]).dequantized());
    });
    const Engine engine(model);
    QualityMeter meter;
    runSequences(engine, texts_,
                 [&](std::size_t s, const Eigen::MatrixXf& logits) { meter.add(texts_[s], reference[s], logits); });
    const double expected = meter.quality().klDivergence;
    EXPECT_NEAR(layers[5].candidates[i].klDivergence, expected, 0.05 * expected);  // products round activations
  }
}

TEST_F(Budget, ThePlanKeepsToTheBudgetAndMoreBitsLoseLess) {
  const auto layers = candidates({"int8", "asym4-g32", "asym2-g32"});
  double before = std::numeric_limits<double>::infinity();
  for (const double bits : {5.0, 7.0, 9.0}) {
    const auto plan = planLayers(layers, bits);
    double loss = 0;
    Index bytes = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const Candidate& chosen = layers[i].candidates[plan.choice[i]];
      loss += chosen.klDivergence;
      bytes += chosen.bytes;
    }
    EXPECT_DOUBLE_EQ(plan.loss, loss);
    EXPECT_LE(8.0 * static_cast<double>(bytes), bits * static_cast<double>(weights(layers)));
    EXPECT_LT(loss, before);
    before = loss;
  }
  expectThrows([&] { planLayers(layers, 1.0); }, "planBitBudget: the smallest choices take");
}

/// Of 24 and 37 columns, the latter with a narrow tile.
TEST_F(Budget, EachEighthBetweenTwoRatesOfAFamily) {
  const Calibration calibration = calibrate(Engine(floatModel(model_)), texts_, [] {});
  const auto layers = candidates({"trellis-mixed#3", "int8", "trellis-mixed#2", "trellis#2"}, calibration);
  EXPECT_EQ(steps_, 4 * 15) << "the others are not measured";
  for (std::size_t l : {0u, 4u, 6u}) {
    const auto& of = layers[l].candidates;
    ASSERT_EQ(of.size(), 4u + 7u);
    EXPECT_EQ(of[0].format->name, "trellis-mixed#3");
    EXPECT_EQ(of[2].format->name, "trellis-mixed#2");
    for (std::size_t i = 4; i < of.size(); ++i) {
      EXPECT_EQ(of[i].format->bits, 2 + static_cast<double>(i - 3) / 8);
      EXPECT_EQ(of[i].format->family, "trellis-mixed#");
      const Index bytes = packedLayer(l, of[i].format->name, calibration).bytes();
      const Index slack = layers[l].info.cols % 32 == 0 ? 0 : 16 * gosset::ceilDiv(layers[l].info.rows, 16);
      EXPECT_GE(of[i].bytes, bytes) << of[i].format->name;
      EXPECT_LE(of[i].bytes, bytes + slack) << of[i].format->name;
    }
    EXPECT_NEAR(of[7].klDivergence, std::sqrt(of[0].klDivergence * of[2].klDivergence), 0.05 * of[7].klDivergence)
        << "half way of the logarithm";
  }
  const auto plan = planLayers(layers, 3.5);
  EXPECT_LE(8. * static_cast<double>(plan.bytes), 3.5 * static_cast<double>(weights(layers)));
}

/// What whole tiles leave of a mean beside a narrow one is less than eight bytes in each block of 16 rows.
TEST(Between, BytesRiseEvenlyAndLeaveRoomForNarrowTiles) {
  const Candidate less{&findFormat("trellis#2"), 100, 0.4}, more{&findFormat("trellis#2.5"), 140, 0.1};
  const auto bytesOf = [](const std::vector<Candidate>& of) {
    std::vector<Index> bytes;
    for (const Candidate& candidate : of) bytes.push_back(candidate.bytes);
    return bytes;
  };
  const auto wide = detail::between({"", 20, 64}, less, more);
  EXPECT_EQ(bytesOf(wide), (std::vector<Index>{110, 120, 130}));
  EXPECT_EQ(bytesOf(detail::between({"", 20, 44}, less, more)), (std::vector<Index>{126, 136, 146}));
  EXPECT_EQ(wide[1].format->name, "trellis#2.25");
  EXPECT_DOUBLE_EQ(wide[1].klDivergence, 0.2);
  EXPECT_DOUBLE_EQ(detail::between({"", 20, 64}, less, {more.format, 140, -1e-9})[1].klDivergence, 0.2)
      << "not below 0";
  expectThrows(
      [&] {
        detail::between({"w", 20, 64}, {less.format, 100, std::nan("")}, more);
      },
      "w: gosset: lossBetween: expected finite losses >= 0, got nan");
}

TEST_F(Budget, AFormatThatNeedsACalibrationIsRefusedWithoutOne) {
  expectThrows([&] { candidates({"awq3-g32"}); }, "format \"awq3-g32\" needs a calibration of");
}

TEST_F(Budget, WhatIsNotFiniteIsNamed) {
  auto layers = candidates({"int8", "asym2-g32"});
  for (const auto& [divergence, text] : std::vector<std::pair<double, std::string>>{
           {std::numeric_limits<double>::infinity(), "inf"}, {std::numeric_limits<double>::quiet_NaN(), "nan"}}) {
    layers[3].candidates[1].klDivergence = divergence;
    expectThrows(
        [&] { planLayers(layers, 9.0); },
        "model.layers.0.self_attn.o_proj.weight in format \"asym2-g32\": a finite divergence expected, found " + text);
  }
  model_.layers[1].w3(2, 1) = std::numeric_limits<float>::quiet_NaN();
  expectThrows([&] { candidates({"int8"}); },
               "model.layers.1.mlp.up_proj.weight: finite weights expected, found nan at (2, 1) of 37 x 24");
}

TEST(LayerInputs, KeepTheSecondMomentOfAllAndTheFirstTokens) {
  LayerInputs inputs(3);
  const RowMatrixXf x = gosset::testing::gaussian(700, 3);
  inputs.add(x);
  inputs.add(2 * x);
  inputs.add(x);
  EXPECT_EQ(inputs.tokens.rows(), LayerInputs::kMostTokens);
  EXPECT_EQ(inputs.tokens.topRows(700), x);
  EXPECT_EQ(inputs.tokens.bottomRows(324), 2 * x.topRows(324));
  EXPECT_EQ(inputs.hessian.tokens(), 2100);
}

}  // namespace
}  // namespace llama::testing::budget_test
