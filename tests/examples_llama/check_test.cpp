// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/check.hpp"

#include "files.hpp"

namespace llama::testing::check_test {
namespace {

using gosset::testing::expectThrows;

TEST(ReadBytes, UpToTheLimit) {
  const TemporaryFolder folder;
  writeBytes(folder / "file", std::string("a\0\nb", 4));
  EXPECT_EQ(readBytes(folder / "file", 4), std::string("a\0\nb", 4));
  expectThrows<gosset::FormatError>([&] { readBytes(folder / "file", 3); }, "file: at most 3 bytes expected, found 4");
  expectThrows<gosset::FormatError>([&] { readBytes(folder.path(), 3); }, ": this is not a file");
}

TEST(MakeFolder, WithThoseThatItIsToLieIn) {
  const TemporaryFolder folder;
  makeFolder(folder / "a/b");
  makeFolder(folder / "a/b");
  EXPECT_TRUE(fs::is_directory(folder / "a/b"));
  writeBytes(folder / "file", "");
  expectThrows<gosset::FormatError>([&] { makeFolder(folder / "file/b"); }, "file/b: cannot be made: ");
}

}  // namespace
}  // namespace llama::testing::check_test
