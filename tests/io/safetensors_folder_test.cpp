// SPDX-License-Identifier: Apache-2.0
#include <gosset/io/safetensors_folder.hpp>

#include "io/temporary_folder.hpp"
#include "testing.hpp"

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gosset::safetensors_folder_test {
namespace {

using testing::expectThrows;
using testing::TemporaryFolder;
using testing::writeText;
using Names = std::vector<std::string>;

RowMatrixXf numbers(float first) {
  RowMatrixXf w(2, 3);
  w << first, 1.f, 2.f, 3.f, 4.f, -0.f;
  return w;
}

void writeFile(const std::filesystem::path& path, const Names& tensors) {
  SafetensorsWriter writer;
  for (const std::string& name : tensors) writer.add(name, numbers(static_cast<float>(name.size())));
  writer.write(path);
}

/// A folder of two shards and their index: a and bb in the first, ccc in the second.
class Sharded : public ::testing::Test {
 protected:
  static constexpr const char* kFirst = "model-00001-of-00002.safetensors";
  static constexpr const char* kSecond = "model-00002-of-00002.safetensors";

  Sharded() {
    writeFile(folder_ / kFirst, {"a", "bb"});
    writeFile(folder_ / kSecond, {"ccc"});
    writeIndex({{"a", kFirst}, {"bb", kFirst}, {"ccc", kSecond}});
  }

  void writeIndex(const nlohmann::json& map) {
    writeText(folder_ / "model.safetensors.index.json",
              nlohmann::json{{"metadata", {{"total_size", 72}}}, {"weight_map", map}}.dump());
  }

  void expectRefused(const std::string& text) {
    expectThrows<FormatError>([&] { SafetensorsFolder{folder_.path()}; }, text);
  }

  TemporaryFolder folder_;
};

TEST_F(Sharded, IsReadAsOne) {
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kLoad}) {
    const SafetensorsFolder folder(folder_.path(), access);
    EXPECT_EQ(folder.path(), folder_.path());
    EXPECT_EQ(folder.files(), 2u);
    EXPECT_EQ(folder.bytes(),
              std::filesystem::file_size(folder_ / kFirst) + std::filesystem::file_size(folder_ / kSecond));
    EXPECT_EQ(folder.names(), (Names{"a", "bb", "ccc"}));
    EXPECT_TRUE(folder.contains("ccc"));
    EXPECT_FALSE(folder.contains("d"));
    EXPECT_EQ(folder.fileOf("bb").path(), folder_ / kFirst);
    EXPECT_EQ(folder.fileOf("ccc").path(), folder_ / kSecond);
    EXPECT_EQ(folder.info("ccc").shape, (std::vector<Index>{2, 3}));
    for (const std::string name : {"a", "bb", "ccc"}) {
      EXPECT_EQ(folder.fileOf(name).matrix<float>(name), numbers(static_cast<float>(name.size())));
    }
    expectThrows<FormatError>([&] { folder.fileOf("d"); }, folder_.path().string() + ": holds no tensor 'd'");
  }
}

TEST_F(Sharded, StaysMappedWhenItMoves) {
  SafetensorsFolder folder(folder_.path());
  const auto map = folder.fileOf("ccc").matrix<float>("ccc");
  const SafetensorsFolder moved = std::move(folder);
  EXPECT_EQ(map.data(), moved.fileOf("ccc").matrix<float>("ccc").data());
  EXPECT_EQ(map, numbers(3.f));
}

TEST_F(Sharded, MayHaveShardsInFoldersWithin) {
  std::filesystem::create_directory(folder_ / "parts");
  std::filesystem::rename(folder_ / kSecond, folder_ / "parts" / kSecond);
  writeIndex({{"a", kFirst}, {"bb", kFirst}, {"ccc", std::string("parts/") + kSecond}});
  EXPECT_EQ(SafetensorsFolder(folder_.path()).names(), (Names{"a", "bb", "ccc"}));
}

TEST_F(Sharded, OneFileNeedsNoIndex) {
  std::filesystem::remove(folder_ / "model.safetensors.index.json");
  expectRefused(folder_.path().string() + ": holds neither model.safetensors nor model.safetensors.index.json");
  writeFile(folder_ / "model.safetensors", {"whole"});
  const SafetensorsFolder folder(folder_.path());
  EXPECT_EQ(folder.names(), Names{"whole"});
  EXPECT_EQ(folder.files(), 1u);
}

TEST_F(Sharded, BothOneFileAndAnIndexAreRefused) {
  writeFile(folder_ / "model.safetensors", {"a"});
  expectRefused("holds both model.safetensors and model.safetensors.index.json; remove the one that is not meant");
}

TEST_F(Sharded, AMissingShardIsNamed) {
  std::filesystem::remove(folder_ / kSecond);
  expectRefused(
      "tensor 'ccc': there is no file 'model-00002-of-00002.safetensors', where model.safetensors.index.json "
      "says it is");
}

TEST_F(Sharded, AnUnsoundShardIsNamed) {
  writeText(folder_ / kSecond, "short");
  expectRefused((folder_ / kSecond).string());
}

TEST_F(Sharded, ATensorMissingFromItsShardIsNamed) {
  writeIndex({{"a", kFirst}, {"bb", kFirst}, {"ccc", kFirst}});
  expectRefused(
      "tensor 'ccc' is not in 'model-00001-of-00002.safetensors', where model.safetensors.index.json says it "
      "is");
}

TEST_F(Sharded, ATensorInTwoShardsIsNamed) {
  writeFile(folder_ / kSecond, {"bb", "ccc"});
  expectRefused(
      "tensor 'bb' is in two shards, 'model-00001-of-00002.safetensors' and "
      "'model-00002-of-00002.safetensors'");
}

TEST_F(Sharded, ATensorThatTheIndexLacksIsNamed) {
  writeIndex({{"a", kFirst}, {"ccc", kSecond}});
  expectRefused("tensor 'bb' in 'model-00001-of-00002.safetensors' is not in model.safetensors.index.json");
}

TEST_F(Sharded, PathsOutOfTheFolderAreRefused) {
  const std::string outside = (folder_ / kSecond).string();
  for (const std::string& name :
       {std::string("../x.safetensors"), std::string("parts/../../x"), outside, std::string(), std::string("..")}) {
    writeIndex({{"a", kFirst}, {"bb", kFirst}, {"ccc", name}});
    expectRefused("model.safetensors.index.json: tensor 'ccc': expected a file in the folder, got '" + name + "'");
  }
  writeIndex({{"a", kFirst}, {"bb", kFirst}, {"ccc", std::string("x\0y", 3)}});
  expectRefused("tensor 'ccc': expected a file in the folder, got ");
}

TEST_F(Sharded, AnIndexThatIsNoneIsRefused) {
  const auto refuses = [&](const std::string& text, const std::string& expected) {
    writeText(folder_ / "model.safetensors.index.json", text);
    expectRefused((folder_ / "model.safetensors.index.json").string() + ": " + expected);
  };
  refuses("", "JSON in UTF-8 expected");
  refuses("[]", "expected an object \"weight_map\" of tensors and their files");
  refuses("{}", "expected an object \"weight_map\" of tensors and their files");
  refuses(R"({"weight_map": ["a"]})", "expected an object \"weight_map\"");
  refuses(R"({"weight_map": {"a": 1}})", "tensor 'a': expected the name of a file, got 1");
  refuses(std::string(1000, '['), "JSON nested at most 100 deep expected, found more");
}

TEST_F(Sharded, AnEmptyIndexIsAModelOfNothing) {
  writeIndex(nlohmann::json::object());
  const SafetensorsFolder folder(folder_.path());
  EXPECT_EQ(folder.files(), 0u);
  EXPECT_EQ(folder.bytes(), 0u);
  EXPECT_TRUE(folder.names().empty());
}

TEST(SafetensorsFolder, ThatIsNotThereIsRefused) {
  expectThrows<FormatError>([] { SafetensorsFolder("/nowhere/at/all"); },
                            "/nowhere/at/all: holds neither model.safetensors nor model.safetensors.index.json");
}

}  // namespace
}  // namespace gosset::safetensors_folder_test
