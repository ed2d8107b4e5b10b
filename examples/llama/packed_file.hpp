// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint_huggingface.hpp"
#include "formats.hpp"
#include "tokenizer.hpp"

#include <algorithm>

// A packed model and its tokenizer in one safetensors file:
//   metadata llama.config   the text of a Hugging Face config.json
//   tokenizer               U8, the bytes of a llama2.c tokenizer
//   linear layers           as gosset/io/quantized.hpp keeps them, or F32 where they are not packed; rows of wq and wk
//                           in the paper's order
//   embedding and norms     F16
// under the names of Hugging Face.
namespace llama {

struct PackedFile {
  PackedModel model;
  Tokenizer tokenizer;
};

/// Writes the file, whole or not at all. The rest of the model must be representable in 16-bit floats, as it is when
/// packModel() made it with Rest::kFloat16. Throws gosset::FormatError where the system cannot write, and
/// std::invalid_argument, which names the tensor, where one is too large for them.
inline void savePacked(const std::filesystem::path& path, const PackedModel& model, const Tokenizer& tokenizer) {
  using Half = gosset::Float16;
  gosset::SafetensorsWriter writer;
  writer.setMetadata("llama.config", huggingFaceConfigText(model.config, !model.output));
  const std::string bytes = tokenizerBytes(tokenizer);
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  writer.add<std::uint8_t>("tokenizer", {static_cast<Index>(bytes.size())}, std::span(first, bytes.size()));
  const auto add = [&](const std::string& name, const auto& numbers) {
    writer.add(name, castFinite<Half>(name, numbers));
  };
  add(embeddingName(), model.embedding);
  forEachNorm(model, add);
  forEachLinear(
      model, [&](const LinearInfo& info, const std::unique_ptr<Linear>& linear) { linear->save(writer, info.name); });
  writer.write(path);
}

/// Reads a linear layer in whatever format the file has it. Throws gosset::FormatError where it is not there, has
/// another shape, or a format that formatTable() lacks.
inline std::unique_ptr<Linear> readLinear(const gosset::SafetensorsFile& file, const LinearInfo& info) {
  const auto format = gosset::packedFormat(file, info.name);
  if (!format) return std::make_unique<FloatLinear>(detail::readTensor(file, info.name, {info.rows, info.cols}));
  const auto& table = formatTable();
  const auto entry = std::find_if(table.begin(), table.end(), [&](const auto& e) { return e.stored == *format; });
  check(entry != table.end(), file.path().string(), ": \"", info.name, "\" has the format \"", *format,
        "\", which is not known here");
  std::unique_ptr<Linear> linear = entry->read(file, info.name);
  check(linear->rows() == info.rows && linear->cols() == info.cols, file.path().string(), ": \"", info.name,
        "\" must be ", info.rows, " x ", info.cols, ", found ", linear->rows(), " x ", linear->cols());
  return linear;
}

/// Reads such a file. Throws gosset::FormatError where it is missing or does not hold together.
inline PackedFile readPackedFile(const std::filesystem::path& path) {
  check(std::filesystem::exists(path), path.string(), ": there is no such file");
  const gosset::SafetensorsFile file(path);
  const auto found = file.metadata().find("llama.config");
  check(found != file.metadata().end(), path.string(),
        ": this is no packed model (its metadata has no llama.config); of a Hugging Face model, name the folder");
  const HuggingFaceConfig read = parseHuggingFaceConfig(found->second, path.string() + ": llama.config");

  const Config& config = read.config;
  PackedModel model;
  model.config = config;
  model.embedding = detail::readTensor(file, embeddingName(), {config.vocab, config.dim});
  model.layers.resize(static_cast<std::size_t>(config.layers));
  if (!read.tied) model.output.emplace();
  forEachNorm(model, [&](const std::string& name, Eigen::VectorXf& norm) {
    norm = detail::readTensor(file, name, {config.dim}).transpose();
  });
  forEachLinear(model,
                [&](const LinearInfo& info, std::unique_ptr<Linear>& linear) { linear = readLinear(file, info); });
  const std::span<const std::byte> bytes = file.data("tokenizer");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return {std::move(model), parseTokenizer(text, config.vocab, path.string() + ": tokenizer")};
}

}  // namespace llama
