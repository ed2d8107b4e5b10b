// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"

#include <gosset/io/json.hpp>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

namespace llama {

/// What a file holds, cut short for a message.
inline std::string shortText(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 80);
}

/// An object of a JSON file, whose fields are asked for by name. Every error is a gosset::FormatError that begins with
/// the file and says which object it was.
class JsonObject {
 public:
  /// `where`: the file, and what of it this is, such as "t.json: pre_tokenizer". `json` must outlive the object.
  JsonObject(const nlohmann::json& json, std::string where) : json_(&json), where_(std::move(where)) {
    if (!json.is_object()) fail(where_, ": an object expected, found ", shortText(json));
  }

  const std::string& where() const { return where_; }
  bool has(const char* key) const { return json_->contains(key) && !(*json_)[key].is_null(); }

  /// Throws where there is a field of another name: what is not known might change the tokens.
  void expectOnly(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : json_->items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        fail(where_, ": the field ", shortText(nlohmann::json(key)), " is not known");
      }
    }
  }

  const nlohmann::json& at(const char* key) const {
    if (!has(key)) fail(where_, ": has no \"", key, "\"");
    return (*json_)[key];
  }
  std::string string(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_string()) fail(where_, ": \"", key, "\" must be a string, found ", shortText(value));
    return value.get<std::string>();
  }
  bool flag(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    const nlohmann::json& value = (*json_)[key];
    if (!value.is_boolean()) fail(where_, ": \"", key, "\" must be true or false, found ", shortText(value));
    return value.get<bool>();
  }
  std::size_t count(const char* key) const {
    const nlohmann::json& value = at(key);
    const bool whole = value.is_number_integer() && value >= 0 && value < (std::int64_t{1} << 31);
    if (!whole) fail(where_, ": \"", key, "\" must be a number of 31 bits, found ", shortText(value));
    return value.get<std::size_t>();
  }
  const nlohmann::json& array(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_array()) fail(where_, ": \"", key, "\" must be an array, found ", shortText(value));
    return value;
  }

 private:
  const nlohmann::json* json_;
  std::string where_;
};

}  // namespace llama
