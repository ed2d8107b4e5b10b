// SPDX-License-Identifier: Apache-2.0
// The vectors of ggml's blocks in include/gosset/io/LAYOUTS.md, against the library, and against a reader that is
// written from that page alone and shares no line with it.
#include <gosset/format/ggml.hpp>

#include "format/ggml/types.hpp"
#include "io/layouts_records.hpp"
#include "testing.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace gosset::layouts_test {
namespace {

/// Byte k: the lowest 8 bits of bits(9, k), but for d, m and e, which stand at the given places.
Bytes blockOf(std::size_t size, const Record& record) {
  Bytes block(size);
  for (std::size_t k = 0; k < size; ++k) block[k] = static_cast<std::uint8_t>(randomBits(9, k));
  const auto put = [&](const char* key, const Bytes& bytes) {
    if (!record.contains(key)) return;
    for (std::size_t k = 0; k < bytes.size(); ++k) block[std::stoul(record.at(key)) + k] = bytes[k];
  };
  put("d", {0x00, 0x24});
  put("m", {0x00, 0x1c});
  put("e", {124});
  return block;
}

/// A block's numbers, from LAYOUTS.md's table. d = 1/64, m = 1/256.
class Reader {
 public:
  Reader(std::string type, Bytes block) : type_(std::move(type)), b_(std::move(block)) {}

  double number(int i) const {
    constexpr double d = 1. / 64, m = 1. / 256;
    const int g = i / 16, h = i / 32;
    if (type_ == "Q4_0") return d * (nibble32(2, i) - 8);
    if (type_ == "Q4_1") return d * nibble32(4, i) + m;
    if (type_ == "Q5_0") return d * (nibble32(6, i) + 16 * bit(at(2 + i / 8), i % 8) - 16);
    if (type_ == "Q5_1") return d * (nibble32(8, i) + 16 * bit(at(4 + i / 8), i % 8)) + m;
    if (type_ == "Q8_0") return d * signedByte(2 + i);
    if (type_ == "IQ4_NL") return d * nonuniform(nibble32(2, i));
    if (type_ == "MXFP4") return std::ldexp(e2m1(nibble32(1, i)), at(0) - 128);
    if (type_ == "Q2_K") return d * low(at(g)) * pair(16, i) - m * high(at(g));
    if (type_ == "Q3_K") return d * (t(g) - 32) * (pair(32, i) + 4 * bit(at(i % 32), h) - 4);
    if (type_ == "Q4_K") return d * x(h) * nibble64(16, i) - m * y(h);
    if (type_ == "Q5_K") return d * x(h) * (nibble64(48, i) + 16 * bit(at(16 + i % 32), h)) - m * y(h);
    if (type_ == "Q6_K") {
      const int byte = at(64 * (i / 128) + i % 64);
      return d * signedByte(192 + g) * ((i / 64 % 2 != 0 ? high(byte) : low(byte)) + 16 * pair(128, i) - 32);
    }
    if (type_ == "IQ4_XS") return d * (z(h) - 32) * nonuniform(nibble32(8 + 16 * h, i % 32));
    if (type_ == "TQ1_0") return d * (trit(i) - 1);
    EXPECT_EQ(type_, "TQ2_0");
    return d * (pair(0, i) - 1);
  }

 private:
  int at(int k) const { return b_.at(static_cast<std::size_t>(k)); }
  int signedByte(int k) const { return at(k) < 128 ? at(k) : at(k) - 256; }
  static int low(int byte) { return byte % 16; }
  static int high(int byte) { return byte / 16; }
  static int bit(int byte, int j) { return byte >> j & 1; }
  static int two(int byte, int j) { return byte >> (2 * j) & 3; }
  int nibble32(int q, int i) const { return i < 16 ? low(at(q + i)) : high(at(q + i - 16)); }
  int nibble64(int q, int i) const {
    const int byte = at(q + 32 * (i / 64) + i % 32);
    return i / 32 % 2 != 0 ? high(byte) : low(byte);
  }
  int pair(int q, int i) const { return two(at(q + 32 * (i / 128) + i % 32), i / 32 % 4); }
  int t(int g) const {
    const int a = at(96 + g % 8);
    return (g < 8 ? low(a) : high(a)) + 16 * two(at(96 + 8 + g % 4), g / 4);
  }
  int x(int g) const { return g < 4 ? at(4 + g) % 64 : low(at(8 + g)) + 16 * (at(g) / 64); }
  int y(int g) const { return g < 4 ? at(8 + g) % 64 : high(at(8 + g)) + 16 * (at(4 + g) / 64); }
  int z(int g) const {
    const int a = at(4 + g / 2);
    return (g % 2 == 0 ? low(a) : high(a)) + 16 * two(at(2 + g / 4), g % 4);
  }
  static int nonuniform(int c) {
    constexpr int kT[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return kT[c];
  }
  static int e2m1(int c) {
    constexpr int kU[] = {0, 1, 2, 3, 4, 6, 8, 12};
    return c < 8 ? kU[c] : -kU[c - 8];
  }
  int trit(int i) const {
    const int byte = i < 160 ? at(i % 32) : i < 240 ? at(32 + i % 16) : at(48 + i % 4);
    int digit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4, power = 1;
    for (; digit > 0; --digit) power *= 3;
    return 3 * (byte * power % 256) / 256;
  }

  std::string type_;
  Bytes b_;
};

template <class F>
class LayoutsOfGgml : public ::testing::Test {};
TYPED_TEST_SUITE(LayoutsOfGgml, testing::GgmlTypes, testing::GgmlNames);

TYPED_TEST(LayoutsOfGgml, AreThoseOfThePage) {
  using F = TypeParam;
  const std::string name(F::kName);
  int found = 0;
  for (const Record& record : records("ggml")) {
    if (record.at("format") != "ggml::" + name) continue;
    ++found;
    const Bytes block = blockOf(static_cast<std::size_t>(F::kBlockBytes), record);
    std::vector<float> library(static_cast<std::size_t>(F::kBlock));
    ggml::decodeBlock<F>(block.data(), library.data());
    const Reader reader(name, block);
    for (std::size_t i = 0; i < library.size(); ++i) {
      ASSERT_EQ(static_cast<double>(library[i]), reader.number(static_cast<int>(i))) << i;
    }
    const std::vector<std::string> places = words(record.at("places"));
    std::vector<float> there;
    for (const std::string& place : places) there.push_back(library.at(std::stoul(place)));
    EXPECT_EQ(there, floats(record.at("values"))) << ::testing::PrintToString(there);
    EXPECT_EQ(std::accumulate(library.begin(), library.end(), 0.), std::stod(record.at("sum")))
        << std::accumulate(library.begin(), library.end(), 0.);
  }
  EXPECT_EQ(found, 1);
}

}  // namespace
}  // namespace gosset::layouts_test
