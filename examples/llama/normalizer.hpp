// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json_object.hpp"
#include "regex.hpp"

#include <utf8proc.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

// The "normalizer" of a tokenizer.json: what becomes of a text before it is cut up.
namespace llama {

/// Text in UTF-8 to text in UTF-8.
using Normalizer = std::function<std::string(std::string)>;

namespace detail {

/// Unicode's normalization forms (Unicode Standard Annex 15).
inline std::string normalizedForm(const std::string& text, utf8proc_option_t options) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, &std::free);
  if (size < 0) throw std::invalid_argument(std::string("text: cannot be normalized: ") + utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
}

/// Character by character: U+0130 alone becomes two.
inline std::string lowercase(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character character = characterAt(text, at);
    at += character.size;
    if (character.code == 0x130) {
      result += "i\xCC\x87";
    } else {
      result += utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character.code))));
    }
  }
  return result;
}

/// Replaces each match.
inline std::string replaced(const Regex& pattern, const std::string& text, const std::string& by) {
  std::string result;
  std::size_t done = 0;
  pattern.forEachMatch(text, [&](std::size_t begin, std::size_t end) {
    result.append(text, done, begin - done).append(by);
    done = end;
  });
  return result.append(text, done);
}

inline std::string replaced(const std::string& pattern, const std::string& text, const std::string& by) {
  std::string result;
  std::size_t done = 0;
  for (std::size_t at = text.find(pattern); at != std::string::npos; at = text.find(pattern, done)) {
    result.append(text, done, at - done).append(by);
    done = at + pattern.size();
  }
  return result.append(text, done);
}

/// A regular expression whose error begins with the place in the file.
inline std::shared_ptr<const Regex> regexOf(const std::string& pattern, const std::string& where) {
  try {
    return std::make_shared<const Regex>(pattern);
  } catch (const std::invalid_argument& error) {
    fail(where, ": ", error.what());
  }
}

/// "pattern": {"String": ...} or {"Regex": ...}; calls use(string) or use(shared pointer to Regex).
template <class Use>
auto withPattern(const JsonObject& object, Use&& use) {
  const JsonObject pattern(object.at("pattern"), object.where() + ".pattern");
  pattern.expectOnly({"String", "Regex"});
  if (pattern.has("Regex")) return use(regexOf(pattern.string("Regex"), pattern.where()));
  std::string text = pattern.string("String");
  check(!text.empty(), pattern.where(), ": must not be empty");
  return use(std::move(text));
}

inline Normalizer replaceNormalizer(const JsonObject& object) {
  object.expectOnly({"type", "pattern", "content"});
  return withPattern(object, [by = object.string("content")](const auto& pattern) -> Normalizer {
    if constexpr (std::is_convertible_v<decltype(pattern), std::string>) {
      return [pattern, by](const std::string& text) { return replaced(pattern, text, by); };
    } else {
      return [pattern, by](const std::string& text) { return replaced(*pattern, text, by); };
    }
  });
}

inline Normalizer stripNormalizer(const JsonObject& object) {
  object.expectOnly({"type", "strip_left", "strip_right"});
  const bool left = object.flag("strip_left", true), right = object.flag("strip_right", true);
  const auto blank = regexOf("\\A\\s+|\\s+\\z", object.where());
  return [left, right, blank](std::string text) {
    std::size_t first = 0, last = text.size();
    blank->forEachMatch(text, [&](std::size_t begin, std::size_t end) {
      if (begin == 0 && left) first = end;
      if (end == text.size() && right) last = std::max(begin, first);
    });
    return text.substr(first, last - first);
  };
}

}  // namespace detail

/// The normalizer that `json` describes; null is none. Throws gosset::FormatError for a type that is not known.
inline Normalizer makeNormalizer(const nlohmann::json& json, const std::string& where) {
  using detail::normalizedForm;
  if (json.is_null()) return [](std::string text) { return text; };
  const JsonObject object(json, where);
  const std::string type = object.string("type");
  const auto form = [&](int options) -> Normalizer {
    object.expectOnly({"type"});
    return [options](const std::string& text) { return normalizedForm(text, static_cast<utf8proc_option_t>(options)); };
  };
  if (type == "NFC") return form(UTF8PROC_COMPOSE);
  if (type == "NFD") return form(UTF8PROC_DECOMPOSE);
  if (type == "NFKC") return form(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  if (type == "NFKD") return form(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  if (type == "Lowercase") {
    object.expectOnly({"type"});
    return [](const std::string& text) { return detail::lowercase(text); };
  }
  if (type == "Prepend") {
    object.expectOnly({"type", "prepend"});
    return [prefix = object.string("prepend")](std::string text) { return text.empty() ? text : prefix + text; };
  }
  if (type == "Replace") return detail::replaceNormalizer(object);
  if (type == "Strip") return detail::stripNormalizer(object);
  if (type == "Sequence") {
    object.expectOnly({"type", "normalizers"});
    std::vector<Normalizer> steps;
    for (const auto& step : object.array("normalizers")) {
      steps.push_back(makeNormalizer(step, where + ".normalizers[" + std::to_string(steps.size()) + "]"));
    }
    return [steps](std::string text) {
      for (const Normalizer& step : steps) text = step(std::move(text));
      return text;
    };
  }
  fail(where, ": a normalizer of type \"", type, "\" cannot be read");
}

}  // namespace llama
