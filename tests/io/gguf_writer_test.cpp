// SPDX-License-Identifier: Apache-2.0
#include <gosset/codebook/asymmetric.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/io/gguf_writer.hpp>
#include <gosset/matrix/quantize.hpp>

#include "io/gguf_bytes.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset::gguf_writer_test {
namespace {

using testing::expectThrows;
using testing::FullDisk;
using testing::gaussian;
using testing::ggufBegin;
using testing::ggufKey;
using testing::ggufTensor;
using testing::number;
using testing::padded;
using testing::readText;
using testing::TemporaryFolder;
using testing::text;
using testing::u32;
using testing::u64;
using Strings = std::vector<std::string>;

TEST(GgufWriter, BytesAsWrittenByHand) {
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("n", std::uint32_t{7});
  writer.set("eps", 1e-5f);
  writer.set("flag", true);
  writer.set("tokens", Strings{"<s>", "a"});
  writer.set("nested", std::vector<std::vector<bool>>{{true}, {}});
  writer.set("n", std::uint16_t{9});  // in its old place
  Eigen::MatrixXf w(2, 3);
  w << 1, 2, 3, 4, 5, 6;
  writer.add("w", w);
  writer.add("v", Eigen::Vector<Float16, 2>(Float16(1), Float16(2)));
  EXPECT_TRUE(writer.contains("w"));
  EXPECT_FALSE(writer.contains("n"));

  std::string bytes = ggufBegin(2, 6) + ggufKey("general.architecture", 8, text("llama")) +
                      ggufKey("n", 2, number<std::uint16_t>(9)) + ggufKey("eps", 6, number(1e-5f)) +
                      ggufKey("flag", 7, "\1") + ggufKey("tokens", 9, u32(8) + u64(2) + text("<s>") + text("a")) +
                      ggufKey("nested", 9, u32(9) + u64(2) + u32(7) + u64(1) + "\1" + u32(7) + u64(0)) +
                      ggufTensor("w", {3, 2}, 0, 0) + ggufTensor("v", {2}, 1, 32);
  bytes = padded(std::move(bytes));
  for (const float x : {1.f, 2.f, 3.f, 4.f, 5.f, 6.f}) bytes += number(x);
  bytes = padded(padded(std::move(bytes)) + number<std::uint16_t>(0x3c00) + number<std::uint16_t>(0x4000));
  const TemporaryFolder folder;
  writer.write(folder / "f");
  EXPECT_EQ(readText(folder / "f"), bytes);
  EXPECT_EQ(folder.list(), Strings{"f"});
  writer.write(folder / "f");  // again
  EXPECT_EQ(readText(folder / "f"), bytes);
}

TEST(GgufWriter, EveryTypeComesBack) {
  const TemporaryFolder folder;
  GgufWriter writer;
  const auto both = [&]<class T>(const std::string& key, const T& value) { writer.set(key, value); };
  both("u8", std::uint8_t{255});
  both("i8", std::int8_t{-128});
  both("i16", std::int16_t{-1});
  both("i32", -7);
  both("u64", ~std::uint64_t{0});
  both("i64", std::int64_t{-9});
  both("f64", 0.1);
  both("floats", std::vector{1.f, 2.f});
  both("text", std::string("a\0b", 3));
  writer.add("f64", Eigen::MatrixXd(gaussian(3, 5).cast<double>()));
  writer.add("bf16", gaussian(2, 2).cast<BFloat16>());
  writer.add("i32", Eigen::Matrix<std::int32_t, 1, 2>(3, -4));
  writer.write(folder / "f");
  const GgufFile file(folder / "f");
  EXPECT_EQ(file.get<std::uint8_t>("u8"), 255);
  EXPECT_EQ(file.get<std::int8_t>("i8"), -128);
  EXPECT_EQ(file.get<std::int16_t>("i16"), -1);
  EXPECT_EQ(file.get<std::int32_t>("i32"), -7);
  EXPECT_EQ(file.get<std::uint64_t>("u64"), ~std::uint64_t{0});
  EXPECT_EQ(file.get<std::int64_t>("i64"), -9);
  EXPECT_EQ(file.get<double>("f64"), 0.1);
  EXPECT_EQ(file.get<std::vector<float>>("floats"), (std::vector{1.f, 2.f}));
  EXPECT_EQ(file.get<std::string>("text"), std::string("a\0b", 3));
  EXPECT_EQ(file.info("f64").type->name, "F64");
  EXPECT_EQ(file.info("f64").shape, (std::vector<Index>{3, 5}));
  EXPECT_EQ(file.matrix("bf16"), gaussian(2, 2).cast<BFloat16>().cast<float>());
  EXPECT_EQ(file.info("i32").shape, std::vector<Index>{2});

  GgufWriter again;
  again.setAll(file);
  again.write(folder / "g");
  const GgufFile other(folder / "g");
  EXPECT_EQ(other.keys(), file.keys());
  for (const std::string& key : file.keys()) EXPECT_EQ(other.value(key), file.value(key));
}

TEST(GgufWriter, PlainFormatsAndNoOthers) {
  const TemporaryFolder folder;
  const RowMatrixXf w = gaussian(4, 9);
  GgufWriter writer;
  writer.add("half", quantize<Float16>(w));
  writer.add("any", AnyMatrix(quantize<BFloat16>(w)));
  writer.add("float", quantize<float>(w));
  expectThrows(
      [&] { writer.add("q", quantize<Grouped<Asymmetric<4>, 8>>(w)); },
      "GgufWriter: tensor 'q' has the format Grouped<Asymmetric<4>, 8>, which no GGUF file can hold; expected one "
      "of ggml's or plain floats");
  expectThrows([&] { writer.add("e", AnyMatrix()); }, "AnyMatrix: the matrix is empty");
  writer.write(folder / "f");
  const GgufFile file(folder / "f");
  EXPECT_EQ(file.names(), (Strings{"half", "any", "float"}));
  EXPECT_EQ(file.matrix("half"), w.cast<Float16>().cast<float>());
  EXPECT_EQ(file.info("any").type->name, "BF16");
  EXPECT_EQ(file.matrix("any"), w.cast<BFloat16>().cast<float>());
  EXPECT_EQ(file.matrix("float"), w);
}

TEST(GgufWriter, AlignsAsItsMetadataSays) {
  const TemporaryFolder folder;
  GgufWriter writer;
  writer.set("general.alignment", std::uint32_t{128});
  writer.add("a", gaussian(1, 3));
  writer.add("b", gaussian(1, 3));
  writer.write(folder / "f");
  const GgufFile file(folder / "f");
  EXPECT_EQ(file.alignment(), 128u);
  EXPECT_EQ(file.info("b").begin - file.info("a").begin, 128u);
  EXPECT_EQ(file.info("a").begin % 128, 0u);
  const std::string wanted = "general.alignment: expected a uint32 that is a power of two up to 1073741824, got ";
  expectThrows([&] { writer.set("general.alignment", std::uint32_t{48}); }, wanted + "uint32 48");
  expectThrows([&] { writer.set("general.alignment", std::uint32_t{0}); }, wanted + "uint32 0");
  expectThrows([&] { writer.set("general.alignment", std::uint64_t{64}); }, wanted + "uint64 0");
}

TEST(GgufWriter, RefusesWhatNoFileHolds) {
  GgufWriter writer;
  expectThrows([&] { writer.set("", 1); }, "key: expected 1 to 65535 bytes, got 0");
  expectThrows([&] { writer.set(std::string(65536, 'k'), 1); }, "key: expected 1 to 65535 bytes, got 65536");
  writer.add("w", gaussian(1, 1));
  expectThrows([&] { writer.add("w", gaussian(1, 1)); }, "name: tensor 'w' was added before");
  expectThrows([&] { writer.add("", gaussian(1, 1)); }, "name: expected 1 to 63 bytes, got 0");
  expectThrows([&] { writer.add(std::string(64, 'w'), gaussian(1, 1)); }, "name: expected 1 to 63 bytes, got 64");
  const GgufWriter::Source nothing = [](const GgufWriter::Put&) {};
  const GgmlType& q4_k = *ggmlType(12);
  expectThrows(
      [&] {
        writer.addSource("q", q4_k, {2, 255}, nothing);
      },
      "shape: tensor 'q': rows of Q4_K are made of blocks of 256 numbers, got a dimension of 255");
  expectThrows([&] { writer.addSource("q", q4_k, {-2, 256}, nothing); }, "got a dimension of -2");
  expectThrows([&] { writer.addSource("q", q4_k, {}, nothing); },
               "shape: tensor 'q': a lone number is no block of Q4_K");
  expectThrows(
      [&] {
        writer.addSource("q", q4_k, {1, 1, 1, 1, 256}, nothing);
      },
      "shape: expected at most 4 dimensions, got 5 for tensor 'q'");
  expectThrows(
      [&] {
        writer.addSource("q", q4_k, {Index{1} << 40, Index{1} << 40}, nothing);
      },
      "shape: tensor 'q' would take more than 2^63 bytes");
  EXPECT_FALSE(writer.contains("q"));
}

TEST(GgufWriter, SourcesGiveWhatTheyPromise) {
  const TemporaryFolder folder;
  for (const std::size_t size : {0u, 3u, 5u}) {
    GgufWriter writer;
    writer.addSource("q", *ggmlType(24), {4},
                     [size](const GgufWriter::Put& put) { put(std::vector<std::byte>(size)); });
    expectThrows([&] { writer.write(folder / "f"); },
                 "source: tensor 'q' takes 4 bytes, its source gave " + std::to_string(size));
  }
  EXPECT_TRUE(folder.list().empty());
}

TEST(GgufWriter, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  testing::writeText(folder / "f", "old");
  GgufWriter writer;
  writer.add("w", gaussian(100, 100));
  {
    const FullDisk full(1000);
    expectThrows<FormatError>([&] { writer.write(folder / "f"); }, "cannot be written");
  }
  EXPECT_EQ(readText(folder / "f"), "old");
  EXPECT_EQ(folder.list(), Strings{"f"});
}

TEST(GgufWriter, MovedFromIsEmpty) {
  const TemporaryFolder folder;
  GgufWriter from;
  from.set("k", 1);
  from.add("w", gaussian(1, 2));
  const GgufWriter to = std::move(from);
  EXPECT_TRUE(to.contains("w"));
  EXPECT_FALSE(from.contains("w"));
  from.write(folder / "f");
  EXPECT_EQ(readText(folder / "f"), padded(ggufBegin(0, 0)));
}

}  // namespace
}  // namespace gosset::gguf_writer_test
