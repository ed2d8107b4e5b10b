// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/normalizer.hpp"

#include "testing.hpp"

namespace llama::normalizer_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using nlohmann::json;

std::string normalized(const json& description, const std::string& text) {
  return makeNormalizer(description, "t.json: normalizer")(text);
}

// The forms of e with an acute accent and of the ligature fi (Unicode Standard Annex 15, figures 3 and 6).
TEST(Normalizer, TheFourForms) {
  const std::string composed = "\xC3\xA9", decomposed = "e\xCC\x81", ligature = "\xEF\xAC\x81";
  const auto form = [](const char* name, const std::string& text) { return normalized({{"type", name}}, text); };
  EXPECT_EQ(form("NFC", decomposed + ligature), composed + ligature);
  EXPECT_EQ(form("NFD", composed + ligature), decomposed + ligature);
  EXPECT_EQ(form("NFKC", decomposed + ligature), composed + "fi");
  EXPECT_EQ(form("NFKD", composed + ligature), decomposed + "fi");
  EXPECT_EQ(form("NFC", ""), "");
  EXPECT_EQ(form("NFC", std::string("a\0b", 3)), std::string("a\0b", 3));
}

TEST(Normalizer, LowercaseGoesCharacterByCharacter) {
  EXPECT_EQ(normalized({{"type", "Lowercase"}}, "A\xC3\x89z\xC4\xB0\xCE\xA3"), "a\xC3\xA9zi\xCC\x87\xCF\x83");
}

TEST(Normalizer, ReplaceTakesStringsAndExpressions) {
  EXPECT_EQ(normalized({{"type", "Replace"}, {"pattern", {{"String", "ab"}}}, {"content", "b"}}, "aabab"), "abb");
  EXPECT_EQ(normalized({{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}, {"content", ""}}, "baab"), "bb");
  EXPECT_EQ(normalized({{"type", "Replace"}, {"pattern", {{"String", "."}}}, {"content", "-"}}, "a.b"), "a-b");
}

TEST(Normalizer, PrependLeavesNothingAsItIs) {
  EXPECT_EQ(normalized({{"type", "Prepend"}, {"prepend", "_"}}, "a"), "_a");
  EXPECT_EQ(normalized({{"type", "Prepend"}, {"prepend", "_"}}, ""), "");
}

TEST(Normalizer, StripTakesWhiteSpaceOffEitherEnd) {
  const auto strip = [](bool left, bool right, const std::string& text) {
    return normalized({{"type", "Strip"}, {"strip_left", left}, {"strip_right", right}}, text);
  };
  EXPECT_EQ(strip(true, true, " \xC2\xA0 a b\n"), "a b");
  EXPECT_EQ(strip(true, false, " a "), "a ");
  EXPECT_EQ(strip(false, true, " a "), " a");
  EXPECT_EQ(strip(true, true, " a"), "a");
  EXPECT_EQ(strip(false, true, " a"), " a");
  EXPECT_EQ(strip(true, true, "  "), "");
  EXPECT_EQ(strip(false, false, " a\n\nb "), " a\n\nb ");
}

TEST(Normalizer, ASequenceGoesInOrder) {
  const json steps = {{{"type", "Prepend"}, {"prepend", " "}},
                      {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "_"}}};
  EXPECT_EQ(normalized({{"type", "Sequence"}, {"normalizers", steps}}, "a b"), "_a_b");
  EXPECT_EQ(normalized(nullptr, "a b"), "a b");
}

TEST(Normalizer, WhatIsNotKnownIsRefusedByName) {
  const auto refused = [](const json& description, const std::string& text) {
    expectThrows<FormatError>([&] { normalized(description, ""); }, text);
  };
  refused({{"type", "Precompiled"}}, "t.json: normalizer: a normalizer of type \"Precompiled\" cannot be read");
  refused({{"type", "NFC"}, {"strict", true}}, "the field \"strict\" is not known");
  refused({{"type", "Prepend"}}, "t.json: normalizer: has no \"prepend\"");
  refused({{"type", "Prepend"}, {"prepend", 3}}, "\"prepend\" must be a string, found 3");
  refused({{"type", "Strip"}, {"strip_left", 1}}, "\"strip_left\" must be true or false, found 1");
  refused({{"type", "Sequence"}, {"normalizers", {{{"type", "Nmt"}}}}},
          "normalizer.normalizers[0]: a normalizer of type");
  refused({{"type", "Sequence"}, {"normalizers", "NFC"}}, "\"normalizers\" must be an array, found \"NFC\"");
}

}  // namespace
}  // namespace llama::normalizer_test
