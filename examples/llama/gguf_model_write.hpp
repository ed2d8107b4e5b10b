// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "calibration.hpp"
#include "gguf_config_write.hpp"
#include "gguf_formats.hpp"
#include "gguf_mixture.hpp"
#include "gguf_tokenizer_write.hpp"

#include <gosset/io/gguf_writer.hpp>
#include <gosset/io/imatrix.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <vector>

// Models as GGUF files.
namespace llama {

/// The types of matrices by their names in a file.
using GgufTypes = std::map<std::string, GgufTypeChoice>;

struct GgufOptions {
  GgufMixture mixture = kGgufMixtures[1];
  bool pure = false;  ///< all matrices in the mixture's type
  GgufRounding rounding = GgufRounding::kNearest;
  std::string preTokenizer{};  ///< how the file calls the way to cut texts; empty where the tokenizer shall say it
  std::string name{};          ///< general.name, or empty
  std::optional<GgufTypes> types{};  ///< in place of the mixture: of all matrices, by their names in the file
};

/// What became of one tensor.
struct GgufWritten {
  std::string name;
  GgufTypeChoice type;
  Index numbers = 0;
  std::uint64_t bytes = 0;
};

namespace detail {

inline GgufRules rulesOf(const Config& c, bool ownOutput, GgufRounding rounding) {
  return {c.layers, c.heads / c.kvHeads, c.experts.count, ownOutput, rounding != GgufRounding::kNearest};
}

inline const GgufTypeChoice& chosenType(const GgufTypes& types, const std::string& name) {
  const auto found = types.find(name);
  if (found == types.end()) throw std::invalid_argument("GGUF: no type was chosen for " + name);
  return found->second;
}

/// Everything but tensors. A file whose types were chosen one by one says nothing of its mixture: readers look.
inline GgufSaid setGgufMetadata(gosset::GgufWriter& writer, const Config& config, const Tokenizer& tokenizer,
                                const GgufFamily& family, const GgufOptions& options) {
  GgufSaid said = setGgufConfig(writer, config, family);
  if (!options.name.empty()) writer.set("general.name", options.name);
  if (!options.types) writer.set("general.file_type", options.mixture.fileType);
  writer.set("general.quantization_version", std::uint32_t{2});
  setGgufTokenizer(writer, tokenizer, config.vocab, options.preTokenizer);
  if (said.ropeFactors.size() > 0) writer.add("rope_freqs.weight", said.ropeFactors);
  return said;
}

/// Adds numbers as F32, which readers want of norms and biases.
template <class Numbers>
void addGgufFloat(gosset::GgufWriter& writer, const FloatInfo& info, const Numbers& numbers, const Config& config,
                  const GgufFamily& family) {
  const std::string name = ggufName(info.name, family, config.postNorms);
  if (info.shape.size() > 1 && info.shape[0] > 1) {
    return writer.add(name, castFinite<float>(info.name, RowMatrixXf(numbers)));
  }
  Eigen::VectorXf flat = Eigen::Map<const Eigen::VectorXf>(numbers.data(), numbers.size());
  if (info.turned > 0) flat = toGgufRows(RowMatrixXf(flat), family, config.headDim, info.turned);
  writer.add(name, castFinite<float>(info.name, flat));
}

inline void addGgufFloats(gosset::GgufWriter& writer, const Model& model, const GgufFamily& family) {
  forEachFloat(model, [&](const FloatInfo& info, const auto& numbers) {
    addGgufFloat(writer, info, numbers, model.config, family);
  });
}

/// The matrices of a model by the engine's names, the embedding among them.
inline std::map<std::string, const RowMatrixXf*> matricesOf(const Model& model) {
  std::map<std::string, const RowMatrixXf*> result = {{embeddingName(), &model.embedding}};
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) { result[info.name] = &weights; });
  return result;
}

}  // namespace detail

/// A matrix of a file, and its type.
struct GgufTyped {
  GgufPlan plan;
  GgufTypeChoice type;
};

/// The matrices of a file in their order, the embedding first. Throws std::invalid_argument for one that options.types
/// is there for and does not know.
inline std::vector<GgufTyped> ggufTyped(const Config& config, bool ownOutput, const GgufFamily& family,
                                        const GgufOptions& options) {
  const GgufRules rules = detail::rulesOf(config, ownOutput, options.rounding);
  std::vector<GgufTyped> result;
  for (GgufPlan& plan : ggufMatrices(config, family, ownOutput)) {
    const GgufTypeChoice choice = options.types
                                      ? detail::chosenType(*options.types, plan.name)
                                      : ggufTypeFor(options.mixture, plan.name, plan.shape.back(), rules, options.pure);
    result.push_back({std::move(plan), choice});
  }
  return result;
}

/// What entered the matrices of a model, as llama.cpp's importance files have it: by the tensors' names, of tensors
/// with experts a row each.
inline gosset::Imatrix imatrixOf(const Model& model, const Calibration& calibration) {
  gosset::Imatrix result;
  const GgufFamily& family = ggufFamilyOf(model.configText);
  for (const GgufPlan& plan : ggufMatrices(model.config, family, model.output.has_value())) {
    const bool experts = plan.shape.size() == 3;
    const auto rows = experts ? static_cast<Index>(plan.parts.size()) : 1;
    gosset::ImatrixEntry entry{RowMatrixXf::Zero(rows, plan.shape.back()), Eigen::VectorXf::Zero(rows)};
    for (Index row = 0; row < rows; ++row) {
      const auto inputs = calibration.find(plan.parts[static_cast<std::size_t>(row)].name);
      if (inputs == calibration.end()) continue;
      const gosset::Hessian& hessian = inputs->second.hessian;
      entry.sums.row(row) = (hessian.matrix().diagonal() * hessian.tokens()).cast<float>();
      entry.counts[row] = static_cast<float>(hessian.tokens());
    }
    if (entry.counts.maxCoeff() > 0) result.entries.emplace(plan.name, std::move(entry));
  }
  result.chunks = 1;
  return result;
}

/// What enters a model's layers when the matrices before them are already what the file holds.
using Recalibrate = std::function<Calibration(const Model& soFar)>;

/// Writes a model. The parts of a tensor are packed one by one, each by what entered it where the rounding looks at
/// that; matrices that `calibration` does not know, such as the embedding, are rounded to nearest. With `recalibrate`,
/// each block but the first gets a calibration of its own. Calls
/// written(GgufWritten) for each matrix. Returns what the file says of the model. Throws std::invalid_argument, which
/// names the tensor, where a type cannot hold it; where the model does what the readers of such files take for granted
/// to be otherwise; gosset::FormatError where there is no name for the tokenizer, or the system cannot write.
template <class Written>
GgufSaid writeGgufModel(const std::filesystem::path& path, const Model& model, const Tokenizer& tokenizer,
                        const GgufOptions& options, Calibration calibration, Written&& written,
                        const Recalibrate& recalibrate = {}) {
  const GgufFamily& family = ggufFamilyOf(model.configText);
  gosset::GgufWriter writer;
  GgufSaid said = detail::setGgufMetadata(writer, model.config, tokenizer, family, options);
  Model soFar = recalibrate ? model : Model();
  std::map<std::string, RowMatrixXf*> packed;
  forEachLinear(soFar, [&](const LinearInfo& info, RowMatrixXf& matrix) { packed[info.name] = &matrix; });
  std::string block = "blk.0";
  const auto weights = detail::matricesOf(model);
  for (const GgufTyped& matrix : ggufTyped(model.config, model.output.has_value(), family, options)) {
    const GgufPlan& plan = matrix.plan;
    const GgufTypeChoice choice = matrix.type;
    std::vector<gosset::AnyMatrix> parts;
    GgufWritten about{plan.name, choice, 0, 0};
    const std::string ownBlock = plan.name.substr(0, plan.name.find('.', 4));
    if (recalibrate && plan.name.starts_with("blk.") && ownBlock != block) {
      block = ownBlock;
      calibration = recalibrate(soFar);
    }
    for (const LinearInfo& info : plan.parts) {
      const RowMatrixXf rows = toGgufRows(*weights.at(info.name), family, model.config.headDim, info.turned);
      const auto inputs = info.name == embeddingName() ? calibration.end() : calibration.find(info.name);
      const bool known = inputs != calibration.end();
      parts.push_back(naming(info.name + " as " + std::string(choice.type), [&] {
        return packGguf(choice.type, rows, known ? options.rounding : GgufRounding::kNearest,
                        known ? &inputs->second.hessian : nullptr);
      }));
      if (const auto place = packed.find(info.name); place != packed.end()) {
        *place->second = fromGgufRows(parts.back().dequantized(), family, model.config.headDim, info.turned);
      }
      about.numbers += rows.size();
      about.bytes += static_cast<std::uint64_t>(parts.back().bytes());
    }
    written(about);
    writer.addSource(plan.name, *gosset::detail::ggmlTypeNamed(choice.type), plan.shape,
                     [parts = std::move(parts)](const gosset::GgufWriter::Put& put) {
                       for (const gosset::AnyMatrix& part : parts) gosset::GgufWriter::putMatrix(part, put);
                     });
  }
  detail::addGgufFloats(writer, model, family);
  writer.write(path);
  return said;
}

/// How many bytes of such a file are not those of matrices: a file without them is written to `path`, and removed.
/// Throws as writeGgufModel().
inline std::uint64_t ggufBytesBesideMatrices(const std::filesystem::path& path, const Model& model,
                                             const Tokenizer& tokenizer, const GgufOptions& options) {
  const GgufFamily& family = ggufFamilyOf(model.configText);
  gosset::GgufWriter writer;
  detail::setGgufMetadata(writer, model.config, tokenizer, family, options);
  for (GgufPlan& plan : ggufMatrices(model.config, family, model.output.has_value())) {
    plan.shape.front() = 0;
    writer.addSource(plan.name, *gosset::detail::ggmlTypeNamed("F32"), plan.shape, [](const auto&) {});
  }
  detail::addGgufFloats(writer, model, family);
  writer.write(path);
  const std::uint64_t bytes = std::filesystem::file_size(path);
  std::filesystem::remove(path);
  return bytes;
}

}  // namespace llama
