// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

// Characters in UTF-8 (The Unicode Standard, table 3-7: the byte sequences that are well-formed).
namespace llama {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Character {
  char32_t code = 0;
  std::size_t size = 0;  ///< bytes; of what is no character, the longest part that begins one, at least 1
  bool valid = false;
  bool cutOff = false;  ///< not valid, but what follows might make it so
};

/// What stands at byte `at` of a text that is longer.
inline Utf8Character characterAt(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  const std::size_t size = lead < 0xC2 || lead > 0xF4 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (size == 1) return {0, 1, false, false};
  char32_t code = lead & (0x7Fu >> size);
  unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i == text.size()) return {0, i, false, true};
    if (byte(i) < least || byte(i) > most) return {0, i, false, false};
    code = code << 6 | (byte(i) & 0x3Fu);
    least = 0x80;
    most = 0xBF;
  }
  return {code, size, true, false};
}

/// Where the first byte stands that is not part of a character, if there is one.
inline std::optional<std::size_t> firstInvalidUtf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character character = characterAt(text, at);
    if (!character.valid) return at;
    at += character.size;
  }
  return std::nullopt;
}

/// `code` must be a character.
inline std::string utf8(char32_t code) {
  const auto tail = [code](unsigned shift) { return static_cast<char>(0x80u | ((code >> shift) & 0x3Fu)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xC0u | (code >> 6)), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xE0u | (code >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xF0u | (code >> 18)), tail(12), tail(6), tail(0)};
}

/// Bytes that come a few at a time, given on as whole characters: half of one is held back until its other half comes.
/// What can be none becomes U+FFFD.
class Utf8Stream {
 public:
  std::string add(std::string_view bytes) {
    held_ += bytes;
    std::string text;
    std::size_t at = 0;
    while (at < held_.size()) {
      const Utf8Character character = characterAt(held_, at);
      if (character.cutOff) break;
      text += character.valid ? std::string_view(held_).substr(at, character.size) : kReplacementCharacter;
      at += character.size;
    }
    held_.erase(0, at);
    return text;
  }

  /// What is held back will not be completed.
  std::string finish() {
    const std::string text(held_.empty() ? std::string_view() : kReplacementCharacter);
    held_.clear();
    return text;
  }

 private:
  std::string held_;
};

}  // namespace llama
