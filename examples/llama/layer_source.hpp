// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint_huggingface.hpp"
#include "one_block.hpp"

#include <string>

namespace llama {

/// A Hugging Face folder of which one block is in memory at a time. What is read is given back to the caller alone; the
/// files stay mapped, their pages do not stay in memory.
class LayerSource {
 public:
  /// Throws gosset::FormatError as readHuggingFace() does, but for numbers that are not finite: these show when they
  /// are read.
  explicit LayerSource(const std::filesystem::path& folder)
      : json_(readConfig(folder)),
        read_(parseHuggingFaceConfig(json_.text, (folder / "config.json").string())),
        tensors_(checkedFolder(folder, json_)),
        reader_(tensors_, read_, json_.scheme) {
    detail::checkLayers(reader_.path(), tensors_.names().size(), read_.config);
    expectAll();
    reader_.requireAllRead();
  }

  const Config& config() const { return read_.config; }
  bool tied() const { return read_.tied; }
  /// As Weights::configText.
  std::string configText() const { return config() != plainLlama(config()) ? json_.text : std::string(); }
  std::size_t bytes() const { return tensors_.bytes(); }

  RowMatrixXf embedding() { return detail::readEmbedding(reader_, config(), tied()); }

  /// Block `block` in floats.
  PackedModel block(std::size_t block) {
    auto alone = emptyWeights<gosset::AnyMatrix>(oneBlock(config(), block), false);
    forEachFloatOf(alone, block, [&](const FloatInfo& info, auto& numbers) { numbers = reader_.floats(info); });
    forEachLinearOf(alone, block, [&](const LinearInfo& info, gosset::AnyMatrix& matrix) {
      matrix = floatMatrix(reader_.linear(info));
    });
    return alone;
  }

  /// Numbers that stay floats: a norm, a bias, a router.
  RowMatrixXf floats(const FloatInfo& info) { return reader_.floats(info); }
  Eigen::VectorXf finalNorm() { return floats(finalNormInfo(config())).reshaped(); }

  /// What is behind the blocks, in floats: the last norm, and the output matrix, which may be the embedding.
  PackedModel head() {
    auto alone = emptyWeights<gosset::AnyMatrix>(noBlock(config()), !tied());
    alone.finalNorm = finalNorm();
    if (tied()) {
      alone.embedding = floatMatrix(embedding());
    } else {
      alone.output = floatMatrix(reader_.linear(outputInfo(config())));
    }
    return alone;
  }

 private:
  static IntegerConfig readConfig(const std::filesystem::path& folder) {
    constexpr std::uintmax_t kLongestConfig = 1 << 20;
    check(std::filesystem::is_directory(folder), folder.string(), ": a Hugging Face folder expected");
    refuseForeignFolder(folder);
    return splitIntegerConfig(folder, readBytes(folder / "config.json", kLongestConfig));
  }

  static gosset::SafetensorsFolder checkedFolder(const std::filesystem::path& folder, const IntegerConfig& json) {
    gosset::SafetensorsFolder tensors(folder);
    refusePackedTensors(tensors, json.scheme ? gosset::integerTensor("", *json.scheme) : std::string());
    return tensors;
  }

  /// Every tensor that will be asked for is there, in its shape.
  void expectAll() {
    const std::vector<Index> shape = {config().vocab, config().dim};
    const bool byOutput = tied() && reader_.contains(outputName());
    check(!tied() || byOutput || reader_.contains(embeddingName()), reader_.path(), ": holds neither '",
          embeddingName(), "' nor '", outputName(), "'");
    if (byOutput) reader_.expect(outputName(), shape);
    if (!byOutput || reader_.contains(embeddingName())) reader_.expect(embeddingName(), shape);
    const auto all = emptyWeights<std::monostate>(config(), !tied());
    forEachFloat(all, [&](const FloatInfo& info, const auto&) { reader_.expect(info.name, info.shape); });
    forEachLinear(all, [&](const LinearInfo& info, std::monostate) { reader_.expect(info); });
  }

  IntegerConfig json_;
  HuggingFaceConfig read_;
  gosset::SafetensorsFolder tensors_;
  detail::FolderReader reader_;
};

}  // namespace llama
