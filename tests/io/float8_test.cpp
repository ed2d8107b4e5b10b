// SPDX-License-Identifier: Apache-2.0
// All codes of the 8-bit floats of files against a plain definition, and through SafetensorsFile.
#include <gosset/io/float8.hpp>
#include <gosset/io/safetensors.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

namespace gosset::float8_test {
namespace {

using testing::safetensorsBytes;
using testing::TemporaryFolder;
using testing::writeText;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Sign, exponent and mantissa as written, in double.
double plain(int code, int exponent_bits, int mantissa_bits, int bias) {
  const double sign = code >> (exponent_bits + mantissa_bits) != 0 ? -1 : 1;
  const int exponent = (code >> mantissa_bits) % (1 << exponent_bits);
  const double fraction = std::ldexp(code % (1 << mantissa_bits), -mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

double e5m2(int code) {
  if (code % 128 > 0b1111100) return kNan;
  if (code % 128 == 0b1111100) return code < 128 ? kInfinity : -kInfinity;
  return plain(code, 5, 2, 15);
}
double e4m3(int code) { return code % 128 == 127 ? kNan : plain(code, 4, 3, 7); }
double e8m0(int code) { return code == 255 ? kNan : std::ldexp(1., code - 127); }
double e5m2fnuz(int code) { return code == 128 ? kNan : plain(code, 5, 2, 16); }
double e4m3fnuz(int code) { return code == 128 ? kNan : plain(code, 4, 3, 8); }

struct Type {
  Dtype dtype;
  double (*value)(int code);
};
void PrintTo(const Type& type, std::ostream* out) { *out << dtypeName(type.dtype); }

class Float8 : public ::testing::TestWithParam<Type> {};

TEST_P(Float8, AllCodes) {
  EXPECT_TRUE(isFloat8(GetParam().dtype));
  for (int code = 0; code < 256; ++code) {
    const double expected = GetParam().value(code);
    const float value = detail::float8Value(GetParam().dtype, static_cast<std::uint8_t>(code));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(static_cast<double>(value), expected) << code;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << code;
    }
  }
}

TEST_P(Float8, AFilesNumbersAreRead) {
  const TemporaryFolder folder;
  std::string codes;
  for (int code = 0; code < 256; ++code) codes += static_cast<char>(code);
  const std::string name(dtypeName(GetParam().dtype));
  writeText(folder / "f", safetensorsBytes(R"({"w":{"dtype":")" + name +
                                               R"(","shape":[16,16],"data_offsets":[0,256]},)"
                                               R"("b":{"dtype":"F32","shape":[1],"data_offsets":[256,260]}})",
                                           codes + std::string("\0\0\x80\x3f", 4)));
  const SafetensorsFile file(folder / "f");
  EXPECT_EQ(file.info("w").dtype, GetParam().dtype);
  EXPECT_EQ(file.info("w").size(), 256);
  EXPECT_EQ(file.vectorAs<float>("b")(0), 1.f);
  const RowMatrixXf matrix = file.matrixAs<float>("w");
  const Eigen::VectorXd flat = file.flatAs<double>("w");
  const auto halves = file.flatAs<Float16>("w");
  ASSERT_EQ(matrix.rows(), 16);
  for (int code = 0; code < 256; ++code) {
    const double expected = GetParam().value(code);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(matrix(code / 16, code % 16)) && std::isnan(flat(code))) << code;
    } else {
      EXPECT_EQ(static_cast<double>(matrix(code / 16, code % 16)), expected) << code;
      EXPECT_EQ(flat(code), expected) << code;
      EXPECT_EQ(halves(code), Float16(static_cast<float>(expected))) << code;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Float8,
                         ::testing::Values(Type{Dtype::kF8E5M2, e5m2}, Type{Dtype::kF8E4M3, e4m3},
                                           Type{Dtype::kF8E8M0, e8m0}, Type{Dtype::kF8E5M2Fnuz, e5m2fnuz},
                                           Type{Dtype::kF8E4M3Fnuz, e4m3fnuz}),
                         [](const auto& type) { return std::string(dtypeName(type.param.dtype)); });

TEST(Float8, PublishedExtremes) {
  const auto value = [](Dtype dtype, int code) { return detail::float8Value(dtype, static_cast<std::uint8_t>(code)); };
  EXPECT_EQ(value(Dtype::kF8E4M3, 0x7e), 448.f);
  EXPECT_EQ(value(Dtype::kF8E4M3, 0x08), 0x1p-6f);  // the least normal one
  EXPECT_EQ(value(Dtype::kF8E4M3, 0x01), 0x1p-9f);
  EXPECT_EQ(value(Dtype::kF8E5M2, 0x7b), 57344.f);
  EXPECT_EQ(value(Dtype::kF8E5M2, 0x04), 0x1p-14f);
  EXPECT_EQ(value(Dtype::kF8E5M2, 0x01), 0x1p-16f);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(value(Dtype::kF8E8M0, 0)), 0x00400000u);  // 2^-127, a denormal of float
  EXPECT_EQ(value(Dtype::kF8E8M0, 254), 0x1p127f);
  EXPECT_EQ(value(Dtype::kF8E4M3Fnuz, 0x7f), 240.f);
  EXPECT_EQ(value(Dtype::kF8E4M3Fnuz, 0x01), 0x1p-10f);
  EXPECT_EQ(value(Dtype::kF8E5M2Fnuz, 0x7f), 57344.f);
  EXPECT_EQ(value(Dtype::kF8E5M2Fnuz, 0x01), 0x1p-17f);
}

/// A finite E5M2 is a half whose low byte is zero.
TEST(Float8, E5M2IsTheUpperHalfOfAHalf) {
  for (int code = 0; code < 256; ++code) {
    const auto bits = static_cast<std::uint16_t>(code << 8);
    const float half = static_cast<float>(std::bit_cast<Float16>(bits));
    const float value = detail::float8Value(Dtype::kF8E5M2, static_cast<std::uint8_t>(code));
    EXPECT_TRUE(value == half || (std::isnan(value) && std::isnan(half))) << code;
  }
}

}  // namespace
}  // namespace gosset::float8_test
