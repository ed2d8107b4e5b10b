// SPDX-License-Identifier: Apache-2.0
#include <gosset/format/fields.hpp>

#include "testing.hpp"

#include <limits>

namespace gosset::fields_test {
namespace {

struct Part : VisitsFields<Part> {
  StoredArray<float> floats = StoredArray<float>(2);
  std::vector<std::uint8_t> bytes = {1, 2, 3};
  std::uint64_t seed = 9;

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("floats", self.floats);
    visit("bytes", self.bytes);
    visit("seed", self.seed);
  }
};
struct Whole : VisitsFields<Whole> {
  Part part;
  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visitWithin("part.", self.part, visit);
  }
};

TEST(Fields, AreVisitedByNameInOrder) {
  Whole whole;
  std::vector<std::string> names;
  std::size_t bytes = 0;
  std::as_const(whole).visitFields([&](std::string_view name, auto values) {
    names.emplace_back(name);
    bytes += values.size_bytes();
  });
  EXPECT_EQ(names, (std::vector<std::string>{"part.floats", "part.bytes", "part.seed"}));
  EXPECT_EQ(bytes, 8u + 3u + 8u);
  whole.visitFields([]<class T>(std::string_view, std::span<T> values) { values[0] = T{5}; });
  EXPECT_EQ(whole.part.floats[0], 5.f);
  EXPECT_EQ(whole.part.bytes[0], 5);
  EXPECT_EQ(whole.part.seed, 5u);
}

TEST(Fields, LengthsOfAPartAreAskedForByItsPrefix) {
  const FieldLengths lengths = [](std::string_view name) { return name == "inner.values" ? Index{7} : Index{0}; };
  EXPECT_EQ(lengthsWithin("inner.", lengths)("values"), 7);
  EXPECT_FALSE(lengthsWithin("inner.", {}));
}

TEST(Fields, FiniteMeansEveryFloat) {
  const auto finite = []<class T>(T value) { return detail::areFinite(std::span<const T>(&value, 1)); };
  for (const float x : {0.f, -0.f, 1e-45f, -65504.f}) {
    EXPECT_TRUE(finite(x) && finite(Float16(x)) && finite(BFloat16(x))) << x;
  }
  for (const float x : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_FALSE(finite(x) || finite(Float16(x)) || finite(BFloat16(x))) << x;
  }
  EXPECT_TRUE(finite(std::uint16_t{0x7fff}));
}

}  // namespace
}  // namespace gosset::fields_test
