// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/dtype.hpp>

#include "testing.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace gosset {
namespace {

TEST(Dtype, NamesAndSizesAreTheFormats) {
  const std::vector<std::pair<std::string, std::size_t>> expected = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
      {"I32", 4},  {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    EXPECT_EQ(dtypeName(dtype), expected[i].first);
    EXPECT_EQ(dtypeSize(dtype), expected[i].second);
    EXPECT_EQ(dtypeFromName(expected[i].first), dtype);
  }
}

TEST(Dtype, NamesItDoesNotKnow) {
  for (const char* name : {"", "F8_E4M3", "f32", "F32 ", "U128"}) EXPECT_EQ(dtypeFromName(name), std::nullopt) << name;
}

TEST(Dtype, EachHasOneTypeOfItsSize) {
  for (std::size_t i = 0; i < 13; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    visitDtype(dtype, [&]<class T>(std::type_identity<T>) {
      EXPECT_EQ(dtypeOf<T>(), dtype);
      EXPECT_EQ(sizeof(T), dtypeSize(dtype));
      EXPECT_LE(alignof(T), dtypeSize(dtype));
    });
  }
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
}  // namespace gosset
