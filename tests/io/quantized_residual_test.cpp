// SPDX-License-Identifier: Apache-2.0
// Files of formats whose arrays have lengths of their own, or contents that may make no sense.
#include <gosset/codebook.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace gosset {
namespace quantized_residual_test {

/// A format of which nothing makes sense.
struct Nonsense {};

}  // namespace quantized_residual_test

template <>
class Packed<quantized_residual_test::Nonsense> : public Packed<float> {
 public:
  explicit Packed(Packed<float> packed) : Packed<float>(std::move(packed)) {}
  static Packed shaped(Index rows, Index cols, const FieldLengths& = {}) {
    return Packed(Packed<float>::shaped(rows, cols));
  }
  std::string fault() const { return "values: expected sense"; }
};

}  // namespace gosset

namespace gosset::quantized_residual_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::TemporaryFolder;

/// Columns by number, as the argument of a MixedColumns format.
struct Columns : Nearest {
  std::vector<std::uint32_t> columns;
  const std::vector<std::uint32_t>& outlierColumns(Index) const { return columns; }
};

template <class Format>
QuantizedMatrix<Format> throughFile(const QuantizedMatrix<Format>& q) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  addQuantized(writer, "w", q);
  writer.write(folder / "f");
  return readQuantized<QuantizedMatrix<Format>>(SafetensorsFile(folder / "f"), "w");
}

TEST(QuantizedResidual, MixedColumnsComeBackWhateverTheirNumber) {
  for (const Index cols : testing::kOddSizes) {
    std::vector<std::uint32_t> all(static_cast<std::size_t>(cols));
    for (std::size_t j = 0; j < all.size(); ++j) all[j] = static_cast<std::uint32_t>(j);
    for (const auto& columns : {std::vector<std::uint32_t>{}, {static_cast<std::uint32_t>(cols - 1)}, all}) {
      const auto q = quantize<LlmInt8>(gaussian(9, cols), Columns{{}, columns});
      const auto back = throughFile(q);
      EXPECT_EQ(back, q) << cols;
      EXPECT_EQ(back.dequantized(), q.dequantized());
      EXPECT_EQ(back.packed().columns().size(), columns.size());
    }
  }
}

TEST(QuantizedResidual, WrappersHandTheLengthsOn) {
  const Columns columns{{}, {3, 40}};
  const auto low = quantize<LowRank<LlmInt8, 2>>(gaussian(9, 65), columns);
  EXPECT_EQ(throughFile(low), low);
  EXPECT_EQ(throughFile(low).packed().inner().columns().size(), 2u);
  const auto sparse = quantize<Outliers<LlmInt8, 20>>(gaussian(9, 417), columns);
  EXPECT_EQ(throughFile(sparse), sparse);
  const auto twice = quantize<Outliers<LowRank<LlmInt8, 1>, 20>>(gaussian(9, 417), columns);
  EXPECT_EQ(throughFile(twice), twice);
}

/// A file whose arrays say what a test makes them say.
class LyingColumns : public ::testing::Test {
 protected:
  void expectRefused(const std::string& text) {
    SafetensorsWriter writer;
    const auto q = quantize<Format>(gaussian(5, 12), Columns{{}, {2, 7}});
    q.packed().visitFields([&]<class T>(std::string_view field, std::span<T> values) {
      if (field == "columns") {
        writer.add<std::uint32_t>("w.columns", {static_cast<Index>(columns_.size())}, columns_);
      } else if (field == "values") {
        writer.add<Float16>("w.values", {static_cast<Index>(values_.size())}, values_);
      } else if (field == "unit") {
        writer.add<float>("w.unit", {1}, std::span<const float>(&unit_, 1));
      } else {
        writer.add<std::remove_const_t<T>>(std::string("w.") + std::string(field), {static_cast<Index>(values.size())},
                                           values);
      }
    });
    writer.setMetadata("gosset.w.format", Packed<Format>::formatName());
    writer.setMetadata("gosset.w.version", "2");
    writer.setMetadata("gosset.w.rows", "5");
    writer.setMetadata("gosset.w.cols", "12");
    writer.write(folder_ / "f");
    const SafetensorsFile file(folder_ / "f");
    if (text.empty()) {
      EXPECT_NO_THROW((void)readPacked<Packed<Format>>(file, "w"));
    } else {
      expectThrows<FormatError>([&] { (void)readPacked<Packed<Format>>(file, "w"); }, text);
    }
  }

  using Format = LlmInt8;
  std::vector<std::uint32_t> columns_ = {2, 7};
  std::vector<Float16> values_ = std::vector<Float16>(10, Float16(1.f));
  float unit_ = 1;
  TemporaryFolder folder_;
};

TEST_F(LyingColumns, TheTruthIsRead) { expectRefused(""); }

TEST_F(LyingColumns, ThatDoNotRiseOrLieBeyondTheMatrix) {
  const std::string text =
      "packed matrix 'w': its arrays hold numbers that make no sense in 'MixedColumns<PerChannel<Symmetric<8>>>'";
  for (const auto& columns : std::vector<std::vector<std::uint32_t>>{{7, 2}, {7, 7}, {2, 12}, {2, 0xffffffffu}}) {
    columns_ = columns;
    expectRefused(text);
  }
}

TEST_F(LyingColumns, OfAnotherNumberThanTheirValues) {
  columns_ = {1, 2, 7};
  expectRefused("its arrays hold numbers that make no sense in 'MixedColumns<PerChannel<Symmetric<8>>>'");
  columns_ = {1};
  expectRefused("expected F16 of shape [5] in a 5 x 12 matrix, the file holds F16 of shape [10]");
  columns_ = std::vector<std::uint32_t>(13, 1);
  expectRefused("expected U32 of shape [12] in a 5 x 12 matrix, the file holds U32 of shape [13]");
}

TEST_F(LyingColumns, OfNoUnit) {
  for (const float unit : {0.f, -1.f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    unit_ = unit;
    expectRefused("its arrays hold numbers that make no sense in");
  }
}

TEST(QuantizedResidual, WrappersAskWhatIsInside) {
  EXPECT_EQ(Packed<Incoherent<LlmInt8>>::shaped(3, 4).fault(), "");
  const std::string inside = "inner.values: expected sense";
  EXPECT_EQ(Packed<Incoherent<Nonsense>>::shaped(3, 4).fault(), inside);
  EXPECT_EQ((Packed<LowRank<Nonsense, 1>>::shaped(3, 4).fault()), inside);
  EXPECT_EQ((Packed<Outliers<Nonsense, 1>>::shaped(3, 4).fault()), inside);
  EXPECT_EQ((Packed<MixedColumns<Nonsense>>::shaped(3, 4).fault()), inside);
  EXPECT_EQ((Packed<Outliers<LowRank<Nonsense, 1>, 1>>::shaped(3, 4).fault()), "inner." + inside);
  auto scaled = Packed<ChannelScaled<Nonsense>>::shaped(3, 4);
  EXPECT_EQ(scaled.fault(), inside);
}

}  // namespace
}  // namespace gosset::quantized_residual_test
