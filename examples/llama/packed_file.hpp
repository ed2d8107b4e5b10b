// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint_huggingface.hpp"
#include "formats.hpp"
#include "gguf_formats.hpp"
#include "tokenizer_file.hpp"

#include <gosset/io/quantized.hpp>

// A packed model and its tokenizer in one safetensors file, under the names of Hugging Face:
//   metadata llama.config              the text of a Hugging Face config.json: the model's own, or a plain Llama's
//   metadata llama.NAME.activations    where the activations that NAME is multiplied with get 8 bits, a scale a token
//   tokenizer, metadata llama.tokenizer  as tokenizer_file.hpp has them
//   embedding, linear layers           as gosset/io/quantized.hpp keeps them, or F32 where they are plain floats; rows
//                                      of wq and wk in the paper's order
//   norms, biases, routers             F16, as what they are multiplied or added with
// Older files have the embedding in F16, as a tensor.
namespace llama {

struct PackedFile {
  PackedModel model;
  Tokenizer tokenizer;
};

namespace detail {

inline std::string activationsKey(const std::string& name) { return "llama." + name + ".activations"; }

inline void addMatrix(gosset::SafetensorsWriter& writer, const std::string& name, const gosset::AnyMatrix& matrix) {
  if (matrix.as<float>() != nullptr) return writer.add(name, matrix.dequantized());
  gosset::addQuantized(writer, name, matrix);
  if (matrix.activations() == gosset::Activations::kRoundedPerToken) {
    writer.setMetadata(activationsKey(name), "8 bits, a scale a token");
  }
}

/// A matrix in whatever format the file has it. Throws gosset::FormatError where it is not there, has another shape, or
/// a format that formatTable() lacks.
inline gosset::AnyMatrix readWeights(const gosset::SafetensorsFile& file, const LinearInfo& info) {
  const auto format = gosset::packedFormat(file, info.name);
  if (!format) {
    const RowMatrixXf dense = readTensor(file, info.name, {info.rows, info.cols});
    const bool halves = file.info(info.name).dtype == gosset::Dtype::kF16;
    return halves ? findFormat("fp16").pack({info, dense}) : floatMatrix(dense);
  }
  gosset::AnyMatrix matrix =
      format->starts_with("ggml::") ? readGgufTyped(file, info.name) : readMatrix(file, info.name);
  check(matrix.rows() == info.rows && matrix.cols() == info.cols, file.path().string(), ": \"", info.name,
        "\" must be ", info.rows, " x ", info.cols, ", found ", matrix.rows(), " x ", matrix.cols());
  if (file.metadata().contains(activationsKey(info.name))) {
    matrix.setActivations(gosset::Activations::kRoundedPerToken);
  }
  return matrix;
}

/// The same of an embedding, whose rows must be there one by one.
inline gosset::AnyMatrix readPackedEmbedding(const gosset::SafetensorsFile& file, const LinearInfo& info) {
  gosset::AnyMatrix matrix = readWeights(file, info);
  check(matrix.hasIndependentRows(), file.path().string(), ": \"", info.name, "\" has the format \"", matrix.format(),
        "\", which mixes the rows of a matrix, but those of an embedding are read one by one");
  return matrix;
}

}  // namespace detail

/// Writes the file, whole or not at all, what stays floats in 16 bits, which is what they have when packModel() made
/// them with Floats::kFloat16. Throws gosset::FormatError where the system cannot write, and std::invalid_argument,
/// which names the tensor, where one of these numbers is too large for 16 bits.
inline void savePacked(const std::filesystem::path& path, const PackedModel& model, const Tokenizer& tokenizer) {
  gosset::SafetensorsWriter writer;
  writer.setMetadata("llama.config",
                     model.configText.empty() ? huggingFaceConfigText(model.config, !model.output) : model.configText);
  addTokenizer(writer, tokenizer);
  const auto add = [&](const LinearInfo& info, const gosset::AnyMatrix& matrix) {
    detail::addMatrix(writer, info.name, matrix);
  };
  add(embeddingInfo(model.config), model.embedding);
  forEachFloat(model, [&](const FloatInfo& info, const auto& numbers) {
    writer.add(info.name, castFinite<gosset::Float16>(info.name, numbers));
  });
  forEachLinear(model, add);
  writer.write(path);
}

/// Reads such a file, which stays mapped as long as the model's matrices live: they show its memory. Throws
/// gosset::FormatError where it is missing or does not hold together.
inline PackedFile readPackedFile(const std::filesystem::path& path) {
  check(std::filesystem::exists(path), path.string(), ": there is no such file");
  const gosset::SafetensorsFile file(path);
  const auto found = file.metadata().find("llama.config");
  check(found != file.metadata().end(), path.string(),
        ": this is no packed model (its metadata has no llama.config); of a Hugging Face model, name the folder");
  const HuggingFaceConfig read = parseHuggingFaceConfig(found->second, path.string() + ": llama.config");

  const Config& config = read.config;
  gosset::AnyMatrix embedding = detail::readPackedEmbedding(file, embeddingInfo(config));
  detail::checkLayers(path.string(), file.tensors().size(), config);
  auto model = emptyWeights<gosset::AnyMatrix>(config, !read.tied);
  if (config != plainLlama(config)) model.configText = found->second;
  model.embedding = std::move(embedding);
  forEachFloat(model, [&](const FloatInfo& info, auto& numbers) {
    RowMatrixXf read16 = detail::readTensor(file, info.name, info.shape);
    if (info.shape.size() == 1) read16.transposeInPlace();
    numbers = read16;
  });
  forEachLinear(model,
                [&](const LinearInfo& info, gosset::AnyMatrix& matrix) { matrix = detail::readWeights(file, info); });
  return {std::move(model), readPackedTokenizer(file, config.vocab)};
}

}  // namespace llama
