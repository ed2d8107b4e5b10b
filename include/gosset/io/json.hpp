// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace gosset::GOSSET_ABI {

/// Brackets within brackets. No file of a model comes near; what walks through a tree, printing or comparing it, calls
/// itself, and so would run out of stack on a file of nothing but brackets.
inline constexpr int kMostJsonDepth = 100;

/// What the JSON of a file says. Throws FormatError, its text beginning with `source`, where it is no JSON in UTF-8 or
/// nested deeper than kMostJsonDepth.
inline nlohmann::json parseJson(std::string_view text, const std::string& source) {
  using nlohmann::json;
  const auto checkDepth = [&source](int depth, json::parse_event_t event, const json&) {
    const bool opens = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth >= kMostJsonDepth) {
      throw FormatError(source + ": JSON nested at most " + std::to_string(kMostJsonDepth) +
                        " deep expected, found more");
    }
    return true;
  };
  json value = json::parse(text, checkDepth, false);
  if (value.is_discarded()) throw FormatError(source + ": JSON in UTF-8 expected");
  return value;
}

}  // namespace gosset::GOSSET_ABI
