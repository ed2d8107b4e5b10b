// SPDX-License-Identifier: Apache-2.0
// Files and writers that were moved from, or to themselves; writers that take over what others have collected.
#include <gosset/io/safetensors.hpp>

#include "temporary_folder.hpp"
#include "testing.hpp"

#include <utility>

namespace gosset::moved_test {
namespace {

using testing::gaussian;

TEST(Moved, AFileLeavesAnEmptyOne) {
  const testing::TemporaryFolder folder;
  const RowMatrixXf w = gaussian(3, 4);
  SafetensorsWriter writer;
  writer.add("w", w);
  writer.setMetadata("a", "1");
  writer.write(folder / "f");
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
    SafetensorsFile from(folder / "f", access);
    SafetensorsFile to = std::move(from);
    EXPECT_EQ(to.matrixAs<float>("w"), w);
    EXPECT_EQ(from.bytes(), 0);
    EXPECT_TRUE(from.tensors().empty());
    EXPECT_TRUE(from.metadata().empty());
    EXPECT_FALSE(from.contains("w"));
    testing::expectThrows<FormatError>([&] { (void)from.matrixAs<float>("w"); }, "holds no tensor 'w'");
    auto& same = to;
    to = std::move(same);
    EXPECT_EQ(to.matrixAs<float>("w"), w);
    EXPECT_EQ(to.metadata().at("a"), "1");
    from = std::move(to);
    EXPECT_EQ(from.matrixAs<float>("w"), w);
    EXPECT_EQ(from.path(), folder / "f");
  }
}

TEST(Moved, AWriterLeavesAnEmptyOne) {
  const testing::TemporaryFolder folder;
  const RowMatrixXf w = gaussian(3, 4);
  SafetensorsWriter from;
  from.add("w", w);
  SafetensorsWriter to = std::move(from);
  EXPECT_TRUE(to.contains("w"));
  EXPECT_FALSE(from.contains("w"));
  from.add("w", RowMatrixXf(2 * w));
  auto& same = from;
  from = std::move(same);
  from.write(folder / "twice");
  to.write(folder / "once");
  EXPECT_EQ(SafetensorsFile(folder / "twice").matrixAs<float>("w"), 2 * w);
  EXPECT_EQ(SafetensorsFile(folder / "once").matrixAs<float>("w"), w);
}

TEST(Writer, TakesOverWhatAnotherHasCollectedOrNothing) {
  const testing::TemporaryFolder folder;
  const RowMatrixXf w = gaussian(3, 4);
  SafetensorsWriter writer, other;
  writer.add("a", w);
  writer.setMetadata("who", "writer");
  writer.setMetadata("kept", "yes");
  other.add("b", RowMatrixXf(2 * w));
  other.setMetadata("who", "other");
  writer.add(std::move(other));
  writer.write(folder / "f");
  const SafetensorsFile file(folder / "f");
  EXPECT_THAT(file.names(), ::testing::ElementsAre("a", "b"));
  EXPECT_EQ(file.matrixAs<float>("b"), 2 * w);
  EXPECT_EQ(file.metadata().at("who"), "other");
  EXPECT_EQ(file.metadata().at("kept"), "yes");
  SafetensorsWriter clashing;
  clashing.add("c", w);
  clashing.add("b", w);
  clashing.setMetadata("who", "clashing");
  testing::expectThrows([&] { writer.add(std::move(clashing)); }, "gosset: name: tensor 'b' was added before");
  EXPECT_FALSE(writer.contains("c"));
  EXPECT_TRUE(clashing.contains("c"));
}

}  // namespace
}  // namespace gosset::moved_test
