// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>

#include <unistd.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gosset::GOSSET_ABI::detail {

[[noreturn]] inline void throwFileError(const std::filesystem::path& path, std::initializer_list<TextPart> parts) {
  throw FormatError("gosset: " + path.string() + ": " + joined(parts));
}

/// Throws FormatError; the text names the file, what was expected and what came.
template <class... Parts>
[[noreturn]] void fileError(const std::filesystem::path& path, const Parts&... parts) {
  throwFileError(path, {TextPart(parts)...});
}

/// What the operating system says about an errno.
inline std::string systemMessage(int error) { return std::generic_category().message(error); }

/// A name out of a file, fit for a message: quoted, short, and without control characters, which a hostile file could
/// use to rewrite the reader's terminal.
inline std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::string result = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return result + (text.size() > kLongest ? "...'" : "'");
}

/// Owns a POSIX file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FileDescriptor() { (void)close(); }

  int get() const { return descriptor_; }
  bool isOpen() const { return descriptor_ >= 0; }

  /// False where the system reports, only now, that something written before did not arrive; errno says why.
  [[nodiscard]] bool close() {
    const int descriptor = std::exchange(descriptor_, -1);
    return descriptor < 0 || ::close(descriptor) == 0;
  }

 private:
  int descriptor_ = -1;
};

}  // namespace gosset::GOSSET_ABI::detail
