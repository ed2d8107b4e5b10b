// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <ios>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace gosset::GOSSET_ABI {

/// A file that is truncated, lies about itself, or holds something else than was asked for.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

template <class T>
concept NotText = !std::convertible_to<const T&, std::string_view>;

/// A piece of a message: text, or a value that a stream prints. It refers to what it was made of. That messages are
/// lists of these, and not templates all the way down, is for the compiler's sake: there are hundreds.
class TextPart {
 public:
  explicit TextPart(std::string_view text) : value_(text.data()), size_(text.size()) {}

  template <NotText T>
  explicit TextPart(const T& value)
      : value_(&value), print_([](std::ostream& stream, const void* at) { stream << *static_cast<const T*>(at); }) {}

  friend std::ostream& operator<<(std::ostream& stream, const TextPart& part) {
    if (part.print_ == nullptr) return stream << std::string_view(static_cast<const char*>(part.value_), part.size_);
    part.print_(stream, part.value_);
    return stream;
  }

 private:
  const void* value_;
  std::size_t size_ = 0;
  void (*print_)(std::ostream&, const void*) = nullptr;
};

inline std::string joined(std::initializer_list<TextPart> parts) {
  std::ostringstream text;
  text.exceptions(std::ios_base::badbit);  // where memory runs out it throws, rather than to lose the rest
  for (const TextPart& part : parts) text << part;
  return text.str();
}

[[noreturn]] inline void throwInvalidArgument(std::initializer_list<TextPart> parts) {
  throw std::invalid_argument("gosset: " + joined(parts));
}

template <class... Parts>
std::string concat(const Parts&... parts) {
  return joined({TextPart(parts)...});
}

/// Throws std::invalid_argument; the text names the argument, what was expected and what came.
template <class... Parts>
[[noreturn]] void invalidArgument(const Parts&... parts) {
  throwInvalidArgument({TextPart(parts)...});
}

template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throwInvalidArgument({TextPart(parts)...});
}

}  // namespace detail
}  // namespace gosset::GOSSET_ABI
