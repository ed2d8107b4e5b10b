// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/qat_model.hpp"

#include "../../examples/llama/byte_pair.hpp"
#include "../../examples/llama/formats.hpp"
#include "../../examples/llama/packed_file.hpp"
#include "../../examples/llama/training.hpp"

#include "files.hpp"
#include "testing.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

namespace llama::qat_test {
namespace {

using gosset::testing::expectThrows;

const Config kSmall = {
    .dim = 32, .hidden = 40, .layers = 2, .heads = 4, .kvHeads = 2, .headDim = 8, .vocab = 340, .context = 24};
constexpr std::size_t kBatch = 4;

Parameters<float> initialized(std::uint64_t seed) {
  Parameters<float> parameters(kSmall);
  initialize(parameters, seed);
  return parameters;
}

/// Made-up text with something to learn: every token follows from the one before.
std::vector<Token> sequence(std::uint64_t index) {
  std::vector<Token> tokens(25);
  tokens[0] = static_cast<Token>(gosset::randomBits(9, index) % 40);
  for (std::size_t i = 1; i < tokens.size(); ++i) tokens[i] = (7 * tokens[i - 1] + 3) % 41;
  return tokens;
}

auto batch(std::size_t step) {
  return [step](std::size_t i) { return sequence(step * kBatch + i); };
}

/// A model that has learned the text, in floats.
const Parameters<float>& floatParameters() {
  static const Parameters<float> parameters = [] {
    Parameters<float> p = initialized(4);
    Adam adam(decaying(kSmall));
    BatchBackprop backprop(kSmall);
    for (std::size_t step = 0; step < 120; ++step) {
      backprop.lossAndGradient(p, kBatch, batch(step));
      adam.step(p.values(), backprop.gradient().values(), 0.01f);
    }
    return p;
  }();
  return parameters;
}

Parameters<float> copyOf(const Parameters<float>& parameters) {
  Parameters<float> copy(parameters.config());
  copy.values() = parameters.values();
  return copy;
}

class Qat : public ::testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  QatModel model() const {
    return {copyOf(floatParameters()), findQatFormat(std::get<0>(GetParam())), std::get<1>(GetParam())};
  }
};

TEST_P(Qat, StartsAtTheNearestOfTheFormat) {
  QatModel qat = model();
  const QatFormat& format = findQatFormat(std::get<0>(GetParam()));
  const Parameters<float>& rounded = qat.rounded();
  EXPECT_EQ(rounded.embedding, floatParameters().embedding);
  EXPECT_EQ(rounded.finalNorm, floatParameters().finalNorm);
  const auto& w = floatParameters().layers[1].w2;
  EXPECT_EQ(rounded.layers[1].w2, format.fitted(w)->forward(w));
  EXPECT_NE(rounded.layers[1].w2, w);
}

TEST_P(Qat, ThePackedModelIsWhatWasTrained) {
  QatModel qat = model();
  BatchBackprop backprop(kSmall);
  Adam adam(decaying(kSmall));
  for (std::size_t step = 0; step < 3; ++step) {
    backprop.lossAndGradient(qat.rounded(), kBatch, batch(step));
    qat.backward(backprop.gradient());
    adam.step(qat.parameters().values(), backprop.gradient().values(), 1e-3f);
    qat.stepScales(1e-2f);
  }
  const Parameters<float>& rounded = qat.rounded();
  const PackedModel packed = qat.packed();
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& from = rounded.layers[i];
    EXPECT_EQ(packed.layers[i].wq.dequantized(), from.wq);
    EXPECT_EQ(packed.layers[i].wk.dequantized(), from.wk);
    EXPECT_EQ(packed.layers[i].wv.dequantized(), from.wv);
    EXPECT_EQ(packed.layers[i].wo.dequantized(), from.wo);
    EXPECT_EQ(packed.layers[i].w1.dequantized(), from.w1);
    EXPECT_EQ(packed.layers[i].w2.dequantized(), from.w2);
    EXPECT_EQ(packed.layers[i].w3.dequantized(), from.w3);
  }
  EXPECT_GT(qat.archivedBits(), 1);
  EXPECT_LT(qat.archivedBits(), 16);
}

TEST_P(Qat, ThePackedModelIsReadFromAFile) {
  const testing::TemporaryFolder folder;
  const PackedModel packed = model().packed();
  savePacked(folder / "m.safetensors", packed, testing::anyTokenizer(kSmall.vocab));
  const PackedModel read = readPackedFile(folder / "m.safetensors").model;
  EXPECT_EQ(read.embedding, packed.embedding);
  EXPECT_EQ(read.layers[1].w2, packed.layers[1].w2);
}

TEST_P(Qat, TheLossFalls) {
  QatModel qat = model();
  BatchBackprop backprop(kSmall);
  Adam adam(decaying(kSmall));
  std::vector<double> losses;
  for (std::size_t step = 0; step < 40; ++step) {
    losses.push_back(backprop.lossAndGradient(qat.rounded(), kBatch, batch(1000 + step), &floatParameters()));
    qat.backward(backprop.gradient());
    adam.step(qat.parameters().values(), backprop.gradient().values(), 3e-4f);
    qat.stepScales(3e-4f);
  }
  double last = 0;
  for (std::size_t i = 35; i < 40; ++i) last += losses[i] / 5;
  EXPECT_LT(last, 0.5 * losses.front());
}

TEST_P(Qat, ALayerThatDivergedIsNamed) {
  QatModel qat = model();
  qat.parameters().layers[1].w2(0, 3) = std::numeric_limits<float>::quiet_NaN();
  const std::string name = "model.layers.1.mlp.down_proj.weight: ";
  expectThrows([&] { qat.rounded(); }, name + "gosset: ");
  expectThrows([&] { qat.archivedBits(); }, name + "gosset: ");
  expectThrows([&] { (void)qat.packed(); }, name + "finite weights expected, found nan at (0, 3) of 32 x 40");
  Parameters<float> gradient(kSmall);
  expectThrows([&] { qat.backward(gradient); }, name + "gosset: ");
  if (std::get<1>(GetParam())) {
    expectThrows([&] { QatModel(copyOf(qat.parameters()), findQatFormat(std::get<0>(GetParam())), true); },
                 name + "gosset: ");
  }
}

TEST_P(Qat, ScalesMoveOnlyWhereTheyAreLearned) {
  QatModel qat = model();
  const Eigen::VectorXf before = qat.rounded().values();
  Parameters<float> gradient(kSmall);
  gradient.values().setOnes();
  qat.backward(gradient);
  qat.stepScales(0.05f);
  EXPECT_EQ(qat.rounded().values() == before, !std::get<1>(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Table, Qat,
                         ::testing::Combine(::testing::Values("asym4-g32", "asym3-g32", "asym2-g32", "lloyd2-g64",
                                                              "ternary"),
                                            ::testing::Bool()),
                         [](const auto& format) {
                           std::string name = std::get<0>(format.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + (std::get<1>(format.param) ? "_learned" : "_fitted");
                         });

TEST(QatTable, TellsWhatItKnows) {
  for (const QatFormat& format : qatTable()) EXPECT_EQ(&findQatFormat(format.name), &format);
  expectThrows([] { findQatFormat("asym9"); }, "training format \"asym9\" is none of asym4-g32, asym3-g32, asym2-g32");
}

TEST(QatModelTest, ReadModelsBecomeParameters) {
  const Parameters<float> parameters = initialized(7);
  Model model = toModel(parameters);
  EXPECT_EQ(toParameters(model).values(), parameters.values());
  model.output = model.embedding;
  expectThrows([&] { toParameters(model); },
               "model: an output matrix that is its embedding expected, found one of its own");
  model.output.reset();
  model.config.blocks.resize(static_cast<std::size_t>(model.config.layers), Block{.window = 7});
  expectThrows([&] { toParameters(model); },
               "model: a plain Llama expected (no biases, norms of heads, windows, caps, experts or scaled rotary "
               "embedding), found a model that has more");
}

}  // namespace
}  // namespace llama::qat_test
