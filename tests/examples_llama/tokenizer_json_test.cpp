// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/byte_level.hpp"
#include "../../examples/llama/tokenizer_file.hpp"

#include "files.hpp"

#include <gosset/io/json.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>

namespace llama::testing::tokenizer_json_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using nlohmann::json;
using Tokens = std::vector<Token>;

/// "_" is the mark; ids: <unk> 0, <s> 1, </s> 2, _ 3, a 4, b 5, _a 6, ab 7, <0x0A> 8, <0xC3> 9, <0xA9> 10.
json marked() {
  return json::parse(R"({"added_tokens": [{"id": 1, "content": "<s>", "special": true, "normalized": false},
                                          {"id": 2, "content": "</s>", "special": true, "normalized": false}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "_"},
                   {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "_"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "fuse_unk": true,
      "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "_": 3, "a": 4, "b": 5, "_a": 6, "ab": 7, "<0x0A>": 8, "<0xC3>": 9,
                "<0xA9>": 10},
      "merges": ["a b", ["_", "a"]]}})");
}

/// GPT-2's words over the letters a and b and spaces: space 0, a 1, b 2, ab 3, " ab" 4, bytes C3 5 and A9 6, " " a 7.
json byteLevel() {
  return json::parse(R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"\u0120": 0, "a": 1, "b": 2, "ab": 3, "\u0120ab": 4, "\u00c3": 5, "\u00a9": 6,
                                       "\u0120a": 7},
      "merges": ["a b", "\u0120 ab", "\u0120 a"]}})");
}

Tokenizer tokenizer(const json& description, TextFrame frame = {}) {
  return {parseHuggingFaceTokenizer(description.dump(), 16, "t.json").vocabulary, frame};
}

TEST(JsonTokenizer, EarlierMergesComeFirst) {
  const Tokenizer t = tokenizer(marked());
  EXPECT_EQ(t.encode("ab"), (Tokens{3, 7}));
  EXPECT_EQ(t.encode("aab\n"), (Tokens{6, 7, 8}));
  EXPECT_EQ(t.encode(""), (Tokens{}));
  EXPECT_EQ(t.decode(Tokens{1, 6, 7, 8, 3, 4}), "aab\n a");
  EXPECT_EQ(t.encode("a a"), (Tokens{6, 6}));
}

TEST(JsonTokenizer, ACharacterThatIsNoTokenIsItsBytes) {
  const Tokenizer t = tokenizer(marked());
  EXPECT_EQ(t.encode("\xC3\xA9"), (Tokens{3, 9, 10}));
  EXPECT_EQ(t.decode(Tokens{3, 9, 10}), "\xC3\xA9");
  EXPECT_EQ(t.encode("xyaz"), (Tokens{3, 0, 4, 0}));  // no byte tokens for these: unknown, two in a row once
  json apart = marked();
  apart["model"]["fuse_unk"] = false;
  EXPECT_EQ(tokenizer(apart).encode("xy"), (Tokens{3, 0, 0}));
  apart["model"].erase("unk_token");
  expectThrows([&] { tokenizer(apart).encode("ax"); }, "text: the character \"x\" is no token");
}

TEST(JsonTokenizer, AddedTokensAreFoundBeforeAnythingElse) {
  const Tokenizer t = tokenizer(marked());
  EXPECT_EQ(t.encode("<s>a</s>ab"), (Tokens{1, 6, 2, 3, 7}));  // the mark is put before each part
  EXPECT_EQ(t.decode(Tokens{1, 6, 2, 3, 7}), "a ab");
  json normalized = marked();
  normalized["added_tokens"][0]["normalized"] = true;  // is looked for as "_<s>"
  EXPECT_EQ(tokenizer(normalized).encode("<s>a"), (Tokens{1, 4}));
}

TEST(JsonTokenizer, AnAddedTokenThatTheModelDoesNotKnowIsInNoText) {
  json image = marked();
  image["added_tokens"].push_back({{"id", 16}, {"content", "<image>"}, {"special", true}});
  const Tokenizer t = tokenizer(image);
  EXPECT_EQ(t.size(), 11);
  EXPECT_EQ(t.encode("ab"), (Tokens{3, 7}));
  EXPECT_EQ(t.vocabulary().find("<image>"), std::nullopt);
  expectThrows([&] { t.encode("a<image>"); }, "text: has the token \"<image>\", 16, but the model knows 16 tokens");
}

TEST(JsonTokenizer, WordsOfBytes) {
  const Tokenizer t = tokenizer(byteLevel());
  EXPECT_EQ(t.encode("ab ab a"), (Tokens{3, 4, 7}));
  EXPECT_EQ(t.encode("  ab"), (Tokens{0, 4}));
  EXPECT_EQ(t.encode("\xC3\xA9"), (Tokens{5, 6}));
  EXPECT_EQ(t.decode(t.encode("  ab\xC3\xA9 a")), "  ab\xC3\xA9 a");
  EXPECT_EQ(t.decode(Tokens{5, 1}),
            "\xEF\xBF\xBD"
            "a");
}

TEST(JsonTokenizer, AWholeWordMayComeBeforeItsMerges) {
  json whole = byteLevel();
  whole["model"]["vocab"]["ba"] = 8;
  EXPECT_EQ(tokenizer(whole).encode("ba"), (Tokens{2, 1}));
  whole["model"]["ignore_merges"] = true;
  EXPECT_EQ(tokenizer(whole).encode("ba"), (Tokens{8}));
  EXPECT_EQ(tokenizer(whole).encode("bab"), (Tokens{2, 3}));
}

TEST(JsonTokenizer, ATextMustBeUtf8) {
  expectThrows([] { tokenizer(byteLevel()).encode("ab\xFF"); }, "text: UTF-8 expected, found at byte 2 the byte 255");
}

TEST(JsonTokenizer, ALongWordIsMergedInTime) {
  EXPECT_EQ(tokenizer(byteLevel()).encode(std::string(500000, 'a')).size(), 500000u);
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "ab";
  EXPECT_EQ(tokenizer(byteLevel()).encode(text).size(), 200000u);
}

TEST(JsonTokenizer, ThePostProcessorSaysWhatComesFirst) {
  json t = marked();
  EXPECT_FALSE(parseHuggingFaceTokenizer(t.dump(), 16, "t").hasTemplate);
  t["post_processor"] = {{"type", "ByteLevel"}, {"trim_offsets", true}};
  EXPECT_FALSE(parseHuggingFaceTokenizer(t.dump(), 16, "t").hasTemplate);
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
             begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json processor = {{"type", "TemplateProcessing"}, {"single", {begin, text}}};
  t["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, processor}}};
  const auto read = parseHuggingFaceTokenizer(t.dump(), 16, "t");
  EXPECT_TRUE(read.hasTemplate);
  EXPECT_EQ(read.templateBegin, 1);
  const auto refused = [&](const json& single, const std::string& what) {
    t["post_processor"] = {{"type", "TemplateProcessing"}, {"single", single}};
    expectThrows<FormatError>([&] { tokenizer(t); }, what);
  };
  refused({text, begin}, "more than one token before a text, or one behind it (<s>), cannot be read");
  refused({begin, begin, text}, "more than one token before a text");
  refused(json::array({begin}), "\"single\" has no place for the text");
  t["post_processor"] = {{"type", "RobertaProcessing"}};
  expectThrows<FormatError>([&] { tokenizer(t); },
                            "t.json: post_processor: a post-processor of type \"RobertaProcessing\"");
}

TEST(JsonTokenizer, WithoutADecoderTheVocabularySaysHow) {
  json plain = byteLevel();
  plain.erase("decoder");
  EXPECT_EQ(tokenizer(plain).decode(Tokens{4, 5, 6}), " ab\xC3\xA9");
  json spaced = marked();
  spaced.erase("decoder");
  spaced["model"]["vocab"]["\u2581"] = 11;
  EXPECT_EQ(tokenizer(spaced).decode(Tokens{11, 4, 11, 8, 5}), "a \nb");
}

TEST(JsonTokenizer, SaysWhatItCannotRead) {
  const auto refused = [](const char* pointer, const json& value, const std::string& text) {
    json changed = marked();
    changed["normalizer"]["normalizers"].push_back(
        {{"type", "Replace"}, {"pattern", {{"Regex", "(a|a)+\\z"}}}, {"content", ""}});  // without end on many a's
    changed[json::json_pointer(pointer)] = value;
    expectThrows<FormatError>([&] { tokenizer(changed); }, text);
  };
  refused("/model/type", "Unigram", "t.json: model: a model of type \"Unigram\" cannot be read, only BPE");
  refused("/model/type", "WordPiece", "a model of type \"WordPiece\" cannot be read");
  refused("/model/dropout", 0.1, "\"dropout\" (0.1) is for training");
  refused("/model/continuing_subword_prefix", "##", "\"continuing_subword_prefix\" (\"##\") cannot be read");
  refused("/model/end_of_word_suffix", "</w>", "\"end_of_word_suffix\" (\"</w>\") cannot be read");
  refused("/model/speed", 1, "t.json: model: the field \"speed\" is not known");
  refused("/speed", 1, "t.json: the field \"speed\" is not known");
  refused("/model/merges/0", "ab", "each merge must be a pair of strings, found \"ab\"");
  refused("/model/merges/0", "a b c", "each merge must be a pair of strings, found \"a b c\"");
  refused("/model/merges/0", "b a", "a merge's token \"ba\" is not in \"vocab\"");
  refused("/model/merges/0", "x a", "a merge's token \"x\" is not in \"vocab\"");
  refused("/model/unk_token", "<?>", "the unknown token \"<?>\" is not in \"vocab\"");
  refused("/model/vocab/a", 16, "token \"a\" has id 16, the model knows 16 tokens");
  refused("/model/vocab/a", -4, "token \"a\" has id -4");
  refused("/model/vocab", json::array(), "\"vocab\" must be an object, found []");
  refused("/added_tokens/0/id", -1, "t.json: added_tokens[0]: \"id\" must be a number of 31 bits, found -1");
  refused("/added_tokens/0/content", nullptr, "added_tokens[0]: has no \"content\"");
  refused("/added_tokens/0", {{"id", 1}, {"content", std::string(60, 'a') + "b"}, {"normalized", true}},
          "t.json: added_tokens: token \"aaa");
  refused("/normalizer/type", "Nmt", "t.json: normalizer: a normalizer of type \"Nmt\"");
  refused("/pre_tokenizer", {{"type", "Bert"}}, "t.json: pre_tokenizer: a pre-tokenizer of type \"Bert\"");
  refused("/decoder/type", "CTC", "t.json: decoder: a decoder of type \"CTC\"");
  expectThrows<FormatError>([] { parseHuggingFaceTokenizer("", 9, "t.json"); }, "t.json: JSON in UTF-8 expected");
  expectThrows<FormatError>([] { parseHuggingFaceTokenizer("[]", 9, "t.json"); }, "t.json: an object expected");
  expectThrows<FormatError>([] { parseHuggingFaceTokenizer("{}", 9, "t.json"); }, "t.json: has no \"model\"");
}

// Vocabularies of real models, with the tokens that llama.cpp expects of 46 texts.
class RealVocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(RealVocabulary, EveryTestVectorIsExact) {
  const auto data = gosset::testing::dataFolder();
  const std::string name = GetParam();
  if (!data || !fs::exists(*data / "vocab" / (name + ".gguf"))) GTEST_SKIP() << "no data folder with vocab/" << name;
  if (std::system("python3 --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no python3 to read GGUF with";
  const TemporaryFolder folder;
  const fs::path gguf = *data / "vocab" / (name + ".gguf"), path = folder / "tokenizer.json";
  const std::string script = std::string(GOSSET_SOURCE_DIR) + "/tests/examples_llama/vocabulary_json.py";
  ASSERT_EQ(std::system(("python3 '" + script + "' '" + gguf.string() + "' '" + path.string() + "'").c_str()), 0);
  const Tokenizer t = readTokenizer(path, 1 << 20);
  std::string texts = readBytes(gguf.string() + ".inp", 1 << 20);
  std::ifstream expected(gguf.string() + ".out");
  const std::string end = "\n__ggml_vocab_test__\n";
  int tried = 0, right = 0;
  for (std::string line; std::getline(expected, line); ++tried) {
    const std::string text = texts.substr(0, texts.find(end));
    texts.erase(0, std::min(text.size() + end.size(), texts.size()));
    std::istringstream numbers(line);
    Tokens tokens;
    for (Token token = 0; numbers >> token;) tokens.push_back(token);
    const Tokens found = t.vocabulary().encode(text);
    EXPECT_EQ(found, tokens) << text;
    right += found == tokens ? 1 : 0;
  }
  std::cout << "[  VECTORS ] " << name << ": " << right << " of " << tried << " right\n";
  EXPECT_EQ(tried, 46);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, RealVocabulary,
                         ::testing::Values("gpt-2", "qwen2", "phi-3", "falcon", "starcoder"), [](const auto& tested) {
                           std::string name = tested.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace llama::testing::tokenizer_json_test
