// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

// The vectors of include/gosset/io/LAYOUTS.md.
namespace gosset::layouts_test {

using Bytes = std::vector<std::uint8_t>;
using Record = std::map<std::string, std::string>;

/// The blocks of one kind, each a map from key to text.
inline std::vector<Record> records(const std::string& kind) {
  std::ifstream file(std::string(GOSSET_SOURCE_DIR) + "/include/gosset/io/LAYOUTS.md");
  std::vector<Record> all;
  std::string line, key;
  bool inside = false;
  while (std::getline(file, line)) {
    if (line.starts_with("```")) {
      inside = line == "```vectors";
      if (inside) all.emplace_back();
    } else if (inside && line.starts_with(' ')) {
      all.back()[key] += ' ' + line;
    } else if (inside) {
      const auto colon = line.find(':');
      key = line.substr(0, colon);
      all.back()[key] = line.substr(std::min(colon + 2, line.size()));
    }
  }
  std::erase_if(all, [&](const Record& record) { return record.at("kind") != kind; });
  EXPECT_FALSE(all.empty()) << "LAYOUTS.md has no vectors of the kind " << kind;
  return all;
}

inline std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

inline std::vector<float> floats(const std::string& text) {
  std::vector<float> result;
  for (const std::string& word : words(text)) result.push_back(std::stof(word));
  return result;
}

inline Bytes bytesOf(const std::string& text) {
  Bytes result;
  for (const std::string& word : words(text))
    result.push_back(static_cast<std::uint8_t>(std::stoul(word, nullptr, 16)));
  return result;
}

}  // namespace gosset::layouts_test
