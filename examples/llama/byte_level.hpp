// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "utf8.hpp"

#include <array>
#include <optional>
#include <string>
#include <string_view>

// GPT-2's alphabet (Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2, and its
// published encoder): a printable character for each byte, so that a vocabulary of bytes is a list of plain strings.
// The bytes 0x21 to 0x7E, 0xA1 to 0xAC and 0xAE to 0xFF stand for themselves as code points, the others for U+0100
// onwards, in order.
namespace llama {

namespace detail {

inline constexpr char32_t kByteCharacters = 0x144;  ///< all are below

struct ByteAlphabet {
  std::array<char32_t, 256> character{};
  std::array<int, kByteCharacters> byte{};  ///< -1: none
};

constexpr ByteAlphabet byteAlphabet() {
  ByteAlphabet alphabet;
  alphabet.byte.fill(-1);
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet.character[byte] = itself ? byte : next++;
    alphabet.byte[alphabet.character[byte]] = static_cast<int>(byte);
  }
  return alphabet;
}

inline constexpr ByteAlphabet kByteAlphabet = byteAlphabet();

}  // namespace detail

/// Each byte of `text` as its character.
inline std::string toByteLevel(std::string_view text) {
  std::string result;
  for (const char c : text) result += utf8(detail::kByteAlphabet.character[static_cast<unsigned char>(c)]);
  return result;
}

/// The bytes whose characters `text` is, or nothing where one of them is no byte's.
inline std::optional<std::string> fromByteLevel(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character character = characterAt(text, at);
    if (!character.valid || character.code >= detail::kByteCharacters) return std::nullopt;
    const int byte = detail::kByteAlphabet.byte[character.code];
    if (byte < 0) return std::nullopt;
    result += static_cast<char>(byte);
    at += character.size;
  }
  return result;
}

}  // namespace llama
