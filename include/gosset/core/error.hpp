// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ios>
#include <sstream>
#include <stdexcept>
#include <string>

namespace gosset {

/// A file that is truncated, lies about itself, or holds something else than was asked for.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  text.exceptions(std::ios_base::badbit);  // where memory runs out it throws, rather than to lose the rest
  (text << ... << parts);
  return text.str();
}

/// Throws std::invalid_argument; the text names the argument, what was expected and what came.
template <class... Parts>
[[noreturn]] void invalidArgument(const Parts&... parts) {
  throw std::invalid_argument("gosset: " + concat(parts...));
}

template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) invalidArgument(parts...);
}

}  // namespace detail
}  // namespace gosset
