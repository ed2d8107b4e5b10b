// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/safetensors.hpp>

#include "io/python_safetensors.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::safetensors_test {
namespace {

using testing::bytesOf;
using testing::dataFolder;
using testing::expectThrows;
using testing::pythonFile;
using testing::safetensorsBytes;
using testing::TemporaryFolder;
using testing::writeText;
using Names = std::vector<std::string>;

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
