// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"
#include "json_object.hpp"

#include <gosset/io/json.hpp>

#include <filesystem>
#include <string>

// What a run that may be killed at any moment leaves for the next: a manifest that says what the run is of, and files
// that appear whole or not at all.
namespace llama {

/// The manifest of a run: what its result depends on, JSON.
class Manifest {
 public:
  static constexpr const char* kName = "manifest.json";

  /// Throws gosset::FormatError, which names the first difference, where the folder holds another run's.
  static void requireSame(const std::filesystem::path& folder, const nlohmann::ordered_json& run) {
    const std::filesystem::path path = folder / kName;
    if (!std::filesystem::exists(path)) return;
    constexpr std::uintmax_t kLongest = std::uintmax_t{1} << 28;
    const nlohmann::json found = gosset::parseJson(readBytes(path, kLongest), path.string()).flatten();
    const nlohmann::json expected = nlohmann::json(run).flatten();
    const auto refuse = [&](const std::string& key, const std::string& there, const std::string& here) {
      fail(path.string(), ": is of another run, whose ", key, " is ", there, "; here it is ", here,
           "; name another folder, or remove this one");
    };
    for (const auto& [key, value] : expected.items()) {
      if (!found.contains(key)) refuse(key, "missing", shortText(value));
      if (found[key] != value) refuse(key, shortText(found[key]), shortText(value));
    }
    for (const auto& [key, value] : found.items()) {
      if (!expected.contains(key)) refuse(key, shortText(value), "missing");
    }
  }

  /// Once for a run.
  static void write(const std::filesystem::path& folder, const nlohmann::ordered_json& run) {
    if (!std::filesystem::exists(folder / kName)) writeWhole(folder / kName, run.dump(1) + "\n");
  }
};

}  // namespace llama
