// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config_huggingface.hpp"
#include "foreign_files.hpp"
#include "integer_layers.hpp"
#include "model.hpp"
#include "pages.hpp"

#include <gosset/io/safetensors_folder.hpp>

#include <cmath>
#include <set>
#include <span>

// Hugging Face's folders: config.json, and model.safetensors (F32, F16 or BF16) or its shards.
//
// Their rotary embedding turns the numbers i and i + d / 2 of a head's first d together, so that the rows of q_proj and
// k_proj stand in another order than in the paper and here: row i of a head there is row 2i here, row i + d / 2 there
// is row 2i + 1 here. Biases and norms of these heads move with them.
namespace llama {

namespace detail {

/// The row of a head in Hugging Face's order that is row i in the paper's, where the first `turned` rows turn.
inline Index halvesRow(Index i, Index turned) { return i < turned ? i / 2 + (i % 2) * (turned / 2) : i; }

/// Turns rows from Hugging Face's order into the paper's, head by head.
inline RowMatrixXf neighboursFromHalves(const RowMatrixXf& w, Index headDim, Index turned) {
  RowMatrixXf result(w.rows(), w.cols());
  for (Index row = 0; row < w.rows(); ++row) {
    result.row(row) = w.row(row / headDim * headDim + halvesRow(row % headDim, turned));
  }
  return result;
}

/// The inverse of neighboursFromHalves().
inline RowMatrixXf halvesFromNeighbours(const RowMatrixXf& w, Index headDim, Index turned) {
  RowMatrixXf result(w.rows(), w.cols());
  for (Index row = 0; row < w.rows(); ++row) {
    result.row(row / headDim * headDim + halvesRow(row % headDim, turned)) = w.row(row);
  }
  return result;
}

/// Throws gosset::FormatError where a file's tensor has not this shape, or is of a type other than floats.
inline void checkTensor(const gosset::SafetensorsFile& file, const std::string& name, const std::vector<Index>& shape) {
  const gosset::TensorInfo& info = file.info(name);
  const auto text = [](const std::vector<Index>& sizes) { return nlohmann::json(sizes).dump(); };
  if (info.shape != shape)
    file.fail(name, "the config asks for shape ", text(shape), ", the file holds ", text(info.shape));
  const bool isFloat =
      info.dtype == gosset::Dtype::kF32 || info.dtype == gosset::Dtype::kF16 || info.dtype == gosset::Dtype::kBF16;
  const bool known = info.dtype != gosset::Dtype::kUnknown;
  if (!isFloat) {
    file.fail(name, "F32, F16 or BF16 expected, the file holds ",
              known ? std::string(info.typeName()) : nlohmann::json(info.typeName()).dump().substr(0, 80));
  }
}

/// A file's tensor in float. Throws as checkTensor(), and where a number is not finite.
inline RowMatrixXf readTensor(const gosset::SafetensorsFile& file, const std::string& name,
                              const std::vector<Index>& shape) {
  checkTensor(file, name, shape);
  RowMatrixXf numbers = file.matrixAs<float>(name);
  if (const auto wrong = notFinite(numbers)) file.fail(name, "finite weights expected, found ", *wrong);
  return numbers;
}

/// Throws gosset::FormatError, which begins with `source`, where there are fewer than a tensor for each block and
/// expert that a config claims, which are asked memory for before they are read.
inline void checkLayers(const std::string& source, std::size_t tensors, const Config& config) {
  const auto held = static_cast<Index>(tensors);
  check(config.layers <= held, source, ": the config asks for ", config.layers, " layers, the file holds ", held,
        " tensors");
  Index experts = 0;
  for (const Block& block : config.blocks) experts += block.experts ? config.experts.count : 0;
  check(experts <= held, source, ": the config asks for ", experts, " experts in all, the file holds ", held,
        " tensors");
}

/// Hands out the tensors of a folder by the names that the engine has for them, whatever they are called there, and
/// remembers which were asked for.
class FolderReader {
 public:
  FolderReader(const gosset::SafetensorsFolder& folder, const HuggingFaceConfig& read,
               std::optional<gosset::IntegerScheme> scheme)
      : folder_(folder),
        row_(*read.architecture),
        config_(read.config),
        textOfMore_(read.textOfMore),
        scheme_(std::move(scheme)) {
    if (!textOfMore_) return;
    // Written before and since transformers 4.52.
    for (const char* body : {"language_model.model.", "model.language_model."}) {
      if (folder_.contains(std::string(body) + "embed_tokens.weight")) body_ = body;
    }
    if (body_ == "language_model.model.") head_ = "language_model.";
  }

  const std::string& path() const { return path_; }
  gosset::Dtype embeddingType() const {
    return folder_.info(theirs(contains(embeddingName()) ? embeddingName() : outputName())).dtype;
  }
  bool contains(const std::string& name) const { return folder_.contains(theirs(name)); }

  RowMatrixXf tensor(const std::string& name, const std::vector<Index>& shape) {
    const std::string theirName = theirs(name);
    if (isInteger(theirName)) return integers(theirName, shape).dequantized();
    read_.insert(theirName);
    const gosset::SafetensorsFile& file = folder_.fileOf(theirName);
    RowMatrixXf numbers = readTensor(file, theirName, shape);
    forgetPages(file.data(theirName));
    return numbers;
  }

  /// Counts a tensor as asked for without reading it; throws as readTensor() for what shows without its numbers.
  void expect(const std::string& name, const std::vector<Index>& shape) {
    const std::string theirName = theirs(name);
    if (isInteger(theirName)) return markIntegers(theirName);
    read_.insert(theirName);
    checkTensor(folder_.fileOf(theirName), theirName, shape);
  }
  void expect(const LinearInfo& info) {
    const Place place = placeOf(info);
    expect(place.name, {place.rows, info.cols});
  }

  RowMatrixXf linear(const LinearInfo& info) {
    const Place place = placeOf(info);
    if (place.rows == info.rows) return inOurOrder(info, tensor(place.name, {info.rows, info.cols}));
    if (fusedName_ != place.name) {
      fused_ = tensor(place.name, {place.rows, info.cols});
      fusedName_ = place.name;
    }
    return inOurOrder(info, fused_.middleRows(place.first, info.rows));
  }

  /// The same numbers in a format that holds them as the file does.
  gosset::AnyMatrix storedLinear(const LinearInfo& info) {
    const Place place = placeOf(info);
    const std::string theirName = theirs(place.name);
    if (!isInteger(theirName)) return storedMatrix(folder_.info(theirName).dtype, linear(info));
    std::vector<Index> rows;
    for (Index row = 0; row < info.rows; ++row) {
      const Index head = row / config_.headDim * config_.headDim;
      const Index theirRow = info.turned > 0 ? head + halvesRow(row - head, info.turned) : row;
      rows.push_back(place.first + theirRow);
    }
    return integerMatrix(integers(theirName, {place.rows, info.cols}).selected(rows));
  }

  /// A norm's numbers are those to multiply with.
  RowMatrixXf floats(const FloatInfo& info) {
    RowMatrixXf numbers = tensor(info.name, info.shape);
    if (info.shape.size() > 1) return numbers;
    if (info.kind == FloatInfo::Kind::kNorm && row_.onePlusNorms) numbers.array() += 1.f;
    numbers.transposeInPlace();
    return info.turned > 0 ? neighboursFromHalves(numbers, config_.headDim, info.turned) : numbers;
  }

  [[noreturn]] void failAt(const std::string& name, const std::string& text) const {
    const std::string theirName = theirs(name);
    folder_.fileOf(theirName).fail(theirName, text);
  }

  /// Throws gosset::FormatError where a tensor was not asked for: it may change what the model computes.
  void requireAllRead() const {
    for (const std::string& name : folder_.names()) {
      if (read_.contains(name) || name.ends_with(".rotary_emb.inv_freq") || ofPictures(name) || isNoBias(name)) {
        continue;
      }
      folder_.fileOf(name).fail(name, "unknown in a model of type \"", row_.modelType,
                                "\" with this config, and may change what it computes");
    }
  }

 private:
  /// The tensor that holds a matrix, alone or among others one below the other, under the engine's name for it.
  struct Place {
    std::string name;
    Index first = 0, rows = 0;  ///< where it begins, and how many rows the tensor has
  };

  RowMatrixXf inOurOrder(const LinearInfo& info, RowMatrixXf weights) const {
    return info.turned > 0 ? neighboursFromHalves(weights, config_.headDim, info.turned) : weights;
  }

  /// The name of a layer without ".weight".
  static std::string moduleOf(const std::string& name, std::string_view ending) {
    return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : std::string();
  }

  /// Whether a layer is there as integers.
  bool isInteger(const std::string& theirName) const {
    const std::string module = moduleOf(theirName, ".weight");
    return scheme_ && !module.empty() && folder_.contains(gosset::integerTensor(module, *scheme_));
  }

  gosset::IntegerWeights integers(const std::string& theirName, const std::vector<Index>& shape) {
    const std::string module = moduleOf(theirName, ".weight");
    gosset::IntegerWeights weights = gosset::readIntegerWeights(folder_, module, *scheme_);
    const std::string first = gosset::integerTensor(module, *scheme_);
    const std::vector<Index> found = {weights.rows(), weights.cols()};
    if (found != shape) {
      folder_.fileOf(first).fail(first, "the config asks for shape ", nlohmann::json(shape).dump(),
                                 ", the file holds integers of shape ", nlohmann::json(found).dump());
    }
    markIntegers(theirName);
    return weights;
  }

  void markIntegers(const std::string& theirName) {
    const std::string module = moduleOf(theirName, ".weight");
    for (const std::string& name : gosset::integerTensors(module, *scheme_)) read_.insert(name);
  }

  /// Whether it is a bias of zeros, which GPTQ's packers put beside layers that have none.
  bool isNoBias(const std::string& theirName) const {
    const std::string module = moduleOf(theirName, ".bias");
    return !module.empty() && isInteger(module + ".weight") &&
           folder_.fileOf(theirName).flatAs<float>(theirName).isZero(0);
  }

  std::string theirs(const std::string& name) const {
    constexpr std::string_view kBody = "model.";
    const std::string theirName = fileName(row_, name);
    return theirName.starts_with(kBody) ? body_ + theirName.substr(kBody.size()) : head_ + theirName;
  }

  /// Of what turns pictures into activations, which a text has none of.
  bool ofPictures(const std::string& name) const {
    constexpr std::array<std::string_view, 4> kParts = {"vision_tower.", "multi_modal_projector.",
                                                        "model.vision_tower.", "model.multi_modal_projector."};
    return textOfMore_ &&
           std::any_of(kParts.begin(), kParts.end(), [&](std::string_view part) { return name.starts_with(part); });
  }

  Place placeOf(const LinearInfo& info) const {
    if (!row_.fused) return {info.name, 0, info.rows};
    const Index q = config_.queryDim(), kv = config_.kvDim(), hidden = config_.hidden;
    struct Part {
      std::string_view ours, theirs;
      Index first, all;
    };
    const std::array<Part, 5> parts = {{{"q_proj", "qkv_proj", 0, q + 2 * kv},
                                        {"k_proj", "qkv_proj", q, q + 2 * kv},
                                        {"v_proj", "qkv_proj", q + kv, q + 2 * kv},
                                        {"gate_proj", "gate_up_proj", 0, 2 * hidden},
                                        {"up_proj", "gate_up_proj", hidden, 2 * hidden}}};
    for (const Part& part : parts) {
      const std::size_t at = info.name.find("." + std::string(part.ours) + ".");
      if (at == std::string::npos) continue;
      std::string name = info.name;
      name.replace(at + 1, part.ours.size(), part.theirs);
      return {std::move(name), part.first, part.all};
    }
    return {info.name, 0, info.rows};
  }

  const gosset::SafetensorsFolder& folder_;
  const Architecture& row_;
  const Config& config_;
  bool textOfMore_;
  std::optional<gosset::IntegerScheme> scheme_;
  std::string path_ = folder_.path().string();
  std::string body_ = "model.", head_;  // how the names of what lies between embedding and output begin, and the others
  std::set<std::string> read_;
  std::string fusedName_;  // the last tensor of several matrices, which its others follow
  RowMatrixXf fused_;
};

/// The embedding, which serves as the output matrix too where `tied`. Files of tied models hold it under either name,
/// depending on which of the two their writer met first, or under both.
inline RowMatrixXf readEmbedding(FolderReader& reader, const Config& config, bool tied) {
  const std::vector<Index> shape = {config.vocab, config.dim};
  check(!tied || reader.contains(embeddingName()) || reader.contains(outputName()), reader.path(), ": holds neither '",
        embeddingName(), "' nor '", outputName(), "'");
  if (!tied || !reader.contains(outputName())) return reader.tensor(embeddingName(), shape);
  RowMatrixXf output = reader.tensor(outputName(), shape);
  if (reader.contains(embeddingName()) && reader.tensor(embeddingName(), shape) != output) {
    reader.failAt(
        outputName(),
        std::string("\"tie_word_embeddings\" is true in the config, but the numbers are others than those of '") +
            embeddingName() + "'");
  }
  return output;
}

/// Reads a folder, each linear layer by readLinear(reader, info), the embedding by readEmbedding(reader, its floats).
template <class Matrix, class ReadEmbedding, class ReadLinear>
Weights<Matrix> readFolder(const std::filesystem::path& folder, const ReadEmbedding& makeEmbedding,
                           const ReadLinear& readLinear) {
  constexpr std::uintmax_t kLongestConfig = 1 << 20;
  refuseForeignFolder(folder);
  const std::filesystem::path configPath = folder / "config.json";
  const auto [text, scheme] = splitIntegerConfig(folder, readBytes(configPath, kLongestConfig));
  const HuggingFaceConfig read = parseHuggingFaceConfig(text, configPath.string());
  const gosset::SafetensorsFolder tensors(folder);
  refusePackedTensors(tensors, scheme ? gosset::integerTensor("", *scheme) : std::string());

  FolderReader reader(tensors, read, scheme);
  RowMatrixXf embedding = readEmbedding(reader, read.config, read.tied);
  checkLayers(reader.path(), tensors.names().size(), read.config);
  auto model = emptyWeights<Matrix>(read.config, !read.tied);
  if (read.config != plainLlama(read.config)) model.configText = text;
  model.embedding = makeEmbedding(reader, std::move(embedding));
  forEachFloat(model, [&](const FloatInfo& info, auto& numbers) { numbers = reader.floats(info); });
  forEachLinear(model, [&](const LinearInfo& info, Matrix& weights) { weights = readLinear(reader, info); });
  reader.requireAllRead();
  return model;
}

}  // namespace detail

/// Reads a folder's config.json and its safetensors files; layers that GPTQ, AWQ or compressed-tensors has packed
/// become the floats that they stand for. Throws gosset::FormatError where something is missing, does not fit together,
/// is of another kind, or is a tensor or key that the engine does not know; sizes are compared before memory is asked
/// for.
inline Model readHuggingFace(const std::filesystem::path& folder) {
  return detail::readFolder<RowMatrixXf>(
      folder, [](const detail::FolderReader&, RowMatrixXf embedding) { return embedding; },
      [](detail::FolderReader& reader, const LinearInfo& info) { return reader.linear(info); });
}

/// The same model, each matrix in a format that holds it as the files do: packed layers stay as small as they are
/// there.
inline Weights<gosset::AnyMatrix> readHuggingFaceAsStored(const std::filesystem::path& folder) {
  return detail::readFolder<gosset::AnyMatrix>(
      folder,
      [](const detail::FolderReader& reader, const RowMatrixXf& embedding) {
        return storedMatrix(reader.embeddingType(), embedding);
      },
      [](detail::FolderReader& reader, const LinearInfo& info) { return reader.storedLinear(info); });
}

/// Writes a folder that Hugging Face's loaders and readHuggingFace() read, its tensors in `Scalar`: F16 unless asked
/// otherwise. Each file is written whole or not at all. Throws gosset::FormatError where the system cannot, and
/// std::invalid_argument, which names the tensor, where a number is not finite in `Scalar`, or where the model is more
/// than a plain Llama.
template <class Scalar = gosset::Float16>
void saveHuggingFace(const std::filesystem::path& folder, const Model& model) {
  const std::string text = huggingFaceConfigText(model.config, !model.output);
  makeFolder(folder);
  gosset::SafetensorsWriter writer;
  writer.setMetadata("format", "pt");
  const auto add = [&](const std::string& name, const auto& numbers) {
    writer.add(name, castFinite<Scalar>(name, numbers));
  };
  add(embeddingName(), model.embedding);
  forEachFloat(model, [&](const FloatInfo& info, const auto& numbers) { add(info.name, numbers); });
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    const Index headDim = model.config.headDim;
    add(info.name, info.turned > 0 ? detail::halvesFromNeighbours(weights, headDim, info.turned) : weights);
  });
  writer.write(folder / "model.safetensors");

  writeWhole(folder / "config.json", text);
}

}  // namespace llama
