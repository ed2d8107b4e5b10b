// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/gguf_quantized.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/gptq.hpp>

#include "io/gguf_bytes.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gosset::gguf_quantized_test {
namespace {

using testing::expectThrows;
using testing::gaussian;
using testing::TemporaryFolder;

TEST(GgufQuantized, EveryFormatComesBackAndIsShownWhereItLies) {
  const TemporaryFolder folder;
  const RowMatrixXf w = gaussian(3, 512);
  std::vector<AnyMatrix> matrices;
  GgufWriter writer;
  for (const std::string& name : GgufFormats::names()) {
    if (name.starts_with("ggml::IQ2") || name.starts_with("ggml::IQ3")) continue;  // which are read only
    matrices.push_back(quantizeAs<GgufFormats>(name, w));
    writer.add(name, matrices.back());
  }
  EXPECT_EQ(matrices.size(), 18u);
  writer.write(folder / "f");
  const auto file = std::make_unique<GgufFile>(folder / "f");
  std::vector<AnyMatrix> views;
  for (const AnyMatrix& matrix : matrices) {
    views.push_back(readGguf(*file, matrix.format()));
    EXPECT_EQ(views.back(), matrix) << matrix.format();
    EXPECT_FALSE(views.back().owns());
    const AnyMatrix copy = readGguf(*file, matrix.format(), PackedAccess::kCopy);
    EXPECT_EQ(copy, matrix);
    EXPECT_TRUE(copy.owns());
  }
  const auto q = readGguf<ggml::Q4_K>(*file, "ggml::Q4_K");
  EXPECT_EQ(q, quantize<ggml::Q4_K>(w));
  q.packed().visitFields([&](std::string_view, auto bytes) {
    EXPECT_EQ(static_cast<const void*>(bytes.data()), static_cast<const void*>(file->data("ggml::Q4_K").data()));
  });
  GgufWriter().write(folder / "f");  // which unlinks the old file; its memory stays
  for (std::size_t i = 0; i < views.size(); ++i) EXPECT_EQ(views[i].dequantized(), matrices[i].dequantized());
}

TEST(GgufQuantized, FormatsThatAreReadOnly) {
  const TemporaryFolder folder;
  GgufWriter writer;
  for (const std::uint32_t id : {16u, 17u, 18u, 21u, 22u}) {
    const GgmlType& type = *ggmlType(id);
    std::vector<std::uint8_t> bytes(20 * 2 * type.block_bytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(randomBits(id, i));
    for (std::size_t i = 1; i < bytes.size(); i += type.block_bytes) bytes[i] = 0x20;  // scales of about 2^-7
    writer.addSource(type.name, type, {20, 512},
                     [bytes](const GgufWriter::Put& put) { put(std::as_bytes(std::span(bytes))); });
  }
  writer.write(folder / "f");
  const GgufFile file(folder / "f");
  for (const std::string& name : file.names()) {
    const AnyMatrix q = readGguf(file, name);
    EXPECT_EQ(q.format(), "ggml::" + name);
    const RowMatrixXf w = q.dequantized();
    EXPECT_GT(w.cwiseAbs().minCoeff(), 0);  // no point of these has a 0
    const Eigen::MatrixXf x = gaussian(512, 3), y = q * x;
    EXPECT_LT((y - w * x).norm(), 0.02f * y.norm());
    expectThrows([&] { (void)quantizeAs<GgufFormats>("ggml::" + name, w); },
                 "the rounding cannot choose codes of this format");
  }
}

TEST(GgufQuantized, WhatIsNotThere) {
  const TemporaryFolder folder;
  GgufWriter writer;
  writer.add("q", quantize<ggml::Q4_K>(gaussian(2, 256)));
  writer.add("w", gaussian(2, 4));
  writer.addSource("cube", *ggmlType(2), {2, 2, 32},
                   [](const GgufWriter::Put& put) { put(std::vector<std::byte>(72)); });
  writer.addSource("q1", *ggmlType(41), {1, 128}, [](const GgufWriter::Put& put) { put(std::vector<std::byte>(18)); });
  writer.addSource("ints", *ggmlType(26), {1}, [](const GgufWriter::Put& put) { put(std::vector<std::byte>(4)); });
  writer.addSource("row", *ggmlType(8), {32}, [](const GgufWriter::Put& put) { put(std::vector<std::byte>(34)); });
  writer.addSource("nan", *ggmlType(8), {1, 32},
                   [](const GgufWriter::Put& put) { put(std::vector<std::byte>(34, std::byte{0xff})); });
  writer.write(folder / "f");
  const GgufFile file(folder / "f");
  expectThrows<FormatError>([&] { (void)readGguf<ggml::Q4_K>(file, "none"); }, "holds no tensor 'none'");
  expectThrows<FormatError>([&] { (void)readGguf<ggml::Q5_K>(file, "q"); }, ": expected Q5_K, the file holds Q4_K");
  expectThrows<FormatError>([&] { (void)readGguf<float>(file, "q"); }, ": expected F32, the file holds Q4_K");
  expectThrows<FormatError>([&] { (void)readGguf<ggml::Q4_0>(file, "cube"); }, ": expected a matrix, got 3 dimensions");
  expectThrows<FormatError>(
      [&] { (void)readGguf(file, "q1"); },
      ": it is of type Q1_0, which is not among those known here: float; Float16; BFloat16; ggml::");
  expectThrows<FormatError>([&] { (void)readGguf(file, "ints"); }, ": it is of type I32, which is not among");
  expectThrows<FormatError>([&] { (void)readGguf(file, "nan"); },
                            ": its ggml::Q8_0 makes no sense: blocks: expected finite scales");
  EXPECT_EQ(readGguf(file, "row").rows(), 1);
  EXPECT_EQ(readGguf(file, "w").dequantized(), gaussian(2, 4));
  using Few = FormatList<Float16, ggml::Q4_K>;
  EXPECT_EQ(readGguf<Few>(file, "q").format(), "ggml::Q4_K");
  expectThrows<FormatError>([&] { (void)readGguf<Few>(file, "w"); },
                            ": it is of type F32, which is not among those known here: Float16; ggml::Q4_K");
}

/// Vocabularies of real models, which other programs wrote.
TEST(GgufQuantized, FilesOfOthersRead) {
  const auto data = testing::dataFolder();
  if (!data || !std::filesystem::is_directory(*data / "vocab")) GTEST_SKIP() << "no shared vocabularies";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*data / "vocab")) {
    if (entry.path().extension() != ".gguf") continue;
    const GgufFile file(entry.path());
    const auto tokens = file.get<std::vector<std::string>>("tokenizer.ggml.tokens");
    EXPECT_GT(tokens.size(), 1000u);
    EXPECT_EQ(file.get<std::vector<int>>("tokenizer.ggml.token_type").size(), tokens.size());
    const TemporaryFolder folder;
    GgufWriter writer;
    writer.setAll(file);
    for (const std::string& name : file.names()) {
      const GgufTensor& info = file.info(name);
      writer.addSource(name, *info.type, info.shape,
                       [&file, name](const GgufWriter::Put& put) { put(file.data(name)); });
    }
    writer.write(folder / "f");
    // gguf-py leaves out the zeros before the data where there is none.
    EXPECT_EQ(file.version(), 3u);
    EXPECT_TRUE(testing::readText(folder / "f").starts_with(testing::readText(entry.path()))) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace gosset::gguf_quantized_test
