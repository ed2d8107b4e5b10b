// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/gguf.hpp>

#include "io/gguf_bytes.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gosset::gguf_test {
namespace {

using testing::expectThrows;
using testing::ggufBegin;
using testing::ggufKey;
using testing::ggufTensor;
using testing::number;
using testing::padded;
using testing::TemporaryFolder;
using testing::text;
using testing::u32;
using testing::u64;
using testing::writeText;
using Strings = std::vector<std::string>;

constexpr std::uint32_t kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8,
                        kArray = 9, kU64 = 10, kI64 = 11, kF64 = 12;

/// A file with a value of every type and tensors of three.
std::string knownFile(std::uint32_t version = 3) {
  std::string bytes = ggufBegin(3, 17, version);
  bytes += ggufKey("u8", kU8, number<std::uint8_t>(200));
  bytes += ggufKey("i8", kI8, number<std::int8_t>(-100));
  bytes += ggufKey("u16", kU16, number<std::uint16_t>(60000));
  bytes += ggufKey("i16", kI16, number<std::int16_t>(-30000));
  bytes += ggufKey("u32", kU32, u32(4000000000u));
  bytes += ggufKey("i32", kI32, number<std::int32_t>(-2000000000));
  bytes += ggufKey("f32", kF32, number(1.5f));
  bytes += ggufKey("yes", kBool, "\1");
  bytes += ggufKey("no", kBool, std::string(1, '\0'));
  bytes += ggufKey("string", kString, text("a\nb"));
  bytes += ggufKey("u64", kU64, u64(1ull << 63));
  bytes += ggufKey("i64", kI64, number<std::int64_t>(-5));
  bytes += ggufKey("f64", kF64, number(0.1));
  bytes += ggufKey("ints", kArray, u32(kI32) + u64(3) + number(1) + number(-2) + number(3));
  bytes += ggufKey("strings", kArray, u32(kString) + u64(2) + text("<s>") + text(""));
  bytes += ggufKey("nested", kArray, u32(kArray) + u64(2) + u32(kU8) + u64(2) + "\1\2" + u32(kU8) + u64(0));
  bytes += ggufKey("flags", kArray, u32(kBool) + u64(3) + std::string("\1\0\1", 3));
  bytes += ggufTensor("w", {3, 2}, 0, 0);
  bytes += ggufTensor("h", {2}, 1, 32);
  bytes += ggufTensor("b", {2, 1}, 30, 64);
  bytes = padded(std::move(bytes));
  for (const float x : {1.f, -2.f, 3.5f, 0.f, 1e30f, -0.f}) bytes += number(x);
  bytes = padded(std::move(bytes)) + number<std::uint16_t>(0x3c00) + number<std::uint16_t>(0x0001);  // 1, 2^-24
  return padded(std::move(bytes)) + number<std::uint16_t>(0x3f80) + number<std::uint16_t>(0xc000);   // 1, -2
}

class GgufFileTest : public ::testing::TestWithParam<FileAccess> {
 protected:
  GgufFile opened(const std::string& bytes) {
    writeText(path_, bytes);
    return GgufFile(path_, GetParam());
  }
  void expectRefused(const std::string& bytes, const std::string& text) {
    writeText(path_, bytes);
    expectThrows<FormatError>([&] { GgufFile(path_, GetParam()); }, "gosset: " + path_.string() + ": " + text);
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "f.gguf";
};

TEST_P(GgufFileTest, ReadsEveryType) {
  for (const std::uint32_t version : {2u, 3u}) {
    const GgufFile file = opened(knownFile(version));
    EXPECT_EQ(file.version(), version);
    EXPECT_EQ(file.path(), path_);
    EXPECT_EQ(file.bytes(), knownFile().size());
    EXPECT_EQ(file.alignment(), 32);
    EXPECT_EQ(file.keys(), (Strings{"u8", "i8", "u16", "i16", "u32", "i32", "f32", "yes", "no", "string", "u64", "i64",
                                    "f64", "ints", "strings", "nested", "flags"}));
    EXPECT_EQ(file.get<std::uint8_t>("u8"), 200);
    EXPECT_EQ(file.get<std::int8_t>("i8"), -100);
    EXPECT_EQ(file.get<std::uint16_t>("u16"), 60000);
    EXPECT_EQ(file.get<std::int16_t>("i16"), -30000);
    EXPECT_EQ(file.get<std::uint32_t>("u32"), 4000000000u);
    EXPECT_EQ(file.get<std::int32_t>("i32"), -2000000000);
    EXPECT_EQ(file.get<float>("f32"), 1.5f);
    EXPECT_TRUE(file.get<bool>("yes"));
    EXPECT_FALSE(file.get<bool>("no"));
    EXPECT_EQ(file.get<std::string>("string"), "a\nb");
    EXPECT_EQ(file.get<std::uint64_t>("u64"), 1ull << 63);
    EXPECT_EQ(file.get<std::int64_t>("i64"), -5);
    EXPECT_EQ(file.get<double>("f64"), 0.1);
    EXPECT_EQ(file.get<std::vector<int>>("ints"), (std::vector{1, -2, 3}));
    EXPECT_EQ(file.get<Strings>("strings"), (Strings{"<s>", ""}));
    EXPECT_EQ(file.get<std::vector<std::vector<int>>>("nested"), (std::vector<std::vector<int>>{{1, 2}, {}}));
    EXPECT_EQ(file.get<std::vector<bool>>("flags"), (std::vector{true, false, true}));
  }
}

TEST_P(GgufFileTest, ReadsNumbersAsOtherTypesThatHoldThem) {
  const GgufFile file = opened(knownFile());
  EXPECT_EQ(file.get<std::int64_t>("u32"), 4000000000);
  EXPECT_EQ(file.get<std::uint64_t>("u8"), 200u);
  EXPECT_EQ(file.get<double>("f32"), 1.5);
  EXPECT_EQ(file.get<std::vector<std::int64_t>>("ints"), (std::vector<std::int64_t>{1, -2, 3}));
  const auto refused = [&]<class T>(std::type_identity<T>, const std::string& key, const std::string& text) {
    expectThrows<FormatError>([&] { (void)file.get<T>(key); }, "key '" + key + "': expected " + text);
  };
  refused(std::type_identity<std::int32_t>{}, "u32", "int32, the file holds uint32");
  refused(std::type_identity<std::uint64_t>{}, "i64", "uint64, the file holds int64");
  refused(std::type_identity<std::int64_t>{}, "u64", "int64, the file holds uint64");
  refused(std::type_identity<float>{}, "f64", "float32, the file holds float64");
  refused(std::type_identity<float>{}, "i32", "float32, the file holds int32");
  refused(std::type_identity<bool>{}, "u8", "bool, the file holds uint8");
  refused(std::type_identity<int>{}, "yes", "int32, the file holds bool");
  refused(std::type_identity<std::string>{}, "ints", "string, the file holds array of int32");
  refused(std::type_identity<Strings>{}, "string", "array of string, the file holds string");
  refused(std::type_identity<Strings>{}, "ints", "array of string, the file holds array of int32");
  refused(std::type_identity<std::vector<std::uint8_t>>{}, "ints", "array of uint8, the file holds array of int32");
  refused(std::type_identity<std::vector<std::vector<bool>>>{}, "nested",
          "array of array of bool, the file holds array of array");
  expectThrows<FormatError>([&] { (void)file.get<int>("i33"); }, "holds no key 'i33'");
}

TEST_P(GgufFileTest, ReadsTensors) {
  const GgufFile file = opened(knownFile());
  EXPECT_EQ(file.names(), (Strings{"w", "h", "b"}));
  EXPECT_TRUE(file.contains("w"));
  EXPECT_FALSE(file.contains("u8"));
  RowMatrixXf w(2, 3);
  w << 1.f, -2.f, 3.5f, 0.f, 1e30f, -0.f;
  EXPECT_EQ(file.matrix("w"), w);
  EXPECT_EQ(file.info("w").shape, (std::vector<Index>{2, 3}));
  EXPECT_EQ(file.info("w").size(), 6);
  EXPECT_EQ(file.info("w").type->name, "F32");
  EXPECT_EQ(file.data("w").size(), 24u);
  EXPECT_EQ(file.matrix("h"), (RowMatrixXf(1, 2) << 1.f, 0x1p-24f).finished());
  EXPECT_EQ(file.matrix("b"), (RowMatrixXf(1, 2) << 1.f, -2.f).finished());
  expectThrows<FormatError>([&] { (void)file.matrix("x"); }, "holds no tensor 'x'");
  expectThrows<FormatError>([&] { (void)file.data("x"); }, "holds no tensor 'x'");
}

TEST_P(GgufFileTest, ValuesOutliveTheFile) {
  GgufValue value;
  EXPECT_EQ(value.as<bool>(), false);
  {
    const GgufFile file = opened(knownFile());
    value = file.value("strings");
    EXPECT_EQ(value, file.value("strings"));
    EXPECT_FALSE(value == file.value("ints"));
  }
  EXPECT_EQ(value.as<Strings>(), (Strings{"<s>", ""}));
  EXPECT_EQ(value.elementType(), GgufValueType::kString);
  EXPECT_EQ(GgufValue(1).elementType(), std::nullopt);
  EXPECT_EQ(value, GgufValue(Strings{"<s>", ""}));
}

TEST(GgufValueTest, AnEmptyArrayIsOfItsTypeToo) {
  EXPECT_EQ(GgufValue(Strings{}).as<Strings>(), Strings{});
  EXPECT_EQ(GgufValue(Strings{}).as<std::vector<int>>(), std::nullopt);
  EXPECT_EQ(GgufValue(std::vector<int>{}).as<Strings>(), std::nullopt);
  EXPECT_EQ(GgufValue(std::vector<int>{}).as<std::vector<bool>>(), std::nullopt);
  EXPECT_EQ(GgufValue(std::vector<int>{}).as<std::vector<std::uint8_t>>(), std::vector<std::uint8_t>{});
}

TEST_P(GgufFileTest, MovedFromIsEmpty) {
  GgufFile from = opened(knownFile());
  const GgufFile to = std::move(from);
  EXPECT_EQ(to.get<int>("i64"), -5);
  EXPECT_EQ(from.bytes(), 0u);
  EXPECT_TRUE(from.keys().empty());
  EXPECT_TRUE(from.names().empty());
  EXPECT_FALSE(from.has("u8"));
}

TEST_P(GgufFileTest, TruncatedAtEveryByte) {
  const std::string whole = knownFile();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    writeText(path_, whole.substr(0, size));
    expectThrows<FormatError>([&] { GgufFile(path_, GetParam()); }, "gosset: " + path_.string() + ": ");
  }
  EXPECT_NO_THROW(opened(whole + "more"));
}

TEST_P(GgufFileTest, OtherFiles) {
  expectRefused("", "byte 0: the file ends within the magic number, of which 4 bytes were expected and 0 are left");
  expectRefused("GGML" + u32(3), "byte 0: expected 'GGUF', this is no GGUF file");
  expectRefused(ggufBegin(0, 0, 1), "byte 4: expected version 2 or 3, got 1");
  expectRefused(ggufBegin(0, 0, 4), "byte 4: expected version 2 or 3, got 4");
  expectRefused(ggufBegin(0, 0, 0), "byte 4: expected version 2 or 3, got 0");
  expectRefused(ggufBegin(0, 0, 0x03000000), "byte 4: a big-endian file; gosset reads little-endian ones");
  expectThrows<FormatError>([&] { GgufFile(folder_ / "none", GetParam()); }, "cannot be opened");
}

TEST_P(GgufFileTest, CountsThatLie) {
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t count : {std::uint64_t{1}, std::uint64_t{1} << 32, kMost}) {
    expectRefused(ggufBegin(count, 0),
                  "byte 8: it claims " + std::to_string(count) + " tensors, of which the 8 bytes left hold at most 0");
    expectRefused(ggufBegin(0, count),
                  "byte 16: it claims " + std::to_string(count) + " keys, of which the 0 bytes left hold at most 0");
    const std::string rest(12, 'x');
    expectRefused(
        ggufBegin(0, 1) + ggufKey("k", kArray, u32(kF64) + u64(count | 2)) + rest,
        "byte 41: it claims " + std::to_string(count | 2) + " elements, of which the 12 bytes left hold at most 1");
    expectRefused(ggufBegin(0, 1) + ggufKey("k", kArray, u32(kString) + u64(kMost)) + rest, "byte 41: it claims");
    expectRefused(ggufBegin(0, 1) + ggufKey("k", kArray, u32(kArray) + u64(kMost)) + rest, "byte 41: it claims");
  }
  expectRefused(
      ggufBegin(0, 1) + u64(kMost) + std::string(20, 'x'),
      "byte 32: the file ends within a key, of which 18446744073709551615 bytes were expected and 20 are left");
  expectRefused(ggufBegin(0, 1) + ggufKey("k", kString, u64(9)), "byte 45: the file ends within a string");
  expectRefused(ggufBegin(0, 1) + text("") + u32(kU8) + std::string(9, 'x'),
                "byte 24: a key has 0 bytes; expected 1 to 65535");
  expectRefused(ggufBegin(0, 1) + ggufKey(std::string(65536, 'k'), kU8, "x"),
                "byte 24: a key has 65536 bytes; expected 1 to 65535");
}

TEST_P(GgufFileTest, ValuesOfNoType) {
  expectRefused(ggufBegin(0, 1) + ggufKey("k", 13, "x"), "byte 33: a value's type is 13; expected 0 to 12");
  expectRefused(ggufBegin(0, 1) + ggufKey("k", kArray, u32(99) + u64(0)),
                "byte 37: a value's type is 99; expected 0 to 12");
  expectRefused(ggufBegin(0, 1) + ggufKey("k", kBool, "\2"), "byte 37: a bool must be 0 or 1, got 2");
  expectRefused(ggufBegin(0, 1) + ggufKey("k", kArray, u32(kBool) + u64(2) + "\1\3"),
                "byte 50: a bool must be 0 or 1, got 3");
  std::string nested;
  for (int depth = 0; depth < 16; ++depth) nested += u32(kArray) + u64(1);
  expectRefused(ggufBegin(0, 1) + ggufKey("k", kArray, nested + u32(kU8) + u64(0)),
                "byte 229: arrays are nested more than 16 deep");
  EXPECT_NO_THROW(opened(ggufBegin(0, 1) + ggufKey("k", kArray, nested.substr(12) + u32(kU8) + u64(0))));
}

TEST_P(GgufFileTest, NamesThatComeTwice) {
  expectRefused(ggufBegin(0, 2) + ggufKey("k", kU8, "x") + ggufKey("k", kI8, "y"),
                "byte 38: the key 'k' appears twice");
  expectRefused(padded(ggufBegin(2, 0) + ggufTensor("t", {0}, 0, 0) + ggufTensor("t", {0}, 0, 0)),
                "byte 57: tensor 't' appears twice");
}

TEST_P(GgufFileTest, Alignment) {
  const auto withAlignment = [](std::uint32_t type, const std::string& value, std::uint64_t offset) {
    return ggufBegin(2, 1) + ggufKey("general.alignment", type, value) + ggufTensor("a", {1}, 0, 0) +
           ggufTensor("b", {1}, 0, offset);
  };
  const std::string four = padded(withAlignment(kU32, u32(4), 4), 4) + number(1.f) + number(2.f);
  EXPECT_EQ(opened(four).matrix("b")(0, 0), 2.f);
  EXPECT_EQ(opened(four).alignment(), 4u);
  expectRefused(withAlignment(kU32, u32(3), 4),
                "byte 53: general.alignment: expected a power of two up to 1073741824, got 3");
  expectRefused(withAlignment(kU32, u32(0), 4), "byte 53: general.alignment: expected a power of two");
  expectRefused(withAlignment(kU32, u32(1u << 31), 4), "byte 53: general.alignment: expected a power of two");
  expectRefused(withAlignment(kU64, u64(4), 4), "byte 53: general.alignment: expected a uint32, got uint64");
  expectRefused(padded(withAlignment(kU32, u32(32), 4)) + std::string(64, 'x'),
                "byte 90: tensor 'b': its offset 4 is no multiple of the alignment, 32");
}

TEST_P(GgufFileTest, TensorsThatDoNotFit) {
  const auto one = [](std::initializer_list<std::uint64_t> dims, std::uint32_t type, std::uint64_t offset) {
    return padded(ggufBegin(1, 0) + ggufTensor("t", dims, type, offset)) + std::string(96, '\0');
  };
  constexpr std::uint64_t kHuge = 1ull << 62;
  EXPECT_NO_THROW(opened(one({24}, 0, 0)));
  EXPECT_NO_THROW(opened(one({16}, 0, 32)));
  EXPECT_NO_THROW(opened(one({}, 0, 0)));
  EXPECT_NO_THROW(opened(one({2, 2, 2, 3}, 0, 0)));
  EXPECT_EQ(opened(one({3, 0, kHuge}, 0, 0)).info("t").size(), 0);
  expectRefused(one({25}, 0, 0), "tensor 't': it would end at byte 164, the file at byte 160");
  expectRefused(one({17}, 0, 32), "tensor 't': it would end at byte 164, the file at byte 160");
  expectRefused(one({1}, 0, 96), "tensor 't': it would end at byte 164, the file at byte 160");
  expectRefused(one({1}, 0, 1ull << 63), "byte 24: tensor 't': 160 bytes of file cannot hold it");
  expectRefused(one({kHuge}, 0, 0), "byte 24: tensor 't': 160 bytes of file cannot hold it");
  expectRefused(one({kHuge, 4}, 24, 0), "byte 24: tensor 't': 192 bytes of file cannot hold it");
  expectRefused(one({1ull << 63}, 0, 0), "byte 24: tensor 't': a dimension is 9223372036854775808");
  expectRefused(one({1, 1, 1, 1, 1}, 0, 0), "byte 24: tensor 't': expected at most 4 dimensions, got 5");
  expectRefused(one({1}, 4, 0), "byte 24: tensor 't': type 4 is none that gosset knows");
  expectRefused(one({1}, 0xffffffff, 0), "byte 24: tensor 't': type 4294967295 is none that gosset knows");
  expectRefused(one({33}, 8, 0), "byte 24: tensor 't': rows of Q8_0 are made of blocks of 32 numbers, got 33");
  expectRefused(one({}, 8, 0), "byte 24: tensor 't': rows of Q8_0 are made of blocks of 32 numbers, got 1");
  expectRefused(one({128}, 12, 0), "byte 24: tensor 't': rows of Q4_K are made of blocks of 256 numbers, got 128");
  EXPECT_EQ(opened(one({32, 2}, 8, 0)).info("t").size(), 64);
  expectRefused(padded(ggufBegin(1, 0) + ggufTensor("", {1}, 0, 0)), "byte 24: a tensor's name has 0 bytes");
}

TEST_P(GgufFileTest, TensorsInAnyOrderShareNoByte) {
  const auto two = [](std::uint64_t first, std::uint64_t size, std::uint64_t second) {
    return padded(ggufBegin(2, 0) + ggufTensor("a", {size}, 0, first) + ggufTensor("b", {8}, 0, second)) +
           std::string(128, '\0');
  };
  EXPECT_NO_THROW(opened(two(0, 8, 32)));
  EXPECT_NO_THROW(opened(two(96, 8, 0)));
  EXPECT_NO_THROW(opened(two(32, 0, 32)));
  expectRefused(two(0, 9, 32), "tensor 'b' at byte 128 shares bytes with tensor 'a'");
  expectRefused(two(32, 1, 32), "tensor ");
  expectRefused(two(0, 32, 96), "tensor 'b' at byte 192 shares bytes with tensor 'a'");
}

TEST_P(GgufFileTest, MatricesOfOtherTypesAndRanks) {
  const GgufFile file = opened(padded(ggufBegin(3, 0) + ggufTensor("q", {32}, 2, 0) +
                                      ggufTensor("cube", {1, 1, 1}, 0, 32) + ggufTensor("one", {}, 0, 64)) +
                               std::string(96, '\0'));
  expectThrows<FormatError>([&] { (void)file.matrix("q"); },
                            "tensor 'q' at byte 160: expected F32, F16 or BF16, the file holds Q4_0");
  expectThrows<FormatError>([&] { (void)file.matrix("cube"); },
                            "tensor 'cube' at byte 192: expected a matrix, got 3 dimensions");
  EXPECT_EQ(file.matrix("one"), RowMatrixXf::Zero(1, 1));
}

INSTANTIATE_TEST_SUITE_P(Access, GgufFileTest, ::testing::Values(FileAccess::kMap, FileAccess::kLoad),
                         [](const auto& access) { return access.param == FileAccess::kMap ? "Map" : "Load"; });

}  // namespace
}  // namespace gosset::gguf_test
