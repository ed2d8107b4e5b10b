// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/json.hpp>

#include "testing.hpp"

#include <string>

namespace gosset::json_test {
namespace {

using testing::expectThrows;

std::string nested(int depth, const std::string& open = "[", const std::string& close = "]") {
  std::string text;
  for (int i = 0; i < depth; ++i) text += open;
  text += "1";
  for (int i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(ParseJson, ReadsWhatIsNestedUpToTheLimit) {
  EXPECT_EQ(parseJson(R"({"a": [1, -2, 0.5, null, true, "é"]})", "f")["a"].size(), 6u);
  EXPECT_EQ(parseJson(nested(kMostJsonDepth), "f").dump(), nested(kMostJsonDepth));
  EXPECT_TRUE(parseJson(nested(kMostJsonDepth, "{\"a\":", "}"), "f").is_object());
}

TEST(ParseJson, RefusesMore) {
  const std::string text = "f: JSON nested at most 100 deep expected, found more";
  for (const int depth : {kMostJsonDepth + 1, 200'000}) {
    expectThrows<FormatError>([&] { parseJson(nested(depth), "f"); }, text);
    expectThrows<FormatError>([&] { parseJson(nested(depth, "{\"a\":", "}"), "f"); }, text);
    expectThrows<FormatError>([&] { parseJson(std::string(static_cast<std::size_t>(depth), '['), "f"); }, text);
  }
}

TEST(ParseJson, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "[1,]", "{} {}", "\"\xff\"", "nul"}) {
    expectThrows<FormatError>([&] { parseJson(text, "f"); }, "f: JSON in UTF-8 expected");
  }
}

}  // namespace
}  // namespace gosset::json_test
