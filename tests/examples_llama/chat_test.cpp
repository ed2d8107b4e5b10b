// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/chat.hpp"
#include "../../examples/llama/tokenizer_json.hpp"

#include "testing.hpp"

#include <gosset/io/json.hpp>

namespace llama::chat_test {
namespace {

using gosset::testing::expectThrows;
using Role = ChatMessage::Role;
using Messages = std::vector<ChatMessage>;

const Messages kQuestion = {{Role::kUser, "Hi "}};
const Messages kConversation = {
    {Role::kSystem, "Be kind."}, {Role::kUser, "Hi"}, {Role::kAssistant, "Hello!"}, {Role::kUser, "Bye"}};

std::string written(const char* name, const Messages& messages) { return findChatFormat(name).text(messages); }
std::string recognized(const std::string& chatTemplate, const Messages& messages) {
  return recognizeChatFormat(chatTemplate).text(messages);
}

// By hand, after what the models' publishers write about their formats.
TEST(ChatFormat, Llama3) {
  EXPECT_EQ(written("llama3", kQuestion),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(
      written("llama3", kConversation),
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  const std::string dates =
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
      "Today Date: 26 Jul 2024\n\n";
  EXPECT_EQ(written("llama3.1", kQuestion), dates +
                                                "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                                                "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_THAT(
      written("llama3.1", kConversation),
      ::testing::StartsWith(dates + "Be kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"));
}

TEST(ChatFormat, Chatml) {
  EXPECT_EQ(written("chatml", kQuestion), "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(written("chatml", kConversation),
            "<|im_start|>system\nBe "
            "kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
            "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatFormat, Gemma) {
  EXPECT_EQ(written("gemma", kQuestion), "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(written("gemma", kConversation),
            "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
}

TEST(ChatFormat, Mistral) {
  const Messages messages = {{Role::kUser, "Hi"}, {Role::kAssistant, "Hello!"}, {Role::kUser, "Bye"}};
  EXPECT_EQ(written("mistral", messages), "<s>[INST] Hi [/INST] Hello!</s>[INST] Bye [/INST]");
  EXPECT_EQ(written("mistral-v3", messages), "<s>[INST] Hi[/INST] Hello!</s>[INST] Bye[/INST]");
  EXPECT_EQ(written("mistral-tekken", messages), "<s>[INST]Hi[/INST]Hello!</s>[INST]Bye[/INST]");
  EXPECT_THAT(written("mistral", kConversation), ::testing::StartsWith("<s>[INST] Be kind.\n\nHi [/INST]"));
}

TEST(ChatFormat, Phi3) {
  EXPECT_EQ(written("phi3", kConversation),
            "<|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n<|user|>\nBye<|end|>\n"
            "<|assistant|>\n");
}

// Pieces of templates as models have them: the marks, in Jinja's strings.
TEST(RecognizeChatFormat, ByTheMarksOfATemplate) {
  const auto name = [](const std::string& text) { return recognizeChatFormat(text).name; };
  EXPECT_EQ(name("{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}<|eot_id|>"), "llama3");
  EXPECT_EQ(name("<|start_header_id|>{{- \"Cutting Knowledge Date: December 2023\\n\" }}<|eot_id|>"), "llama3.1");
  EXPECT_EQ(name("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"), "chatml");
  EXPECT_EQ(name("{{ '<start_of_turn>' + role + '\n' + content + '<end_of_turn>\n' }}"), "gemma");
  EXPECT_EQ(name("{{ '<|user|>' + '\\n' + message['content'] + '<|end|>' + '\\n' + '<|assistant|>' }}"), "phi3");
  EXPECT_EQ(name("{{'<|user|>\n' + content + '<|end|>\n'}}<|assistant|>"), "phi3");
}

TEST(RecognizeChatFormat, TheVersionsOfMistralDifferInSpaces) {
  const Messages hi = {{Role::kUser, "Hi"}};
  EXPECT_EQ(recognized("{{ '[INST] ' + message['content'] + ' [/INST]' }}", hi), "<s>[INST] Hi [/INST]");
  EXPECT_EQ(recognized("{{- \" [INST] \" + message[\"content\"] + \" [/INST]\" }}", hi), "<s> [INST] Hi [/INST]");
  EXPECT_EQ(recognized("{{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}", hi), "<s>[INST] Hi[/INST]");
  EXPECT_EQ(recognized("{{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}", hi), "<s>[INST]Hi[/INST]");
}

TEST(RecognizeChatFormat, WhatTheTemplateSaysIsSaid) {
  EXPECT_EQ(recognized("<|im_start|>system\nYou are a helpful assistant.<|im_end|>", {{Role::kUser, "Hi"}}),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_THAT(recognized("<|im_start|>You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>",
                         kQuestion),
              ::testing::StartsWith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful"));
  EXPECT_THAT(recognized("<|im_start|>You are a helpful assistant.<|im_end|>", kConversation),
              ::testing::StartsWith("<|im_start|>system\nBe kind."));
  EXPECT_EQ(recognized("{{ bos_token }}{{'<|user|>\n' + content + '<|end|>\n'}}<|assistant|>", kQuestion),
            "<s><|user|>\nHi <|end|>\n<|assistant|>\n");
}

TEST(RecognizeChatFormat, AnotherOneIsRefused) {
  for (const char* unknown : {"", "{{ messages }}", "<<SYS>>[INST] [/INST]", "<|im_start|>user<|im_sep|><|im_end|>",
                              "<|user|>{{ content }}<|end|><|assistant|>", "<|im_start|>Knowledge Cutoff<|im_end|>",
                              "[SYSTEM_PROMPT][INST][/INST]"}) {
    expectThrows([&] { recognizeChatFormat(unknown); },
                 "the model's chat template is none of llama3, llama3.1, chatml, gemma, mistral, mistral-v3, "
                 "mistral-tekken, phi3; name the nearest with --template: ");
  }
  expectThrows([] { findChatFormat("alpaca"); }, "chat template \"alpaca\" is none of llama3, llama3.1, chatml");
}

TEST(ChatTokens, ItsMarksMustBeTokens) {
  nlohmann::json json = {{"added_tokens",
                          {{{"id", 0}, {"content", "<|im_start|>"}, {"special", true}},
                           {{"id", 1}, {"content", "<|im_end|>"}, {"special", true}}}},
                         {"model",
                          {{"type", "BPE"},
                           {"unk_token", "x"},
                           {"fuse_unk", true},
                           {"vocab", {{"x", 2}, {"\n", 3}}},
                           {"merges", nlohmann::json::array()}}}};
  const Tokenizer tokenizer(parseHuggingFaceTokenizer(json.dump(), 9, "t").vocabulary, {2, {}});
  EXPECT_EQ(chatTokens(tokenizer, findChatFormat("chatml"), kQuestion),
            (std::vector<Token>{0, 2, 3, 2, 1, 3, 0, 2, 3}));
  expectThrows([&] { chatTokens(tokenizer, findChatFormat("gemma"), kQuestion); },
               "chat template \"gemma\" needs the token <bos>, which the model's tokenizer does not have");
}

}  // namespace
}  // namespace llama::chat_test
