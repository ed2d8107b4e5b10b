// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/io/file_descriptor.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <span>

namespace gosset::GOSSET_ABI {

/// How a file's bytes come into memory.
enum class FileAccess {
  kMap,  ///< mapped: pages are read when they are touched, and shared with other processes. The file must not be
         ///< shortened meanwhile: touching a page that is gone ends the program (SIGBUS).
  kLoad  ///< read into memory of our own at once: slower to open, but later changes of the file do no harm
};

/// The bytes of a regular file, read-only, for as long as this object, a copy of it or a keeper() lives; they stay in
/// place when it is moved.
class MappedFile {
 public:
  static constexpr std::size_t kAlignment = 64;  ///< a line of the cache, and the widest vector

  /// Throws FormatError, with the path and the reason, where `path` is missing, unreadable or no regular file.
  explicit MappedFile(const std::filesystem::path& path, FileAccess access = FileAccess::kMap) {
    // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    const detail::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.isOpen()) detail::fileError(path, "cannot be opened: ", detail::systemMessage(errno));
    const std::size_t size = regularSize(file, path);
    if (size == 0) return;  // nothing to map, and mmap refuses it
    data_ = access == FileAccess::kMap ? map(file, size, path) : load(file, size, path);
    size_ = size;
  }

  /// All bytes of the file; the address is a multiple of kAlignment.
  std::span<const std::byte> bytes() const { return {data_.get(), data_ ? size_ : 0}; }

  /// Shared ownership of the bytes: they stay valid, at their address, while one of these lives. Null where the file is
  /// empty.
  std::shared_ptr<const void> keeper() const { return data_; }

 private:
  struct Release {
    std::size_t size;
    bool mapped;
    void operator()(std::byte* data) const {
      if (mapped) {
        ::munmap(data, size);
      } else {
        ::operator delete[](data, std::align_val_t{kAlignment});
      }
    }
  };
  using Data = std::shared_ptr<const std::byte>;

  static std::size_t regularSize(const detail::FileDescriptor& file, const std::filesystem::path& path) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0)
      detail::fileError(path, "cannot be examined: ", detail::systemMessage(errno));
    if (!S_ISREG(status.st_mode)) detail::fileError(path, "is no regular file");
    if (static_cast<std::uintmax_t>(status.st_size) > std::numeric_limits<std::size_t>::max() / 2) {
      detail::fileError(path, "does not fit into memory");
    }
    return static_cast<std::size_t>(status.st_size);
  }

  static Data map(const detail::FileDescriptor& file, std::size_t size, const std::filesystem::path& path) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) detail::fileError(path, "cannot be mapped: ", detail::systemMessage(errno));
    return Data(static_cast<std::byte*>(address), Release{size, true});
  }

  static Data load(const detail::FileDescriptor& file, std::size_t size, const std::filesystem::path& path) {
    auto* memory = static_cast<std::byte*>(::operator new[](size, std::align_val_t{kAlignment}, std::nothrow));
    if (memory == nullptr) detail::fileError(path, "does not fit into memory");
    Data data(memory, Release{size, false});
    constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // systems limit one read to 2^31 bytes
    for (std::size_t done = 0; done < size;) {
      const ::ssize_t count = ::read(file.get(), memory + done, std::min(size - done, kMostAtOnce));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) detail::fileError(path, "cannot be read: ", detail::systemMessage(errno));
      if (count == 0) detail::fileError(path, "ended at byte ", done, " of ", size, " while it was read");
      done += static_cast<std::size_t>(count);
    }
    return data;
  }

  Data data_;
  std::size_t size_ = 0;  // where there is data_: a file that was moved from has none
};

}  // namespace gosset::GOSSET_ABI
