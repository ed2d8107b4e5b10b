// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/formats.hpp"

#include "../../examples/llama/engine.hpp"
#include "../../examples/llama/load.hpp"
#include "../../examples/llama/packed_file.hpp"
#include "files.hpp"
#include "reference.hpp"

#include <limits>
#include <set>
#include <utility>

namespace llama::testing {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

Tokenizer anyTokenizer(Index vocab) {
  std::vector<Tokenizer::Piece> pieces;
  for (Index i = 0; i < vocab; ++i) pieces.push_back({"t" + std::to_string(i), -static_cast<float>(i)});
  return Tokenizer(pieces);
}

PackedModel packed(const Model& model, const std::string& name, std::uint64_t seed = 1) {
  const FormatEntry& format = findFormat(name);
  Calibration calibration;
  if (format.needsCalibration) {
    const std::vector<Sequence> sequences = {randomTokens(model.config, 40), randomTokens(model.config, 30, 10)};
    calibration = calibrate(Engine(floatModel(model)), sequences, [] {});
  }
  return packModel(
      model, format, seed, [](const LinearInfo&, const RowMatrixXf&, const Linear&) {}, calibration);
}

Eigen::MatrixXf logitsOf(PackedModel model) {
  const auto tokens = randomTokens(model.config, 12);
  const Engine engine(std::move(model));
  KvCache cache(engine.config(), 12);
  return engine.forward(tokens, cache);
}

class Formats : public ::testing::TestWithParam<std::string> {};

TEST_P(Formats, AFileHoldsTheSameModel) {
  const TemporaryFolder folder;
  for (const bool ownOutput : {false, true}) {
    const Model model = randomModel(smallConfig(), ownOutput);
    const Tokenizer tokenizer = anyTokenizer(model.config.vocab);
    savePacked(folder / "m.safetensors", packed(model, GetParam()), tokenizer);
    PackedFile file = readPackedFile(folder / "m.safetensors");
    EXPECT_EQ(file.model.config, model.config);
    EXPECT_EQ(tokenizerBytes(file.tokenizer), tokenizerBytes(tokenizer));
    EXPECT_EQ(logitsOf(std::move(file.model)), logitsOf(packed(model, GetParam())));
  }
}

TEST_P(Formats, TheLinearLayersMultiplyAsTheyAreDecoded) {
  const Model model = randomModel(smallConfig(), true);
  const PackedModel small = packed(model, GetParam());
  forEachLinear(small, [&](const LinearInfo& info, const std::unique_ptr<Linear>& linear) {
    EXPECT_EQ(linear->rows(), info.rows);
    EXPECT_EQ(linear->cols(), info.cols);
    EXPECT_GT(linear->bytes(), info.rows * info.cols / 8 - 1);
    const Eigen::MatrixXf x = gosset::testing::gaussian(info.cols, 3);
    const Eigen::MatrixXf expected = linear->dequantized() * x;
    EXPECT_LT((linear->apply(x) - expected).norm(), 1e-2f * expected.norm()) << info.name;
  });
}

INSTANTIATE_TEST_SUITE_P(Table, Formats, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const FormatEntry& entry : formatTable()) names.push_back(entry.name);
                           return names;
                         }()),
                         [](const auto& format) {
                           std::string name = format.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '-' || c == '#'; }, '_');
                           return name;
                         });

TEST(FormatTable, NamesAreUniqueAndFound) {
  std::set<std::string> names;
  for (const FormatEntry& entry : formatTable()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_EQ(&findFormat(entry.name), &entry);
  }
  expectThrows([] { findFormat("int5"); }, "format \"int5\" is none of fp16, bf16, int8");
}

TEST(FormatTable, WithoutCalibrationAFormatThatNeedsItIsRefused) {
  const Model model = randomModel(smallConfig(), false);
  const auto ignore = [](const LinearInfo&, const RowMatrixXf&, const Linear&) {};
  for (const FormatEntry& entry : formatTable()) {
    if (!entry.needsCalibration) continue;
    expectThrows([&] { packModel(model, entry, 1, ignore); },
                 "format \"" + entry.name + "\" needs a calibration of \"model.layers.0.self_attn.q_proj.weight\"");
  }
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// What packs a whole model looks at its weights first, and says in which tensor which is wrong.
TEST(FormatTable, AWeightThatIsNotFiniteIsNamed) {
  const auto ignore = [](const LinearInfo&, const RowMatrixXf&, const Linear&) {};
  Model model = randomModel(smallConfig(), true);
  const auto refused = [&](float& weight, float value, const std::string& text) {
    const float before = std::exchange(weight, value);
    expectThrows([&] { packModel(model, findFormat("int4"), 1, ignore); }, text);
    weight = before;
  };
  refused(model.layers[0].wq(3, 5), kNan,
          "model.layers.0.self_attn.q_proj.weight: finite weights expected, found nan at (3, 5) of 24 x 24");
  refused((*model.output)(30, 0), -std::numeric_limits<float>::infinity(),
          "lm_head.weight: finite weights expected, found -inf at (30, 0) of 31 x 24");
  refused(model.embedding(1, 2), kNan,
          "model.embed_tokens.weight: numbers that are finite in 16 bits expected, found nan at (1, 2) of 31 x 24");
  refused(model.finalNorm[23], 65536.f,
          "model.norm.weight: numbers that are finite in 16 bits expected, found inf at (23, 0) of 24 x 1");
  refused(model.layers[1].attentionNorm[0], -65536.f, "model.layers.1.input_layernorm.weight: ");
  model.finalNorm[3] = 65536.f;
  EXPECT_NO_THROW(floatModel(model));
  const TemporaryFolder folder;
  expectThrows([&] { savePacked(folder / "m.safetensors", floatModel(model), anyTokenizer(31)); },
               "model.norm.weight: numbers that are finite in 16 bits expected, found inf at (3, 0)");
  model.finalNorm[3] = kNan;
  expectThrows([&] { floatModel(model); }, "model.norm.weight: numbers that are finite in 32 bits expected, found nan");
}

TEST(FormatTable, ALayerThatAFormatCannotHoldIsNamed) {
  RowMatrixXf weights = RowMatrixXf::Ones(24, 24);
  const LinearInfo info{"model.layers.0.mlp.up_proj.weight", 24, 24};
  for (const FormatEntry& entry : formatTable()) {
    if (entry.needsCalibration) continue;
    weights(3, 5) = kNan;
    expectThrows([&] { packLayer(info, weights, entry, 1, 0, {}); },
                 "model.layers.0.mlp.up_proj.weight in format \"" + entry.name + "\": gosset: ");
  }
  weights(3, 5) = 70000.f;
  expectThrows([&] { packLayer(info, weights, findFormat("fp16"), 1, 0, {}); },
               "model.layers.0.mlp.up_proj.weight in format \"fp16\": gosset: ");
}

TEST(Calibration, ALayerWhoseInputsAreNotFiniteIsNamed) {
  Model model = randomModel(smallConfig(), false);
  model.layers[1].ffnNorm[2] = std::numeric_limits<float>::max();  // finite, but what it scales is not
  model.embedding.col(2) *= 1e3f;
  expectThrows(
      [&] { calibrate(Engine(floatModel(model)), {randomTokens(model.config, 8)}, [] {}); },
      "the inputs of model.layers.1.mlp.gate_proj.weight: gosset: Hessian: the activations hold NaN or infinity");
}

TEST(FormatTable, TheSeedCountsWhereCodesAreDrawn) {
  const Model model = randomModel(smallConfig(), false);
  const auto first = [&](const std::string& format, std::uint64_t seed) {
    return packed(model, format, seed).layers[0].w1->dequantized();
  };
  EXPECT_EQ(first("int4-stochastic", 1), first("int4-stochastic", 1));
  EXPECT_NE(first("int4-stochastic", 1), first("int4-stochastic", 2));
  EXPECT_EQ(first("int4", 1), first("int4", 2));
}

TEST(FormatTable, MoreBitsLoseLess) {
  const Model model = randomModel(smallConfig(), false);
  const Eigen::MatrixXf exact = logitsOf(floatModel(model));
  double before = 0;
  for (const char* format : {"fp16", "int8", "asym4-g32", "asym3-g32", "asym2-g32"}) {
    const double error = static_cast<double>((logitsOf(packed(model, format)) - exact).norm());
    EXPECT_GT(error, 2 * before) << format;
    before = error;
  }
}

TEST(PackedFile, MayMixFormats) {
  const TemporaryFolder folder;
  const Model model = randomModel(smallConfig(), false);
  const auto mixed = [&] {
    return packModel(model, Rest::kFloat16,
                     [](const LinearInfo& info, const RowMatrixXf& weights) -> std::unique_ptr<Linear> {
                       const bool first = info.name.starts_with("model.layers.0.");
                       if (info.name.ends_with("v_proj.weight")) return std::make_unique<FloatLinear>(weights);
                       return findFormat(first ? "int8" : "asym3-g32").pack({info, weights, 0});
                     });
  };
  savePacked(folder / "m.safetensors", mixed(), anyTokenizer(31));
  EXPECT_EQ(logitsOf(readPackedFile(folder / "m.safetensors").model), logitsOf(mixed()));
}

class PackedFileErrors : public ::testing::Test {
 protected:
  PackedFileErrors() : path_(folder_ / "m.safetensors"), model_(randomModel(smallConfig(), false)) {}

  void expectRefused(const std::string& text) {
    expectThrows<FormatError>([&] { readPackedFile(path_); }, text);
  }

  TemporaryFolder folder_;
  fs::path path_;
  Model model_;
};

TEST_F(PackedFileErrors, AMissingFileIsToldPlainly) { expectRefused("m.safetensors: there is no such file"); }

TEST_F(PackedFileErrors, AnotherSafetensorsFileIsNoPackedModel) {
  saveHuggingFace(folder_.path(), model_);
  path_ = folder_ / "model.safetensors";
  expectRefused("this is no packed model (its metadata has no llama.config)");
}

TEST_F(PackedFileErrors, ATokenizerOfAnotherSizeIsRefused) {
  savePacked(path_, packed(model_, "int8"), anyTokenizer(30));
  expectRefused("tokenizer: the model knows 31 tokens, the tokenizer 30");
}

TEST_F(PackedFileErrors, ALayerOfAnotherShapeIsRefused) {
  PackedModel model = packed(model_, "int8");
  const RowMatrixXf other = RowMatrixXf::Ones(24, 38);
  model.layers[1].w2 = findFormat("int8").pack({LinearInfo{}, other, 0});
  savePacked(path_, model, anyTokenizer(31));
  expectRefused("\"model.layers.1.mlp.down_proj.weight\" must be 24 x 37, found 24 x 38");
  model.layers[1].w2 = std::make_unique<FloatLinear>(other);
  savePacked(path_, model, anyTokenizer(31));
  expectRefused("the config asks for shape [24,37], the file holds [24,38]");
}

TEST_F(PackedFileErrors, CutOffAnywhereItIsRefused) {
  savePacked(path_, packed(model_, "asym2-g32"), anyTokenizer(31));
  const std::string bytes = readBytes(path_, 1 << 24);
  for (std::size_t size = 0; size < bytes.size(); size += 211) {
    writeBytes(path_, bytes.substr(0, size));
    EXPECT_THROW(readPackedFile(path_), FormatError) << size;
  }
}

TEST_F(PackedFileErrors, AnUnknownFormatIsNamed) {
  savePacked(path_, packed(model_, "int8"), anyTokenizer(31));
  std::string bytes = readBytes(path_, 1 << 24);
  const std::string known = "PerChannel<Symmetric<8>>";
  bytes.replace(bytes.find(known), known.size(), "PerChannel<Symmetric<9>>");
  writeBytes(path_, bytes);
  expectRefused("has the format \"PerChannel<Symmetric<9>>\", which is not known here");
}

TEST(Load, TellsModelsApart) {
  const TemporaryFolder folder;
  const Model model = randomModel(smallConfig(), false);
  writeBytes(folder / "m.bin", llama2cBytes(model));
  fs::create_directory(folder / "hf");
  saveHuggingFace<float>(folder / "hf", model);
  expectSame(readModel(folder / "m.bin"), model);
  expectSame(readModel(folder / "hf"), model);
  savePacked(folder / "p.safetensors", packed(model, "int8"), anyTokenizer(31));
  expectThrows<FormatError>([&] { readModel(folder / "p.safetensors"); }, "a packed model has no exact weights");
  expectThrows<FormatError>([&] { readModel(folder / "none"); }, "none: there is no such file or folder");
}

TEST(Load, FindsTheTokenizerInTheModelsFolder) {
  const TemporaryFolder folder;
  expectThrows<FormatError>([&] { readTokenizerFor(folder.path(), "", 31); }, "name one with --tokenizer");
  expectThrows<FormatError>([&] { readTokenizerFor(folder / "m.bin", "", 31); }, "name one with --tokenizer");
  writeBytes(folder / "tokenizer.bin", tokenizerBytes(anyTokenizer(31)));
  EXPECT_EQ(readTokenizerFor(folder.path(), "", 31).size(), 31);
  EXPECT_EQ(readTokenizerFor(folder / "m.bin", folder / "tokenizer.bin", 31).size(), 31);
}

}  // namespace
}  // namespace llama::testing
