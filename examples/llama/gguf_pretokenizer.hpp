// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json_object.hpp"

#include <array>
#include <string>
#include <string_view>
#include <vector>

// GGUF files name how a text is cut before its bytes are merged, and leave the patterns to the reader: here they are as
// the "pre_tokenizer" of the models' own tokenizer.json has them. Source: those files, and the names of
// github.com/ggml-org/llama.cpp, src/llama-vocab.cpp.
namespace llama {

struct GgufPreTokenizer {
  std::string_view name;
  bool composed = false;       ///< texts are normalized to NFC before
  bool ignoresMerges = false;  ///< a word that is a token is not taken apart
  nlohmann::json (*steps)();   ///< an array of pre-tokenizers
};

namespace detail {

inline nlohmann::json splitStep(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}
inline nlohmann::json byteLevelStepOf(bool words) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", words}};
}
inline nlohmann::json digitsStep(bool each) { return {{"type", "Digits"}, {"individual_digits", each}}; }

/// GPT-4's words, and how many digits stay together.
inline nlohmann::json gpt4Steps(const char* digits) {
  return {splitStep(std::string(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)") + digits +
                    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
          byteLevelStepOf(false)};
}

/// Words cut where a capital follows a small letter.
inline nlohmann::json casedSteps(const std::string& digits, const std::string& end) {
  const std::string upper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])", lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  const std::string first = R"([^\r\n\p{L}\p{N}]?)";
  return {splitStep(first + upper + "*" + lower + "+" + end + "|" + first + upper + "+" + lower + "*" + end + "|" +
                    digits + R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
          byteLevelStepOf(false)};
}

}  // namespace detail

/// Those that the families of gguf_family.hpp have, and some more; of several with the same steps the first is written.
inline const std::vector<GgufPreTokenizer>& ggufPreTokenizers() {
  using detail::byteLevelStepOf;
  using detail::digitsStep;
  static const auto gpt2 = [] { return nlohmann::json::array({byteLevelStepOf(true)}); };
  static const auto eachDigit = [] { return nlohmann::json::array({digitsStep(true), byteLevelStepOf(true)}); };
  static const auto falcon = [] {
    return nlohmann::json::array({{{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                                  byteLevelStepOf(true),
                                  digitsStep(false),
                                  detail::splitStep("[0-9][0-9][0-9]")});
  };
  static const auto threeDigits = [] { return detail::gpt4Steps(R"(\p{N}{1,3})"); };
  static const auto oneDigit = [] { return detail::gpt4Steps(R"(\p{N})"); };
  static const auto tekken = [] { return detail::casedSteps(R"(\p{N})", ""); };
  static const auto gpt4o = [] { return detail::casedSteps(R"(\p{N}{1,3})", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"); };
  static const std::vector<GgufPreTokenizer> table = {
      {"gpt-2", false, false, gpt2},
      {"smollm", false, false, eachDigit},
      {"starcoder", false, false, eachDigit},
      {"refact", false, false, eachDigit},
      {"command-r", false, false, eachDigit},
      {"falcon", false, false, falcon},
      {"llama-bpe", false, true, threeDigits},
      {"llama3", false, true, threeDigits},
      {"dbrx", false, false, threeDigits},
      {"smaug-bpe", false, false, threeDigits},
      {"qwen2", true, false, oneDigit},
      {"deepseek-r1-qwen", true, false, oneDigit},
      {"stablelm2", true, false, oneDigit},
      {"megrez", false, false, oneDigit},
      {"tekken", false, true, tekken},
      {"gpt-4o", false, false, gpt4o},
      {"olmo", true, false, gpt2},
      {"mpt", true, false, gpt2},
  };
  return table;
}

namespace detail {

/// What a pre-tokenizer does, or a normalizer, in a form in which equal ones are equal: the steps of a sequence, which
/// it has as `key`, without what is about places in the text.
inline nlohmann::json plainSteps(const nlohmann::json& entry, const char* key = "pretokenizers") {
  nlohmann::json steps = nlohmann::json::array();
  if (entry.is_null()) return steps;
  if (entry.is_array() || entry.value("type", "") == "Sequence") {
    for (const auto& step : entry.is_array() ? entry : entry.at(key)) {
      for (const auto& each : plainSteps(step, key)) steps.push_back(each);
    }
    return steps;
  }
  nlohmann::json step = entry;
  step.erase("trim_offsets");
  if (entry.value("type", "") == "ByteLevel") {
    step = {{"type", "ByteLevel"},
            {"add_prefix_space", entry.value("add_prefix_space", true)},
            {"use_regex", entry.value("use_regex", true)}};
  }
  steps.push_back(step);
  return steps;
}

}  // namespace detail

/// The row of a name; null where there is none.
inline const GgufPreTokenizer* findGgufPreTokenizer(std::string_view name) {
  for (const GgufPreTokenizer& row : ggufPreTokenizers()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

inline std::string ggufPreTokenizerNames() {
  std::string names;
  for (const GgufPreTokenizer& row : ggufPreTokenizers()) names.append(names.empty() ? "" : ", ").append(row.name);
  return names;
}

/// The row that does what a tokenizer.json's "pre_tokenizer" and "normalizer" do; null where there is none.
inline const GgufPreTokenizer* recognizeGgufPreTokenizer(const nlohmann::json& preTokenizer,
                                                         const nlohmann::json& normalizer, bool ignoresMerges) {
  const nlohmann::json wanted = detail::plainSteps(preTokenizer);
  const nlohmann::json forms = detail::plainSteps(normalizer, "normalizers");
  const bool composed = forms == nlohmann::json::array({{{"type", "NFC"}}});
  if (!composed && !forms.empty()) return nullptr;
  for (const GgufPreTokenizer& row : ggufPreTokenizers()) {
    if (row.composed == composed && row.ignoresMerges == ignoresMerges && detail::plainSteps(row.steps()) == wanted) {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace llama
