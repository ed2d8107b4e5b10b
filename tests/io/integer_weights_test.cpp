// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/integer_formats.hpp>
#include <gosset/io/integer_scheme.hpp>
#include <gosset/io/integer_weights.hpp>
#include <gosset/io/json.hpp>
#include <gosset/io/safetensors.hpp>

#include "io/temporary_folder.hpp"
#include "python.hpp"
#include "testing.hpp"

#include <bit>
#include <cstdlib>
#include <functional>
#include <optional>

// Layers in the layouts of GPTQ, AWQ and compressed-tensors, as integer_weights.py writes them, and by hand.
namespace gosset::integer_weights_test {
namespace {

namespace fs = std::filesystem;
using testing::expectThrows;
using testing::TemporaryFolder;
using Method = IntegerScheme::Method;
using Words = std::vector<std::int32_t>;

template <int b>
using Int = Grouped<Asymmetric<b>, 32>;
using Formats =
    FormatList<Float16, Int<4>, Grouped<Asymmetric<4>, 64>, PerChannel<Asymmetric<4>>, Grouped<Symmetric<4>, 64>,
               Grouped<Asymmetric<4>, 32, float>, Int<2>, Int<3>, Int<5>, Int<8>, ActOrder<Int<4>>, ActOrder<Int<2>>,
               ActOrder<Int<3>>, ActOrder<Int<8>>, ActOrder<Grouped<Asymmetric<4>, 32, float>>>;

bool sameBits(const RowMatrixXf& a, const RowMatrixXf& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  return std::equal(a.data(), a.data() + a.size(), b.data(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

IntegerScheme schemeIn(const fs::path& folder) {
  const auto json = parseJson(testing::readText(folder / "config.json"), "config.json");
  return parseIntegerScheme(json["quantization_config"], "config.json: \"quantization_config\"");
}

// Against Python.

TEST(IntegerWeights, AreTheNumbersOfEveryLayout) {
  const auto interpreter = testing::pythonWithNumpy();
  if (!interpreter) GTEST_SKIP() << "no python3 with numpy (Debian: python3-numpy)";
  const TemporaryFolder root;
  const std::string script = std::string(GOSSET_SOURCE_DIR) + "/tests/io/integer_weights.py";
  ASSERT_EQ(std::system((*interpreter + " " + script + " " + root.path().string()).c_str()), 0);
  int cases = 0, ordered = 0;
  for (const auto& entry : fs::directory_iterator(root.path())) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().filename());
    const IntegerWeights weights = readIntegerWeights(SafetensorsFolder(entry.path()), "layer", schemeIn(entry.path()));
    const SafetensorsFile expected(entry.path().string() + ".expected.safetensors");
    const RowMatrixXf values = expected.matrix<float>("values");
    EXPECT_TRUE(sameBits(weights.dequantized(), values));
    const auto packed = packIntegers<Formats>(weights);
    ASSERT_TRUE(packed.has_value());
    EXPECT_TRUE(sameBits(packed->dequantized(), values)) << *packed;
    EXPECT_EQ(packed->format().starts_with("ActOrder"), !weights.isInOrder());
    ordered += weights.isInOrder() ? 0 : 1;
    ++cases;
  }
  EXPECT_EQ(cases, 27);
  EXPECT_EQ(ordered, 6);
}

// By hand, and by what the packers' own tests say.

class Layer : public ::testing::Test {
 protected:
  template <class T>
  void add(const std::string& name, std::vector<Index> shape, const std::vector<T>& values) {
    adders_[name] = [name, shape, values](SafetensorsWriter& writer) { writer.add<T>(name, shape, values); };
  }
  void remove(const std::string& name) { adders_.erase(name); }

  IntegerWeights read(const IntegerScheme& scheme) {
    SafetensorsWriter writer;
    for (const auto& [name, adder] : adders_) adder(writer);
    writer.write(folder_ / "model.safetensors");
    return readIntegerWeights(SafetensorsFolder(folder_.path()), "layer", scheme);
  }
  void expectRefused(const IntegerScheme& scheme, const std::string& text) {
    expectThrows<FormatError>([&] { (void)read(scheme); }, text);
  }

  /// 8 columns, 8 rows, one group: row o has codes o, o + 1, .. modulo 16, zero point o and scale 1.
  void addGptq(std::int32_t zeros) {
    Words words;
    for (int o = 0; o < 8; ++o) {
      std::uint32_t word = 0;
      for (int i = 0; i < 8; ++i) word |= static_cast<std::uint32_t>((o + i) % 16) << (4 * i);
      words.push_back(static_cast<std::int32_t>(word));
    }
    add<std::int32_t>("layer.qweight", {1, 8}, words);
    add<std::int32_t>("layer.qzeros", {1, 1}, {zeros});
    add<Float16>("layer.scales", {1, 8}, std::vector<Float16>(8, Float16(1.f)));
  }

  std::map<std::string, std::function<void(SafetensorsWriter&)>> adders_;
  TemporaryFolder folder_;
};

const IntegerScheme kV1{.method = Method::kGptq, .bits = 4, .group_size = 8};
const IntegerScheme kV2{.method = Method::kGptq, .bits = 4, .group_size = 8, .zeros_minus_one = false};
const IntegerScheme kAwq{.method = Method::kAwq, .bits = 4, .group_size = 1, .zeros_minus_one = false};
const IntegerScheme kPacked{.method = Method::kCompressedTensors, .bits = 4, .group_size = 0, .symmetric = true};

TEST_F(Layer, GptqStoresZeroPointsLessOneAndWrapsAround) {
  addGptq(static_cast<std::int32_t>(0x6543210f));  // -1, 0, 1, .. 6
  const IntegerWeights v1 = read(kV1);
  for (Index o = 0; o < 8; ++o) {
    EXPECT_EQ(v1.zeros(o, 0), static_cast<float>(o));
    for (Index i = 0; i < 8; ++i) EXPECT_EQ(v1.dequantized()(o, i), static_cast<float>((o + i) % 16 - o));
  }
  addGptq(static_cast<std::int32_t>(0x76543210));
  EXPECT_EQ(read(kV2).zeros, v1.zeros);
  EXPECT_EQ(read(kV2).codes, v1.codes);
  EXPECT_EQ(read(kV1).zeros, RowMatrixXf(v1.zeros.array() + 1));
}

/// AutoAWQ puts rows 0 2 4 6 1 3 5 7 of eight into the nibbles of a word, the lowest first.
TEST_F(Layer, AwqInterleavesEightRows) {
  add<std::int32_t>("layer.qweight", {2, 1}, {0x75316420, 0});
  add<std::int32_t>("layer.qzeros", {2, 1}, {0, 0x75316420});
  add<Float16>("layer.scales", {2, 8}, std::vector<Float16>(16, Float16(2.f)));
  const RowMatrixXf w = read(kAwq).dequantized();
  for (Index o = 0; o < 8; ++o) {
    EXPECT_EQ(w(o, 0), static_cast<float>(2 * o));
    EXPECT_EQ(w(o, 1), static_cast<float>(-2 * o));
  }
}

/// The words of compressed-tensors' test_pack_to_int32.
TEST_F(Layer, CompressedTensorsPackAsTheirTestsSay) {
  const auto check = [&](int bits, const Words& words, Index rows, Index cols, const std::vector<float>& values) {
    add<std::int32_t>("layer.weight_packed", {rows, static_cast<Index>(words.size()) / rows}, words);
    add<std::int64_t>("layer.weight_shape", {2}, {rows, cols});
    add<float>("layer.weight_scale", {rows, 1}, std::vector<float>(static_cast<std::size_t>(rows), 1.f));
    IntegerScheme scheme = kPacked;
    scheme.bits = bits;
    const RowMatrixXf w = read(scheme).dequantized();
    EXPECT_EQ(std::vector<float>(w.data(), w.data() + w.size()), values);
  };
  check(4, {9}, 1, 1, {1});
  check(8, {129}, 1, 1, {1});
  check(4, {52137}, 1, 4, {1, 2, 3, 4});
  check(4, {1985229328}, 1, 8, {-8, -7, -6, -5, -4, -3, -2, -1});
  check(8, {-2071756159}, 1, 4, {1, 2, 3, 4});
  check(8, {50462976}, 1, 4, {-128, -127, -126, -125});
  check(4, {1985229328, 52137, 52137, 1985229328}, 2, 12,
        {-8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 1, 2, 3, 4, -8, -8, -8, -8, -8, -7, -6, -5});
}

TEST_F(Layer, RowsMayBeSelected) {
  addGptq(0);
  const IntegerWeights all = read(kV1);
  const std::vector<Index> chosen = {7, 0, 3};
  const RowMatrixXf w = all.selected(chosen).dequantized();
  for (Index i = 0; i < 3; ++i) EXPECT_EQ(w.row(i), all.dequantized().row(chosen[static_cast<std::size_t>(i)]));
  expectThrows([&] { (void)all.selected(std::vector<Index>{8}); }, "selected: expected rows within 0 .. 8, got 8");
}

TEST_F(Layer, OfGptqRefusesWhatDoesNotFit) {
  addGptq(0);
  IntegerScheme three = kV1;
  three.bits = 3;
  expectRefused(three, "tensor 'layer.qweight' at byte ");
  expectRefused(three, "expected a number of rows of words that columns of 3 bits fill, got 1");
  add<std::int32_t>("layer.qzeros", {1, 2}, {0, 0});
  expectRefused(kV1, "expected 1 x 1 words for a 8 x 8 matrix of 4 bits, the file holds 1 x 2");
  add<float>("layer.qzeros", {1, 1}, {0});
  expectRefused(kV1, "expected an I32 matrix, the file holds F32 of shape [1, 1]");
  add<std::int32_t>("layer.qzeros", {1}, {0});
  expectRefused(kV1, "expected an I32 matrix, the file holds I32 of shape [1]");
  remove("layer.qzeros");
  expectRefused(kV1, "holds no tensor 'layer.qzeros'");
  addGptq(0);
  add<Float16>("layer.scales", {8, 1}, std::vector<Float16>(8));
  expectRefused(kV1,
                "expected F16, BF16 or F32 of shape [1, 8] for a 8 x 8 matrix of 4 bits in groups of 8, the file "
                "holds F16 of shape [8, 1]");
  for (const float wrong : {-1.f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> scales(8, 1.f);
    scales[5] = wrong;
    add<float>("layer.scales", {1, 8}, scales);
    expectRefused(kV1, "expected finite scales of at least 0, found ");
    expectRefused(kV1, " for row 5, group 0");
  }
  for (const std::vector<Index>& shape : std::vector<std::vector<Index>>{{0, 8}, {8, 0}, {Index{1} << 59, 0}}) {
    add<std::int32_t>("layer.qweight", shape, {});
    expectRefused(kV1, "expected at least one word, the file holds " + std::to_string(shape[0]) + " x ");
  }
  remove("layer.qweight");
  expectRefused(kV1, "holds no tensor 'layer.qweight'");
}

TEST_F(Layer, OfGptqRefusesGroupsThatAreNone) {
  addGptq(0);
  IntegerScheme pairs = kV1;
  pairs.group_size = 2;
  add<std::int32_t>("layer.qzeros", {4, 1}, {0, 0, 0, 0});
  add<Float16>("layer.scales", {4, 8}, std::vector<Float16>(32, Float16(1.f)));
  const auto index = [&](const Words& words) {
    add<std::int32_t>("layer.g_idx", {static_cast<Index>(words.size())}, words);
  };
  index({3, 0, 1, 2, 2, 1, 0, 3});
  EXPECT_EQ(read(pairs).order(), (std::vector<std::uint32_t>{1, 6, 2, 5, 3, 4, 0, 7}));
  EXPECT_FALSE(read(pairs).isInOrder());
  index({3, 0, 1, 2, 2, 1, 0, 4});
  expectRefused(pairs, "tensor 'layer.g_idx' at byte ");
  expectRefused(pairs, "expected groups within 0 .. 3, found 4 for column 7");
  index({3, 0, 1, 2, 2, -1, 0, 3});
  expectRefused(pairs, "expected groups within 0 .. 3, found -1 for column 5");
  index({3, 0, 1, 2, 2, 1, 3, 3});
  expectRefused(pairs, "expected 2 columns in group 0, found 1");
  index({0, 0, 1, 1, 2, 2, 3});
  expectRefused(pairs,
                "expected I32 of shape [8] for a 8 x 8 matrix of 4 bits in groups of 2, the file holds I32 of "
                "shape [7]");
  remove("layer.g_idx");
  EXPECT_TRUE(read(pairs).isInOrder());
  pairs.needs_group_index = true;
  expectRefused(pairs, "holds no tensor 'layer.g_idx', which \"desc_act\" asks for");
}

TEST_F(Layer, OfCompressedTensorsRefusesWhatDoesNotFit) {
  add<std::int32_t>("layer.weight_packed", {2, 1}, {0, 0});
  add<float>("layer.weight_scale", {2, 1}, {1, 1});
  for (const auto& [m, n] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {2, 9}, {2, 0}, {2, -8}, {3, 8}, {-2, 8}, {2, std::int64_t{1} << 62}, {std::int64_t{1} << 62, 8}}) {
    add<std::int64_t>("layer.weight_shape", {2}, {m, n});
    expectRefused(kPacked, "tensor 'layer.weight_shape' at byte ");
    expectRefused(kPacked, " numbers of 4 bits does not take the 2 x 1 words of 'layer.weight_packed'");
  }
  add<std::int64_t>("layer.weight_shape", {3}, {2, 8, 1});
  expectRefused(kPacked, "expected two integers, the file holds I64 of shape [3]");
  add<float>("layer.weight_shape", {2}, {2, 8});
  expectRefused(kPacked, "expected two integers, the file holds F32 of shape [2]");
  add<std::int32_t>("layer.weight_shape", {2}, {2, 8});
  EXPECT_EQ(read(kPacked).zeros, RowMatrixXf::Constant(2, 1, 8));
  IntegerScheme zeros = kPacked;
  zeros.symmetric = false;
  expectRefused(zeros, "holds no tensor 'layer.weight_zero_point' of zero points");
  add<std::int8_t>("layer.weight_zero_point", {2, 1}, {-8, 7});
  EXPECT_EQ(read(zeros).zeros, (RowMatrixXf(2, 1) << 0, 15).finished());
  add<std::int8_t>("layer.weight_zero_point", {2, 1}, {-9, 7});
  expectRefused(zeros, "expected zero points of -8 to 7, found -9");
  add<std::int8_t>("layer.weight_zero_point", {1, 2}, {0, 0});
  expectRefused(zeros, "expected I8 or packed I32 of shape [2, 1] for a 2 x 8 matrix of 4 bits in groups of 8");
  add<std::int32_t>("layer.weight_zero_point", {2, 1}, {0, 0});
  expectRefused(zeros, "expected 1 x 1 words for a 2 x 8 matrix of 4 bits, the file holds 2 x 1");
}

TEST_F(Layer, OfAwqRefusesWhatDoesNotFit) {
  add<std::int32_t>("layer.qweight", {2, 1}, {0, 0});
  add<std::int32_t>("layer.qzeros", {1, 1}, {0});
  expectRefused(kAwq, "expected 2 x 1 words for a 8 x 2 matrix of 4 bits, the file holds 1 x 1");
}

// Formats.

IntegerWeights someWeights(float least_scale, float greatest_scale) {
  IntegerWeights w;
  w.group_size = 64;
  w.codes = decltype(w.codes)::Constant(2, 128, 3);
  w.codes(1, 77) = 15;
  w.scales = RowMatrixXf::Constant(2, 2, least_scale);
  w.scales(1, 1) = greatest_scale;
  w.zeros = RowMatrixXf::Constant(2, 2, 8);
  for (std::uint32_t j = 0; j < 128; ++j) w.group_of.push_back(j / 64);
  return w;
}

TEST(PackIntegers, TakesTheFormatOfFewestBytes) {
  IntegerWeights w = someWeights(0.5f, 2);
  const auto format = [&] { return packIntegers<Formats>(w).value().format(); };
  EXPECT_EQ(format(), "Grouped<Symmetric<4>, 64>");
  w.codes(0, 0) = 0;  // -8
  EXPECT_EQ(format(), "Grouped<Asymmetric<4>, 64>");
  w.zeros(0, 0) = 7;
  EXPECT_EQ(format(), "Grouped<Asymmetric<4>, 64>");
  w.scales(0, 0) = 1.f / 3;
  EXPECT_EQ(format(), "Grouped<Asymmetric<4>, 32, float>") << "two groups of the format for one of the weights";
  w.group_of = std::vector<std::uint32_t>(128);
  for (std::uint32_t j = 0; j < 128; ++j) w.group_of[j] = j % 2;
  EXPECT_EQ(format(), "ActOrder<Grouped<Asymmetric<4>, 32, float>>");
  EXPECT_TRUE(sameBits(packIntegers<Formats>(w)->dequantized(), w.dequantized()));
  w.group_size = 48;
  EXPECT_FALSE(packIntegers<Formats>(w).has_value());
}

TEST(PackIntegers, KeepScalesOfBFloat16InHalves) {
  const float small = 0x1.02p-40f, large = 0x1.fep-22f;
  IntegerWeights w = someWeights(small, large);
  EXPECT_TRUE(sameBits(packIntegers<Int<4>>(w).dequantized(), w.dequantized())) << "by the matrix's unit";
  w.scales(0, 0) = 0x1.02p-60f;
  EXPECT_FALSE(holdsExactly<Int<4>>(w)) << "below what halves reach at once";
  EXPECT_TRUE((holdsExactly<Grouped<Asymmetric<4>, 32, BFloat16>>(w)));
  w.scales(1, 1) = 0x1p126f;
  EXPECT_FALSE(holdsExactly<Int<4>>(w)) << "values beyond float";
  EXPECT_FALSE((holdsExactly<Grouped<Asymmetric<4>, 32, float>>(w)));
}

TEST(PackIntegers, RefusesAFormatThatDoesNotHoldThem) {
  IntegerWeights w = someWeights(0.5f, 2);
  expectThrows([&] { (void)packIntegers<Int<3>>(w); },
               "packIntegers: Grouped<Asymmetric<3>, 32> does not hold the 2 x 128 matrix of 4 bits in groups of 64 "
               "exactly");
  w.group_of[0] = 1;
  w.group_of[127] = 0;
  expectThrows([&] { (void)packIntegers<Int<4>>(w); }, "in groups of 64, in act-order, exactly");
  EXPECT_FALSE((packIntegers<FormatList<Float16, Int<4>>>(w).has_value()));
  static_assert(!IntegerWeightsFormat<Float16> && !IntegerWeightsFormat<PerTensor<Asymmetric<4>>> &&
                !IntegerWeightsFormat<PerChannel<Ternary>> && IntegerWeightsFormat<PerChannel<Symmetric<4>>>);
}

}  // namespace
}  // namespace gosset::integer_weights_test
