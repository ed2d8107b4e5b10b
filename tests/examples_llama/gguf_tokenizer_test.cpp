// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/gguf_tokenizer_read.hpp"
#include "../../examples/llama/gguf_tokenizer_write.hpp"
#include "files.hpp"

#include <cstdlib>

// Tokenizers in the metadata of GGUF files.
namespace llama::testing::gguf_tokenizer_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Byte-level, of the words of a row of the table.
nlohmann::json byteLevel(const GgufPreTokenizer& row) {
  nlohmann::json vocab = {{"!", 0},
                          {"a", 1},
                          {"b", 2},
                          {"ab", 3},
                          {"\xC4\xA0", 4},
                          {"\xC4\xA0"
                           "ab",
                           5},
                          {"1", 6}};
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens",
       {{{"id", 7}, {"content", "<end>"}, {"special", true}}, {{"id", 8}, {"content", "<think>"}, {"special", false}}}},
      {"normalizer", row.composed ? nlohmann::json{{"type", "NFC"}} : nlohmann::json()},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", row.steps()}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model",
       {{"type", "BPE"},
        {"ignore_merges", row.ignoresMerges},
        {"vocab", vocab},
        {"merges", {"a b", nlohmann::json("\xC4\xA0 ab")}}}}};
}

Tokenizer tokenizerOf(const nlohmann::json& json, Index size, TextFrame frame = {}) {
  return {parseHuggingFaceTokenizer(json.dump(), size, "test").vocabulary, std::move(frame)};
}

fs::path written(const TemporaryFolder& folder, const Tokenizer& tokenizer, Index size, const std::string& named = {}) {
  gosset::GgufWriter writer;
  setGgufTokenizer(writer, tokenizer, size, named);
  writer.write(folder / "t.gguf");
  return folder / "t.gguf";
}

TEST(GgufTokenizer, BytesAndMergesAreReadAsTheyWereWritten) {
  const TemporaryFolder folder;
  for (const GgufPreTokenizer& row : ggufPreTokenizers()) {
    SCOPED_TRACE(row.name);
    const Tokenizer tokenizer = tokenizerOf(byteLevel(row), 10, {std::nullopt, {7}, "{{ messages }}"});
    const gosset::GgufFile file(written(folder, tokenizer, 10));
    const GgufPreTokenizer& found = *findGgufPreTokenizer(file.get<std::string>("tokenizer.ggml.pre"));
    EXPECT_EQ(found.steps(), row.steps());
    EXPECT_EQ(file.get<std::vector<std::int32_t>>("tokenizer.ggml.token_type"),
              (std::vector<std::int32_t>{1, 1, 1, 1, 1, 1, 1, 3, 4, 5}));
    const Tokenizer read = readGgufTokenizer(file, 10);
    for (const char* text : {"ab ab", "abab!", "<end>ab<think>", "1 1ab"}) {
      EXPECT_EQ(read.encode(text), tokenizer.encode(text)) << text;
      EXPECT_EQ(read.decode(read.encode(text)), tokenizer.decode(tokenizer.encode(text))) << text;
    }
    EXPECT_EQ(read.frame().bos, std::nullopt);
    EXPECT_EQ(read.frame().eos, (std::vector<Token>{7}));
    EXPECT_EQ(read.frame().chatTemplate, "{{ messages }}");
  }
}

TEST(GgufTokenizer, PiecesWithScoresAreReadAsTheyWereWritten) {
  const TemporaryFolder folder;
  std::vector<SentencePieces::Piece> pieces = {{"<unk>"}, {"\n<s>\n"}, {"\n</s>\n"}};
  for (std::size_t byte = 0; byte < 256; ++byte) pieces.push_back({SentencePieces::byteName(byte)});
  pieces.push_back({"\xE2", -1.f});  // a part of a character, which no text gives
  for (const char* text : {" ", "a", "b", "c"}) pieces.push_back({text, -20.f});
  for (const char* text : {"ab", " a", "bc", " ab", "abc", " abc"}) {
    pieces.push_back({text, -static_cast<float>(pieces.size())});
  }
  const auto size = static_cast<Index>(pieces.size());
  const Tokenizer tokenizer = testing::tokenizerOf(SentencePieces(pieces));
  const gosset::GgufFile file(written(folder, tokenizer, size));
  const Tokenizer read = readGgufTokenizer(file, size);
  EXPECT_EQ(file.get<std::vector<std::string>>("tokenizer.ggml.tokens")[1], "<s>");
  EXPECT_EQ(file.get<std::vector<std::int32_t>>("tokenizer.ggml.token_type")[259], 5);
  for (const char* text : {"abc ab", "cab", "a  b", "x\xC3\xA9", "abcabcabc"}) {
    EXPECT_EQ(read.encode(text), tokenizer.encode(text)) << text;
    EXPECT_EQ(read.decode(read.encode(text)), text);
  }
  EXPECT_EQ(read.frame().bos, Token{1});
  EXPECT_THAT([&] { written(folder, read, size, "qwen2"); },
              ThrowsMessage<gosset::FormatError>(
                  "GGUF: a tokenizer of pieces with scores has no pre-tokenizer, found \"qwen2\""));
  nlohmann::json json = nlohmann::json::parse(read.vocabulary().file());
  json["normalizer"]["normalizers"].push_back({{"type", "Lowercase"}});
  EXPECT_THAT([&] { written(folder, tokenizerOf(json, size), size); },
              ThrowsMessage<gosset::FormatError>(
                  "GGUF: the normalizer {\"type\":\"Lowercase\"} cannot be said of a tokenizer of pieces with scores"));
  // And from there as a tokenizer.json, whose merges have ranks in place of scores.
  const gosset::GgufFile again(written(folder, read, size));
  EXPECT_EQ(readGgufTokenizer(again, size).encode("abc ab\xC3\xA9"), tokenizer.encode("abc ab\xC3\xA9"));
  EXPECT_TRUE(again.get<bool>("tokenizer.ggml.add_space_prefix"));
}

TEST(GgufTokenizer, WaysToCutThatHaveNoNameAreRefused) {
  const TemporaryFolder folder;
  nlohmann::json json = byteLevel(*findGgufPreTokenizer("gpt-2"));
  json["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  const Tokenizer tokenizer = tokenizerOf(json, 10);
  EXPECT_THAT(
      [&] { written(folder, tokenizer, 10); },
      ThrowsMessage<gosset::FormatError>(
          "GGUF: the tokenizer's \"pre_tokenizer\", \"normalizer\" and \"ignore_merges\" are together none of " +
          ggufPreTokenizerNames() + "; name one with --pre-tokenizer if you know that it cuts texts alike"));
  EXPECT_THAT(
      [&] { written(folder, tokenizer, 10, "gpt-5"); },
      ThrowsMessage<gosset::FormatError>("GGUF: the pre-tokenizer \"gpt-5\" is none of " + ggufPreTokenizerNames()));
  EXPECT_EQ(gosset::GgufFile(written(folder, tokenizer, 10, "falcon")).get<std::string>("tokenizer.ggml.pre"),
            "falcon");
  EXPECT_THAT([&] { written(folder, anyTokenizer(5), 5, "falcon"); },
              ThrowsMessage<gosset::FormatError>(
                  "GGUF: a tokenizer of pieces with scores has no pre-tokenizer, found \"falcon\""));
  json = byteLevel(*findGgufPreTokenizer("qwen2"));
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
  EXPECT_THAT([&] { written(folder, tokenizerOf(json, 10), 10); },
              ThrowsMessage<gosset::FormatError>(HasSubstr("are together none of ")));
  json["normalizer"]["normalizers"].erase(1);
  EXPECT_EQ(gosset::GgufFile(written(folder, tokenizerOf(json, 10), 10)).get<std::string>("tokenizer.ggml.pre"),
            "qwen2");
  const Tokenizer many = tokenizerOf(byteLevel(*findGgufPreTokenizer("gpt-2")), 10, {std::nullopt, {1, 2, 3, 4}, {}});
  EXPECT_THAT([&] { written(folder, many, 10); },
              ThrowsMessage<gosset::FormatError>("GGUF: at most 3 tokens can end a text, the tokenizer has 4"));
}

TEST(GgufTokenizer, WhatIsUnknownInAFileIsRefused) {
  const TemporaryFolder folder;
  const Tokenizer bytes = tokenizerOf(byteLevel(*findGgufPreTokenizer("gpt-2")), 10);
  const auto refuses = [&](const std::function<void(gosset::GgufWriter&)>& change, const std::string& text,
                           bool pieces = false) {
    gosset::GgufWriter writer;
    setGgufTokenizer(writer, pieces ? anyTokenizer(5) : bytes, pieces ? 5 : 10);
    change(writer);
    writer.write(folder / "t.gguf");
    const gosset::GgufFile file(folder / "t.gguf");
    EXPECT_THAT([&] { readGgufTokenizer(file, 10); },
                ThrowsMessage<gosset::FormatError>((folder / "t.gguf").string() + ": " + text));
  };
  using W = gosset::GgufWriter;
  refuses([](W& w) { w.set("tokenizer.ggml.model", "t5"); },
          "tokenizer.ggml.model must be llama or gpt2, found \"t5\"");
  refuses([](W& w) { w.set("tokenizer.ggml.pre", "new"); },
          "tokenizer.ggml.pre must be one of " + ggufPreTokenizerNames() + ", found \"new\"");
  refuses([](W& w) { w.set("tokenizer.ggml.precompiled_charsmap", "x"); },
          "key \"tokenizer.ggml.precompiled_charsmap\" is unknown, and may change the tokens of a text");
  refuses([](W& w) { w.set("tokenizer.ggml.remove_extra_whitespaces", true); },
          "key \"tokenizer.ggml.remove_extra_whitespaces\" is unknown, and may change the tokens of a text");
  refuses([](W& w) { w.set("tokenizer.ggml.token_type", std::vector<std::int32_t>{1}); },
          "tokenizer.ggml.token_type must have 10 entries, found 1");
  refuses(
      [](W& w) {
        w.set("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 1, 7, 1, 1, 1, 1, 1, 1, 1});
      },
      "tokenizer.ggml.token_type: token 2 must be of a type from 1 to 6, found 7");
  refuses([](W& w) { w.set("tokenizer.ggml.token_type", std::vector<std::int32_t>(10, 0)); },
          "tokenizer.ggml.token_type: token 0 must be of a type from 1 to 6, found 0");
  refuses([](W& w) { w.set("tokenizer.ggml.tokens", std::vector<std::string>(10, "\xff")); },
          "tokenizer.ggml.tokens: token 0 is no UTF-8");
  refuses([](W& w) { w.set("tokenizer.ggml.add_eos_token", true); },
          "tokenizer.ggml.add_eos_token is true: a tokenizer that ends every text cannot be read");
  refuses([](W& w) { w.set("tokenizer.ggml.add_bos_token", true); },
          "tokenizer.ggml.add_bos_token is true, but there is no bos_token_id");
  refuses([](W& w) { w.set("tokenizer.ggml.eos_token_id", std::uint32_t{10}); },
          "tokenizer.ggml.eos_token_id must be below 10, found 10");
  refuses([](W& w) { w.set("tokenizer.ggml.scores", std::vector<float>(4)); },
          "tokenizer.ggml.scores must have 5 entries, found 4", true);
  refuses([](W& w) { w.set("tokenizer.ggml.scores", std::vector<float>(5, std::nanf(""))); },
          "tokenizer.ggml.scores: token 3 has no score (NaN)", true);
}

TEST(GgufTokenizer, TheVectorsOfRealVocabulariesAreRight) {
  const char* named = std::getenv("GOSSET_DATA");
  const fs::path data = named != nullptr ? named : GOSSET_DATA_DEFAULT;
  if (!fs::exists(data / "vocab")) GTEST_SKIP() << "no folder " << (data / "vocab").string();
  for (const char* name : {"gpt-2", "qwen2", "falcon", "starcoder", "phi-3"}) {
    const gosset::GgufFile file(data / "vocab" / (std::string(name) + ".gguf"));
    const auto size = static_cast<Index>(file.get<std::vector<std::string>>("tokenizer.ggml.tokens").size());
    const Tokenizer tokenizer = readGgufTokenizer(file, size);
    std::string in = readBytes(data / "vocab" / (std::string(name) + ".gguf.inp"), 1 << 20);
    std::istringstream out(readBytes(data / "vocab" / (std::string(name) + ".gguf.out"), 1 << 20));
    const std::string mark = "\n__ggml_vocab_test__\n";
    int tried = 0;
    for (std::string line; std::getline(out, line); ++tried) {
      const std::size_t end = in.find(mark);
      const std::string text = in.substr(0, end);
      in.erase(0, end == std::string::npos ? end : end + mark.size());
      std::istringstream ids(line);
      std::vector<Token> expected;
      for (Token id; ids >> id;) expected.push_back(id);
      EXPECT_EQ(tokenizer.vocabulary().encode(text), expected) << name << ": " << text;
    }
    EXPECT_GT(tried, 40);
  }
}

}  // namespace
}  // namespace llama::testing::gguf_tokenizer_test
