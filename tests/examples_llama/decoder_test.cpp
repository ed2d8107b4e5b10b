// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/decoder.hpp"

#include "testing.hpp"

namespace llama::decoder_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using nlohmann::json;

std::string decoded(const json& description, const std::vector<std::string>& names) {
  const TokenDecoder decoder = makeDecoder(description, "t.json: decoder");
  std::string text;
  bool first = true;
  for (const std::string& name : names) {
    text += decoder(name, first);
    first = false;
  }
  return text;
}

json replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}
json strip(std::size_t start, std::size_t stop) {
  return {{"type", "Strip"}, {"content", " "}, {"start", start}, {"stop", stop}};
}
json sequence(const std::vector<json>& steps) { return {{"type", "Sequence"}, {"decoders", steps}}; }

TEST(Decoder, AsOfLlama2) {
  const json llama = sequence({replace("_", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip(1, 0)});
  EXPECT_EQ(decoded(llama, {"_a", "_b", "<0xE2>", "<0x82>", "<0xac>", "<0x4>", "<0xGG>"}),
            "a b\xE2\x82\xAC<0x4><0xGG>");
  EXPECT_EQ(decoded(llama, {"__a"}), " a");
  EXPECT_EQ(decoded(llama, {"a", "_"}), "a ");
}

TEST(Decoder, BytesOfGpt2AndTokensThatAreNone) {
  EXPECT_EQ(decoded({{"type", "ByteLevel"}}, {"\xC4\xA0"
                                              "a",
                                              "\xC3\x83\xC2\xA9", "<| |>"}),
            " a\xC3\xA9<| |>");
}

TEST(Decoder, OfMetaspaceTheFirstTokenLosesItsMarks) {
  const json always = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "always"}};
  const json never = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "never"}};
  EXPECT_EQ(decoded(always, {"__a", "_b_"}), "a b ");
  EXPECT_EQ(decoded(never, {"_a", "_b"}), " a b");
}

TEST(Decoder, StripBeforeFuseIsForEachToken) { EXPECT_EQ(decoded(strip(1, 2), {"  a   ", " b"}), " a b"); }

TEST(Decoder, WhatIsNotKnownIsRefusedByName) {
  const auto refused = [](const json& description, const std::string& text) {
    expectThrows<FormatError>([&] { makeDecoder(description, "t.json: decoder"); }, text);
  };
  refused({{"type", "WordPiece"}}, "t.json: decoder: a decoder of type \"WordPiece\" cannot be read");
  refused(sequence({{{"type", "Fuse"}}, strip(1, 1)}), "decoders[1]: behind Fuse, one Strip at the beginning");
  refused(sequence({{{"type", "Fuse"}}, replace("a", "b")}),
          "a decoder of type \"Replace\" behind Fuse cannot be read");
  refused({{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}}, "\"start\" must be a number of 31 bits");
  refused({{"type", "Strip"}, {"content", ""}, {"start", 1}, {"stop", 0}}, "\"content\" must not be empty");
}

}  // namespace
}  // namespace llama::decoder_test
