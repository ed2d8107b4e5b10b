// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/io/atomic_file.hpp>

#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>

namespace llama {

/// Throws gosset::FormatError with the parts as its text: for everything that is read from files.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw gosset::FormatError(text.str());
}

/// The same unless `holds`, where the parts cost nothing.
template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (!holds) fail(parts...);
}

/// What action() returns. A std::invalid_argument that it throws begins with `what` then: gosset's own errors name an
/// argument of a function, and cannot know which of a model's tensors it was.
template <class Action>
decltype(auto) naming(const std::string& what, Action&& action) {
  try {
    return action();
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(what + ": " + error.what());
  }
}

/// All bytes of a file. Throws gosset::FormatError where it is no readable file, or longer than `limit` bytes.
inline std::string readBytes(const std::filesystem::path& path, std::uintmax_t limit) {
  std::error_code failed;
  check(std::filesystem::exists(path, failed), path.string(), ": there is no such file");
  check(std::filesystem::is_regular_file(path, failed), path.string(), ": this is not a file");
  const std::uintmax_t size = std::filesystem::file_size(path, failed);
  check(!failed, path.string(), ": cannot be read: ", failed.message());
  check(size <= limit, path.string(), ": at most ", limit, " bytes expected, found ", size);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  check(file.good(), path.string(), ": cannot be read");
  return bytes;
}

/// Writes a file, whole or not at all. Throws gosset::FormatError where the system cannot.
inline void writeWhole(const std::filesystem::path& path, const std::string& text) {
  gosset::AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

/// With the folders that it is to lie in. Throws gosset::FormatError where the system cannot.
inline void makeFolder(const std::filesystem::path& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  check(!failed, folder.string(), ": cannot be made: ", failed.message());
}

}  // namespace llama
