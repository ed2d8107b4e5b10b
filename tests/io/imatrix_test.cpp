// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/imatrix.hpp>

#include "io/gguf_bytes.hpp"
#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace gosset::imatrix_test {
namespace {

using testing::expectThrows;
using testing::number;
using testing::readText;
using testing::TemporaryFolder;
using testing::writeText;

std::string i32(std::int32_t value) { return number(value); }

std::string entry(const std::string& name, std::int32_t count, const std::vector<float>& sums) {
  std::string bytes =
      i32(static_cast<std::int32_t>(name.size())) + name + i32(count) + i32(static_cast<std::int32_t>(sums.size()));
  for (const float sum : sums) bytes += number(sum);
  return bytes;
}

std::string someFile() {
  return i32(2) + entry("blk.0.a", 4, {2, 0, 8}) + entry("blk.0.b", 0, {0}) + i32(7) + i32(3) + "txt";
}

TEST(Imatrix, ReadsAndWritesTheOldForm) {
  const TemporaryFolder folder;
  writeText(folder / "f", someFile());
  const Imatrix imatrix = readImatrix(folder / "f");
  ASSERT_EQ(imatrix.entries.size(), 2u);
  const ImatrixEntry& a = imatrix.entries.at("blk.0.a");
  EXPECT_EQ(a.sums, (RowMatrixXf(1, 3) << 2, 0, 8).finished());
  EXPECT_EQ(a.meanSquares(), (RowMatrixXf(1, 3) << 0.5f, 0, 2).finished());
  EXPECT_EQ(imatrix.entries.at("blk.0.b").meanSquares(), RowMatrixXf::Zero(1, 1));  // saw nothing
  EXPECT_EQ(imatrix.chunks, 7u);
  EXPECT_EQ(imatrix.datasets, std::vector<std::string>{"txt"});
  EXPECT_EQ(imatrix.chunk_size, 0u);
  writeImatrixDat(folder / "g", imatrix);
  EXPECT_EQ(readText(folder / "g"), someFile());
}

TEST(Imatrix, OlderFilesEndSooner) {
  const TemporaryFolder folder;
  writeText(folder / "f", i32(1) + entry("a", 1, {1}));
  EXPECT_EQ(readImatrix(folder / "f").chunks, 0u);
  writeText(folder / "f", i32(1) + entry("a", 1, {1}) + i32(5));
  EXPECT_EQ(readImatrix(folder / "f").chunks, 5u);
  EXPECT_TRUE(readImatrix(folder / "f").datasets.empty());
}

TEST(Imatrix, GgufFormWithExperts) {
  const TemporaryFolder folder;
  Imatrix imatrix;
  imatrix.datasets = {"a.txt", "b.txt"};
  imatrix.chunks = 10;
  imatrix.chunk_size = 512;
  imatrix.entries["blk.0.ffn"] = {(RowMatrixXf(2, 3) << 1, 2, 3, 4, 5, 6).finished(), Eigen::Vector2f(2, 0)};
  imatrix.entries["blk.0.q"] = {(RowMatrixXf(1, 2) << 7, 8).finished(), Eigen::VectorXf::Constant(1, 4)};
  writeImatrix(folder / "f", imatrix);
  const Imatrix again = readImatrix(folder / "f");
  EXPECT_EQ(again.datasets, imatrix.datasets);
  EXPECT_EQ(again.chunks, 10u);
  EXPECT_EQ(again.chunk_size, 512u);
  ASSERT_EQ(again.entries.size(), 2u);
  EXPECT_EQ(again.entries.at("blk.0.ffn").sums, imatrix.entries.at("blk.0.ffn").sums);
  EXPECT_EQ(again.entries.at("blk.0.ffn").counts, imatrix.entries.at("blk.0.ffn").counts);
  EXPECT_EQ(again.entries.at("blk.0.ffn").meanSquares(), (RowMatrixXf(2, 3) << 0.5f, 1, 1.5f, 0, 0, 0).finished());
  const GgufFile file(folder / "f");
  EXPECT_EQ(file.info("blk.0.ffn.counts").shape, (std::vector<Index>{2, 1}));
  EXPECT_EQ(file.info("blk.0.ffn.in_sum2").shape, (std::vector<Index>{2, 3}));
  expectThrows([&] { writeImatrixDat(folder / "g", imatrix); },
               "imatrix: the .dat form takes entries of one row and a whole count, not 'blk.0.ffn' of 2 x 3");
  imatrix.entries.erase("blk.0.ffn");
  expectThrows([&] { writeImatrixDat(folder / "g", imatrix); }, "imatrix: the .dat form names one data set, got 2");
  imatrix.entries["blk.0.q"].counts.resize(0);
  expectThrows([&] { writeImatrix(folder / "g", imatrix); },
               "imatrix: entry 'blk.0.q' has 0 counts for 1 rows of sums");
}

TEST(Imatrix, TruncatedAtEveryByte) {
  const TemporaryFolder folder;
  const std::string whole = someFile();
  const std::size_t without_end = whole.size() - 11;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    if (size == without_end || size == without_end + 4) continue;  // older forms
    writeText(folder / "f", whole.substr(0, size));
    expectThrows<FormatError>([&] { (void)readImatrix(folder / "f"); },
                              "gosset: " + (folder / "f").string() + ": byte ");
  }
}

TEST(Imatrix, FilesThatLie) {
  const TemporaryFolder folder;
  const auto expectRefused = [&](const std::string& bytes, const std::string& text) {
    writeText(folder / "f", bytes);
    expectThrows<FormatError>([&] { (void)readImatrix(folder / "f"); }, (folder / "f").string() + ": " + text);
  };
  expectRefused(i32(-1), "byte 0: entries is -1");
  expectRefused(i32(1 << 30) + std::string(20, 'x'),
                "byte 0: it claims 1073741824 entries, of which the 20 bytes left hold at most 1");
  expectRefused(i32(1) + i32(1 << 30) + std::string(20, 'x'),
                "byte 4: it claims 1073741824 bytes, of which the 20 bytes");
  expectRefused(i32(1) + i32(1) + "a" + i32(1) + i32(1 << 30) + std::string(8, 'x'),
                "byte 13: it claims 1073741824 channels");
  expectRefused(i32(1) + entry("", 1, {1, 1}), "byte 4: an entry has no name");
  expectRefused(i32(1) + entry("long name", 1, {}), "byte 4: entry 'long name' has no channels");
  expectRefused(i32(1) + entry("a", -2, {1}), "byte 9: an entry's count is -2");
  for (const float wrong : {-1.f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    expectRefused(i32(1) + entry("a", 1, {1, wrong}),
                  "byte 4: entry 'a' holds sums of squares that are negative or not finite");
  }
  expectRefused(i32(2) + entry("a", 1, {1}) + entry("a", 1, {1}), "byte 21: entry 'a' appears twice");
  expectRefused(someFile() + "x", "byte " + std::to_string(someFile().size()) + ": expected the end of the file");
}

TEST(Imatrix, OtherGgufFiles) {
  const TemporaryFolder folder;
  const auto expectRefused = [&](const auto& change, const std::string& text) {
    GgufWriter writer;
    writer.set("general.type", "imatrix");
    writer.set("imatrix.datasets", std::vector<std::string>{});
    writer.set("imatrix.chunk_count", std::uint32_t{1});
    writer.set("imatrix.chunk_size", std::uint32_t{1});
    change(writer);
    writer.write(folder / "f");
    expectThrows<FormatError>([&] { (void)readImatrix(folder / "f"); }, text);
  };
  const RowMatrixXf two = RowMatrixXf::Ones(2, 3);
  expectRefused([](GgufWriter& w) { w.set("general.type", "model"); },
                "key 'general.type': expected 'imatrix', got 'model'");
  expectRefused([](GgufWriter& w) { w.set("imatrix.datasets", 1); },
                "key 'imatrix.datasets': expected array of string");
  expectRefused([&](GgufWriter& w) { w.add("a.in_sum2", two); }, "holds no tensor 'a.counts'");
  expectRefused([&](GgufWriter& w) { w.add("a.counts", two); }, "it is no part of an imatrix");
  expectRefused([&](GgufWriter& w) { w.add("a", two); }, "it is no part of an imatrix");
  expectRefused(
      [&](GgufWriter& w) {
        w.add("a.in_sum2", two);
        w.add("a.counts", RowMatrixXf(RowMatrixXf::Ones(3, 1)));
      },
      "expected a count for each of 2 rows of 'a.in_sum2', got 3");
  expectRefused(
      [&](GgufWriter& w) {
        w.add("a.in_sum2", RowMatrixXf(-two));
        w.add("a.counts", RowMatrixXf(RowMatrixXf::Ones(2, 1)));
      },
      "holds sums of squares that are negative or not finite, or counts that are none");
  for (const float count : {0.5f, -1.f, std::nanf("")}) {  // sums of tiny counts would have no finite mean
    expectRefused(
        [&](GgufWriter& w) {
          w.add("a.in_sum2", two);
          w.add("a.counts", RowMatrixXf(RowMatrixXf::Constant(2, 1, count)));
        },
        "or counts that are none");
  }
}

TEST(Imatrix, ThatOfARealModel) {
  const auto data = testing::dataFolder();
  if (!data || !std::filesystem::exists(*data / "stats" / "imatrix2.dat")) GTEST_SKIP() << "no shared imatrix";
  const std::filesystem::path path = *data / "stats" / "imatrix2.dat";
  const Imatrix imatrix = readImatrix(path);
  EXPECT_GT(imatrix.entries.size(), 200u);
  EXPECT_EQ(imatrix.datasets, std::vector<std::string>{"imatrix-training-full-3"});
  const ImatrixEntry& output = imatrix.entries.at("blk.33.attn_output.weight");
  EXPECT_EQ(output.sums.cols(), 2048);
  EXPECT_EQ(output.counts[0], 320);
  const TemporaryFolder folder;
  writeImatrix(folder / "f", imatrix);
  const Imatrix again = readImatrix(folder / "f");
  EXPECT_EQ(again.entries.size(), imatrix.entries.size());
  for (const auto& [name, entry] : imatrix.entries) EXPECT_EQ(again.entries.at(name).sums, entry.sums);
  writeImatrixDat(folder / "g", again);
  EXPECT_EQ(std::filesystem::file_size(folder / "g"), std::filesystem::file_size(path));
}

}  // namespace
}  // namespace gosset::imatrix_test
