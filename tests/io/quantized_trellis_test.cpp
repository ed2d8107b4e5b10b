// SPDX-License-Identifier: Apache-2.0
// Trellis codes through files and archives, and what damaged ones are.
#include <gosset/codebook/trellis.hpp>
#include <gosset/entropy/archive.hpp>
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <string>
#include <vector>

namespace gosset::quantized_trellis_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::TemporaryFolder;

using C = Trellis<2, 1, 12>;
using Mixed = Grouped<TrellisMixed, 64>;
using Known = FormatList<C, Grouped<C, 64>, Mixed, Incoherent<Mixed>>;

/// Nearest, every tile at a rate of its own.
struct Uneven {
  static constexpr bool kFitsGrid = true;
  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    grid.fitAll(w);
    if constexpr (MixedRates<typename F::Codebook>) {
      std::vector<std::uint8_t> rates;
      for (Index tile = 0; tile < grid.tiles(); ++tile) rates.push_back(static_cast<std::uint8_t>(48 - 40 * tile % 41));
      grid.setRates(rates);
    }
    grid.encodeAll(w, codes);
  }
};

TEST(QuantizedTrellis, ComesBackFromAFile) {
  const TemporaryFolder folder;
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 1}, {9, 21}, {129, 70}, {16, 172}}) {
    const RowMatrixXf w = gaussian(m, n);
    const std::vector<AnyMatrix> all = {AnyMatrix(quantize<C>(w)), AnyMatrix(quantize<Grouped<C, 64>>(w)),
                                        AnyMatrix(quantize<Mixed>(w, Uneven{})),
                                        AnyMatrix(quantize<Incoherent<Mixed>>(w))};
    SafetensorsWriter writer;
    for (std::size_t i = 0; i < all.size(); ++i) addQuantized(writer, std::to_string(i), all[i]);
    writer.write(folder / "f");
    for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
      const SafetensorsFile file(folder / "f", access);
      for (std::size_t i = 0; i < all.size(); ++i) {
        for (const PackedAccess how : {PackedAccess::kView, PackedAccess::kCopy}) {
          const AnyMatrix read = readAny<Known>(file, std::to_string(i), how);
          EXPECT_EQ(read, all[i]);
          EXPECT_EQ(read.dequantized(), all[i].dequantized());
        }
      }
      const auto typed = readQuantized<QuantizedMatrix<Mixed>>(file, "2");
      EXPECT_EQ(AnyMatrix(typed), all[2]);
    }
  }
}

TEST(QuantizedTrellis, NamesThatMeanTheSame) {
  const TemporaryFolder folder;
  const auto q = quantize<PerTensor<Trellis<4, 2, 12>>>(gaussian(9, 21));
  SafetensorsWriter writer;
  addQuantized(writer, "w", q);
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(packedFormat(file, "w"), "PerTensor<Trellis<2, 1, 12>>");
  EXPECT_EQ(readQuantized<QuantizedMatrix<C>>(file, "w").dequantized(), q.dequantized());
  expectThrows<FormatError>([&] { (void)readQuantized<QuantizedMatrix<Trellis<2>>>(file, "w"); }, "Trellis<2, 1, 12>");
}

TEST(QuantizedTrellis, WhatIsInTheFile) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  addQuantized(writer, "w", quantize<Mixed>(gaussian(17, 70), Uneven{}));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  const auto expectTensor = [&](const std::string& name, Dtype dtype, Index size) {
    EXPECT_EQ(file.info(name).dtype, dtype) << name;
    EXPECT_EQ(file.info(name).shape, std::vector<Index>{size}) << name;
  };
  EXPECT_EQ(file.tensors().size(), 4u);
  expectTensor("w.rate_sums", Dtype::kU32, 3);
  expectTensor("w.codes", Dtype::kU8, 2 * (8 * 48 + 8 * 8 + 2 * 9));
  expectTensor("w.scales", Dtype::kF16, 17 * 2);
  expectTensor("w.unit", Dtype::kF32, 1);
  EXPECT_THAT(file.vector<std::uint32_t>("w.rate_sums"), ::testing::ElementsAre(48, 56, 65));
}

/// A packed matrix with other rate sums, or other bytes of codes, or these in a tensor of rank 2.
void writeDamaged(const std::filesystem::path& path, const std::vector<std::uint32_t>& sums, std::size_t bytes,
                  std::uint8_t last_byte = 0, bool in_pairs = false) {
  std::vector<std::uint8_t> codes(bytes);
  if (bytes > 0) codes.back() = last_byte;
  const std::vector<Float16> scales(17 * 2, Float16(1.f));
  const float unit = 1;
  const auto extent = [](std::size_t size) { return std::vector<Index>{static_cast<Index>(size)}; };
  SafetensorsWriter writer;
  writer.add<std::uint32_t>("w.rate_sums", extent(sums.size()), sums);
  writer.add<std::uint8_t>("w.codes", in_pairs ? std::vector<Index>{extent(bytes / 2)[0], 2} : extent(bytes), codes);
  writer.add<Float16>("w.scales", extent(scales.size()), scales);
  writer.add<float>("w.unit", extent(1), std::span(&unit, 1));
  writer.setMetadata("gosset.w.format", "Grouped<TrellisMixed, 64>");
  writer.setMetadata("gosset.w.version", "2");
  writer.setMetadata("gosset.w.rows", "17");
  writer.setMetadata("gosset.w.cols", "70");
  writer.write(path);
}

TEST(QuantizedTrellis, DamagedRatesAreRefused) {
  const TemporaryFolder folder;
  const auto bytesOf = [](Index a, Index b, Index c) { return static_cast<std::size_t>(2 * (8 * a + 8 * b + 2 * c)); };
  writeDamaged(folder / "f", {48, 56, 65}, bytesOf(48, 8, 9));
  EXPECT_EQ(readAny<Known>(SafetensorsFile(folder / "f"), "w").rows(), 17) << "nothing is wrong with this one";
  struct Damage {
    std::vector<std::uint32_t> sums;
    std::size_t bytes;
  };
  const std::vector<Damage> all = {{{48, 55, 64}, bytesOf(48, 7, 9)},   // below 8 eighths
                                   {{49, 57, 66}, bytesOf(49, 8, 9)},   // above 48
                                   {{48, 56, 65}, bytesOf(48, 8, 10)},  // other bytes than rates say
                                   {{48, 56, 66}, bytesOf(48, 8, 9)},   // rates that need more
                                   {{48, 40, 49}, bytesOf(48, 8, 9)},   // sums that fall
                                   {{48, 56, 0}, bytesOf(48, 8, 9)},    // and wrap
                                   {{0, 0, 0}, 0},
                                   {{0xffffffff, 7, 16}, bytesOf(8, 8, 9)},
                                   {{48, 56}, bytesOf(48, 8, 9)},  // too few
                                   {{48, 56, 65, 73}, bytesOf(48, 8, 9)}};
  for (const Damage& damage : all) {
    writeDamaged(folder / "f", damage.sums, damage.bytes);
    for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
      const SafetensorsFile file(folder / "f", access);
      for (const PackedAccess how : {PackedAccess::kView, PackedAccess::kCopy}) {
        EXPECT_THROW((void)readAny<Known>(file, "w", how), FormatError) << damage.sums[0] << ' ' << damage.sums[1];
      }
    }
  }
  writeDamaged(folder / "f", {49, 57, 66}, bytesOf(49, 8, 9));
  expectThrows<FormatError>(
      [&] { (void)readAny<Known>(SafetensorsFile(folder / "f"), "w"); },
      "make no sense in 'Grouped<TrellisMixed, 64>': rate_sums: expected sums of rates of 8 to 48 "
      "eighths of a bit");
  writeDamaged(folder / "f", {48, 56, 65}, bytesOf(48, 8, 9), 0x80);  // behind the states of the last block's only row
  expectThrows<FormatError>([&] { (void)readAny<Known>(SafetensorsFile(folder / "f"), "w"); },
                            "codes: expected zeros in the bits that belong to no code");
  writeDamaged(folder / "f", {48, 56, 65}, bytesOf(48, 8, 9), 0, true);
  expectThrows<FormatError>([&] { (void)readAny<Known>(SafetensorsFile(folder / "f"), "w"); },
                            "expected U8 of shape [0] in a 17 x 70 matrix, the file holds U8 of shape [466, 2]");
}

TEST(QuantizedTrellis, ThroughArchives) {
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{1, 1}, {129, 70}}) {
    const RowMatrixXf w = gaussian(m, n);
    const auto plain = quantize<Grouped<C, 64>>(w);
    const auto mixed = quantize<Mixed>(w, Uneven{});
    EXPECT_EQ((unarchive<Grouped<C, 64>>(archive(plain))), plain);
    EXPECT_EQ(unarchive<Mixed>(archive(mixed)), mixed);
    EXPECT_EQ(unarchive<TrellisMixed>(archive(quantize<TrellisMixed>(w))), quantize<TrellisMixed>(w));
    auto bytes = archive(mixed);
    for (std::size_t size = 0; size < bytes.size(); size += 1 + size / 8) {
      EXPECT_THROW((void)unarchive<Mixed>(std::span(bytes).first(size)), FormatError) << size;
    }
    for (std::size_t i = 0; i < bytes.size(); i += 1 + i / 64) {  // any error, or another matrix, but no step beyond
      auto damaged = bytes;
      damaged[i] ^= 0x41;
      try {
        EXPECT_TRUE(unarchive<Mixed>(damaged).packed().isValid()) << i;
      } catch (const FormatError&) {
      }
    }
  }
}

}  // namespace
}  // namespace gosset::quantized_trellis_test
