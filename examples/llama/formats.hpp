// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "calibration.hpp"
#include "packed_model.hpp"
#include "peers.hpp"

#include <gosset/core/random.hpp>
#include <gosset/io/safetensors.hpp>

#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

// The formats that the programs know by name. Another one is a line in formats.cpp.
namespace llama {

/// What a recipe says of how codes are chosen, where that is another way than the format's own.
struct RoundingOptions {
  std::string feedback = {};              ///< gptq or ldlq, in place of the other
  std::optional<double> damping = {};     ///< of gptq and ldlq
  std::optional<int> sweeps = {};         ///< of these
  std::optional<bool> byDiagonal = {};    ///< of gptq: columns by falling diagonal of H, or as they stand
  std::optional<double> rateSpread = {};  ///< of trellis-mixed#
};

/// What there is to go by when one matrix is packed, in whose memory that is done.
struct PackJob {
  const LinearInfo& layer;
  RowMatrixXf weights;
  std::uint64_t seed = 0;                  ///< another for each matrix
  std::optional<LayerInputs> inputs = {};  ///< for formats that look at them
  double bits = 0;                         ///< of a weight, for formats that have any number of them
  const Peers* peers = nullptr;            ///< who shares the rows, where they can be shared
  RoundingOptions options = {};
};

struct FormatEntry {
  std::string name;    ///< on the command line
  std::string about;   ///< for people
  std::string stored;  ///< as gosset has it, and files; formats that differ only in how they choose codes share one
  gosset::AnyMatrix (*pack)(PackJob);
  bool needsCalibration = false;
  bool independentRows = true;  ///< whether a row can be read without the others, as those of an embedding are
  std::string family = {};      ///< of one that has any number of bits: its name before that number
  double bits = 0;              ///< of these, a multiple of 1/8
  std::string rounding = {};    ///< nearest, stochastic, importance, smoothquant, awq, gptq or ldlq
  RoundingOptions options = {};

  bool hasFeedback() const { return rounding == "gptq" || rounding == "ldlq"; }
};

/// "trellis#2.5".
inline std::string withBits(const std::string& family, double bits) {
  std::ostringstream name;
  name << family << bits;
  return name.str();
}

/// The entry of a family, or one whose name is to be that of a family, at a number of bits.
inline FormatEntry atBits(const FormatEntry& entry, double bits) {
  FormatEntry result = entry;
  if (result.family.empty()) result.family = entry.name;
  result.name = withBits(result.family, bits);
  result.bits = bits;
  return result;
}

/// All formats, of families those that are worth a row of a table: others are found by name. They stand in formats.cpp,
/// as instantiating every one of them takes a compiler a while.
const std::vector<FormatEntry>& formatTable();

/// The types of GGUF files as formats, those of fewer than 16 bits rounded to nearest, by importance and by GPTQ: Q4_K,
/// importance-Q4_K, gptq-Q4_K. They stand in gguf_format_table.cpp.
const std::vector<FormatEntry>& ggufFormatTable();

/// Reads a packed matrix in whatever format of the table the file has it; it shows the file's memory, which stays
/// mapped as long as the matrix or a copy of it lives. Throws gosset::FormatError where it is not there, does not hold
/// together, or has a format that the table lacks; the text lists those it has.
gosset::AnyMatrix readMatrix(const gosset::SafetensorsFile& file, const std::string& name);

/// Every family at each eighth of a bit from 1 to 6.
inline const std::vector<FormatEntry>& familyTable() {
  static const std::vector<FormatEntry> table = [] {
    std::vector<FormatEntry> entries;
    std::set<std::string> seen;
    for (const FormatEntry& entry : formatTable()) {
      if (entry.family.empty() || !seen.insert(entry.family).second) continue;
      for (int eighths = 8; eighths <= 48; ++eighths) entries.push_back(atBits(entry, eighths / 8.));
    }
    return entries;
  }();
  return table;
}

/// Throws std::invalid_argument, which lists the names there are, for another one.
inline const FormatEntry& findFormat(const std::string& name) {
  std::string known;
  for (const std::vector<FormatEntry>* table : {&formatTable(), &ggufFormatTable(), &familyTable()}) {
    for (const FormatEntry& entry : *table) {
      if (entry.name == name) return entry;
      if (table != &familyTable()) known += (known.empty() ? "" : ", ") + entry.name;
    }
  }
  throw std::invalid_argument("format \"" + name + "\" is none of " + known);
}

/// Throws std::invalid_argument for a format that cannot read a row alone, or looks at a layer's inputs, which an
/// embedding does not have.
inline void requireEmbeddingFormat(const FormatEntry& format) {
  if (!format.independentRows) {
    throw std::invalid_argument("format \"" + format.name +
                                "\" mixes the rows of a matrix, but those of an embedding are read one by one");
  }
  if (format.needsCalibration) {
    throw std::invalid_argument("format \"" + format.name + "\" looks at a layer's inputs, and an embedding has none");
  }
}

/// A format for the embedding. Throws std::invalid_argument also as requireEmbeddingFormat().
inline const FormatEntry& findEmbeddingFormat(const std::string& name) {
  const FormatEntry& format = findFormat(name);
  requireEmbeddingFormat(format);
  return format;
}

/// The embedding's format beside linear layers in `layers`, unless one is asked for: 8 bits beside quantized ones, with
/// a scale for each row, which is a token; 16-bit floats beside 16-bit floats.
inline const FormatEntry& embeddingFormatBeside(const FormatEntry& layers) {
  return findEmbeddingFormat(layers.name == "fp16" || layers.name == "bf16" ? "fp16" : "int8");
}

/// The embedding in `format`, which is one of findEmbeddingFormat(). Throws std::invalid_argument, which names the
/// tensor, where the format cannot hold it.
inline gosset::AnyMatrix packEmbedding(const LinearInfo& info, RowMatrixXf embedding, const FormatEntry& format,
                                       std::uint64_t seed) {
  constexpr std::uint64_t kNoLayer = std::numeric_limits<std::uint64_t>::max();
  return naming(info.name + " in format \"" + format.name + "\"", [&] {
    return format.pack({info, std::move(embedding), gosset::randomBits(seed, kNoLayer)});
  });
}

/// Linear layer number `layer` in `format`, in the memory of its weights and of what is known of its inputs, where
/// nobody else has that. Throws std::invalid_argument, which names the layer, where the format cannot hold its weights,
/// or looks at a layer's inputs and there are none. Peers, which all call this, share the work of roundings with
/// feedback.
inline gosset::AnyMatrix packInPlace(const LinearInfo& info, RowMatrixXf weights, const FormatEntry& format,
                                     std::uint64_t seed, std::uint64_t layer, std::optional<LayerInputs> inputs,
                                     const Peers* peers = nullptr) {
  if (format.needsCalibration && !inputs) {
    throw std::invalid_argument("format \"" + format.name + "\" needs a calibration of \"" + info.name + "\"");
  }
  return naming(info.name + " in format \"" + format.name + "\"", [&] {
    return format.pack({info, std::move(weights), gosset::randomBits(seed, layer), std::move(inputs), format.bits,
                        peers, format.options});
  });
}

/// The same of weights that stay as they are.
inline gosset::AnyMatrix packLayer(const LinearInfo& info, const RowMatrixXf& weights, const FormatEntry& format,
                                   std::uint64_t seed, std::uint64_t layer, const Calibration& calibration,
                                   const Peers* peers = nullptr) {
  std::optional<LayerInputs> inputs;
  const auto found = calibration.find(info.name);
  if (format.needsCalibration && found != calibration.end()) inputs = found->second;
  return packInPlace(info, weights, format, seed, layer, std::move(inputs), peers);
}

/// The model with each linear layer in `format`, the embedding in a format of its own, and norms in 16-bit floats.
/// Calls packed(info, weights, matrix) after each layer. Throws as packLayer(), packEmbedding() and the other
/// packModel().
template <class Packed>
PackedModel packModel(const Model& model, const FormatEntry& format, const FormatEntry& embedding, std::uint64_t seed,
                      Packed&& packed, const Calibration& calibration = {}) {
  std::uint64_t layer = 0;
  return packModel(
      model, Floats::kFloat16,
      [&](const LinearInfo& info, const RowMatrixXf& weights) { return packEmbedding(info, weights, embedding, seed); },
      [&](const LinearInfo& info, const RowMatrixXf& weights) {
        gosset::AnyMatrix matrix = packLayer(info, weights, format, seed, layer++, calibration);
        packed(info, weights, matrix);
        return matrix;
      });
}

}  // namespace llama
