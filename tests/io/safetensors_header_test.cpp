// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/safetensors_header.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gosset::safetensors_header_test {
namespace {

using detail::readSafetensorsHeader;
using testing::expectThrows;
using testing::safetensorsBytes;

detail::SafetensorsHeader read(std::string_view file) {
  return readSafetensorsHeader(std::as_bytes(std::span(file)), "f");
}

std::string zeros(std::size_t count) { return std::string(count, '\0'); }

/// A sound file of three tensors and metadata.
std::string soundFile() {
  return safetensorsBytes(R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                          R"("e":{"dtype":"I8","shape":[0],"data_offsets":[8,8]},)"
                          R"("b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}} )",
                          zeros(10));
}

TEST(SafetensorsHeader, SoundFile) {
  const detail::SafetensorsHeader header = read(soundFile());
  EXPECT_EQ(header.metadata, (MetadataMap{{"format", "pt"}}));
  ASSERT_EQ(header.tensors.size(), 3u);
  const std::size_t begin = soundFile().size() - 10;
  const TensorInfo& w = header.tensors.at("w");
  EXPECT_EQ(w.dtype, Dtype::kF32);
  EXPECT_EQ(w.shape, (std::vector<Index>{2, 1}));
  EXPECT_EQ(w.begin, begin);
  EXPECT_EQ(w.end, begin + 8);
  EXPECT_EQ(w.size(), 2);
  const TensorInfo& e = header.tensors.at("e");
  EXPECT_EQ(e.shape, std::vector<Index>{0});
  EXPECT_EQ(e.size(), 0);
  const TensorInfo& b = header.tensors.at("b");
  EXPECT_EQ(b.shape, std::vector<Index>{});
  EXPECT_EQ(b.begin, begin + 8);
  EXPECT_EQ(b.size(), 1);
}

TEST(SafetensorsHeader, LegalOddities) {
  EXPECT_TRUE(read(safetensorsBytes("{}")).tensors.empty());
  EXPECT_TRUE(read(safetensorsBytes("{}      ")).metadata.empty());
  EXPECT_TRUE(read(safetensorsBytes(R"({"__metadata__":{}})")).tensors.empty());
  // Spaces as Python's json writes them, fields in another order, tensors in another order than their data.
  const auto spaced =
      read(safetensorsBytes("{\"b\" : {\"shape\": [ 2 ],\n \"data_offsets\": [1, 3], \"dtype\": \"U8\"}, "
                            "\"a\": {\"dtype\": \"BOOL\", \"data_offsets\": [0, 1], \"shape\": [1, 1]}}",
                            zeros(3)));
  EXPECT_EQ(spaced.tensors.at("b").size(), 2);
  EXPECT_EQ(spaced.tensors.at("a").shape, (std::vector<Index>{1, 1}));
  // Names: empty, escaped, beyond ASCII.
  const auto names = read(safetensorsBytes(R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                                           R"("\u00e9\n":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                                           "\"\xce\xbb\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"));
  EXPECT_TRUE(names.tensors.contains(""));
  EXPECT_TRUE(names.tensors.contains("\xc3\xa9\n"));
  EXPECT_TRUE(names.tensors.contains("\xce\xbb"));
  // A zero among large dimensions, as long as no product on the way overflows.
  const auto empty = read(safetensorsBytes(
      R"({"a":{"dtype":"F64","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}})"));
  EXPECT_EQ(empty.tensors.at("a").size(), 0);
  // 2^63 fits into 64 bits, but is no Index.
  const auto last =
      read(safetensorsBytes(R"({"a":{"dtype":"F64","shape":[4294967296,2147483648,0],"data_offsets":[0,0]}})"));
  EXPECT_EQ(last.tensors.at("a").size(), 0);
}

TEST(SafetensorsHeader, NullForMetadataIsNone) {
  const std::string tensor = R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]})";
  for (const std::string& header :
       {R"({"__metadata__":null,)" + tensor + "}", "{" + tensor + R"(,"__metadata__":null})"}) {
    const auto read_header = read(safetensorsBytes(header, "7"));
    EXPECT_TRUE(read_header.metadata.empty());
    EXPECT_EQ(read_header.tensors.at("a").size(), 1);
  }
  EXPECT_TRUE(read(safetensorsBytes(R"({"__metadata__":null})")).tensors.empty());
}

TEST(SafetensorsHeader, BlanksMayPadItOnBothSides) {
  const auto header =
      read(safetensorsBytes("\t\n {\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}\r\n ", "7"));
  EXPECT_EQ(header.tensors.at("a").begin, 8u + 58);
}

/// Types that no type of C++ holds, some of less than a byte, beside a tensor of any other.
TEST(SafetensorsHeader, TypesWithoutNumbersKeepTheirNamesShapesAndPlaces) {
  const auto header = read(safetensorsBytes(R"({"f4":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]},)"
                                            R"("f62":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[3,6]},)"
                                            R"("f63":{"dtype":"F6_E3M2","shape":[2,1,4],"data_offsets":[6,12]},)"
                                            R"("c":{"dtype":"C64","shape":[2],"data_offsets":[12,28]},)"
                                            R"("new":{"shape":[5,5],"dtype":"F\u001b5_E9","data_offsets":[28,35]},)"
                                            R"("none":{"dtype":"F4","shape":[7,0],"data_offsets":[35,35]},)"
                                            R"("a":{"dtype":"U8","shape":[2],"data_offsets":[35,37]}})",
                                            zeros(37)));
  const auto expect = [&](const std::string& name, Dtype dtype, std::string_view type, std::size_t bytes, Index size) {
    const TensorInfo& info = header.tensors.at(name);
    EXPECT_EQ(info.dtype, dtype) << name;
    EXPECT_EQ(info.typeName(), type);
    EXPECT_EQ(info.bytes(), bytes) << name;
    EXPECT_EQ(info.size(), size) << name;
  };
  expect("f4", Dtype::kF4, "F4", 3, 6);
  expect("f62", Dtype::kF6E2M3, "F6_E2M3", 3, 4);
  expect("f63", Dtype::kF6E3M2, "F6_E3M2", 6, 8);
  expect("c", Dtype::kC64, "C64", 16, 2);
  expect("new", Dtype::kUnknown,
         "F\x1b"
         "5_E9",
         7, 25);
  expect("none", Dtype::kF4, "F4", 0, 0);
  expect("a", Dtype::kU8, "U8", 2, 2);
  EXPECT_EQ(detail::typeText(header.tensors.at("new")), "'F?5_E9'");
}

TEST(SafetensorsHeader, LyingLengths) {
  expectThrows<FormatError>([] { read(""); },
                            "gosset: f: byte 0: expected the header's length in 8 bytes, the file has 0");
  const auto withLength = [](std::uint64_t length) {
    std::string file = safetensorsBytes("{}", zeros(6));
    std::memcpy(file.data(), &length, 8);
    return file;
  };
  EXPECT_NO_THROW(read(safetensorsBytes("{}      ")));
  expectThrows<FormatError>([&] { read(withLength(9)); },
                            "gosset: f: byte 0: the header's length is 9 bytes, but the file ends at byte 16");
  expectThrows<FormatError>([&] { read(withLength(100'000'000)); },
                            "gosset: f: byte 0: the header's length is 100000000 bytes, but the file ends at byte 16");
  expectThrows<FormatError>(
      [&] { read(withLength(100'000'001)); },
      "gosset: f: byte 0: the header's length is 100000001 bytes, more than the 100000000 allowed");
  expectThrows<FormatError>(
      [&] { read(withLength(~std::uint64_t{0})); },
      "gosset: f: byte 0: the header's length is 18446744073709551615 bytes, more than the 100000000 allowed");
  expectThrows<FormatError>([&] { read(withLength(0)); }, "gosset: f: byte 8: the header must start with '{'");
  expectThrows<FormatError>([&] { read(withLength(1)); }, "gosset: f: byte 9: the header is not valid JSON in UTF-8");
  expectThrows<FormatError>([&] { read(withLength(2)); },
                            "gosset: f: byte 10: the last tensor ends here, but the file at byte 16");
  expectThrows<FormatError>([&] { read(withLength(3)); }, "gosset: f: byte 10: the header holds a NUL");
}

TEST(SafetensorsHeader, TruncatedAtEveryByte) {
  const std::string file = soundFile();
  const std::string length = std::to_string(file.size() - 18);
  EXPECT_NO_THROW(read(file));
  for (std::size_t size = 0; size < file.size(); ++size) {
    const std::string cut = file.substr(0, size);
    std::string expected;
    if (size < 8) {
      expected = "gosset: f: byte 0: expected the header's length in 8 bytes, the file has " + std::to_string(size);
    } else if (size < file.size() - 10) {
      expected = "gosset: f: byte 0: the header's length is " + length + " bytes, but the file ends at byte " +
                 std::to_string(size);
    } else if (size < file.size() - 2) {
      expected = "tensor 'w' at byte 93: data_offsets [0, 8] reach past the end of the data, which has " +
                 std::to_string(size - (file.size() - 10)) + " bytes";
    } else {
      expected = "tensor 'b' at byte 198: data_offsets [8, 10] reach past the end of the data, which has " +
                 std::to_string(size - (file.size() - 10)) + " bytes";
    }
    expectThrows<FormatError>([&] { read(cut); }, expected);
  }
}

TEST(SafetensorsHeader, HeaderTruncatedAtEveryByte) {
  const std::string header = R"({"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[0,2],"data_offsets":[0,0]}})";
  EXPECT_NO_THROW(read(safetensorsBytes(header)));
  for (std::size_t size = 1; size < header.size(); ++size) {
    expectThrows<FormatError>([&] { read(safetensorsBytes(header.substr(0, size))); }, "gosset: f: byte ");
  }
}

TEST(SafetensorsHeader, EveryByteChangedIsReadOrRefused) {
  const std::string file = soundFile();
  int refused = 0;
  for (std::size_t at = 0; at < file.size() - 10; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = file;
      changed[at] = static_cast<char>(value);
      try {
        const detail::SafetensorsHeader header = read(changed);
        for (const auto& [name, info] : header.tensors) {
          ASSERT_LE(info.begin, info.end);
          ASSERT_LE(info.end, file.size());
        }
      } catch (const FormatError& error) {
        ++refused;
        ASSERT_THAT(error.what(), ::testing::HasSubstr("byte "));
      }
    }
  }
  EXPECT_GT(refused, 30000);
}

struct Hostile {
  std::string label;
  std::string header;
  std::string expected;
  std::size_t data_bytes = 8;
};

void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.label; }

/// A header of one tensor `a` with these fields.
std::string one(const std::string& fields) { return "{\"a\":{" + fields + "}}"; }

/// A header of tensors `a` and `b`, U8, with these data_offsets.
std::string two(const std::string& a, const std::string& a_size, const std::string& b, const std::string& b_size) {
  return R"({"a":{"dtype":"U8","shape":[)" + a_size + R"(],"data_offsets":)" + a + R"(},"b":{"dtype":"U8","shape":[)" +
         b_size + R"(],"data_offsets":)" + b + "}}";
}

std::vector<Hostile> hostileHeaders() {
  const std::string brackets(1'000'000, '[');
  std::string braces;
  for (int i = 0; i < 200'000; ++i) braces += "{\"a\":";
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  return {
      // no object, no JSON
      {"Array", "[1]", "f: byte 8: the header must start with '{'"},
      {"SpaceAndArray", " []", "f: byte 9: the header must start with '{'"},
      {"SpacesOnly", "   ", "f: byte 11: the header must start with '{'"},
      {"ByteOrderMark", "\xef\xbb\xbf{}", "f: byte 8: the header must start with '{'"},
      {"Unclosed", "{", "f: byte 9: the header is not valid JSON in UTF-8"},
      {"TwoObjects", "{}{}", "f: byte 10: the header is not valid JSON in UTF-8", 0},
      {"Comma", R"({"__metadata__":{},})", "f: byte 27: the header is not valid JSON in UTF-8", 0},
      {"Comment", "{/**/}", "f: byte 9: the header is not valid JSON in UTF-8", 0},
      {"NameIsNoString", "{1:{}}", "f: byte 9: the header is not valid JSON in UTF-8"},
      {"NulAfterEnd", std::string("{}\0{\"a\":[[", 10), "f: byte 10: the header holds a NUL", 0},
      {"NotUtf8", "{\"a\xff\":{}}", "f: byte 11: the header is not valid JSON in UTF-8"},
      {"OverlongUtf8", "{\"a\xc0\xaf\":{}}", "f: byte 11: the header is not valid JSON in UTF-8"},
      {"LoneSurrogate", R"({"\ud800":{}})", "f: byte 16: the header is not valid JSON in UTF-8"},
      {"ControlCharacter", "{\"a\n\":{}}", "f: byte 11: the header is not valid JSON in UTF-8"},
      // nesting
      {"Brackets", "{\"a\":" + brackets, "f: tensor 'a' at byte 13: expected an object, got an array"},
      {"Braces", braces, "f: tensor 'a' at byte 16: the field 'a' is unknown"},
      {"BracketsInShape", "{\"a\":{\"shape\":" + brackets,
       "f: tensor 'a' at byte 23: shape must hold integers of at least 0, got an array"},
      {"BracketsInOffsets", "{\"a\":{\"data_offsets\":" + brackets,
       "f: tensor 'a' at byte 30: data_offsets must hold integers of at least 0, got an array"},
      {"BracketsInMetadata", "{\"__metadata__\":{\"k\":" + brackets,
       "f: '__metadata__' at byte 29: the value of 'k' must be a string, got an array"},
      {"ObjectForDtype", one(R"("dtype":{"x":1})"), "f: tensor 'a' at byte 22: dtype must be a string, got an object"},
      {"ObjectInShape", one(R"("shape":[{}])"),
       "f: tensor 'a' at byte 23: shape must hold integers of at least 0, got an object"},
      // names
      {"TwiceTheName", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{}})",
       "f: tensor 'a' at byte 63: the name appears twice"},
      {"TwiceEscaped", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"\u0061":{}})",
       "f: tensor 'a' at byte 68: the name appears twice"},
      {"TwiceMetadata", R"({"__metadata__":{},"__metadata__":{}})",
       "f: '__metadata__' at byte 40: the name appears twice"},
      {"TwiceInMetadata", R"({"__metadata__":{"k":"1","k":"2"}})",
       "f: '__metadata__' at byte 35: the key 'k' appears twice"},
      {"TwiceTheField", one(R"("dtype":"U8","dtype":"I8")"),
       "f: tensor 'a' at byte 33: the field 'dtype' appears twice"},
      {"UnknownField", one(R"("offsets":[0,8])"), "f: tensor 'a' at byte 22: the field 'offsets' is unknown"},
      {"NastyName", "{\"" + std::string(200, 'n') + "\\u001b[2J\":1}",
       "f: tensor '" + std::string(100, 'n') + "...' at byte 222: expected an object, got the number 1"},
      {"EscapesInName", "{\"\\u001b[2J\":null}", "f: tensor '?[2J' at byte 24: expected an object, got null"},
      // wrong kinds
      {"NoMetadataObject", R"({"__metadata__":"pt"})",
       "f: '__metadata__' at byte 27: expected an object, got the string 'pt'"},
      {"NumberInMetadata", R"({"__metadata__":{"k":1}})",
       "f: '__metadata__' at byte 30: the value of 'k' must be a string, got the number 1"},
      {"NullAndMetadata", R"({"__metadata__":null,"__metadata__":{}})",
       "f: '__metadata__' at byte 42: the name appears twice"},
      {"NullForATensor", R"({"a":null})", "f: tensor 'a' at byte 16: expected an object, got null"},
      {"NullInMetadata", R"({"__metadata__":{"k":null}})",
       "f: '__metadata__' at byte 32: the value of 'k' must be a string, got null"},
      {"NumberForDtype", one(R"("dtype":32)"), "f: tensor 'a' at byte 24: dtype must be a string, got the number 32"},
      {"UnknownDtypeAlone", one(R"("dtype":"F31")"), "f: tensor 'a' at byte 27: the field 'shape' is missing"},
      {"StringForShape", one(R"("shape":"8")"), "f: tensor 'a' at byte 24: shape must be an array, got the string '8'"},
      {"NumberForOffsets", one(R"("data_offsets":8)"),
       "f: tensor 'a' at byte 30: data_offsets must be an array, got the number 8"},
      {"TrueInShape", one(R"("shape":[true])"),
       "f: tensor 'a' at byte 26: shape must hold integers of at least 0, got a boolean"},
      {"StringInOffsets", one(R"("data_offsets":["0",8])"),
       "f: tensor 'a' at byte 32: data_offsets must hold integers of at least 0, got the string '0'"},
      {"NoDtype", one(R"("shape":[8],"data_offsets":[0,8])"), "f: tensor 'a' at byte 46: the field 'dtype' is missing"},
      {"NoShape", one(R"("dtype":"U8","data_offsets":[0,8])"),
       "f: tensor 'a' at byte 47: the field 'shape' is missing"},
      {"NoOffsets", one(R"("dtype":"U8","shape":[8])"),
       "f: tensor 'a' at byte 38: the field 'data_offsets' is missing"},
      {"OneOffset", one(R"("data_offsets":[0])"),
       "f: tensor 'a' at byte 31: data_offsets must hold two numbers, got 1"},
      {"NoOffset", one(R"("data_offsets":[])"), "f: tensor 'a' at byte 30: data_offsets must hold two numbers, got 0"},
      {"ThreeOffsets", one(R"("data_offsets":[0,8,8])"),
       "f: tensor 'a' at byte 35: data_offsets holds more than two numbers"},
      // numbers
      {"NegativeOffset", one(R"("data_offsets":[-1,8])"),
       "f: tensor 'a' at byte 32: data_offsets must hold integers of at least 0, got the negative number -1"},
      {"NegativeDimension", one(R"("shape":[-8])"),
       "f: tensor 'a' at byte 25: shape must hold integers of at least 0, got the negative number -8"},
      {"Fraction", one(R"("shape":[8.5])"),
       "f: tensor 'a' at byte 26: shape must hold integers of at least 0, got the number '8.5'"},
      {"Exponent", one(R"("data_offsets":[0,8e0])"),
       "f: tensor 'a' at byte 35: data_offsets must hold integers of at least 0, got the number '8e0'"},
      {"BeyondDouble", one(R"("data_offsets":[0,1e999])"), "f: byte 36: the header is not valid JSON in UTF-8"},
      {"Beyond64Bits", one(R"("data_offsets":[0,18446744073709551616])"),
       "f: tensor 'a' at byte 52: data_offsets must hold integers of at least 0, got the number "
       "'18446744073709551616'"},
      {"LeadingZero", one(R"("data_offsets":[0,08])"), "f: byte 33: the header is not valid JSON in UTF-8"},
      {"DimensionBeyondIndex", one(R"("shape":[9223372036854775808])"),
       "f: tensor 'a' at byte 42: the dimension 9223372036854775808 is too large"},
      {"TooManyDimensions", one(R"("shape":[)" + ones + "]"),
       "f: tensor 'a' at byte 152: the shape has more than 64 dimensions"},
      // offsets and sizes of one tensor
      {"Backwards", one(R"("dtype":"U8","shape":[4],"data_offsets":[8,4])"),
       "f: tensor 'a' at byte 59: data_offsets [8, 4] end before they begin"},
      {"PastTheEnd", one(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"),
       "f: tensor 'a' at byte 59: data_offsets [0, 9] reach past the end of the data, which has 8 bytes"},
      {"FarPastTheEnd", one(R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615])"),
       "f: tensor 'a' at byte 97: data_offsets [18446744073709551614, 18446744073709551615] reach past the end of the "
       "data, which has 8 bytes"},
      {"TooShort", one(R"("dtype":"F32","shape":[2,2],"data_offsets":[0,8])"),
       "f: tensor 'a' at byte 62: data_offsets [0, 8] hold 8 bytes, but F32 of shape [2, 2] takes 16 bytes"},
      {"TooLong", one(R"("dtype":"F16","shape":[],"data_offsets":[0,8])"),
       "f: tensor 'a' at byte 59: data_offsets [0, 8] hold 8 bytes, but F16 of shape [] takes 2"},
      {"EmptyWithBytes", one(R"("dtype":"F64","shape":[0,1],"data_offsets":[0,8])"),
       "f: tensor 'a' at byte 62: data_offsets [0, 8] hold 8 bytes, but F64 of shape [0, 1] takes 0"},
      // 2^32 * 2^32 numbers are 0 in 64 bits, (2^61 + 1) * 8 bytes are 8.
      {"ShapeOverflows", one(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
       "f: tensor 'a' at byte 79: data_offsets [0, 0] hold 0 bytes, but U8 of shape [4294967296, 4294967296] takes "
       "more "
       "than 2^64"},
      {"BytesOverflow", one(R"("dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8])"),
       "f: tensor 'a' at byte 78: data_offsets [0, 8] hold 8 bytes, but F64 of shape [2305843009213693953] takes more "
       "than 2^64"},
      // types of less than a byte, and types whose size nobody knows
      {"HalfAByte", one(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"),
       "f: tensor 'a' at byte 59: data_offsets [0, 2] hold 2 bytes, but F4 of shape [3] takes no whole number of "
       "bytes"},
      {"SixBits", one(R"("dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2])"),
       "data_offsets [0, 2] hold 2 bytes, but F6_E2M3 of shape [2] takes no whole number of bytes"},
      {"SixBitsTooLong", one(R"("dtype":"F6_E3M2","shape":[8],"data_offsets":[0,8])"),
       "data_offsets [0, 8] hold 8 bytes, but F6_E3M2 of shape [8] takes 6 bytes"},
      {"ComplexTooShort", one(R"("dtype":"C64","shape":[2],"data_offsets":[0,8])"),
       "data_offsets [0, 8] hold 8 bytes, but C64 of shape [2] takes 16 bytes"},
      {"SixBitsOverflow", one(R"("dtype":"F6_E3M2","shape":[4294967296,4294967296],"data_offsets":[0,8])"),
       "F6_E3M2 of shape [4294967296, 4294967296] takes more than 2^64 bytes"},
      {"UnknownOverflows", one(R"("dtype":"X","shape":[4294967296,2147483648],"data_offsets":[0,8])"),
       "f: tensor 'a' at byte 78: the shape [4294967296, 2147483648] has more than 2^63 numbers"},
      {"UnknownOverflowsTwice", one(R"("dtype":"X","shape":[4294967296,4294967296],"data_offsets":[0,8])"),
       "the shape [4294967296, 4294967296] has more than 2^63 numbers"},
      {"UnknownPastTheEnd", one(R"("dtype":"X","shape":[1],"data_offsets":[0,9])"),
       "data_offsets [0, 9] reach past the end of the data, which has 8 bytes"},
      {"UnknownBackwards", one(R"("dtype":"X","shape":[1],"data_offsets":[8,4])"),
       "data_offsets [8, 4] end before they begin"},
      {"UnknownHole", one(R"("dtype":"X","shape":[1],"data_offsets":[1,8])"),
       "tensor 'a' at byte 61: leaves a hole, expected it at byte 60"},
      // offsets of tensors together; these headers are 105 bytes long, the data starts at byte 113
      {"Overlap", two("[0,5]", "5", "[4,8]", "4"),
       "f: tensor 'b' at byte 117: overlaps tensor 'a', which ends at byte 118"},
      {"SameBytes", two("[0,8]", "8", "[0,8]", "8"),
       "f: tensor 'b' at byte 113: overlaps tensor 'a', which ends at byte 121"},
      {"Inside", two("[2,4]", "2", "[0,8]", "8"),
       "f: tensor 'a' at byte 115: overlaps tensor 'b', which ends at byte 121"},
      {"EmptyInside", two("[4,4]", "0", "[0,8]", "8"),
       "f: tensor 'a' at byte 117: overlaps tensor 'b', which ends at byte 121"},
      {"Hole", two("[0,4]", "4", "[5,8]", "3"), "f: tensor 'b' at byte 118: leaves a hole, expected it at byte 117"},
      {"HoleAtTheBeginning", two("[1,4]", "3", "[4,8]", "4"),
       "f: tensor 'a' at byte 114: leaves a hole, expected it at byte 113"},
      {"HoleAtTheEnd", two("[0,4]", "4", "[4,7]", "3"),
       "f: byte 120: the last tensor ends here, but the file at byte 121"},
  };
}

class HostileHeader : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsRefused) {
  const Hostile& hostile = GetParam();
  expectThrows<FormatError>([&] { read(safetensorsBytes(hostile.header, zeros(hostile.data_bytes))); },
                            hostile.expected);
}

INSTANTIATE_TEST_SUITE_P(All, HostileHeader, ::testing::ValuesIn(hostileHeaders()),
                         [](const auto& hostile) { return hostile.param.label; });

}  // namespace
}  // namespace gosset::safetensors_header_test
