// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/mapped_file.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace gosset::mapped_file_test {
namespace {

using testing::expectThrows;
using testing::TemporaryFolder;
using testing::writeText;

std::string text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

class MappedFileTest : public ::testing::TestWithParam<FileAccess> {};

TEST_P(MappedFileTest, HasTheFilesBytes) {
  const TemporaryFolder folder;
  for (const std::size_t size : {1u, 7u, 4095u, 4096u, 4097u, 100000u}) {
    std::string content(size, ' ');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 131 + i / 256);
    writeText(folder / "file", content);
    const MappedFile file(folder / "file", GetParam());
    EXPECT_EQ(text(file), content);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(file.bytes().data()) % 64, 0u);
  }
}

TEST_P(MappedFileTest, EmptyFile) {
  const TemporaryFolder folder;
  writeText(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty", GetParam()).bytes().empty());
  EXPECT_EQ(MappedFile(folder / "empty", GetParam()).keeper(), nullptr);
}

TEST_P(MappedFileTest, StaysInPlaceWhenMoved) {
  const TemporaryFolder folder;
  writeText(folder / "file", "gosset");
  MappedFile first(folder / "file", GetParam());
  const std::byte* address = first.bytes().data();
  MappedFile second = std::move(first);
  EXPECT_EQ(second.bytes().data(), address);
  EXPECT_EQ(text(second), "gosset");
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move): it has nothing, and says so
  writeText(folder / "other", "another file");
  second = MappedFile(folder / "other", GetParam());
  EXPECT_EQ(text(second), "another file");
}

TEST_P(MappedFileTest, ItsKeeperAndItsCopiesOutliveIt) {
  const TemporaryFolder folder;
  writeText(folder / "file", "gosset");
  auto file = std::make_unique<MappedFile>(folder / "file", GetParam());
  const std::span<const std::byte> bytes = file->bytes();
  std::shared_ptr<const void> keeper = file->keeper();
  const std::weak_ptr<const void> memory = keeper;
  EXPECT_EQ(keeper.get(), bytes.data());
  auto copy = std::make_unique<MappedFile>(*file);
  EXPECT_EQ(copy->bytes().data(), bytes.data());
  file.reset();
  keeper.reset();
  EXPECT_EQ(text(*copy), "gosset");
  keeper = copy->keeper();
  copy.reset();
  EXPECT_EQ(bytes[5], std::byte{'t'});
  keeper.reset();
  EXPECT_TRUE(memory.expired());  // nothing else holds it
}

TEST_P(MappedFileTest, OutlivesTheName) {
  const TemporaryFolder folder;
  writeText(folder / "file", "gosset");
  const MappedFile file(folder / "file", GetParam());
  std::filesystem::remove(folder / "file");
  EXPECT_EQ(text(file), "gosset");
}

TEST_P(MappedFileTest, RefusesWhatIsNoRegularFile) {
  const TemporaryFolder folder;
  const auto open = [&](const std::filesystem::path& path) { MappedFile(path, GetParam()); };
  expectThrows<FormatError>([&] { open(folder / "missing"); }, "gosset: " + (folder / "missing").string() +
                                                                   ": cannot be opened: No such file or directory");
  expectThrows<FormatError>([&] { open(folder.path()); }, "gosset: " + folder.path().string() + ": is no regular file");
  expectThrows<FormatError>([&] { open("/dev/null"); }, "gosset: /dev/null: is no regular file");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expectThrows<FormatError>([&] { open(folder / "pipe"); },
                            "pipe: is no regular file");  // and does not wait for a writer
}

INSTANTIATE_TEST_SUITE_P(Access, MappedFileTest, ::testing::Values(FileAccess::kMap, FileAccess::kLoad),
                         [](const auto& access) { return access.param == FileAccess::kMap ? "Map" : "Load"; });

TEST(MappedFile, LoadedBytesDoNotFollowTheFile) {
  const TemporaryFolder folder;
  writeText(folder / "file", "before");
  const MappedFile file(folder / "file", FileAccess::kLoad);
  writeText(folder / "file", "after");
  EXPECT_EQ(text(file), "before");
}

}  // namespace
}  // namespace gosset::mapped_file_test
