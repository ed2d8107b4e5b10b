// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook.hpp>
#include <gosset/entropy/archive.hpp>
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/format/incoherent.hpp>
#include <gosset/format/mixed_columns.hpp>
#include <gosset/matrix.hpp>
#include <gosset/train/learned_step.hpp>

#include "testing.hpp"

#include <algorithm>
#include <string>

namespace gosset::archive_test {
namespace {

using Bytes = std::vector<std::uint8_t>;
using testing::expectThrows;
using testing::gaussian;

template <class Format>
class ArchiveOf : public ::testing::Test {};
using Formats =
    ::testing::Types<PerChannel<Ternary>, Grouped<Asymmetric<3>, 32>, PerTensor<Symmetric<8>, float>, LloydMax<3>,
                     PerChannel<Symmetric<5>>, Incoherent<E8P>, Incoherent<Grouped<Symmetric<3>, 8>>, BFloat16>;
TYPED_TEST_SUITE(ArchiveOf, Formats);

TYPED_TEST(ArchiveOf, MatricesComeBackBitForBit) {
  for (const Index rows : {1, 9, 65}) {
    for (const Index cols : {1, 8, 63, 172}) {
      const auto q = quantize<TypeParam>(gaussian(rows, cols), Nearest{}, {.seed = 3});
      EXPECT_EQ(unarchive<TypeParam>(archive(q)), q) << rows << " x " << cols;
    }
  }
  const auto zero = quantize<TypeParam>(RowMatrixXf::Zero(9, 40));
  EXPECT_EQ(unarchive<TypeParam>(archive(zero)), zero);
}

/// What LlmInt8 takes for outliers is in no shape.
struct Chosen : Nearest {
  std::vector<std::uint32_t> columns;
  std::vector<std::uint32_t> outlierColumns(Index) const { return columns; }
};

TEST(Archive, ArraysOfAnyLengthComeBack) {
  for (const std::vector<std::uint32_t>& columns : std::vector<std::vector<std::uint32_t>>{{}, {3}, {0, 5, 39}}) {
    const auto q = quantize<LlmInt8>(gaussian(20, 40), Chosen{{}, columns});
    const Bytes bytes = archive(q);
    EXPECT_EQ(unarchive<LlmInt8>(bytes), q) << columns.size();
    Bytes lie = bytes;
    const std::string name = "columns";
    *(std::search(lie.begin(), lie.end(), name.begin(), name.end()) + 7) ^= 1;
    EXPECT_THROW(unarchive<LlmInt8>(lie), FormatError);
  }
}

TEST(Archive, TernaryTakesAboutItsEntropy) {
  const RowMatrixXf w = gaussian(512, 512);
  const auto bits = [&](const auto& q) { return 8.0 * static_cast<double>(archive(q).size()) / (512.0 * 512.0); };
  const auto absmean = quantize<PerTensor<Ternary>>(w);
  const auto optimal = quantize<PerTensor<Ternary>>(w, Nearest{}, {.fit = LeastSquares{}});
  EXPECT_LT(bits(absmean), 1.01 * codeEntropy(absmean));
  EXPECT_LT(bits(optimal), 1.01 * codeEntropy(optimal));
  EXPECT_LT(bits(optimal), 1.56);
  EXPECT_GT(bits(optimal), 1.5);
  const auto sixteen = quantize<PerTensor<LloydMax<4>>>(w);
  EXPECT_LT(bits(sixteen), 1.01 * codeEntropy(sixteen));
  const auto eight = quantize<PerTensor<LloydMax<3>>>(w);
  EXPECT_LT(bits(eight), 1.01 * codeEntropy(eight));
  EXPECT_LT(bits(eight), 2.9);
}

/// With a threshold of c standard deviations, a share of erfc(c / sqrt(2)) is not zero: what ternary weights are really
/// worth, as files hold them. Tables and names take 0.012 bits of these.
TEST(Archive, TernaryAtAThresholdOfSixTenthsSigmaIsAboutOneAndAHalfBits) {
  const RowMatrixXf w = gaussian(512, 512);
  LearnedStep<PerTensor<Ternary>> steps(w);
  const auto bits = [&](float threshold) {
    steps.scales()(0, 0) = 2 * threshold;  // levels change halfway
    return 8.0 * static_cast<double>(archive(steps.quantized(w)).size()) / (512.0 * 512.0);
  };
  EXPECT_NEAR(bits(0.6f), 1.542, 0.02);
  EXPECT_NEAR(bits(0.7f), 1.484, 0.02);
  EXPECT_NEAR(bits(0.8f), 1.407, 0.02);
}

TEST(Archive, CodesThatAreTooLargeAreRefused) {
  const auto q = quantize<PerTensor<LloydMax<3>>>(gaussian(20, 40));
  Bytes bytes = archive(q);
  const std::string name = "codes";
  const auto at = std::search(bytes.begin(), bytes.end(), name.begin(), name.end()) + 5 + 8;  // the array's length
  ASSERT_EQ(*at, 2);
  const auto length = static_cast<std::size_t>(detail::littleEndian(&*at + 1, 8));
  for (const int code : {8, 9, 255}) {
    const Bytes content = encodeBytes(Bytes(800, static_cast<std::uint8_t>(code)));
    Bytes forged(bytes.begin(), at + 1);
    detail::appendNumber(forged, static_cast<std::uint64_t>(content.size()));
    forged.insert(forged.end(), content.begin(), content.end());
    forged.insert(forged.end(), at + 9 + static_cast<std::ptrdiff_t>(length), bytes.end());
    expectThrows<FormatError>([&] { unarchive<PerTensor<LloydMax<3>>>(forged); },
                              "it holds the code " + std::to_string(code) + ", expected codes of 3 bits");
  }
  *at = 7;
  expectThrows<FormatError>([&] { unarchive<PerTensor<LloydMax<3>>>(bytes); },
                            "array codes is kept in way 7, which is unknown here");
}

TEST(Archive, ArraysThatAreTooShortOrTooLongAreRefused) {
  const Bytes bytes = archive(quantize<PerTensor<LloydMax<3>>>(gaussian(20, 40)));
  const std::string name = "unit";
  const auto at = std::search(bytes.begin(), bytes.end(), name.begin(), name.end()) - bytes.begin() + 4 + 8;
  ASSERT_EQ(bytes[static_cast<std::size_t>(at)], 0) << "kept as it is";
  ASSERT_EQ(bytes[static_cast<std::size_t>(at) + 1], 4) << "a float";
  Bytes shorter = bytes, longer = bytes;
  shorter[static_cast<std::size_t>(at) + 1] = 3;
  shorter.erase(shorter.begin() + at + 9);
  longer[static_cast<std::size_t>(at) + 1] = 5;
  longer.insert(longer.begin() + at + 9, 0);
  expectThrows<FormatError>([&] { unarchive<PerTensor<LloydMax<3>>>(shorter); }, "array unit has 3 bytes, expected 4");
  expectThrows<FormatError>([&] { unarchive<PerTensor<LloydMax<3>>>(longer); }, "array unit has 5 bytes, expected 4");
}

TEST(Archive, TakesNoMoreMemoryThanItsBytesAllow) {
  using F = PerChannel<Ternary>;
  const auto q = quantize<F>(Eigen::MatrixXf::Zero(160, 4000));  // all codes are the same, and one byte says so
  Bytes bytes = archive(q);
  EXPECT_EQ(bytes.size(), static_cast<std::size_t>((q.bytes() + 63) / 64));
  EXPECT_TRUE(unarchive<F>(bytes) == q);
  bytes.back() = 1;
  expectThrows<FormatError>([&] { unarchive<F>(bytes); }, "what fills it up is not zero");
  bytes.pop_back();
  expectThrows<FormatError>(
      [&] { unarchive<F>(bytes); },
      detail::concat("its arrays would take ", q.bytes(), " bytes, more than 64 for each of its own ", bytes.size()));
  bytes.resize(150);
  bytes[4 + 2 + 19 + 3] = 1;  // 2^24 rows more
  expectThrows<FormatError>([&] { unarchive<F>(bytes, Index{1} << 40); }, "more than 64 for each of its own 150");
}

TEST(Archive, BitsThatBelongToNoCodeAreRefused) {
  const auto expectRefused = []<class F>(std::type_identity<F>, const std::string& array) {
    auto packed = Packed<F>::shaped(3, 21);  // codes of 2 bits: 16 and 5
    packed.visitFields([&]<class T>(std::string_view name, std::span<T> values) {
      if (name == array) values.back() = T(0x80);
    });
    expectThrows<FormatError>(
        [&] { unarchive<F>(archive(QuantizedMatrix<F>(packed))); },
        "in " + Packed<F>::formatName() + ": " + array + ": expected zeros in the bits that belong to no code");
  };
  expectRefused(std::type_identity<PerChannel<Ternary>>{}, "codes");
  expectRefused(std::type_identity<Incoherent<PerChannel<Ternary>>>{}, "inner.codes");
  // Codes that are coded one by one leave such bits out.
  auto packed = Packed<PerChannel<Asymmetric<3>>>::shaped(3, 21);
  const auto q = QuantizedMatrix<PerChannel<Asymmetric<3>>>(packed);
  EXPECT_EQ(unarchive<PerChannel<Asymmetric<3>>>(archive(q)), q);
}

TEST(Archive, CorruptedOnesAreRefused) {
  using F = PerChannel<Ternary>;
  const auto q = quantize<F>(gaussian(40, 70));
  const Bytes bytes = archive(q);
  for (std::size_t size = 0; size < bytes.size(); size += 3) {
    EXPECT_THROW(unarchive<F>(std::span(bytes).first(size)), FormatError) << size;
  }
  Bytes longer = bytes;
  longer.push_back(0);
  expectThrows<FormatError>([&] { unarchive<F>(longer); }, "1 bytes follow its end");
  Bytes another = bytes;
  const std::string name = "scales";
  *(std::search(another.begin(), another.end(), name.begin(), name.end()) + 6) += 1;
  expectThrows<FormatError>([&] { unarchive<F>(another); }, "array scales says that it has 41 numbers, expected 40");
  expectThrows<FormatError>([&] { unarchive<PerTensor<Ternary>>(bytes); },
                            "gosset: corrupted archive: it holds another format than PerTensor<Ternary>");
  expectThrows<FormatError>([&] { unarchive<F>(bytes, 2799); }, "it says 40 x 70, expected 1 to 2799 numbers");
  for (std::size_t i = 0; i < bytes.size(); ++i) {  // damage to arrays kept as they are cannot be seen: no crash then
    Bytes damaged = bytes;
    damaged[i] ^= 0xff;
    try {
      EXPECT_FALSE(unarchive<F>(damaged) == q) << i;
    } catch (const FormatError&) {
    }
  }
}

}  // namespace
}  // namespace gosset::archive_test
