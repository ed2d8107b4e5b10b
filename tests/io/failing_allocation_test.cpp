// SPDX-License-Identifier: Apache-2.0
// Where memory runs out, a file is whole or not there, and what was read is whole or nothing.
#include <gosset/codebook.hpp>
#include <gosset/entropy/archive.hpp>
#include <gosset/format.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/io/safetensors.hpp>

#include "failing_allocation.hpp"
#include "temporary_folder.hpp"
#include "testing.hpp"

#include <filesystem>
#include <string>

namespace gosset::failing_allocation_test {
namespace {

using testing::failEachAllocation;
using testing::gaussian;

using Format = Outliers<Grouped<Asymmetric<4>, 32>, 50>;
using Matrix = QuantizedMatrix<Format>;

const Matrix& matrix() {
  static const Matrix q = quantize<Format>(gaussian(20, 70));
  return q;
}

TEST(FailingAllocation, WritesAFile) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "a.safetensors";
  const auto setUp = [&] {
    SafetensorsWriter writer;
    addQuantized(writer, "w", matrix());
    writer.setMetadata("version", "1");
    writer.write(path);
    writer.setMetadata("version", "2");
    return writer;
  };
  failEachAllocation(
      setUp, [&](SafetensorsWriter& writer) { writer.write(path); },
      [&](SafetensorsWriter& writer, bool done) {
        const std::string expected = done ? "2" : "1";
        const auto entries = std::filesystem::directory_iterator(folder.path());
        EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "files are left behind";
        const SafetensorsFile file(path);
        EXPECT_EQ(file.metadata().at("version"), expected);
        EXPECT_TRUE(readQuantized<Matrix>(file, "w") == matrix());
        writer.write(path);
        EXPECT_EQ(SafetensorsFile(path).metadata().at("version"), "2");
      });
}

TEST(FailingAllocation, AddsAMatrixToAFile) {
  const testing::TemporaryFolder folder;
  failEachAllocation([] { return SafetensorsWriter(); },
                     [](SafetensorsWriter& writer) { addQuantized(writer, "w", matrix()); },
                     [&](SafetensorsWriter& writer, bool done) {
                       EXPECT_EQ(writer.contains("w.inner.codes"), done) << "half added";
                       if (!done) addQuantized(writer, "w", matrix());
                       writer.write(folder.path() / "b");
                       EXPECT_TRUE(readQuantized<Matrix>(SafetensorsFile(folder.path() / "b"), "w") == matrix());
                     });
}

TEST(FailingAllocation, ReadsAFile) {
  const testing::TemporaryFolder folder;
  SafetensorsWriter writer;
  addQuantized(writer, "w", matrix());
  writer.write(folder.path() / "a");
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
    failEachAllocation([] { return Matrix(); },
                       [&](Matrix& q) {
                         try {
                           q = readQuantized<Matrix>(SafetensorsFile(folder.path() / "a", access), "w");
                         } catch (const FormatError& error) {
                           EXPECT_THAT(error.what(), ::testing::HasSubstr("does not fit into memory"));
                           throw std::bad_alloc();
                         }
                       },
                       [&](const Matrix& q, bool done) { EXPECT_TRUE(q == (done ? matrix() : Matrix())); });
  }
}

TEST(FailingAllocation, Archives) {
  const auto whole = archive(matrix());
  failEachAllocation([] { return decltype(archive(matrix()))(); }, [](auto& bytes) { bytes = archive(matrix()); },
                     [&](const auto& bytes, bool done) { EXPECT_EQ(bytes, done ? whole : decltype(whole)()); });
  failEachAllocation([] { return Matrix(); }, [&](Matrix& q) { q = unarchive<Format>(whole); },
                     [&](const Matrix& q, bool done) { EXPECT_TRUE(q == (done ? matrix() : Matrix())); });
}

}  // namespace
}  // namespace gosset::failing_allocation_test
