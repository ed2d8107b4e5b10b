// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

namespace gosset::testing {

/// A Python that has numpy, for oracles that are written in it.
inline std::optional<std::string> pythonWithNumpy() {
  for (const char* name : {"python3", "/usr/bin/python3"}) {
    const std::string command = std::string(name) + " -c 'import numpy' >/dev/null 2>&1";
    if (std::system(command.c_str()) == 0) return name;
  }
  return std::nullopt;
}

}  // namespace gosset::testing
