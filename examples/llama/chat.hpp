// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tokenizer.hpp"

#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

// Conversations as text, in the formats that chat models were trained on. A model's own template is a program in Jinja,
// which is not run here: it is recognized as one of the formats below, or refused.
namespace llama {

struct ChatMessage {
  enum class Role { kSystem, kUser, kAssistant };
  Role role = Role::kUser;
  std::string content;
};

/// One way to write conversations.
struct ChatFormat {
  std::string name;   ///< on the command line
  std::string about;  ///< for people
  /// The conversation, and the beginning of the assistant's next turn. Begin tokens are in it by their names.
  std::function<std::string(std::span<const ChatMessage>)> text;
  std::vector<std::string> tokens;  ///< what in it must be tokens of the model
  std::string end;                  ///< the token behind a turn; empty where the tokenizer's own end is
};

namespace detail {

using Role = ChatMessage::Role;

inline std::string_view trimmedContent(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

inline std::string roleName(Role role, const char* assistant = "assistant") {
  return role == Role::kSystem ? "system" : role == Role::kUser ? "user" : assistant;
}

/// What the system says stands before what the user says first, in formats that have no place for it.
inline std::vector<ChatMessage> withoutSystem(std::span<const ChatMessage> messages) {
  std::vector<ChatMessage> result;
  std::string system;
  for (const ChatMessage& message : messages) {
    if (message.role == Role::kSystem) {
      system = message.content + "\n\n";
      continue;
    }
    result.push_back(message);
    if (message.role == Role::kUser) result.back().content.insert(0, std::exchange(system, {}));
  }
  return result;
}

/// Meta's model card of Llama 3: a header a turn. Version 3.1 begins with a system turn that gives two dates; its
/// template's own for today is the one here.
inline std::string llama3Text(std::span<const ChatMessage> messages, bool dates) {
  const auto turn = [](const std::string& role) { return "<|start_header_id|>" + role + "<|end_header_id|>\n\n"; };
  std::string text = "<|begin_of_text|>";
  const bool hasSystem = !messages.empty() && messages[0].role == Role::kSystem;
  if (dates) {
    text += turn("system") + "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
    if (hasSystem) text += trimmedContent(messages[0].content);
    text += "<|eot_id|>";
    if (hasSystem) messages = messages.subspan(1);
  }
  for (const ChatMessage& message : messages) {
    text += turn(roleName(message.role)) + std::string(trimmedContent(message.content)) + "<|eot_id|>";
  }
  return text + turn("assistant");
}

/// OpenAI's chat markup language, as of Qwen and SmolLM; `system`: what the system says where the caller has nothing.
inline std::string chatmlText(std::span<const ChatMessage> messages, const std::string& system) {
  const auto turn = [](const std::string& role) { return "<|im_start|>" + role + "\n"; };
  std::string text;
  const bool hasSystem = !messages.empty() && messages[0].role == Role::kSystem;
  if (!hasSystem && !system.empty()) text = turn("system") + system + "<|im_end|>\n";
  for (const ChatMessage& message : messages) text += turn(roleName(message.role)) + message.content + "<|im_end|>\n";
  return text + turn("assistant");
}

/// Google's model card of Gemma. The assistant is called model.
inline std::string gemmaText(std::span<const ChatMessage> messages) {
  std::string text = "<bos>";
  for (const ChatMessage& message : withoutSystem(messages)) {
    text += "<start_of_turn>" + roleName(message.role, "model") + "\n" + std::string(trimmedContent(message.content)) +
            "<end_of_turn>\n";
  }
  return text + "<start_of_turn>model\n";
}

/// Where Mistral's versions have spaces: v1 on both sides of what the user says, v3 in front, Tekken nowhere.
struct MistralSpaces {
  bool beforeTurn = false, beforeUser = true, behindUser = true, beforeAssistant = true;
};

inline std::string mistralText(std::span<const ChatMessage> messages, const MistralSpaces& spaces) {
  const auto space = [](bool there) { return there ? " " : ""; };
  std::string text = "<s>";
  for (const ChatMessage& message : withoutSystem(messages)) {
    if (message.role == Role::kUser) {
      text += std::string(space(spaces.beforeTurn)) + "[INST]" + space(spaces.beforeUser) + message.content +
              space(spaces.behindUser) + "[/INST]";
    } else {
      text += space(spaces.beforeAssistant) + message.content + "</s>";
    }
  }
  return text;
}

/// Microsoft's model card of Phi-3.
inline std::string phi3Text(std::span<const ChatMessage> messages, bool begins) {
  std::string text = begins ? "<s>" : "";
  for (const ChatMessage& message : messages) {
    text += "<|" + roleName(message.role) + "|>\n" + message.content + "<|end|>\n";
  }
  return text + "<|assistant|>\n";
}

inline ChatFormat llama3Format(bool dates) {
  return {dates ? "llama3.1" : "llama3",
          dates ? "Llama 3.1 to 3.3: the system gives dates first" : "Llama 3",
          [dates](std::span<const ChatMessage> messages) { return llama3Text(messages, dates); },
          {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
          "<|eot_id|>"};
}

inline ChatFormat chatmlFormat(const std::string& system) {
  return {"chatml",
          "Qwen, SmolLM and others",
          [system](std::span<const ChatMessage> messages) { return chatmlText(messages, system); },
          {"<|im_start|>", "<|im_end|>"},
          "<|im_end|>"};
}

inline ChatFormat gemmaFormat() {
  return {"gemma", "Gemma", gemmaText, {"<bos>", "<start_of_turn>", "<end_of_turn>"}, "<end_of_turn>"};
}

inline ChatFormat mistralFormat(const std::string& name, const std::string& about, const MistralSpaces& spaces) {
  return {name,
          about,
          [spaces](std::span<const ChatMessage> messages) { return mistralText(messages, spaces); },
          {"<s>", "</s>"},
          "</s>"};
}

inline ChatFormat phi3Format(bool begins) {
  return {"phi3",
          "Phi-3",
          [begins](std::span<const ChatMessage> messages) { return phi3Text(messages, begins); },
          {"<|user|>", "<|assistant|>", "<|end|>"},
          "<|end|>"};
}

/// A template without the signs that make it a program: string ends, plus signs and written line ends.
inline std::string plainTemplate(std::string_view chatTemplate) {
  std::string text(chatTemplate);
  const auto replaceAll = [&text](std::string_view from, std::string_view to) {
    for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  };
  replaceAll("\\n", "\n");
  for (const char* joint : {"' + '", "\" + \"", "'+'", "\"+\""}) replaceAll(joint, "");
  return text;
}

/// What the chatml models' templates let the system say.
inline std::string systemIn(const std::string& chatTemplate) {
  for (const char* said :
       {"You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face", "You are a helpful assistant."}) {
    if (chatTemplate.find(said) != std::string::npos) return said;
  }
  return {};
}

}  // namespace detail

/// The formats that have a name. Of a model's own template, recognizeChatFormat() says more: its version's spaces and
/// what the system says where nobody else does.
inline std::vector<ChatFormat> chatFormats() {
  using namespace detail;  // NOLINT: its makers
  return {llama3Format(false),
          llama3Format(true),
          chatmlFormat({}),
          gemmaFormat(),
          mistralFormat("mistral", "Mistral 7B, versions 0.1 and 0.2", {}),
          mistralFormat("mistral-v3", "Mistral 7B, version 0.3", {.behindUser = false}),
          mistralFormat("mistral-tekken", "Mistral Nemo",
                        {.beforeUser = false, .behindUser = false, .beforeAssistant = false}),
          phi3Format(false)};
}

/// Throws std::invalid_argument, which lists the names there are, for another one.
inline ChatFormat findChatFormat(const std::string& name) {
  std::string known;
  for (ChatFormat& format : chatFormats()) {
    if (format.name == name) return std::move(format);
    known += (known.empty() ? "" : ", ") + format.name;
  }
  throw std::invalid_argument("chat template \"" + name + "\" is none of " + known);
}

/// The format that a model's template writes, by its marks. Throws std::invalid_argument where it is none of them.
inline ChatFormat recognizeChatFormat(std::string_view chatTemplate) {
  const std::string text = detail::plainTemplate(chatTemplate);
  const auto has = [&text](std::string_view part) { return text.find(part) != std::string::npos; };
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return detail::llama3Format(has("Cutting Knowledge Date"));
  if (has("<|im_start|>") && has("<|im_end|>") && !has("<|im_sep|>") && !has("Knowledge Cutoff")) {
    return detail::chatmlFormat(detail::systemIn(text));
  }
  if (has("<start_of_turn>") && has("<end_of_turn>")) return detail::gemmaFormat();
  if (has("[INST]") && has("[/INST]") && !has("<<SYS>>") && !has("[SYSTEM_PROMPT]")) {
    const auto quoted = [&has](const std::string& part, bool before) {
      return before ? has("'" + part) || has("\"" + part) : has(part + "'") || has(part + "\"");
    };
    const bool beforeUser = quoted("[INST] ", false), behindUser = quoted(" [/INST]", true);
    const std::string name = behindUser ? "mistral" : beforeUser ? "mistral-v3" : "mistral-tekken";
    return detail::mistralFormat(name, "", {quoted(" [INST]", true), beforeUser, behindUser, beforeUser});
  }
  if (has("<|user|>\n") && has("<|assistant|>") && has("<|end|>")) {
    return detail::phi3Format(has("bos_token"));
  }
  std::string known;
  for (const ChatFormat& format : chatFormats()) known += (known.empty() ? "" : ", ") + format.name;
  throw std::invalid_argument("the model's chat template is none of " + known +
                              "; name the nearest with --template: " + std::string(chatTemplate.substr(0, 80)));
}

/// The tokens of a conversation and of the beginning of the assistant's turn. Throws std::invalid_argument where the
/// tokenizer has not the tokens that the format needs.
inline std::vector<Token> chatTokens(const Tokenizer& tokenizer, const ChatFormat& format,
                                     std::span<const ChatMessage> messages) {
  for (const std::string& name : format.tokens) {
    if (tokenizer.vocabulary().find(name)) continue;
    throw std::invalid_argument("chat template \"" + format.name + "\" needs the token " + name +
                                ", which the model's tokenizer does not have");
  }
  return tokenizer.vocabulary().encode(format.text(messages));
}

}  // namespace llama
