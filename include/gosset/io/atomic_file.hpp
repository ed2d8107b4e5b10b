// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/io/file_descriptor.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace gosset::GOSSET_ABI {

/// A file that appears at its path whole or not at all. The bytes go to a temporary file in the same folder; commit()
/// brings them to the disk and then renames it over the path, which POSIX does in one step. Until then, and where
/// anything fails, whatever was at the path stays as it was; without commit() the temporary file is removed. A process
/// that is killed leaves its temporary file `.gosset-<process>-<n>.tmp` behind, which the next AtomicFile in that
/// folder removes: whoever writes one holds a lock (flock) on it, and the system takes that away with the process.
///
/// A file that is replaced hands its permissions on. A path that is a symbolic link keeps the link, and the file it
/// leads to is replaced, or made where there is none yet.
class AtomicFile {
 public:
  /// Throws FormatError where the folder is missing or not writable, or something else than a regular file is there.
  explicit AtomicFile(const std::filesystem::path& path) : path_(path), target_(followLinks(path)) {
    struct stat old {};
    const bool replaces = ::stat(path_.c_str(), &old) == 0;
    if (replaces && !S_ISREG(old.st_mode)) detail::fileError(path_, "is no regular file");
    removeLeftovers();
    create();
    if (replaces) (void)::fchmod(file_.get(), old.st_mode & 07777);  // on file systems without permissions it fails
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  ~AtomicFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  /// Appends `bytes`. Throws FormatError with the system's reason, such as a full disk.
  void write(std::span<const std::byte> bytes) {
    constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // systems limit one write to 2^31 bytes
    while (!bytes.empty()) {
      const ::ssize_t count = ::write(file_.get(), bytes.data(), std::min(bytes.size(), kMostAtOnce));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail(count < 0 ? errno : EIO);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
  }

  /// Puts the file into place; nothing can be written afterwards. Throws FormatError where the system cannot.
  void commit() {
    // The order matters: a rename that reached the disk before the bytes would leave an empty file after a crash.
    if (::fsync(file_.get()) != 0) fail(errno);
    if (!file_.close()) fail(errno);
    const detail::FileDescriptor directory(::open(folder().c_str(), O_RDONLY | O_CLOEXEC));
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
    temporary_.clear();
    (void)lock_.close();
    // Makes the rename itself last. Some file systems cannot; the rename is whole there too, only perhaps later.
    if (directory.isOpen()) (void)::fsync(directory.get());
  }

 private:
  static std::filesystem::path followLinks(const std::filesystem::path& path) {
    constexpr int kMostLinks = 40;  // the system's own limit
    std::filesystem::path target = path;
    std::error_code ignored;
    for (int links = 0; std::filesystem::is_symlink(target, ignored); ++links) {
      if (links == kMostLinks) detail::fileError(path, "cannot be written: ", detail::systemMessage(ELOOP));
      target = target.parent_path() / std::filesystem::read_symlink(target, ignored);
    }
    return target;
  }

  std::filesystem::path folder() const { return target_.has_parent_path() ? target_.parent_path() : "."; }

  void create() {
    // O_EXCL makes the name ours even where another thread or process tries the same one.
    for (int attempt = 0; attempt < 10000; ++attempt) {
      const std::string name = detail::concat(kPrefix, ::getpid(), "-", attempt, kSuffix);
      std::filesystem::path candidate = folder() / name;
      file_ = detail::FileDescriptor(::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (file_.isOpen() && lock()) {
        temporary_ = std::move(candidate);
        return;
      }
      if (!file_.isOpen() && errno != EEXIST) fail(errno);
    }
    fail(EEXIST);
  }

  /// Locks the temporary file until lock_ is closed, which is when it has its final name. False where somebody took it
  /// for a leftover and removed it between its making and its locking.
  bool lock() {
    while (::flock(file_.get(), LOCK_EX) != 0 && errno == EINTR) {
    }  // on file systems without locks leftovers stay
    lock_ = detail::FileDescriptor(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0));
    struct stat made {};
    return ::fstat(file_.get(), &made) != 0 || made.st_nlink > 0;
  }

  struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
  };

  /// Removes the temporary files of processes that are no more. What cannot be removed stays.
  void removeLeftovers() const {
    const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(folder().c_str()));
    if (!directory) return;
    while (const dirent* entry = ::readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) removeLeftover(::dirfd(directory.get()), entry->d_name);
    }
  }

  static void removeLeftover(int directory, const char* name) {
    const detail::FileDescriptor file(::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.isOpen() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return;
    // Once it has its final name nobody holds its lock, but then its old name may be another's by now.
    struct stat found {};
    struct stat named {};
    const bool same = ::fstat(file.get(), &found) == 0 &&
                      ::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && found.st_ino == named.st_ino &&
                      found.st_dev == named.st_dev;
    if (same && S_ISREG(found.st_mode)) ::unlinkat(directory, name, 0);
  }

  [[noreturn]] void fail(int error) const {
    detail::fileError(path_, "cannot be written: ", detail::systemMessage(error));
  }

  static constexpr std::string_view kPrefix = ".gosset-", kSuffix = ".tmp";

  std::filesystem::path path_;       // as the caller named it, for messages
  std::filesystem::path target_;     // the file that is replaced
  std::filesystem::path temporary_;  // empty once it is in place
  detail::FileDescriptor file_;
  detail::FileDescriptor lock_;  // the same file
};

}  // namespace gosset::GOSSET_ABI
