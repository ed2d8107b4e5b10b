// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama/check.hpp"

#include "files.hpp"

namespace llama::testing::check_test {
namespace {

using gosset::testing::expectThrows;

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
