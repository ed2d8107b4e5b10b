// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_config_read.hpp"
#include "gguf_formats.hpp"
#include "gguf_tokenizer_read.hpp"
#include "packed_model.hpp"

#include <gosset/io/gguf.hpp>

#include <numeric>
#include <set>
#include <span>

// Models in GGUF files: as they are, or as floats to be packed anew.
namespace llama {

/// A model in whatever types its file has, and its tokenizer.
struct GgufModel {
  PackedModel model;
  Tokenizer tokenizer;
};

namespace detail {

/// Hands out the tensors of a file and remembers which were asked for.
class GgufTensors {
 public:
  GgufTensors(const gosset::GgufFile& file, const GgufConfig& said) : file_(file), said_(said) {}

  /// The matrices by the engine's names.
  std::map<std::string, gosset::AnyMatrix> matrices(bool ownOutput) {
    std::map<std::string, gosset::AnyMatrix> result;
    for (const GgufPlan& plan : ggufMatrices(config(), said_.family, ownOutput)) {
      requireShape(plan.name, plan.shape);
      std::span<const std::byte> bytes = file_.data(plan.name);
      const std::size_t all = bytes.size(), rows = rowsOf(plan);
      for (const LinearInfo& part : plan.parts) {
        const std::size_t size = all / rows * static_cast<std::size_t>(part.rows);
        result.emplace(part.name, matrix(plan.name, part, bytes.first(size)));
        bytes = bytes.subspan(size);
      }
    }
    return result;
  }

  RowMatrixXf floats(const FloatInfo& info) {
    const std::string name = ggufName(info.name, said_.family, config().postNorms);
    const bool flat = info.shape.size() == 1 || info.shape[0] == 1;
    requireShape(name, flat ? std::vector<Index>{info.shape.back()} : info.shape);
    RowMatrixXf numbers = file_.matrix(name);
    if (const auto wrong = notFinite(numbers)) file_.fail(name, "finite numbers expected, found ", *wrong);
    if (info.shape.size() > 1) return numbers;
    numbers.transposeInPlace();
    return fromGgufRows(numbers, said_.family, config().headDim, info.turned);
  }

  /// Throws gosset::FormatError where a tensor was not asked for: it may change what the model computes.
  void requireAllRead() const {
    for (const std::string& name : file_.names()) {
      if (read_.contains(name) || name == "rope_freqs.weight") continue;
      file_.fail(name, "unknown in a file of architecture \"", said_.family.architecture,
                 "\" with this metadata, and may change what the model computes");
    }
  }

 private:
  const Config& config() const { return said_.read.config; }

  static std::size_t rowsOf(const GgufPlan& plan) {
    Index rows = 0;
    for (const LinearInfo& part : plan.parts) rows += part.rows;
    return static_cast<std::size_t>(rows);
  }

  void requireShape(const std::string& name, const std::vector<Index>& shape) {
    read_.insert(name);
    const std::vector<Index>& held = file_.info(name).shape;
    const auto text = [](const std::vector<Index>& sizes) { return nlohmann::json(sizes).dump(); };
    if (held != shape) file_.fail(name, "the metadata asks for shape ", text(shape), ", the file holds ", text(held));
  }

  gosset::AnyMatrix matrix(const std::string& name, const LinearInfo& info, std::span<const std::byte> bytes) const {
    const std::vector<Index> order = ggufRows(info, said_.family, config().headDim);
    try {
      return ggufMatrix(*file_.info(name).type, info.rows, info.cols, bytes, order);
    } catch (const std::invalid_argument& error) {
      file_.fail(name, error.what());
    }
  }

  const gosset::GgufFile& file_;
  const GgufConfig& said_;
  std::set<std::string> read_;
};

}  // namespace detail

/// Reads a file. Throws gosset::FormatError where it is missing, does not hold together, or has metadata or tensors
/// that the engine does not know.
inline GgufModel readGgufModel(const std::filesystem::path& path) {
  check(std::filesystem::exists(path), path.string(), ": there is no such file or folder");
  const gosset::GgufFile file(path);
  const GgufConfig said = readGgufConfig(file);
  const Config& config = said.read.config;
  const auto held = static_cast<Index>(file.names().size());
  check(config.layers <= held, path.string(), ": the metadata asks for ", config.layers, " blocks, the file holds ",
        held, " tensors");
  detail::GgufTensors tensors(file, said);
  auto matrices = tensors.matrices(!said.read.tied);
  auto model = emptyWeights<gosset::AnyMatrix>(config, !said.read.tied);
  if (config != plainLlama(config)) model.configText = said.text;
  model.embedding = matrices.at(embeddingName());
  forEachLinear(model, [&](const LinearInfo& info, gosset::AnyMatrix& matrix) { matrix = matrices.at(info.name); });
  forEachFloat(model, [&](const FloatInfo& info, auto& numbers) { numbers = tensors.floats(info); });
  tensors.requireAllRead();
  return {std::move(model), readGgufTokenizer(file, config.vocab)};
}

/// The numbers of a model in whatever formats.
inline Model floatsOf(const PackedModel& packed) {
  auto model = emptyWeights<RowMatrixXf>(packed.config, packed.output.has_value());
  model.configText = packed.configText;
  model.embedding = packed.embedding.dequantized();
  model.finalNorm = packed.finalNorm;
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    static_cast<LayerFloats&>(model.layers[i]) = packed.layers[i];
  }
  std::vector<const gosset::AnyMatrix*> matrices;
  forEachLinear(packed, [&](const LinearInfo&, const gosset::AnyMatrix& matrix) { matrices.push_back(&matrix); });
  auto matrix = matrices.begin();
  forEachLinear(model, [&](const LinearInfo&, RowMatrixXf& weights) { weights = (*matrix++)->dequantized(); });
  return model;
}

}  // namespace llama
