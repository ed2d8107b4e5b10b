// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/dtype.hpp>

#include "testing.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::dtype_test {
namespace {

using testing::expectThrows;

TEST(Dtype, NamesAndBitsAreTheFormats) {
  const std::vector<std::pair<std::string, std::size_t>> expected = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  ASSERT_EQ(static_cast<std::size_t>(Dtype::kUnknown), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    EXPECT_EQ(dtypeName(dtype), expected[i].first);
    EXPECT_EQ(dtypeBits(dtype), expected[i].second);
    EXPECT_EQ(dtypeSize(dtype), expected[i].second < 8 ? 1 : expected[i].second / 8);
    EXPECT_EQ(dtypeFromName(expected[i].first), dtype);
  }
  EXPECT_EQ(dtypeName(Dtype::kUnknown), "unknown");
  EXPECT_EQ(dtypeBits(Dtype::kUnknown), 0u);
}

TEST(Dtype, NamesItDoesNotKnow) {
  for (const char* name : {"", "F8_E3M4", "f32", "F32 ", "U128", "unknown"}) {
    EXPECT_EQ(dtypeFromName(name), std::nullopt) << name;
  }
}

TEST(Dtype, EachHasOneTypeOfItsSizeOrNone) {
  int scalars = 0;
  for (std::size_t i = 0; i <= static_cast<std::size_t>(Dtype::kUnknown); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    if (!hasFileScalar(dtype)) {
      expectThrows([&] { visitDtype(dtype, [](auto) {}); },
                   "gosset: visitDtype: no type of C++ holds numbers of type " + std::string(dtypeName(dtype)));
      continue;
    }
    ++scalars;
    visitDtype(dtype, [&]<class T>(std::type_identity<T>) {
      EXPECT_EQ(dtypeOf<T>(), dtype);
      EXPECT_EQ(sizeof(T), dtypeSize(dtype));
      EXPECT_LE(alignof(T), dtypeSize(dtype));
    });
  }
  EXPECT_EQ(scalars, 13);
}

TEST(Dtype, TypesOfCpp) {
  EXPECT_EQ(dtypeOf<bool>(), Dtype::kBool);
  EXPECT_EQ(dtypeOf<std::int8_t>(), Dtype::kI8);
  EXPECT_EQ(dtypeOf<Float16>(), Dtype::kF16);
  EXPECT_EQ(dtypeOf<BFloat16>(), Dtype::kBF16);
  EXPECT_EQ(dtypeOf<float>(), Dtype::kF32);
  EXPECT_EQ(dtypeOf<double>(), Dtype::kF64);
  EXPECT_EQ(dtypeOf<std::int64_t>(), Dtype::kI64);
  EXPECT_FALSE(FileScalar<char>);
  EXPECT_FALSE(FileScalar<long double>);
}

}  // namespace
}  // namespace gosset::dtype_test
