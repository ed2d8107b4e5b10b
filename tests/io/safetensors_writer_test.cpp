// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/safetensors.hpp>

#include "io/python_safetensors.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace gosset::safetensors_writer_test {
namespace {

using testing::bytesOf;
using testing::expectThrows;
using testing::FullDisk;
using testing::pythonFile;
using testing::readText;
using testing::safetensorsBytes;
using testing::TemporaryFolder;
using testing::writeText;
using Names = std::vector<std::string>;

TEST(SafetensorsWriter, KnownBytes) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add<std::uint8_t>("z", {}, std::vector<std::uint8_t>{7});
  Eigen::Matrix<float, 1, 2> w;
  w << 1.f, -2.f;
  writer.add("w", w);
  writer.write(folder / "f");
  const std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                             R"("z":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})"
                             "               ";
  ASSERT_EQ(8 + header.size(), 128u);
  EXPECT_EQ(readText(folder / "f"), safetensorsBytes(header, bytesOf({1.f, -2.f}) + "\7"));

  SafetensorsWriter().write(folder / "empty");
  EXPECT_EQ(readText(folder / "empty"), safetensorsBytes("{}" + std::string(54, ' ')));

  SafetensorsWriter strings;
  strings.setMetadata("b", "first");
  strings.setMetadata("a", "quote \" and \xce\xbb");
  strings.setMetadata("b", "second");
  strings.write(folder / "strings");
  EXPECT_EQ(readText(folder / "strings").substr(8),
            "{\"__metadata__\":{\"a\":\"quote \\\" and \xce\xbb\",\"b\":\"second\"}}   ");
  EXPECT_EQ(SafetensorsFile(folder / "strings").metadata().at("a"), "quote \" and \xce\xbb");
}

TEST(SafetensorsWriter, WritesPythonsLayout) {
  const TemporaryFolder folder;
  writeText(folder / "python", pythonFile());
  const SafetensorsFile python(folder / "python");
  SafetensorsWriter writer;
  writer.setMetadata("format", "pt");
  writer.add("mask", python.matrix<bool>("mask"));
  writer.add("b.bias", python.vector<Float16>("b.bias"));
  writer.add("a.weight", python.matrixAs<BFloat16>("a.weight"));
  writer.add("model.embed.weight", python.matrix<float>("model.embed.weight"));
  writer.write(folder / "ours");
  EXPECT_EQ(readText(folder / "ours"), pythonFile(64));
}

TEST(SafetensorsWriter, TakesExpressions) {
  const TemporaryFolder folder;
  const RowMatrixXf w = testing::gaussian(7, 9);
  SafetensorsWriter writer;
  {
    Eigen::MatrixXf gone = w;
    writer.add("copied", gone);
    gone.setZero();
  }
  writer.add("transposed", w.transpose());
  writer.add("block", w.block(1, 2, 3, 4));
  writer.add("sum", w + w);
  writer.add("array", w.array().abs());
  writer.add("column", w.col(3));
  writer.add("mask", w.array() > 0.f);
  writer.addView<float>("view", {7, 9}, {w.data(), 63});
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(file.matrix<float>("copied"), w);
  EXPECT_EQ(file.matrix<float>("view"), w);
  EXPECT_EQ(file.matrix<float>("transposed"), w.transpose());
  EXPECT_EQ(file.matrix<float>("block"), w.block(1, 2, 3, 4));
  EXPECT_EQ(file.matrix<float>("sum"), w + w);
  EXPECT_EQ(file.matrix<float>("array"), w.cwiseAbs());
  EXPECT_EQ(file.vector<float>("column"), w.col(3));
  EXPECT_EQ(file.matrix<bool>("mask")(4, 5), w(4, 5) > 0.f);
}

TEST(SafetensorsWriter, OrderedWithoutHolesAndAligned) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  const auto add = [&]<class T>(const std::string& name, Index size, std::type_identity<T>) {
    writer.add<T>(name, {size}, std::vector<T>(static_cast<std::size_t>(size), T(1)));
  };
  add("a", 3, std::type_identity<std::uint8_t>{});
  add("b", 3, std::type_identity<Float16>{});
  add("c", 3, std::type_identity<std::int64_t>{});
  add("\xce\xbb", 3, std::type_identity<float>{});
  add("Z", 3, std::type_identity<float>{});
  add("d", 3, std::type_identity<double>{});
  add("e", 3, std::type_identity<std::int8_t>{});
  add("f", 3, std::type_identity<BFloat16>{});
  writer.write(folder / "f");
  const std::string text = readText(folder / "f");
  std::size_t last = 0;
  const SafetensorsFile file(folder / "f");
  std::size_t covered = file.info("c").begin;
  EXPECT_EQ(covered % 64, 0u);
  for (const char* name : {"c", "d", "Z", "\xce\xbb", "f", "b", "e", "a"}) {
    const std::size_t at = text.find("\"" + std::string(name) + "\":{");
    EXPECT_GT(at, last) << name;
    last = at;
    EXPECT_EQ(file.info(name).begin, covered);
    EXPECT_EQ(covered % dtypeSize(file.info(name).dtype), 0u);
    covered = file.info(name).end;
  }
  EXPECT_EQ(covered, file.bytes());
}

/// So that kernels read them without crossing lines, whatever stands beside them.
TEST(SafetensorsWriter, WhatFillsWholeCacheLinesComesFirst) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add<std::int64_t>("odd", {1}, std::vector<std::int64_t>(1));
  writer.add<std::uint8_t>("bytes", {64}, std::vector<std::uint8_t>(64));
  writer.add<float>("floats", {3}, std::vector<float>(3));
  writer.add<std::uint16_t>("words", {64}, std::vector<std::uint16_t>(64));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  const std::size_t begin = file.info("words").begin;
  EXPECT_EQ(begin % 64, 0u);
  EXPECT_EQ(file.info("bytes").begin, begin + 128);
  EXPECT_EQ(file.info("odd").begin, begin + 192);
  EXPECT_EQ(file.info("floats").begin, begin + 200);
}

/// More of them than a sort leaves in their order by chance.
TEST(SafetensorsWriter, TensorsOfOneTypeLieByName) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  for (int i = 0; i < 100; ++i) {
    writer.add<float>(std::to_string(37 * i % 100), {1}, std::vector<float>{static_cast<float>(i)});
  }
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  std::size_t at = file.bytes() - 400;
  for (const std::string& name : file.names()) {
    EXPECT_EQ(file.info(name).begin, at) << name;
    at += 4;
  }
}

/// Types without numbers of C++ are written too, where the caller has their bytes, in the reference's order.
TEST(SafetensorsWriter, WritesTypesThatCppLacks) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  const auto add = [&](const std::string& name, Dtype dtype, Index size, std::string bytes) {
    writer.addSource(name, dtype, {size},
                     [bytes](const SafetensorsWriter::Put& put) { put(std::as_bytes(std::span(bytes))); });
  };
  add("a", Dtype::kF4, 2, "a");
  add("b", Dtype::kC64, 1, "bcdefghi");
  add("c", Dtype::kF8E4M3, 2, "kl");
  add("d", Dtype::kI64, 1, "12345678");
  add("e", Dtype::kF6E3M2, 4, "mno");
  add("f", Dtype::kBool, 1, "\1");
  writer.write(folder / "f");
  const std::string text = readText(folder / "f");
  EXPECT_EQ(text.substr(text.size() - 23), "12345678bcdefghiklmnoa\1");
  EXPECT_EQ(SafetensorsFile(folder / "f").info("e").typeName(), "F6_E3M2");
}

TEST(SafetensorsWriter, BadArguments) {
  SafetensorsWriter writer;
  const Eigen::Vector2f v(1.f, 2.f);
  writer.add("v", v);
  expectThrows([&] { writer.add("v", v); }, "gosset: name: tensor 'v' was added before");
  expectThrows([&] { writer.add("__metadata__", v); }, "gosset: name: '__metadata__' is reserved for metadata");
  expectThrows([&] { writer.add("\xff", v); }, "gosset: name: expected valid UTF-8, got '\xff'");
  expectThrows([&] { writer.setMetadata("\xff", ""); }, "gosset: key: expected valid UTF-8, got '\xff'");
  expectThrows([&] { writer.setMetadata("", "\xc3"); }, "gosset: value: expected valid UTF-8, got '\xc3'");
  expectThrows(
      [&] {
        writer.add<float>("w", {2, 3}, {v.data(), 2});
      },
      "gosset: values: tensor 'w' of shape [2, 3] got 2 numbers");
  expectThrows(
      [&] {
        writer.addView<float>("w", {1}, {v.data(), 2});
      },
      "gosset: values: tensor 'w' of shape [1] got 2 numbers");
  const SafetensorsWriter::Source nothing = [](const SafetensorsWriter::Put&) {};
  expectThrows(
      [&] {
        writer.addSource("w", Dtype::kF32, {2, -1}, nothing);
      },
      "gosset: shape: expected dimensions of at least 0, got -1 for tensor 'w'");
  expectThrows([&] { writer.addSource("w", Dtype::kF64, {Index{1} << 61}, nothing); },
               "gosset: shape: tensor 'w' would take more than 2^64 bytes");
  expectThrows([&] { writer.addSource("w", Dtype::kF32, std::vector<Index>(65, 1), nothing); },
               "gosset: shape: expected at most 64 dimensions, got 65 for tensor 'w'");
  expectThrows(
      [&] {
        writer.addSource("w", Dtype::kF4, {3, 3}, nothing);
      },
      "gosset: shape: tensor 'w' would take no whole number of bytes");
  expectThrows([&] { writer.addSource("w", Dtype::kUnknown, {1}, nothing); },
               "gosset: dtype: expected a known type for tensor 'w', got unknown");
  EXPECT_FALSE(writer.contains("w"));

  const TemporaryFolder folder;
  writer.addSource("x", Dtype::kU8, {Index{1} << 62, 3}, nothing);
  writer.addSource("y", Dtype::kU8, {Index{1} << 62}, nothing);
  expectThrows([&] { writer.write(folder / "f"); }, "gosset: tensors: together they would take more than 2^64 bytes");
  EXPECT_EQ(folder.list(), Names{});
}

TEST(SafetensorsWriter, AHeaderTooLongToReadIsNotWritten) {
  const TemporaryFolder folder;
  const SafetensorsWriter::Source nothing = [](const SafetensorsWriter::Put&) {};
  SafetensorsWriter names;
  names.addSource(std::string(100'000'000, 'n'), Dtype::kU8, {0}, nothing);
  expectThrows([&] { names.write(folder / "f"); },
               "gosset: tensors: the file's header would take 100000056 bytes, more than the 100000000 allowed");
  EXPECT_EQ(folder.list(), Names{});
}

TEST(SafetensorsWriter, SourcesAreCalledWhenTheFileIsWritten) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  int calls = 0;
  writer.addSource("w", Dtype::kF32, {3, 2}, [&](const SafetensorsWriter::Put& put) {
    ++calls;
    for (const float row : {1.f, 2.f, 3.f}) {
      const float numbers[2] = {row, -row};
      put(std::as_bytes(std::span(numbers)));
    }
  });
  EXPECT_EQ(calls, 0);
  writer.write(folder / "f");
  writer.write(folder / "f");  // and over the first
  EXPECT_EQ(calls, 2);
  RowMatrixXf expected(3, 2);
  expected << 1, -1, 2, -2, 3, -3;
  EXPECT_EQ(SafetensorsFile(folder / "f").matrixAs<float>("w"), expected);
}

/// Writes over an old file with a source that behaves badly, and expects the old file whole and alone.
template <class Error>
void expectOldFileWhole(const SafetensorsWriter::Source& source, const std::string& text) {
  const TemporaryFolder folder;
  writeText(folder / "model.safetensors", pythonFile());
  SafetensorsWriter writer;
  writer.add("before", RowMatrixXf(testing::gaussian(63, 65)));
  writer.addSource("half", Dtype::kF16, {3}, source);
  expectThrows<Error>([&] { writer.write(folder / "model.safetensors"); }, text);
  EXPECT_EQ(readText(folder / "model.safetensors"), pythonFile());
  EXPECT_EQ(folder.list(), Names{"model.safetensors"});
}

TEST(SafetensorsWriter, FailureLeavesTheOldFileWhole) {
  const std::vector<std::byte> bytes(8);
  expectOldFileWhole<std::invalid_argument>([&](const auto& put) { put(std::span(bytes).first(4)); },
                                            "gosset: source: tensor 'half' takes 6 bytes, its source gave 4");
  expectOldFileWhole<std::invalid_argument>([&](const auto& put) { put(bytes); },
                                            "gosset: source: tensor 'half' takes 6 bytes, its source gave 8");
  expectOldFileWhole<FormatError>([&](const auto&) { throw FormatError("the layer is gone"); }, "the layer is gone");
}

TEST(SafetensorsWriter, FullDiskLeavesTheOldFileWhole) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "model.safetensors";
  writeText(path, pythonFile());
  SafetensorsWriter writer;
  writer.add("w", RowMatrixXf(testing::gaussian(65, 65)));
  // Fails in the header's length, in the header, in the tensor.
  for (const rlim_t room : {4u, 20u, 5000u}) {
    const FullDisk disk(room);
    expectThrows<FormatError>([&] { writer.write(path); },
                              "gosset: " + path.string() + ": cannot be written: File too large");
    EXPECT_EQ(readText(path), pythonFile());
    EXPECT_EQ(folder.list(), Names{"model.safetensors"});
  }
  writer.write(path);
  EXPECT_EQ(SafetensorsFile(path).matrixAs<float>("w"), testing::gaussian(65, 65));
}

/// Bytes that no reader would look at fill no disk.
TEST(SafetensorsWriter, ASourceThatGivesTooMuchIsToldSoOnAFullDiskToo) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  const std::vector<std::byte> bytes(1000);
  writer.addSource("w", Dtype::kU8, {2000}, [&](const SafetensorsWriter::Put& put) {
    for (int i = 0; i < 50; ++i) put(bytes);
  });
  const FullDisk disk(5000);
  expectThrows([&] { writer.write(folder / "f"); }, "source: tensor 'w' takes 2000 bytes, its source gave 50000");
  EXPECT_EQ(folder.list(), Names{});
}

TEST(SafetensorsWriter, CanReplaceTheFileItReadsFrom) {
  const TemporaryFolder folder;
  writeText(folder / "f", pythonFile());
  const SafetensorsFile old(folder / "f");
  const auto w = old.matrix<float>("model.embed.weight");
  SafetensorsWriter writer;
  writer.addView<float>("w", {2, 3}, {w.data(), 6});
  writer.write(folder / "f");
  EXPECT_EQ(w(0, 2), 3.5f);  // the old file lives on while it is mapped
  EXPECT_EQ(SafetensorsFile(folder / "f").matrixAs<float>("w"), w);
}

}  // namespace
}  // namespace gosset::safetensors_writer_test
