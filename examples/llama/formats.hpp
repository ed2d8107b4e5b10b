// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "calibration.hpp"
#include "linear.hpp"

#include <gosset/core/random.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>

#include <span>

// The formats that the programs know by name. Another one is a line in one of formats_*.cpp.
namespace llama {

/// A matrix in one of gosset's formats.
template <class Format>
class QuantizedLinear : public Linear {
 public:
  explicit QuantizedLinear(gosset::QuantizedMatrix<Format> weights, bool perToken = false)
      : weights_(std::move(weights)) {
    if (perToken) weights_.setActivations(gosset::Activations::kRoundedPerToken);
  }

  /// As save() left it in a file.
  static std::unique_ptr<Linear> read(const gosset::SafetensorsFile& file, const std::string& name) {
    return std::make_unique<QuantizedLinear>(gosset::readQuantized<gosset::QuantizedMatrix<Format>>(file, name),
                                             file.metadata().contains(activationsKey(name)));
  }

  Index rows() const override { return weights_.rows(); }
  Index cols() const override { return weights_.cols(); }
  Eigen::MatrixXf apply(const Eigen::Ref<const Eigen::MatrixXf>& x) const override { return weights_ * x; }
  RowMatrixXf dequantized() const override { return weights_.dequantized(); }
  Index bytes() const override { return weights_.bytes(); }
  void save(gosset::SafetensorsWriter& file, const std::string& name) const override {
    gosset::addQuantized(file, name, weights_);
    if (weights_.activations() == gosset::Activations::kRoundedPerToken) {
      file.setMetadata(activationsKey(name), "8 bits, a scale a token");
    }
  }

 private:
  static std::string activationsKey(const std::string& name) { return "llama." + name + ".activations"; }

  gosset::QuantizedMatrix<Format> weights_;
};

/// What there is to go by when one linear layer is packed.
struct PackJob {
  const LinearInfo& layer;
  const RowMatrixXf& weights;
  std::uint64_t seed = 0;               ///< another for each layer
  const LayerInputs* inputs = nullptr;  ///< for formats that look at them
};

struct FormatEntry {
  std::string name;    ///< on the command line
  std::string about;   ///< for people
  std::string stored;  ///< in files; formats that differ only in how they choose codes share one
  std::unique_ptr<Linear> (*pack)(const PackJob&);
  std::unique_ptr<Linear> (*read)(const gosset::SafetensorsFile&, const std::string& name);
  bool needsCalibration = false;
};

/// All formats. They stand in formats_*.cpp, as instantiating every one of them takes a compiler a while.
const std::vector<FormatEntry>& formatTable();

/// Throws std::invalid_argument, which lists the names there are, for another one.
inline const FormatEntry& findFormat(const std::string& name) {
  std::string known;
  for (const FormatEntry& entry : formatTable()) {
    if (entry.name == name) return entry;
    known += (known.empty() ? "" : ", ") + entry.name;
  }
  throw std::invalid_argument("format \"" + name + "\" is none of " + known);
}

/// Linear layer number `layer` in `format`. Throws std::invalid_argument, which names the layer, where the format
/// cannot hold its weights, or looks at a layer's inputs and `calibration` lacks them.
inline std::unique_ptr<Linear> packLayer(const LinearInfo& info, const RowMatrixXf& weights, const FormatEntry& format,
                                         std::uint64_t seed, std::uint64_t layer, const Calibration& calibration) {
  const auto inputs = calibration.find(info.name);
  if (format.needsCalibration && inputs == calibration.end()) {
    throw std::invalid_argument("format \"" + format.name + "\" needs a calibration of \"" + info.name + "\"");
  }
  return naming(info.name + " in format \"" + format.name + "\"", [&] {
    return format.pack(
        {info, weights, gosset::randomBits(seed, layer), format.needsCalibration ? &inputs->second : nullptr});
  });
}

/// The model with each linear layer in `format`, the rest in 16-bit floats. Calls packed(info, weights, linear) after
/// each layer. Throws as packLayer(), and as the other packModel().
template <class Packed>
PackedModel packModel(const Model& model, const FormatEntry& format, std::uint64_t seed, Packed&& packed,
                      const Calibration& calibration = {}) {
  std::uint64_t layer = 0;
  return packModel(model, Rest::kFloat16, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    std::unique_ptr<Linear> linear = packLayer(info, weights, format, seed, layer++, calibration);
    packed(info, weights, *linear);
    return linear;
  });
}

}  // namespace llama
