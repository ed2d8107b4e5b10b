// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/quantized.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::quantized_test {
namespace {

using testing::expectThrows;
using testing::readText;
using testing::TemporaryFolder;

/// A packed matrix with an array of every type: 4 bits a code, rows padded to whole bytes.
class Mock : public PackedBase<Mock> {
 public:
  static inline int shaped_calls = 0;

  static Mock shaped(Index rows, Index cols, const FieldLengths& = {}) {
    ++shaped_calls;
    Mock mock;
    mock.rows_ = rows;
    mock.cols_ = cols;
    mock.codes_.resize(static_cast<std::size_t>(rows * ceilDiv(cols, 2)));
    mock.scales_.resize(static_cast<std::size_t>(rows));
    mock.zeros_.resize(static_cast<std::size_t>(rows));
    mock.wide_.resize(static_cast<std::size_t>(cols));
    return mock;
  }
  static std::string formatName() { return "Mock<Asymmetric<4>, 64>"; }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::string fault() const { return unit_ >= 0.f ? "" : "unit: expected none below 0"; }

  void computeRows(Index, Index, Eigen::Ref<RowMatrixXf> w) const { w.setZero(); }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("codes", self.codes_);
    visit("scales", self.scales_);
    visit("inner.zeros", self.zeros_);
    visit("wide", self.wide_);
    visit("unit", self.unit_);
    visit("seed", self.seed_);
    visit("count", self.count_);
  }

  /// Any bits in every array, NaNs among them.
  void fill(std::uint64_t seed) {
    visitFields([&]<class T>(std::string_view field, std::span<T> values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint64_t bits = randomBits(seed + field.size(), i);
        std::memcpy(static_cast<void*>(&values[i]), &bits, sizeof(T));
      }
    });
    unit_ = 0.75f;
  }
  void setUnit(float unit) { unit_ = unit; }

  std::vector<std::byte> allBytes() const {
    std::vector<std::byte> all;
    visitFields([&]<class T>(std::string_view, std::span<T> values) {
      const auto bytes = std::as_bytes(values);
      all.insert(all.end(), bytes.begin(), bytes.end());
    });
    return all;
  }

 private:
  Index rows_ = 0, cols_ = 0;
  std::vector<std::uint8_t> codes_;
  std::vector<Float16> scales_;
  std::vector<BFloat16> zeros_;
  std::vector<std::uint16_t> wide_;
  float unit_ = 0.f;
  std::uint64_t seed_ = 0;
  std::uint32_t count_ = 0;
};
static_assert(PackedMatrix<Mock>);

/// Another format of the same arrays.
struct OtherMock : Mock {
  static OtherMock shaped(Index rows, Index cols, const FieldLengths& = {}) { return {Mock::shaped(rows, cols)}; }
  static std::string formatName() { return "Other"; }
};

Mock filled(Index rows, Index cols, std::uint64_t seed = 1) {
  Mock mock = Mock::shaped(rows, cols);
  mock.fill(seed);
  return mock;
}

TEST(Quantized, RoundTripIsExact) {
  const TemporaryFolder folder;
  const std::vector<std::pair<Index, Index>> shapes = {{1, 1}, {7, 9}, {63, 65}, {172, 417}, {8, 1}};
  SafetensorsWriter writer;
  const RowMatrixXf dense = testing::gaussian(3, 5);
  writer.add("bias", dense);
  for (const auto& [rows, cols] : shapes) {
    addPacked(writer, "w" + std::to_string(rows), filled(rows, cols));
  }
  writer.write(folder / "f");
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
    const SafetensorsFile file(folder / "f", access);
    for (const auto& [rows, cols] : shapes) {
      const auto read = readPacked<Mock>(file, "w" + std::to_string(rows));
      EXPECT_EQ(read.rows(), rows);
      EXPECT_EQ(read.cols(), cols);
      EXPECT_EQ(read.allBytes(), filled(rows, cols).allBytes());
    }
    EXPECT_EQ(file.matrix<float>("bias"), dense);
  }
}

TEST(Quantized, WhatIsInTheFile) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  addPacked(writer, "layer.0.w", filled(7, 9));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(file.metadata(), (MetadataMap{{"gosset.layer.0.w.format", "Mock<Asymmetric<4>, 64>"},
                                          {"gosset.layer.0.w.version", "2"},
                                          {"gosset.layer.0.w.rows", "7"},
                                          {"gosset.layer.0.w.cols", "9"}}));
  EXPECT_EQ(file.tensors().size(), 7u);
  const auto expectTensor = [&](const std::string& name, Dtype dtype, Index size) {
    EXPECT_EQ(file.info(name).dtype, dtype) << name;
    EXPECT_EQ(file.info(name).shape, std::vector<Index>{size}) << name;
  };
  expectTensor("layer.0.w.codes", Dtype::kU8, 35);
  expectTensor("layer.0.w.scales", Dtype::kF16, 7);
  expectTensor("layer.0.w.inner.zeros", Dtype::kBF16, 7);
  expectTensor("layer.0.w.wide", Dtype::kU16, 9);
  expectTensor("layer.0.w.unit", Dtype::kF32, 1);
  expectTensor("layer.0.w.seed", Dtype::kU64, 1);
  expectTensor("layer.0.w.count", Dtype::kU32, 1);
  EXPECT_EQ(packedFormat(file, "layer.0.w"), "Mock<Asymmetric<4>, 64>");
  EXPECT_EQ(packedFormat(file, "layer.0"), std::nullopt);
}

TEST(Quantized, ViewAndCopyWriteTheSameFile) {
  const TemporaryFolder folder;
  const Mock mock = filled(7, 9);
  SafetensorsWriter copy, view;
  addPacked(copy, "w", mock);
  addPackedView(view, "w", mock);
  copy.write(folder / "copy");
  view.write(folder / "view");
  EXPECT_EQ(readText(folder / "copy"), readText(folder / "view"));
}

TEST(Quantized, ACopyMayGo) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  {
    Mock mock = filled(7, 9);
    addPacked(writer, "w", mock);
    mock.fill(2);
  }
  writer.write(folder / "f");
  EXPECT_EQ(readPacked<Mock>(SafetensorsFile(folder / "f"), "w").allBytes(), filled(7, 9).allBytes());
}

TEST(Quantized, ATakenNameLeavesTheWriterAsItWas) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add("w.unit", Eigen::Vector2f(1.f, 2.f));
  expectThrows([&] { addPacked(writer, "w", filled(7, 9)); }, "gosset: name: tensor 'w.unit' was added before");
  EXPECT_FALSE(writer.contains("w.codes"));
  writer.write(folder / "f");
  EXPECT_TRUE(SafetensorsFile(folder / "f").metadata().empty());
}

/// A file of one 7 x 9 matrix "w", with its strings and tensors changed before it is written.
class LyingFile : public ::testing::Test {
 protected:
  LyingFile() {
    const Mock mock = filled(7, 9);
    strings_ = {{"format", Mock::formatName()}, {"version", "2"}, {"rows", "7"}, {"cols", "9"}};
    mock.visitFields([&]<class T>(std::string_view field, std::span<T> values) {
      const auto bytes = std::as_bytes(values);
      tensors_[std::string(field)] = {
          dtypeOf<std::remove_const_t<T>>(), {static_cast<Index>(values.size())}, {bytes.begin(), bytes.end()}};
    });
  }

  struct Tensor {
    Dtype dtype;
    std::vector<Index> shape;
    std::vector<std::byte> bytes;
  };

  void expectRefused(const std::string& text, int shaped_calls) {
    SafetensorsWriter writer;
    for (const auto& [key, value] : strings_) writer.setMetadata("gosset.w." + key, value);
    for (const auto& [field, tensor] : tensors_) {
      writer.addSource("w." + field, tensor.dtype, tensor.shape,
                       [&tensor = tensor](const SafetensorsWriter::Put& put) { put(tensor.bytes); });
    }
    const TemporaryFolder folder;
    writer.write(folder / "f");
    const SafetensorsFile file(folder / "f");
    const std::string prefix = "gosset: " + (folder / "f").string() + ": ";
    Mock::shaped_calls = 0;
    expectThrows<FormatError>([&] { (void)readPacked<Mock>(file, "w"); }, prefix + expand(text, file));
    EXPECT_EQ(Mock::shaped_calls, shaped_calls);  // memory is asked for only where the shape is believable
  }

  /// Puts the place of tensor w.<field> for "{field}".
  static std::string expand(std::string text, const SafetensorsFile& file) {
    const std::size_t open = text.find('{');
    if (open == std::string::npos) return text;
    const std::size_t close = text.find('}');
    const std::string field = text.substr(open + 1, close - open - 1);
    return text.replace(open, close - open + 1, std::to_string(file.info("w." + field).begin));
  }

  std::map<std::string, std::string> strings_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(LyingFile, Missing) {
  strings_.erase("format");
  expectRefused("holds no packed matrix 'w': the metadata has no 'gosset.w.format'", 0);
}

TEST_F(LyingFile, NoRows) {
  strings_.erase("rows");
  expectRefused("holds no packed matrix 'w': the metadata has no 'gosset.w.rows'", 0);
}

TEST_F(LyingFile, OtherFormat) {
  strings_["format"] = "Grouped<Symmetric<4>, 64>";
  expectRefused(
      "packed matrix 'w': expected the format 'Mock<Asymmetric<4>, 64>', the file holds 'Grouped<Symmetric<4>, 64>'",
      0);
}

TEST_F(LyingFile, OtherVersion) {
  strings_["version"] = "1";  // codes row after row, where they now stand as kernel/layout.hpp draws them
  expectRefused("packed matrix 'w': expected version 2, the file holds 1", 0);
  strings_["version"] = "3";
  expectRefused("packed matrix 'w': expected version 2, the file holds 3", 0);
}

TEST_F(LyingFile, NoNumbers) {
  for (const std::string text : {"", "-1", "-7", "7.0", "7 ", " 7", "+7", "0x7", "seven", "9223372036854775808"}) {
    strings_["rows"] = text;
    expectRefused("packed matrix 'w': rows must be an integer of at least 0, got '" + text + "'", 0);
  }
  strings_["rows"] = "7";
  strings_["version"] = "1.0";
  expectRefused("packed matrix 'w': version must be an integer of at least 0, got '1.0'", 0);
}

TEST_F(LyingFile, ShapesThatTheFileCannotFill) {
  // 35 codes, 2 x 7 halves, 9 words and 16 bytes: 97 bytes.
  const std::vector<std::pair<std::string, std::string>> shapes = {
      {"1", "777"},
      {"777", "1"},
      {"0", "777"},
      {"777", "0"},
      {"9223372036854775807", "0"},
      {"9223372036854775807", "9223372036854775807"},
      {"4294967296", "4294967296"},  // the product is 0 in 64 bits
      {"6148914691236517205", "3"},  // 2^64 - 1
      {"3689348814741910324", "5"},  // 2^64 + 4, which is 4
  };
  for (const auto& [rows, cols] : shapes) {
    strings_["rows"] = rows;
    strings_["cols"] = cols;
    expectRefused("packed matrix 'w': its tensors hold 776 bits, too few for " + rows + " x " + cols + " numbers", 0);
  }
}

TEST_F(LyingFile, AnotherShapeThanItsArrays) {
  strings_["cols"] = "11";
  expectRefused(
      "tensor 'w.codes' at byte {codes}: expected U8 of shape [42] in a 7 x 11 matrix, the file holds U8 of shape [35]",
      1);
}

TEST_F(LyingFile, NoTensor) {
  tensors_.erase("inner.zeros");
  expectRefused("holds no tensor 'w.inner.zeros'", 1);
}

TEST_F(LyingFile, WrongDtype) {
  tensors_["scales"].dtype = Dtype::kBF16;
  expectRefused(
      "tensor 'w.scales' at byte {scales}: expected F16 of shape [7] in a 7 x 9 matrix, the file holds BF16 of shape "
      "[7]",
      1);
}

TEST_F(LyingFile, WrongLength) {
  tensors_["seed"] = {Dtype::kU64, {2}, std::vector<std::byte>(16)};
  expectRefused(
      "tensor 'w.seed' at byte {seed}: expected U64 of shape [1] in a 7 x 9 matrix, the file holds U64 of shape [2]",
      1);
}

TEST_F(LyingFile, WrongRank) {
  tensors_["codes"].shape = {7, 5};
  expectRefused(
      "tensor 'w.codes' at byte {codes}: expected U8 of shape [35] in a 7 x 9 matrix, the file holds U8 of shape [7, "
      "5]",
      1);
  tensors_["codes"].shape = {35};
  tensors_["unit"].shape = {};
  expectRefused(
      "tensor 'w.unit' at byte {unit}: expected F32 of shape [1] in a 7 x 9 matrix, the file holds F32 of shape []", 1);
}

TEST_F(LyingFile, ContentsThatMakeNoSense) {
  const float unit = -1.f;
  std::memcpy(tensors_["unit"].bytes.data(), &unit, sizeof(unit));
  expectRefused(
      "packed matrix 'w': its arrays hold numbers that make no sense in 'Mock<Asymmetric<4>, 64>': unit: expected "
      "none below 0",
      1);
}

TEST(Quantized, TypesAreCheckedByName) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  addPacked(writer, "w", filled(7, 9));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  expectThrows<FormatError>([&] { (void)readPacked<OtherMock>(file, "w"); },
                            "packed matrix 'w': expected the format 'Other', the file holds 'Mock<Asymmetric<4>, 64>'");
  expectThrows<FormatError>([&] { (void)readPacked<Mock>(file, "v"); },
                            "holds no packed matrix 'v': the metadata has no 'gosset.v.format'");
}

}  // namespace
}  // namespace gosset::quantized_test
