// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/formats.hpp"

#include <gosset/calibration/recommend.hpp>
#include "../../examples/llama/engine.hpp"
#include "../../examples/llama/load.hpp"
#include "../../examples/llama/packed_file.hpp"

#include "files.hpp"
#include "reference.hpp"

#include <cctype>
#include <limits>
#include <set>
#include <utility>

namespace llama::testing::formats_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;

PackedModel packed(const Model& model, const std::string& name, std::uint64_t seed = 1,
                   const std::string& embedding = "") {
  const FormatEntry& format = findFormat(name);
  Calibration calibration;
  if (format.needsCalibration) {
    const std::vector<Sequence> sequences = {randomTokens(model.config, 40), randomTokens(model.config, 30, 10)};
    calibration = calibrate(Engine(floatModel(model)), sequences, [] {});
  }
  return packModel(
      model, format, embedding.empty() ? embeddingFormatBeside(format) : findEmbeddingFormat(embedding), seed,
      [](const LinearInfo&, const RowMatrixXf&, const gosset::AnyMatrix&) {}, calibration);
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
    EXPECT_EQ(file.tokenizer.vocabulary().file(), tokenizer.vocabulary().file());
    EXPECT_EQ(file.tokenizer.bos(), 1);
    EXPECT_EQ(logitsOf(std::move(file.model)), logitsOf(packed(model, GetParam())));
  }
}

TEST_P(Formats, TheLinearLayersMultiplyAsTheyAreDecoded) {
  const Model model = randomModel(smallConfig(), true);
  const PackedModel small = packed(model, GetParam());
  forEachLinear(small, [&](const LinearInfo& info, const gosset::AnyMatrix& matrix) {
    EXPECT_EQ(matrix.rows(), info.rows);
    EXPECT_EQ(matrix.cols(), info.cols);
    EXPECT_GT(matrix.bytes(), info.rows * info.cols / 8 - 1);
    const Eigen::MatrixXf x = gosset::testing::gaussian(info.cols, 3);
    const Eigen::MatrixXf expected = matrix.dequantized() * x;
    EXPECT_LT((matrix * x - expected).norm(), 1e-2f * expected.norm()) << info.name;
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
                               name.begin(), name.end(),
                               [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
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

TEST(FormatTable, FamiliesHaveEveryEighthOfABit) {
  EXPECT_EQ(familyTable().size(), 2u * 41u);
  EXPECT_EQ(findFormat("trellis#1").bits, 1);
  EXPECT_EQ(findFormat("trellis-mixed#6").bits, 6);
  const FormatEntry& eighth = findFormat("trellis#2.125");
  EXPECT_EQ(eighth.bits, 2.125);
  EXPECT_EQ(eighth.family, "trellis#");
  EXPECT_EQ(eighth.stored, "Incoherent<TrellisMixed>");
  EXPECT_TRUE(eighth.needsCalibration);
  EXPECT_FALSE(eighth.independentRows);
  for (const char* none : {"trellis#", "trellis#0.875", "trellis#6.125", "trellis#2.1", "trellis#2.0", "quip#2.5"}) {
    expectThrows([&] { findFormat(none); }, "format \"" + std::string(none) + "\" is none of fp16");
  }
  const Model model = randomModel(smallConfig(), false);
  const auto bytes = [&](const std::string& name) { return packed(model, name).layers[0].w1.bytes(); };
  EXPECT_EQ(8 * (bytes("trellis#2.125") - bytes("trellis#2")), bytes("trellis#3") - bytes("trellis#2"));
}

TEST(FormatTable, WithoutCalibrationAFormatThatNeedsItIsRefused) {
  const Model model = randomModel(smallConfig(), false);
  const auto ignore = [](const LinearInfo&, const RowMatrixXf&, const gosset::AnyMatrix&) {};
  for (const FormatEntry& entry : formatTable()) {
    if (!entry.needsCalibration) continue;
    expectThrows([&] { packModel(model, entry, findFormat("int8"), 1, ignore); },
                 "format \"" + entry.name + "\" needs a calibration of \"model.layers.0.self_attn.q_proj.weight\"");
  }
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// What packs a whole model looks at its weights first, and says in which tensor which is wrong.
TEST(FormatTable, AWeightThatIsNotFiniteIsNamed) {
  const auto ignore = [](const LinearInfo&, const RowMatrixXf&, const gosset::AnyMatrix&) {};
  Model model = randomModel(smallConfig(), true);
  const auto refused = [&](float& weight, float value, const std::string& text) {
    const float before = std::exchange(weight, value);
    expectThrows([&] { packModel(model, findFormat("int4"), findFormat("fp16"), 1, ignore); }, text);
    weight = before;
  };
  refused(model.layers[0].wq(3, 5), kNan,
          "model.layers.0.self_attn.q_proj.weight: finite weights expected, found nan at (3, 5) of 24 x 24");
  refused((*model.output)(30, 0), -std::numeric_limits<float>::infinity(),
          "lm_head.weight: finite weights expected, found -inf at (30, 0) of 31 x 24");
  refused(model.embedding(1, 2), kNan,
          "model.embed_tokens.weight: finite weights expected, found nan at (1, 2) of 31 x 24");
  refused(model.embedding(1, 2), 65536.f, "model.embed_tokens.weight in format \"fp16\": gosset: ");
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
    return packed(model, format, seed).layers[0].w1.dequantized();
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
  std::vector<const RowMatrixXf*> linears;
  forEachLinear(model, [&](const LinearInfo&, const RowMatrixXf& weights) { linears.push_back(&weights); });
  const auto mixed = [&] {
    PackedModel result = packed(model, "asym3-g32");
    forEachLinear(result, [&, index = std::size_t{0}](const LinearInfo& info, gosset::AnyMatrix& matrix) mutable {
      const RowMatrixXf& weights = *linears.at(index++);
      if (info.name.starts_with("model.layers.0.")) matrix = findFormat("int8").pack({info, weights, 0});
      if (info.name.ends_with("v_proj.weight")) matrix = floatMatrix(weights);
    });
    return result;
  };
  savePacked(folder / "m.safetensors", mixed(), anyTokenizer(31));
  EXPECT_EQ(logitsOf(readPackedFile(folder / "m.safetensors").model), logitsOf(mixed()));
}

/// Formats that may hold an embedding.
std::vector<std::string> embeddingFormats() {
  std::vector<std::string> names;
  for (const FormatEntry& entry : formatTable()) {
    if (entry.independentRows && !entry.needsCalibration) names.push_back(entry.name);
  }
  return names;
}

/// The model whose matrices hold what those of `packed` decode to.
Model decoded(const PackedModel& packed) {
  Model model;
  model.config = packed.config;
  model.embedding = packed.embedding.dequantized();
  model.finalNorm = packed.finalNorm;
  model.layers.resize(packed.layers.size());
  if (packed.output) model.output.emplace();
  std::vector<RowMatrixXf> linears;
  forEachLinear(packed, [&](const LinearInfo&, const gosset::AnyMatrix& m) { linears.push_back(m.dequantized()); });
  auto linear = linears.begin();
  forEachLinear(model, [&](const LinearInfo&, RowMatrixXf& weights) { weights = *linear++; });
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].attentionNorm = packed.layers[i].attentionNorm;
    model.layers[i].ffnNorm = packed.layers[i].ffnNorm;
  }
  return model;
}

TEST(Embedding, ItsRowsAreReadFromTheCodes) {
  const Model model = randomModel(smallConfig(), true);
  for (const std::string& name : embeddingFormats()) {
    const PackedModel small = packed(model, "fp16", 1, name);
    EXPECT_EQ(small.embedding.format(), findFormat(name).stored);
    const RowMatrixXf rows = small.embedding.dequantized();
    for (Index row = 0; row < rows.rows(); ++row) ASSERT_EQ(small.embedding.row(row), rows.row(row)) << name;
    PackedModel plain = small;
    plain.embedding = floatMatrix(rows);
    EXPECT_EQ(logitsOf(small), logitsOf(plain)) << name;  // the head is a matrix of its own
  }
}

TEST(Embedding, IsTheHeadOfATiedModel) {
  const Model model = randomModel(smallConfig(), false);
  const auto tokens = randomTokens(model.config, 12);
  for (const std::string& name : embeddingFormats()) {
    PackedModel small = packed(model, "fp16", 1, name);
    const Eigen::MatrixXd naive = naiveLogits(decoded(small), tokens);
    EXPECT_LT((logitsOf(small).cast<double>() - naive).norm(), 1e-2 * naive.norm()) << name;
    small.embedding.setActivations(gosset::Activations::kFloat);
    EXPECT_LT((logitsOf(small).cast<double>() - naive).norm(), 1e-4 * naive.norm()) << name;
  }
}

TEST(Embedding, TakesEightBitsBesideQuantizedLayersAndSixteenBesideFloats) {
  for (const FormatEntry& entry : formatTable()) {
    const bool halves = entry.name == "fp16" || entry.name == "bf16";
    EXPECT_EQ(embeddingFormatBeside(entry).name, halves ? "fp16" : "int8") << entry.name;
  }
  const Model model = randomModel(smallConfig(), false);
  EXPECT_EQ(packed(model, "asym2-g32").embedding.format(), "PerChannel<Symmetric<8>>");
  EXPECT_EQ(packed(model, "bf16").embedding.format(), "Float16");
  EXPECT_EQ(floatModel(model).embedding.dequantized(), model.embedding);
}

TEST(Embedding, AFormatThatCannotReadARowOrLooksAtInputsIsRefused) {
  expectThrows([] { findEmbeddingFormat("quip#2"); },
               "format \"quip#2\" mixes the rows of a matrix, but those of an embedding are read one by one");
  expectThrows([] { findEmbeddingFormat("gptq4"); },
               "format \"gptq4\" looks at a layer's inputs, and an embedding has none");
  expectThrows([] { findEmbeddingFormat("int5"); }, "format \"int5\" is none of fp16");
  for (const FormatEntry& entry : formatTable()) {
    if (entry.independentRows && !entry.needsCalibration) {
      EXPECT_EQ(&findEmbeddingFormat(entry.name), &entry);
    } else {
      EXPECT_THROW(findEmbeddingFormat(entry.name), std::invalid_argument) << entry.name;
    }
  }
}

TEST(Embedding, OfAnyFormatIsInTheFile) {
  const TemporaryFolder folder;
  const fs::path path = folder / "m.safetensors";
  for (const bool ownOutput : {false, true}) {
    const Model model = randomModel(smallConfig(), ownOutput);
    for (const std::string& name : embeddingFormats()) {
      const PackedModel small = packed(model, "int4", 1, name);
      savePacked(path, small, anyTokenizer(31));
      const PackedModel read = readPackedFile(path).model;
      EXPECT_EQ(read.embedding, small.embedding) << name;
      EXPECT_EQ(logitsOf(read), logitsOf(small)) << name;
    }
    const PackedModel exact = floatModel(model);
    savePacked(path, exact, anyTokenizer(31));
    EXPECT_EQ(readPackedFile(path).model.embedding, exact.embedding);
  }
}

TEST(PackedFile, WithADenseEmbeddingInHalvesIsReadAsBefore) {
  const TemporaryFolder folder;
  const fs::path path = folder / "m.safetensors";
  const PackedModel small = packed(randomModel(smallConfig(), false), "int8", 1, "fp16");
  savePacked(path, small, anyTokenizer(31));
  const std::string prefix = std::string("gosset.") + embeddingName();
  const gosset::SafetensorsFile file(path);
  gosset::SafetensorsWriter writer;
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with(prefix)) writer.setMetadata(key, value);
  }
  for (const auto& [name, info] : file.tensors()) {
    if (name.starts_with(embeddingName())) continue;
    writer.addSource(name, info.dtype, info.shape, [bytes = file.data(name)](const auto& put) { put(bytes); });
  }
  writer.add(embeddingName(), small.embedding.dequantized().cast<gosset::Float16>());
  writer.write(path);
  const PackedModel read = readPackedFile(path).model;
  EXPECT_EQ(read.embedding, small.embedding);
  EXPECT_EQ(logitsOf(read), logitsOf(small));
}

TEST(PackedFile, ItsMatricesOutliveTheFile) {
  const TemporaryFolder folder;
  const fs::path path = folder / "m.safetensors";
  const PackedModel small = packed(randomModel(smallConfig(), true), "asym4-g32");
  savePacked(path, small, anyTokenizer(31));
  PackedModel read = readPackedFile(path).model;  // the SafetensorsFile is gone
  EXPECT_FALSE(read.embedding.owns());
  forEachLinear(
      read, [](const LinearInfo& info, const gosset::AnyMatrix& matrix) { EXPECT_FALSE(matrix.owns()) << info.name; });
  fs::remove(path);
  const gosset::AnyMatrix embedding = read.embedding;
  EXPECT_EQ(logitsOf(std::move(read)), logitsOf(small));
  EXPECT_EQ(embedding, small.embedding);
}

TEST(Recommend, ItsFormatsAreThoseOfTheTable) {
  for (const gosset::MeasuredFormat& row : gosset::measuredFormats()) {
    const FormatEntry& entry = findFormat(row.name);
    EXPECT_EQ(entry.stored, row.format) << row.name;  // the very text, as gosset writes it
    EXPECT_EQ(entry.needsCalibration, row.calibrated) << row.name;
  }
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
  model.layers[1].w2 = floatMatrix(other);
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
  expectRefused(
      "it has the format 'PerChannel<Symmetric<9>>', which is not among those known here: Float16; BFloat16; "
      "PerChannel<Symmetric<8>>; PerChannel<Symmetric<4>>; ");
}

TEST_F(PackedFileErrors, AnEmbeddingWhoseRowsAreMixedIsRefused) {
  PackedModel model = packed(model_, "int8");
  const Calibration calibration =
      calibrate(Engine(floatModel(randomModel(smallConfig(), true))), {randomTokens(model_.config, 40)}, [] {});
  const LayerInputs& inputs = calibration.at("lm_head.weight");
  model.embedding = findFormat("quip#2").pack({embeddingInfo(model_.config), model_.embedding, 1, inputs});
  savePacked(path_, model, anyTokenizer(31));
  expectRefused("\"model.embed_tokens.weight\" has the format \"Incoherent<E8P>\", which mixes the rows");
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
  writeBytes(folder / "tokenizer.bin", anyTokenizer(31).vocabulary().file());
  EXPECT_EQ(readTokenizerFor(folder.path(), "", 31).size(), 31);
  EXPECT_EQ(readTokenizerFor(folder / "m.bin", folder / "tokenizer.bin", 31).size(), 31);
}

}  // namespace
}  // namespace llama::testing::formats_test
