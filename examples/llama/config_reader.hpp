// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama {

/// Reads fields of an object of config.json; what a field must be stands in the error, which begins with the source.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {
    check(json.is_object(), source_, ": a JSON object expected");
  }

  const nlohmann::json& json() const { return json_; }
  const std::string& source() const { return source_; }

  bool has(std::string_view key) const { return json_.contains(key) && !at(key).is_null(); }

  Index integer(std::string_view key) const {
    const bool holds = has(key) && at(key).is_number_integer();
    if (!holds) fail(source_, ": \"", key, "\" must be an integer, found ", found(key));
    return at(key).get<Index>();
  }
  Index integer(std::string_view key, Index fallback) const { return has(key) ? integer(key) : fallback; }

  double number(std::string_view key) const {
    if (!has(key) || !at(key).is_number()) fail(source_, ": \"", key, "\" must be a number, found ", found(key));
    const double value = at(key).get<double>();
    if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) {
      fail(source_, ": \"", key, "\" must be a number that float can hold, found ", found(key));
    }
    return value;
  }
  double number(std::string_view key, double fallback) const { return has(key) ? number(key) : fallback; }

  bool flag(std::string_view key, bool fallback = false) const {
    if (!has(key)) return fallback;
    if (!at(key).is_boolean()) fail(source_, ": \"", key, "\" must be true or false, found ", found(key));
    return at(key).get<bool>();
  }

  std::string text(std::string_view key) const {
    if (!has(key) || !at(key).is_string()) fail(source_, ": \"", key, "\" must be a string, found ", found(key));
    return at(key).get<std::string>();
  }

  /// A list of `size` at least, each of which is(entry).
  template <class Is>
  const nlohmann::json& list(std::string_view key, std::size_t size, const char* what, Is&& is) const {
    const bool holds = has(key) && at(key).is_array() && at(key).size() >= size;
    if (!holds) fail(source_, ": \"", key, "\" must be a list of ", size, " ", what, ", found ", found(key));
    for (const nlohmann::json& entry : at(key)) {
      if (!is(entry)) fail(source_, ": \"", key, "\" must hold ", what, ", found ", dumped(entry));
    }
    return at(key);
  }

  /// Throws unless the field is missing, null, or `value`: for what this engine knows in one form only.
  void expect(std::string_view key, const nlohmann::json& value) const {
    if (!has(key) || at(key) == value) return;
    fail(source_, ": \"", key, "\" can only be ", value.dump(), " here, found ", found(key));
  }

  /// What a field holds, for a message.
  std::string found(std::string_view key) const { return json_.contains(key) ? dumped(at(key)) : "nothing"; }

 private:
  static std::string dumped(const nlohmann::json& value) { return value.dump().substr(0, 80); }

  const nlohmann::json& at(std::string_view key) const { return *json_.find(key); }

  const nlohmann::json& json_;
  std::string source_;
};

}  // namespace llama
