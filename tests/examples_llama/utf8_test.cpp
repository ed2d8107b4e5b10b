// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/utf8.hpp"

#include "testing.hpp"

namespace llama::utf8_test {
namespace {

TEST(Utf8, EveryCharacterComesBack) {
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::string text = utf8(code);
    const Utf8Character c = characterAt(text, 0);
    ASSERT_TRUE(c.valid && !c.cutOff && c.code == code && c.size == text.size()) << static_cast<unsigned>(code);
    for (std::size_t size = 1; size < text.size(); ++size) {
      const Utf8Character half = characterAt(text.substr(0, size), 0);
      ASSERT_TRUE(!half.valid && half.cutOff && half.size == size) << static_cast<unsigned>(code);
    }
  }
}

TEST(Utf8, KnownEncodings) {
  EXPECT_EQ(utf8(U'A'), "A");
  EXPECT_EQ(utf8(0xE9), "\xC3\xA9");
  EXPECT_EQ(utf8(0x20AC), "\xE2\x82\xAC");
  EXPECT_EQ(utf8(0x1F680), "\xF0\x9F\x9A\x80");
}

// The Unicode Standard, table 3-7: overlong forms, surrogates and what lies beyond U+10FFFF are no characters.
TEST(Utf8, WhatIsNoCharacter) {
  const auto size = [](const std::string& text) {
    const Utf8Character c = characterAt(text, 0);
    EXPECT_FALSE(c.valid) << text;
    return c.cutOff ? std::size_t{99} : c.size;
  };
  for (const char* one : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xF5\x80\x80\x80", "\xFF",
                          "\xC3"
                          "A",
                          "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80"}) {
    EXPECT_EQ(size(one), 1u) << one;
  }
  EXPECT_EQ(size("\xE2\x82"
                 "A"),
            2u);
  EXPECT_EQ(size("\xF0\x9F\x9A"
                 "A"),
            3u);
  EXPECT_EQ(firstInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(firstInvalidUtf8("a\xC3\xA9"), std::nullopt);
  EXPECT_EQ(firstInvalidUtf8("a\xC3\xA9\xC3"), 3u);
  EXPECT_EQ(firstInvalidUtf8("a\xFF"), 1u);
}

TEST(Utf8Stream, HoldsHalfCharactersBack) {
  Utf8Stream stream;
  const std::string rocket = "\xF0\x9F\x9A\x80";
  EXPECT_EQ(stream.add("a" + rocket.substr(0, 1)), "a");
  EXPECT_EQ(stream.add(rocket.substr(1, 2)), "");
  EXPECT_EQ(stream.add(rocket.substr(3) + "b"), rocket + "b");
  EXPECT_EQ(stream.add("\x80"
                       "c"),
            "\xEF\xBF\xBD"
            "c");
  EXPECT_EQ(stream.add("\xE2\x82"), "");
  EXPECT_EQ(stream.add("d"),
            "\xEF\xBF\xBD"
            "d");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.add("\xE2"), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace llama::utf8_test
