// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <string>
#include <string_view>

namespace gosset::GOSSET_ABI {

/// A format's name in the one spelling that stands for all of the same meaning: without spaces, and without
/// PerTensor<..> around a codebook alone, as a bare codebook has one scale for the whole matrix, too, and the same
/// bytes. "Incoherent<PerTensor<E8P>>" becomes "Incoherent<E8P>"; "PerTensor<E8P, float>" stays, but for its space.
inline std::string canonicalFormatName(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c != ' ') text.push_back(c);
  }
  constexpr std::string_view kPerTensor = "PerTensor<";
  for (std::size_t at = text.find(kPerTensor); at != std::string::npos; at = text.find(kPerTensor, at + 1)) {
    const std::size_t first = at + kPerTensor.size();
    int depth = 1;
    bool alone = true;  // no storage type of the scale follows
    std::size_t last = first;
    for (; last < text.size() && depth > 0; ++last) {
      if (text[last] == '<') ++depth;
      if (text[last] == '>') --depth;
      if (text[last] == ',' && depth == 1) alone = false;
    }
    if (depth == 0 && alone) text = text.substr(0, at) + text.substr(first, last - 1 - first) + text.substr(last);
  }
  return text;
}

/// Whether two names mean the same format.
inline bool sameFormat(std::string_view a, std::string_view b) {
  return a == b || canonicalFormatName(a) == canonicalFormatName(b);
}

}  // namespace gosset::GOSSET_ABI
