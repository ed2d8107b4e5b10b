// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/safetensors.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::safetensors_test {
namespace {

using testing::dataFolder;
using testing::expectThrows;
using testing::FullDisk;
using testing::readText;
using testing::safetensorsBytes;
using testing::TemporaryFolder;
using testing::writeText;
using Names = std::vector<std::string>;

template <class T>
std::string bytesOf(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

/// What a Python program writes that saves these four tensors: wider types first, then by name, header padded to 8.
/// Ours pads it so that the data begins at a multiple of 64.
std::string pythonFile(std::size_t data_alignment = 8) {
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("model.embed.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                       R"("a.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[24,28]},)"
                       R"("b.bias":{"dtype":"F16","shape":[3],"data_offsets":[28,34]},)"
                       R"("mask":{"dtype":"BOOL","shape":[2,2],"data_offsets":[34,38]}})";
  while ((8 + header.size()) % data_alignment != 0) header += ' ';
  return safetensorsBytes(header, bytesOf<float>({1.f, -2.f, 3.5f, 0.f, 1e30f, -0.f}) +
                                      bytesOf<std::uint16_t>({0x3f80, 0xc000}) +          // 1, -2
                                      bytesOf<std::uint16_t>({0x3c00, 0x0001, 0xfc00}) +  // 1, 2^-24, -inf
                                      std::string("\1\0\0\1", 4));
}

class SafetensorsFileTest : public ::testing::TestWithParam<FileAccess> {};

TEST_P(SafetensorsFileTest, ReadsPythonsLayout) {
  const TemporaryFolder folder;
  writeText(folder / "model.safetensors", pythonFile());
  const SafetensorsFile file(folder / "model.safetensors", GetParam());

  EXPECT_EQ(file.path(), folder / "model.safetensors");
  EXPECT_EQ(file.bytes(), pythonFile().size());
  EXPECT_EQ(file.metadata(), (MetadataMap{{"format", "pt"}}));
  EXPECT_EQ(file.names(), (Names{"a.weight", "b.bias", "mask", "model.embed.weight"}));
  EXPECT_TRUE(file.contains("mask"));
  EXPECT_FALSE(file.contains("__metadata__"));
  EXPECT_EQ(file.info("model.embed.weight").shape, (std::vector<Index>{2, 3}));

  const auto w = file.matrix<float>("model.embed.weight");
  ASSERT_EQ(w.rows(), 2);
  ASSERT_EQ(w.cols(), 3);
  RowMatrixXf expected(2, 3);
  expected << 1.f, -2.f, 3.5f, 0.f, 1e30f, -0.f;
  EXPECT_EQ(w, expected);
  EXPECT_TRUE(std::signbit(w(1, 2)));
  EXPECT_EQ(static_cast<const void*>(w.data()), file.data("model.embed.weight").data());

  const auto a = file.matrix<BFloat16>("a.weight");
  EXPECT_EQ(static_cast<float>(a(0, 1)), -2.f);
  const auto b = file.vector<Float16>("b.bias");
  ASSERT_EQ(b.size(), 3);
  EXPECT_EQ(static_cast<float>(b(1)), 0x1p-24f);
  EXPECT_EQ(static_cast<float>(b(2)), -std::numeric_limits<float>::infinity());
  const auto mask = file.matrix<bool>("mask");
  EXPECT_TRUE(mask(0, 0) && !mask(0, 1) && !mask(1, 0) && mask(1, 1));

  EXPECT_EQ(file.matrixAs<float>("mask"), (RowMatrixXf::Identity(2, 2)));
  EXPECT_EQ(file.vectorAs<double>("b.bias")(1), 0x1p-24);
  EXPECT_EQ(file.matrixAs<float>("a.weight")(0, 0), 1.f);
  EXPECT_EQ(file.matrixAs<float>("b.bias").rows(), 1);  // a vector is one row
}

TEST_P(SafetensorsFileTest, MapsStayValidWhenMoved) {
  const TemporaryFolder folder;
  writeText(folder / "f", pythonFile());
  SafetensorsFile first(folder / "f", GetParam());
  const auto w = first.matrix<float>("model.embed.weight");
  const SafetensorsFile second = std::move(first);
  EXPECT_EQ(w(0, 2), 3.5f);
  EXPECT_EQ(second.matrix<float>("model.embed.weight").data(), w.data());
}

TEST_P(SafetensorsFileTest, TruncatedAtEveryByte) {
  const TemporaryFolder folder;
  const std::string whole = pythonFile();
  const std::string path = (folder / "cut").string();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    writeText(path, whole.substr(0, size));
    expectThrows<FormatError>([&] { SafetensorsFile(path, GetParam()); }, "gosset: " + path + ": ");
  }
  writeText(path, whole + '\0');
  expectThrows<FormatError>([&] { SafetensorsFile(path, GetParam()); },
                            "byte " + std::to_string(whole.size()) +
                                ": the last tensor ends here, but the file at byte " +
                                std::to_string(whole.size() + 1));
}

TEST_P(SafetensorsFileTest, HugeSparseFileWithALongHeader) {
  const TemporaryFolder folder;
  const std::uint64_t length = 100'000'001;
  writeText(folder / "huge", bytesOf({length}) + "{\"a\":[[[[");
  std::filesystem::resize_file(folder / "huge", 100'000'100);
  expectThrows<FormatError>([&] { SafetensorsFile(folder / "huge", GetParam()); },
                            "byte 0: the header's length is 100000001 bytes, more than the 100000000 allowed");
}

TEST_P(SafetensorsFileTest, NoRegularFile) {
  const TemporaryFolder folder;
  expectThrows<FormatError>([&] { SafetensorsFile(folder / "none", GetParam()); },
                            "none: cannot be opened: No such file or directory");
  expectThrows<FormatError>([&] { SafetensorsFile(folder.path(), GetParam()); }, "is no regular file");
}

TEST_P(SafetensorsFileTest, ViewsOutliveItWithItsKeeper) {
  const TemporaryFolder folder;
  writeText(folder / "f", pythonFile());
  std::shared_ptr<const void> keeper = SafetensorsFile(folder / "f", GetParam()).keeper();
  const std::weak_ptr<const void> memory = keeper;
  keeper.reset();
  EXPECT_TRUE(memory.expired());
  std::span<const std::byte> mask;
  const float* w = nullptr;
  {
    const SafetensorsFile file(folder / "f", GetParam());
    mask = file.data("mask");
    w = file.flat<float>("model.embed.weight").data();
    keeper = file.keeper();
  }
  std::filesystem::remove(folder / "f");
  EXPECT_EQ(mask[3], std::byte{1});
  EXPECT_EQ(w[2], 3.5f);
}

TEST_P(SafetensorsFileTest, WhatTheWriterWritesBeginsAtAMultipleOf64) {
  const TemporaryFolder folder;
  for (std::size_t length = 0; length < 70; ++length) {
    SafetensorsWriter writer;
    writer.add<float>(std::string(1 + length, 'n'), {1}, std::vector<float>{0.5f});
    writer.write(folder / "f");
    const SafetensorsFile file(folder / "f", GetParam());
    const TensorInfo& info = file.tensors().begin()->second;
    const std::size_t header = 53 + 1 + length;
    EXPECT_EQ(info.begin, (8 + header + 63) / 64 * 64);
    const std::span<const std::byte> bytes = file.data(file.names()[0]);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64, 0u);
  }
}

/// The bytes of types whose numbers gosset does not read, beside one that it does.
TEST_P(SafetensorsFileTest, TypesWithoutNumbersHaveTheirBytes) {
  const TemporaryFolder folder;
  const std::string header = R"({"f4":{"dtype":"F4","shape":[2,2],"data_offsets":[0,2]},)"
                             R"("f6":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[2,5]},)"
                             R"("g6":{"dtype":"F6_E3M2","shape":[1,4],"data_offsets":[5,8]},)"
                             R"("c":{"dtype":"C64","shape":[1],"data_offsets":[8,16]},)"
                             R"("x":{"dtype":"F1_New","shape":[4611686018427387904],"data_offsets":[16,17]},)"
                             R"("e":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[17,19]},)"
                             R"("u":{"dtype":"U8","shape":[2],"data_offsets":[19,21]}})";
  const std::string data = std::string(
      "ab"
      "cde"
      "fgh"
      "ijklmnop"
      "q"
      "\x38\xb8"
      "st");
  writeText(folder / "f", safetensorsBytes(header, data));
  const SafetensorsFile file(folder / "f", GetParam());
  EXPECT_EQ(file.names(), (Names{"c", "e", "f4", "f6", "g6", "u", "x"}));
  EXPECT_EQ(file.vectorAs<float>("u"), Eigen::Vector2f('s', 't'));
  EXPECT_EQ(file.vectorAs<float>("e"), Eigen::Vector2f(1.f, -1.f));
  const std::vector<std::tuple<std::string, std::string, std::string>> expected = {{"f4", "F4", "ab"},
                                                                                   {"f6", "F6_E2M3", "cde"},
                                                                                   {"g6", "F6_E3M2", "fgh"},
                                                                                   {"c", "C64", "ijklmnop"},
                                                                                   {"x", "F1_New", "q"}};
  for (const auto& [name, type, bytes] : expected) {
    EXPECT_EQ(file.info(name).typeName(), type);
    const std::span<const std::byte> there = file.data(name);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(there.data()), there.size()), bytes);
    const std::string quoted = type == "F1_New" ? "'F1_New'" : type;
    const std::string at = "tensor '" + name + "' at byte " + std::to_string(file.info(name).begin) + ": ";
    const std::string text = at + "gosset reads no numbers of type " + quoted;
    expectThrows<FormatError>([&, n = name] { (void)file.matrixAs<float>(n); }, text);
    expectThrows<FormatError>([&, n = name] { (void)file.vectorAs<double>(n); }, text);
    expectThrows<FormatError>([&, n = name] { (void)file.flatAs<Float16>(n); }, text);
    expectThrows<FormatError>([&, n = name] { (void)file.flat<std::uint8_t>(n); },
                              at + "expected U8, the file holds " + quoted);
    expectThrows<FormatError>([&, n = name] { (void)file.matrix<float>(n); },
                              at + "expected F32, the file holds " + quoted);
  }
  expectThrows<FormatError>([&] { (void)file.vector<std::uint8_t>("e"); }, "expected U8, the file holds F8_E4M3");
}

/// F64, F32 and U16 at odd addresses, as in files of old Python writers, whose headers were not padded.
TEST_P(SafetensorsFileTest, UnalignedTensorsAreCopiedNotMapped) {
  const TemporaryFolder folder;
  const std::string header = R"({"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},)"
                             R"("d":{"dtype":"F64","shape":[2],"data_offsets":[2,18]},)"
                             R"("f":{"dtype":"F32","shape":[1,1],"data_offsets":[18,22]},)"
                             R"("e":{"dtype":"F64","shape":[0,4],"data_offsets":[22,22]}})";
  const std::string data = bytesOf<std::uint16_t>({0x4000}) + bytesOf<double>({0.1, -1e300}) + bytesOf<float>({7.f});
  for (std::size_t pad = 0; pad < 8; ++pad) {
    const std::string padded = header + std::string(pad, ' ');
    writeText(folder / "odd", safetensorsBytes(padded, data));
    const SafetensorsFile file(folder / "odd", GetParam());
    const std::size_t begin = 8 + padded.size();
    EXPECT_EQ(file.vectorAs<double>("d"), (Eigen::Vector2d(0.1, -1e300)));
    EXPECT_EQ(file.vectorAs<float>("d")(0), 0.1f);
    EXPECT_EQ(file.matrixAs<double>("f")(0, 0), 7.);
    EXPECT_EQ(file.flatAs<float>("h")(0), 2.f);
    EXPECT_EQ(file.matrix<double>("e").cols(), 4);  // nothing to be misaligned
    if ((begin + 2) % 8 == 0) {
      EXPECT_EQ(file.vector<double>("d")(1), -1e300);
    } else {
      expectThrows<FormatError>([&] { (void)file.vector<double>("d"); },
                                "odd: tensor 'd' at byte " + std::to_string(begin + 2) +
                                    ": F64 cannot be mapped from an odd address; read a copy with matrixAs, vectorAs "
                                    "or flatAs");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Access, SafetensorsFileTest, ::testing::Values(FileAccess::kMap, FileAccess::kLoad),
                         [](const auto& access) { return access.param == FileAccess::kMap ? "Map" : "Load"; });

TEST(SafetensorsFile, WrongAccessIsRefused) {
  const TemporaryFolder folder;
  const std::string header = R"({"c":{"dtype":"U8","shape":[1,2,2],"data_offsets":[0,4]},)"
                             R"("m":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]},)"
                             R"("q":{"dtype":"BOOL","shape":[3],"data_offsets":[6,9]}})";
  writeText(folder / "f", safetensorsBytes(header, std::string("abcdef\1\0\2", 9)));
  const SafetensorsFile file(folder / "f");
  const std::size_t begin = 8 + header.size();
  const auto at = [&](std::size_t byte) { return " at byte " + std::to_string(begin + byte) + ": "; };
  const auto expectRefused = [](auto&& action, const std::string& text) { expectThrows<FormatError>(action, text); };

  expectRefused([&] { (void)file.info("none"); }, "gosset: " + (folder / "f").string() + ": holds no tensor 'none'");
  expectRefused([&] { (void)file.matrix<float>("none"); }, "holds no tensor 'none'");
  expectRefused([&] { (void)file.data("none"); }, "holds no tensor 'none'");
  expectRefused([&] { (void)file.matrixAs<float>("none"); }, "holds no tensor 'none'");
  expectRefused([&] { (void)file.matrix<std::int8_t>("m"); }, "tensor 'm'" + at(4) + "expected I8, the file holds U8");
  expectRefused([&] { (void)file.matrix<std::uint8_t>("c"); },
                "tensor 'c'" + at(0) + "expected a matrix, got shape [1, 2, 2]");
  expectRefused([&] { (void)file.matrixAs<float>("c"); },
                "tensor 'c'" + at(0) + "expected a matrix, got shape [1, 2, 2]");
  expectRefused([&] { (void)file.vector<std::uint8_t>("m"); },
                "tensor 'm'" + at(4) + "expected a vector, got shape [2, 1]");
  expectRefused([&] { (void)file.vectorAs<float>("m"); }, "tensor 'm'" + at(4) + "expected a vector, got shape [2, 1]");
  expectRefused([&] { (void)file.vector<bool>("q"); }, "tensor 'q'" + at(8) + "a BOOL must be 0 or 1, got 2");
  expectRefused([&] { (void)file.vectorAs<float>("q"); }, "tensor 'q'" + at(8) + "a BOOL must be 0 or 1, got 2");
  EXPECT_EQ(file.flat<std::uint8_t>("c")(3), 'd');
  EXPECT_EQ(file.matrixAs<float>("m")(1, 0), 102.f);
}

TEST(SafetensorsFile, TemporariesGiveNoMaps) {
  const auto mapsFrom = []<class File>(std::type_identity<File>) {
    return requires(File && file) { std::forward<File>(file).template matrix<float>("w"); }
    || requires(File && file) { std::forward<File>(file).template vector<float>("w"); }
    || requires(File && file) { std::forward<File>(file).template flat<float>("w"); }
    || requires(File && file) { std::forward<File>(file).data("w"); };
  };
  EXPECT_FALSE(mapsFrom(std::type_identity<SafetensorsFile>{}));
  EXPECT_TRUE(mapsFrom(std::type_identity<const SafetensorsFile&>{}));
}

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

TEST(SafetensorsFile, ConversionsRound) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add<std::int64_t>("i", {3}, std::vector<std::int64_t>{-3, (1ll << 53) + 1, 1ll << 62});
  writer.add<std::uint64_t>("u", {1}, std::vector<std::uint64_t>{~0ull});
  writer.add<std::int8_t>("s", {2}, std::vector<std::int8_t>{-128, 127});
  writer.add<double>("d", {2}, std::vector<double>{0.1, std::nan("")});
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(file.vectorAs<float>("i"), Eigen::Vector3f(-3.f, 0x1p53f, 0x1p62f));
  EXPECT_EQ(file.vectorAs<double>("i"), Eigen::Vector3d(-3., 0x1p53, 0x1p62));
  EXPECT_EQ(file.vectorAs<float>("u")(0), 0x1p64f);
  EXPECT_EQ(file.vectorAs<Float16>("s")(0), Float16(-128.f));
  EXPECT_EQ(file.vectorAs<float>("d")(0), 0.1f);
  EXPECT_TRUE(std::isnan(file.vectorAs<float>("d")(1)));
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

TEST(RealFiles, SileroVad) {
  const auto folder = dataFolder();
  if (!folder) GTEST_SKIP() << "no shared data";
  const SafetensorsFile file(*folder / "layers/silero_vad_16k.safetensors");
  EXPECT_EQ(file.bytes(), 1239748u);
  EXPECT_EQ(file.tensors().size(), 15u);
  EXPECT_EQ(file.info("stft_conv.weight").shape, (std::vector<Index>{258, 1, 256}));
  const auto stft = file.flat<float>("stft_conv.weight");
  ASSERT_EQ(stft.size(), 258 * 256);
  EXPECT_EQ(stft(0), 0.f);
  EXPECT_EQ(stft(1), 0.00015059065481182188f);
  EXPECT_EQ(stft(3), 0.0013547716662287712f);
  const auto lstm = file.matrix<float>("lstm_cell.weight_ih");
  EXPECT_EQ(lstm.rows(), 512);
  EXPECT_EQ(lstm.cols(), 128);
  EXPECT_TRUE(lstm.allFinite());
  EXPECT_EQ(file.vector<float>("final_conv.bias").size(), 1);
}

TEST(RealFiles, OptActivationScales) {
  const auto folder = dataFolder();
  if (!folder) GTEST_SKIP() << "no shared data";
  const SafetensorsFile file(*folder / "stats/derived_opt-1.3b_act_scales.safetensors", FileAccess::kLoad);
  EXPECT_EQ(file.tensors().size(), 145u);
  const auto q = file.vector<float>("model.decoder.layers.0.self_attn.q_proj");
  ASSERT_EQ(q.size(), 2048);
  EXPECT_EQ(q.head<4>(), Eigen::Vector4f(3.67578125f, 7.5390625f, 4.078125f, 4.19921875f));
  EXPECT_EQ(file.vector<float>("model.decoder.layers.0.fc2").size(), 8192);
}

}  // namespace
}  // namespace gosset::safetensors_test
