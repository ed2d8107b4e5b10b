// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model.hpp"

#include <gosset/io/atomic_file.hpp>
#include <gosset/io/json.hpp>
#include <gosset/io/safetensors.hpp>

#include <cmath>
#include <limits>
#include <span>

// Hugging Face's Llama folders: config.json and model.safetensors (F32, F16 or BF16).
//
// Their rotary embedding turns the numbers i and i + headDim / 2 of a head together, so that the rows of q_proj and
// k_proj stand in another order than in the paper and here: row i of a head there is row 2i here, row i + headDim / 2
// there is row 2i + 1 here.
namespace llama {

namespace detail {

/// Turns rows from Hugging Face's order into the paper's, head by head.
inline RowMatrixXf neighboursFromHalves(const RowMatrixXf& w, Index headDim) {
  RowMatrixXf result(w.rows(), w.cols());
  for (Index row = 0; row < w.rows(); ++row) {
    const Index head = row / headDim * headDim, i = row % headDim;
    result.row(row) = w.row(head + i / 2 + (i % 2) * (headDim / 2));
  }
  return result;
}

/// The inverse of neighboursFromHalves().
inline RowMatrixXf halvesFromNeighbours(const RowMatrixXf& w, Index headDim) {
  RowMatrixXf result(w.rows(), w.cols());
  for (Index row = 0; row < w.rows(); ++row) {
    const Index head = row / headDim * headDim, i = row % headDim;
    result.row(head + i / 2 + (i % 2) * (headDim / 2)) = w.row(row);
  }
  return result;
}

/// Whether a linear layer's rows are turned by rotary embedding.
inline bool isRotary(const std::string& name) {
  return name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
}

/// Reads fields of a config.json; what a field must be stands in the error.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& json, std::string source) : json_(json), source_(std::move(source)) {}

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }

  Index integer(const char* key) const {
    const bool holds = has(key) && json_[key].is_number_integer();
    if (!holds) fail(source_, ": \"", key, "\" must be an integer, found ", found(key));
    return json_[key].get<Index>();
  }
  Index integer(const char* key, Index fallback) const { return has(key) ? integer(key) : fallback; }

  float number(const char* key, float fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_number()) fail(source_, ": \"", key, "\" must be a number, found ", found(key));
    const double value = json_[key].get<double>();
    if (!(std::abs(value) <= std::numeric_limits<float>::max())) {
      fail(source_, ": \"", key, "\" must be a number that float can hold, found ", found(key));
    }
    return static_cast<float>(value);
  }

  /// Throws unless the field is missing, null, or `value`: for what this engine knows in one form only.
  void expect(const char* key, const nlohmann::json& value) const {
    if (!has(key) || json_[key] == value) return;
    fail(source_, ": \"", key, "\" can only be ", value.dump(), " here, found ", found(key));
  }

 private:
  std::string found(const char* key) const { return json_.contains(key) ? json_[key].dump().substr(0, 80) : "nothing"; }

  const nlohmann::json& json_;
  std::string source_;
};

/// Newer files keep rope_theta among "rope_parameters". Scaled rotary embedding is refused.
inline float ropeTheta(const nlohmann::json& json, const ConfigReader& reader, const std::string& source) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.has(key)) continue;
    check(json[key].is_object(), source, ": \"", key, "\" must be an object");
    for (const char* type : {"rope_type", "type"}) ConfigReader(json[key], source).expect(type, "default");
  }
  const float theta = reader.number("rope_theta", Config().ropeTheta);
  return reader.has("rope_parameters") ? ConfigReader(json["rope_parameters"], source).number("rope_theta", theta)
                                       : theta;
}

/// A file's tensor in float, once it is known to have the shape. Throws gosset::FormatError where it has not, where it
/// is of another type, or a number is not finite.
inline RowMatrixXf readTensor(const gosset::SafetensorsFile& file, const std::string& name, std::vector<Index> shape) {
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
  RowMatrixXf numbers = file.matrixAs<float>(name);
  if (const auto wrong = notFinite(numbers)) file.fail(name, "finite weights expected, found ", *wrong);
  return numbers;
}

/// The embedding, which serves as the output matrix too where `tied`. Files of tied models hold it under either name,
/// depending on which of the two their writer met first, or under both.
inline RowMatrixXf readEmbedding(const gosset::SafetensorsFile& file, const Config& config, bool tied) {
  const std::vector<Index> shape = {config.vocab, config.dim};
  check(!tied || file.contains(embeddingName()) || file.contains(outputName()), file.path().string(),
        ": holds neither '", embeddingName(), "' nor '", outputName(), "'");
  if (!tied || !file.contains(outputName())) return readTensor(file, embeddingName(), shape);
  RowMatrixXf output = readTensor(file, outputName(), shape);
  if (file.contains(embeddingName()) && readTensor(file, embeddingName(), shape) != output) {
    file.fail(outputName(), "\"tie_word_embeddings\" is true in the config, but the numbers are others than those of '",
              embeddingName(), "'");
  }
  return output;
}

/// Throws gosset::FormatError where a file has too few tensors for the layers that a config claims, which are asked
/// memory for before they are read.
inline void checkLayers(const gosset::SafetensorsFile& file, Index layers) {
  const auto tensors = static_cast<Index>(file.tensors().size());
  check(layers <= tensors, file.path().string(), ": the config asks for ", layers, " layers, the file holds ", tensors,
        " tensors");
}

}  // namespace detail

/// The sizes in a config.json, and whether the embedding serves as the output matrix.
struct HuggingFaceConfig {
  Config config;
  bool tied = false;
};

/// Throws gosset::FormatError unless `text` is the config of a Llama that this engine can run; the error begins with
/// `source`.
inline HuggingFaceConfig parseHuggingFaceConfig(std::string_view text, const std::string& source) {
  const nlohmann::json json = gosset::parseJson(text, source);
  check(json.is_object(), source, ": a JSON object expected");
  const detail::ConfigReader reader(json, source);
  reader.expect("model_type", "llama");
  reader.expect("hidden_act", "silu");
  reader.expect("attention_bias", false);
  reader.expect("mlp_bias", false);
  HuggingFaceConfig result;
  Config& c = result.config;
  c.dim = reader.integer("hidden_size");
  c.hidden = reader.integer("intermediate_size");
  c.layers = reader.integer("num_hidden_layers");
  c.heads = reader.integer("num_attention_heads");
  c.kvHeads = reader.integer("num_key_value_heads", c.heads);
  check(c.heads >= 1, source, ": \"num_attention_heads\" must be positive, found ", c.heads);
  c.headDim = reader.integer("head_dim", c.dim / c.heads);
  c.vocab = reader.integer("vocab_size");
  c.context = reader.integer("max_position_embeddings");
  c.ropeTheta = detail::ropeTheta(json, reader, source);
  c.normEps = reader.number("rms_norm_eps", 1e-6f);  // the default of the published code
  result.tied = json.contains("tie_word_embeddings") && json["tie_word_embeddings"] == true;
  checkConfig(c, source);
  return result;
}

/// The text of config.json for a model of this kind.
inline std::string huggingFaceConfigText(const Config& c, bool tied) {
  const nlohmann::ordered_json json = {{"architectures", {"LlamaForCausalLM"}},
                                       {"model_type", "llama"},
                                       {"hidden_size", c.dim},
                                       {"intermediate_size", c.hidden},
                                       {"num_hidden_layers", c.layers},
                                       {"num_attention_heads", c.heads},
                                       {"num_key_value_heads", c.kvHeads},
                                       {"head_dim", c.headDim},
                                       {"vocab_size", c.vocab},
                                       {"max_position_embeddings", c.context},
                                       {"rope_theta", c.ropeTheta},
                                       {"rms_norm_eps", c.normEps},
                                       {"hidden_act", "silu"},
                                       {"tie_word_embeddings", tied},
                                       {"torch_dtype", "float16"},
                                       {"bos_token_id", 1},
                                       {"eos_token_id", 2}};
  return json.dump(2) + "\n";
}

/// Reads a folder's config.json and model.safetensors. Throws gosset::FormatError where one is missing or they do not
/// fit together; sizes are compared before memory is asked for.
inline Model readHuggingFace(const std::filesystem::path& folder) {
  constexpr std::uintmax_t kLongestConfig = 1 << 20;
  const std::filesystem::path configPath = folder / "config.json", tensorPath = folder / "model.safetensors";
  const HuggingFaceConfig read = parseHuggingFaceConfig(readBytes(configPath, kLongestConfig), configPath.string());
  check(!std::filesystem::exists(folder / "model.safetensors.index.json"), folder.string(),
        ": a model in several files cannot be read; join them into one model.safetensors");
  const gosset::SafetensorsFile file(tensorPath);

  const Config& config = read.config;
  Model model;
  model.config = config;
  model.embedding = detail::readEmbedding(file, config, read.tied);
  detail::checkLayers(file, config.layers);
  model.layers.resize(static_cast<std::size_t>(config.layers));
  if (!read.tied) model.output.emplace();
  forEachNorm(model, [&](const std::string& name, Eigen::VectorXf& norm) {
    norm = detail::readTensor(file, name, {config.dim}).transpose();
  });
  forEachLinear(model, [&](const LinearInfo& info, RowMatrixXf& weights) {
    weights = detail::readTensor(file, info.name, {info.rows, info.cols});
    if (detail::isRotary(info.name)) weights = detail::neighboursFromHalves(weights, config.headDim);
  });
  return model;
}

/// Writes a folder that Hugging Face's loaders and readHuggingFace() read, its tensors in `Scalar`: F16 unless asked
/// otherwise. Each file is written whole or not at all. Throws gosset::FormatError where the system cannot, and
/// std::invalid_argument, which names the tensor, where a number is not finite in `Scalar`.
template <class Scalar = gosset::Float16>
void saveHuggingFace(const std::filesystem::path& folder, const Model& model) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  check(!failed, folder.string(), ": cannot be made: ", failed.message());

  gosset::SafetensorsWriter writer;
  writer.setMetadata("format", "pt");
  const auto add = [&](const std::string& name, const auto& numbers) {
    writer.add(name, castFinite<Scalar>(name, numbers));
  };
  add(embeddingName(), model.embedding);
  forEachNorm(model, add);
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    const bool rotary = detail::isRotary(info.name);
    add(info.name, rotary ? detail::halvesFromNeighbours(weights, model.config.headDim) : weights);
  });
  writer.write(folder / "model.safetensors");

  const std::string text = huggingFaceConfigText(model.config, !model.output);
  gosset::AtomicFile config(folder / "config.json");
  config.write(std::as_bytes(std::span(text)));
  config.commit();
}

}  // namespace llama
