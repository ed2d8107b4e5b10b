// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/special_tokens.hpp"
#include "../../examples/llama/tokenizer_file.hpp"

#include "files.hpp"

namespace llama::testing::special_tokens_test {
namespace {

using gosset::FormatError;
using gosset::testing::expectThrows;
using nlohmann::json;
using Tokens = std::vector<Token>;

/// <s> 0, </s> 1, <|end|> 2, a 3.
json vocabulary(bool byteFallback) {
  return {{"model",
           {{"type", "BPE"},
            {"byte_fallback", byteFallback},
            {"vocab", {{"<s>", 0}, {"</s>", 1}, {"<|end|>", 2}, {"a", 3}}},
            {"merges", json::array()}}}};
}

TextFrame frame(const FrameFiles& files, bool byteFallback = false, const json& postProcessor = nullptr) {
  json tokenizer = vocabulary(byteFallback);
  tokenizer["post_processor"] = postProcessor;
  return frameOf(files, parseHuggingFaceTokenizer(tokenizer.dump(), 8, "t"), 8, "m");
}

const json kBegins = {{"type", "TemplateProcessing"},
                      {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}};

TEST(TextFrame, TheFlagDecides) {
  const json named = {{"add_bos_token", true}, {"bos_token", "<|end|>"}};
  EXPECT_EQ(frame({.tokenizerConfig = named}).bos, 2);
  EXPECT_EQ(frame({.tokenizerConfig = named}, false, kBegins).bos, 2);
  EXPECT_EQ(frame({.tokenizerConfig = {{"add_bos_token", false}, {"bos_token", "<s>"}}}, false, kBegins).bos,
            std::nullopt);
  EXPECT_EQ(frame({.tokenizerConfig = {{"add_bos_token", true}}, .config = {{"bos_token_id", 3}}}).bos, 3);
  EXPECT_EQ(frame({.tokenizerConfig = {{"add_bos_token", true}},
                   .generationConfig = {{"bos_token_id", 2}},
                   .config = {{"bos_token_id", 3}}})
                .bos,
            2);
  EXPECT_EQ(frame({.tokenizerConfig = {{"add_bos_token", true}}}).bos, std::nullopt);  // which token nobody says
  EXPECT_EQ(
      frame({.tokenizerConfig = {{"add_bos_token", true}}, .specialTokensMap = {{"bos_token", {{"content", "a"}}}}})
          .bos,
      3);
}

TEST(TextFrame, ThenThePostProcessorThenTheClass) {
  EXPECT_EQ(frame({}, false, kBegins).bos, 0);
  EXPECT_EQ(frame({.config = {{"bos_token_id", 3}}}).bos, std::nullopt);  // as of Qwen: known, not put
  EXPECT_EQ(frame({.tokenizerConfig = {{"tokenizer_class", "LlamaTokenizerFast"}}}).bos, 0);
  EXPECT_EQ(frame({.tokenizerConfig = {{"tokenizer_class", "PreTrainedTokenizerFast"}}}, true).bos, std::nullopt);
  EXPECT_EQ(frame({}, true).bos, 0);
  EXPECT_EQ(frame({.config = {{"bos_token_id", 3}}}, true).bos, 3);
  json gemma = vocabulary(true);
  gemma["model"]["vocab"] = {{"<eos>", 1}, {"<bos>", 2}};
  const auto read = parseHuggingFaceTokenizer(gemma.dump(), 8, "t");
  EXPECT_EQ(frameOf({}, read, 8, "m").bos, 2);
  EXPECT_EQ(frameOf({}, read, 8, "m").eos, (Tokens{1}));
  EXPECT_EQ(frame({.tokenizerConfig = {{"tokenizer_class", "GemmaTokenizer"}}}, true).bos,
            std::nullopt);  // no <bos> here
}

TEST(TextFrame, AllEndsCount) {
  EXPECT_EQ(frame({.tokenizerConfig = {{"eos_token", "<|end|>"}},
                   .generationConfig = {{"eos_token_id", {1, 3}}},
                   .config = {{"eos_token_id", 1}}})
                .eos,
            (Tokens{1, 3, 2}));
  EXPECT_EQ(frame({.specialTokensMap = {{"eos_token", "</s>"}}}).eos, (Tokens{1}));
  EXPECT_EQ(frame({}).eos, (Tokens{}));
  EXPECT_EQ(frame({}, true).eos, (Tokens{1}));
}

TEST(TextFrame, TheChatTemplateOfEitherFile) {
  EXPECT_EQ(frame({.tokenizerConfig = {{"chat_template", "x"}}}).chatTemplate, "x");
  EXPECT_EQ(frame({.tokenizerConfig = {{"chat_template", "x"}}, .chatTemplate = "y"}).chatTemplate, "y");
  EXPECT_EQ(
      frame({.tokenizerConfig = {{"chat_template",
                                  {{{"name", "tool"}, {"template", "t"}}, {{"name", "default"}, {"template", "d"}}}}}})
          .chatTemplate,
      "d");
  EXPECT_EQ(frame({}).chatTemplate, "");
}

TEST(TextFrame, SaysWhatIsWrong) {
  const auto refused = [](const FrameFiles& files, const std::string& text) {
    expectThrows<FormatError>([&] { frame(files); }, text);
  };
  refused({.tokenizerConfig = {{"add_bos_token", true}, {"bos_token", "<b>"}}},
          "m: \"bos_token\" is \"<b>\", which is no token of the tokenizer");
  refused({.tokenizerConfig = {{"eos_token", 3}}}, "\"eos_token\" must be a token's name, found 3");
  refused({.tokenizerConfig = {{"add_bos_token", "yes"}}}, "\"add_bos_token\" must be true or false, found \"yes\"");
  refused({.tokenizerConfig = {{"add_eos_token", true}}}, "\"add_eos_token\" is true");
  refused({.config = {{"eos_token_id", 8}}}, "\"eos_token_id\" must be a token below 8, found 8");
  refused({.config = {{"eos_token_id", {1, "x"}}}}, "\"eos_token_id\" must be a token below 8, found \"x\"");
  refused({.tokenizerConfig = {{"chat_template", 1}}}, "\"chat_template\" must be a string or an array, found 1");
  refused({.tokenizerConfig = {{"chat_template", json::array()}}}, "\"chat_template\" has no template of the name");
}

TEST(ReadTokenizer, TakesTheFilesBesideItAndTheModels) {
  const TemporaryFolder folder;
  const fs::path beside = folder / "tokenizer", model = folder / "model";
  fs::create_directories(beside);
  fs::create_directories(model);
  writeBytes(beside / "t.json", vocabulary(true).dump());
  writeBytes(model / "config.json", R"({"bos_token_id": 3, "eos_token_id": 2})");
  EXPECT_EQ(readTokenizer(beside / "t.json", 8).bos(), 0);
  EXPECT_EQ(readTokenizer(beside / "t.json", 8, model).encode("a"), (Tokens{3, 3}));
  EXPECT_TRUE(readTokenizer(beside / "t.json", 8, model).isEnd(2));
  writeBytes(beside / "tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_EQ(readTokenizer(beside / "t.json", 8, model).bos(), std::nullopt);
  writeBytes(beside / "tokenizer_config.json", "[]");
  expectThrows<FormatError>([&] { readTokenizer(beside / "t.json", 8); },
                            "tokenizer_config.json: a JSON object expected");
}

TEST(SaveTokenizer, IsReadAgainWithItsFrame) {
  const TemporaryFolder folder;
  const auto vocab = parseHuggingFaceTokenizer(vocabulary(true).dump(), 8, "t").vocabulary;
  saveTokenizer(folder.path(), Tokenizer(vocab, {2, {1, 3}, "{{ x }}"}));
  const Tokenizer again = readTokenizer(folder / "tokenizer.json", 8);
  EXPECT_EQ(again.vocabulary().file(), vocab->file());
  EXPECT_EQ(again.bos(), 2);
  EXPECT_EQ(again.frame().eos, (Tokens{1, 3}));
  EXPECT_EQ(again.frame().chatTemplate, "{{ x }}");
  saveTokenizer(folder.path(), Tokenizer(vocab, {}));
  EXPECT_EQ(readTokenizer(folder / "tokenizer.json", 8).bos(), std::nullopt);
}

TEST(PackedTokenizer, TravelsAsItIs) {
  const TemporaryFolder folder;
  const auto vocab = parseHuggingFaceTokenizer(vocabulary(false).dump(), 8, "t").vocabulary;
  const auto again = [&](const Tokenizer& tokenizer) {
    gosset::SafetensorsWriter writer;
    addTokenizer(writer, tokenizer);
    writer.write(folder / "p.safetensors");
    return readPackedTokenizer(gosset::SafetensorsFile(folder / "p.safetensors"), 8);
  };
  const Tokenizer newer = again(Tokenizer(vocab, {2, {1, 3}, "{{ x }}"}));
  EXPECT_EQ(newer.vocabulary().file(), vocab->file());
  EXPECT_EQ(newer.bos(), 2);
  EXPECT_EQ(newer.frame().eos, (Tokens{1, 3}));
  EXPECT_EQ(newer.frame().chatTemplate, "{{ x }}");
  EXPECT_EQ(again(Tokenizer(vocab, {})).bos(), std::nullopt);
  const Tokenizer old = again(anyTokenizer(8));
  EXPECT_EQ(old.vocabulary().kind(), Vocabulary::Kind::kLlama2c);
  EXPECT_EQ(old.bos(), 1);
  EXPECT_TRUE(old.isEnd(2));
}

TEST(PackedTokenizer, FilesOfBeforeHaveLlama2cs) {
  const TemporaryFolder folder;
  const std::string bytes = anyTokenizer(8).vocabulary().file();
  const auto write = [&](const std::string& about) {
    gosset::SafetensorsWriter writer;
    writer.add<std::uint8_t>("tokenizer", {static_cast<Index>(bytes.size())},
                             std::span(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
    if (!about.empty()) writer.setMetadata("llama.tokenizer", about);
    writer.write(folder / "p.safetensors");
  };
  const auto read = [&] { return readPackedTokenizer(gosset::SafetensorsFile(folder / "p.safetensors"), 8); };
  write("");
  EXPECT_EQ(read().bos(), 1);
  write(R"({"kind": "words", "eos_token_id": [], "chat_template": ""})");
  expectThrows<FormatError>(read, "llama.tokenizer: the kind \"words\" is not known");
  write(R"({"kind": "llama2.c", "eos_token_id": [9], "chat_template": ""})");
  expectThrows<FormatError>(read, "\"eos_token_id\" must be a token below 8, found 9");
}

}  // namespace
}  // namespace llama::testing::special_tokens_test
