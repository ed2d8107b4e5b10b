// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/atomic_file.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace gosset::atomic_file_test {
namespace {

using testing::expectThrows;
using testing::FullDisk;
using testing::readText;
using testing::TemporaryFolder;
using testing::writeText;
using Names = std::vector<std::string>;

void put(AtomicFile& file, std::string_view text) { file.write(std::as_bytes(std::span(text))); }

TEST(AtomicFile, AppearsOnCommit) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "new");
  put(file, "one ");
  put(file, "");
  put(file, "two");
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
  file.commit();
  EXPECT_EQ(readText(folder / "new"), "one two");
  EXPECT_EQ(folder.list(), Names{"new"});
  const int reader = ::open((folder / "new").c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(::flock(reader, LOCK_EX | LOCK_NB), 0) << "nobody holds it any more";
  ::close(reader);
}

TEST(AtomicFile, ReplacesOnCommit) {
  const TemporaryFolder folder;
  writeText(folder / "file", "a longer text than the new one");
  AtomicFile file(folder / "file");
  put(file, "new");
  EXPECT_EQ(readText(folder / "file"), "a longer text than the new one");
  file.commit();
  EXPECT_EQ(readText(folder / "file"), "new");
  EXPECT_EQ(folder.list(), Names{"file"});
}

TEST(AtomicFile, WithoutCommitNothingHappened) {
  const TemporaryFolder folder;
  writeText(folder / "file", "old");
  {
    AtomicFile file(folder / "file");
    put(file, "new");
    EXPECT_EQ(folder.list().size(), 2u);
  }
  EXPECT_EQ(readText(folder / "file"), "old");
  EXPECT_EQ(folder.list(), Names{"file"});
}

TEST(AtomicFile, FullDiskLeavesTheOldFileWhole) {
  const TemporaryFolder folder;
  writeText(folder / "file", "old");
  const std::vector<std::byte> block(50000);
  const auto write = [&] {
    AtomicFile file(folder / "file");
    for (int i = 0; i < 3; ++i) file.write(block);
    file.commit();
  };
  {
    const FullDisk disk(100001);  // the third block fails after one byte
    expectThrows<FormatError>(write, "gosset: " + (folder / "file").string() + ": cannot be written: File too large");
  }
  EXPECT_EQ(readText(folder / "file"), "old");
  EXPECT_EQ(folder.list(), Names{"file"});
  write();
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), 150000u);
}

TEST(AtomicFile, KilledWriterLeavesTheOldFileWhole) {
  const TemporaryFolder folder;
  writeText(folder / "file", "old");
  const ::pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(folder / "file");
    put(file, "new");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(readText(folder / "file"), "old");
  const Names expected = {".gosset-" + std::to_string(child) + "-0.tmp", "file"};
  EXPECT_EQ(folder.list(), expected);
  AtomicFile next(folder / "file");
  put(next, "next");
  next.commit();
  EXPECT_EQ(readText(folder / "file"), "next");
  EXPECT_EQ(folder.list(), Names{"file"});  // its leftover is gone
}

TEST(AtomicFile, RemovesNothingButLeftovers) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / ".gosset-folder.tmp");
  writeText(folder / "other", "mine");
  std::filesystem::create_symlink("other", folder / ".gosset-link.tmp");
  ::mkfifo((folder / ".gosset-pipe.tmp").c_str(), 0600);
  writeText(folder / ".gosset-1-0.tmp", "left over");
  writeText(folder / "mine.tmp", "mine");
  writeText(folder / ".gosset-settings", "mine");
  AtomicFile living(folder / "file");
  put(living, "living");
  AtomicFile second(folder / "file");
  second.commit();
  living.commit();
  const Names expected = {
      ".gosset-folder.tmp", ".gosset-link.tmp", ".gosset-pipe.tmp", ".gosset-settings", "file", "mine.tmp", "other"};
  EXPECT_EQ(folder.list(), expected);
  EXPECT_EQ(readText(folder / "file"), "living");
}

TEST(AtomicFile, ProcessesThatSaveAndDieDoNotMeet) {
  const TemporaryFolder folder;
  std::vector<::pid_t> children;
  for (int child = 0; child < 8; ++child) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    for (int i = 0; i < 50; ++i) {
      AtomicFile file(folder / "file");
      put(file, std::string(1000, static_cast<char>('a' + child)));
      if (child % 2 == 0 && i == 20) ::kill(::getpid(), SIGKILL);
      file.commit();
    }
    ::_exit(0);
  }
  for (std::size_t child = 0; child < children.size(); ++child) {
    int status = 0;
    ASSERT_EQ(::waitpid(children[child], &status, 0), children[child]);
    EXPECT_TRUE(child % 2 == 0 ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  AtomicFile last(folder / "file");
  last.commit();
  EXPECT_EQ(folder.list(), Names{"file"});
}

TEST(AtomicFile, TwoAtOnceDoNotMix) {
  const TemporaryFolder folder;
  {
    AtomicFile first(folder / "file");
    AtomicFile second(folder / "file");
    put(first, "first");
    put(second, "second");
    second.commit();
    EXPECT_EQ(readText(folder / "file"), "second");
    first.commit();
  }
  EXPECT_EQ(readText(folder / "file"), "first");
  std::vector<std::thread> threads;
  for (const char letter : {'a', 'b', 'c', 'd'}) {
    threads.emplace_back([&folder, letter] {
      for (int i = 0; i < 10; ++i) {
        AtomicFile file(folder / "file");
        put(file, std::string(1000, letter));
        file.commit();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string last = readText(folder / "file");
  EXPECT_EQ(last, std::string(1000, last[0]));
  EXPECT_EQ(folder.list(), Names{"file"});
}

TEST(AtomicFile, Permissions) {
  const TemporaryFolder folder;
  const auto mode = [&](const std::string& name) {
    struct stat status {};
    ::stat((folder / name).c_str(), &status);
    return status.st_mode & 0777;
  };
  const auto old_mask = ::umask(027);
  AtomicFile fresh(folder / "fresh");
  ::umask(old_mask);
  fresh.commit();
  EXPECT_EQ(mode("fresh"), 0640u);  // as any new file, the umask obeyed
  writeText(folder / "file", "old");
  ::chmod((folder / "file").c_str(), 0604);
  AtomicFile file(folder / "file");
  file.commit();
  EXPECT_EQ(mode("file"), 0604u);
}

TEST(AtomicFile, KeepsALink) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "blobs");
  writeText(folder / "blobs/file", "old");
  std::filesystem::create_symlink("blobs/file", folder / "link");
  AtomicFile file(folder / "link");
  put(file, "new");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(readText(folder / "blobs/file"), "new");
}

TEST(AtomicFile, MakesWhatALinkLeadsTo) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "blobs");
  std::filesystem::create_symlink("blobs/file", folder / "second");
  std::filesystem::create_symlink(folder / "second", folder / "first");
  AtomicFile file(folder / "first");
  put(file, "new");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "first") && std::filesystem::is_symlink(folder / "second"));
  EXPECT_EQ(readText(folder / "blobs/file"), "new");
  std::filesystem::create_symlink("missing/file", folder / "lost");
  expectThrows<FormatError>([&] { AtomicFile(folder / "lost"); }, "lost: cannot be written: No such file or directory");
  std::filesystem::create_symlink("loop", folder / "loop");
  expectThrows<FormatError>([&] { AtomicFile(folder / "loop"); }, "loop: cannot be written: Too many levels of");
}

TEST(AtomicFile, FollowsAsManyLinksAsTheSystem) {
  const TemporaryFolder folder;
  writeText(folder / "0", "old");
  for (int i = 1; i <= 41; ++i) std::filesystem::create_symlink(std::to_string(i - 1), folder / std::to_string(i));
  AtomicFile file(folder / "40");
  put(file, "new");
  file.commit();
  EXPECT_EQ(readText(folder / "0"), "new");
  expectThrows<FormatError>([&] { AtomicFile(folder / "41"); }, "41: cannot be written: Too many levels of");
}

TEST(AtomicFile, RelativePath) {
  const TemporaryFolder folder;
  writeText(folder / ".gosset-1-0.tmp", "left over");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  AtomicFile file("file");
  put(file, "here");
  file.commit();
  std::filesystem::current_path(before);
  EXPECT_EQ(readText(folder / "file"), "here");
  EXPECT_EQ(folder.list(), Names{"file"});  // leftovers beside it are found, too
}

TEST(AtomicFile, RefusesWhatItCannotReplace) {
  const TemporaryFolder folder;
  expectThrows<FormatError>([&] { AtomicFile(folder / "missing/file"); },
                            "missing/file: cannot be written: No such file or directory");
  expectThrows<FormatError>([&] { AtomicFile(folder.path()); }, folder.path().string() + ": is no regular file");
  // A rename would put a file in the device's place.
  expectThrows<FormatError>([] { AtomicFile("/dev/full"); }, "gosset: /dev/full: is no regular file");
  EXPECT_EQ(folder.list(), Names{});
}

TEST(AtomicFile, WritingAfterCommitIsRefused) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "file");
  file.commit();
  expectThrows<FormatError>([&] { put(file, "late"); }, "cannot be written: Bad file descriptor");
  expectThrows<FormatError>([&] { file.commit(); }, "cannot be written: Bad file descriptor");
  EXPECT_EQ(readText(folder / "file"), "");
}

}  // namespace
}  // namespace gosset::atomic_file_test
