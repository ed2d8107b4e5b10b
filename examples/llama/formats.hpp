// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "calibration.hpp"
#include "linear.hpp"

#include <gosset/core/random.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding/hessian.hpp>

#include <span>

// The formats that the programs know by name. Another one is a line in formats.cpp.
namespace llama {

/// A matrix in one of gosset's formats.
template <class Format>
class QuantizedLinear : public Linear {
 public:
  explicit QuantizedLinear(gosset::QuantizedMatrix<Format> weights) : weights_(std::move(weights)) {}

  Index rows() const override { return weights_.rows(); }
  Index cols() const override { return weights_.cols(); }
  Eigen::MatrixXf apply(const Eigen::Ref<const Eigen::MatrixXf>& x) const override { return weights_ * x; }
  RowMatrixXf dequantized() const override { return weights_.dequantized(); }
  Index bytes() const override { return weights_.bytes(); }
  void save(gosset::SafetensorsWriter& file, const std::string& name) const override {
    gosset::addQuantized(file, name, weights_);
  }

 private:
  gosset::QuantizedMatrix<Format> weights_;
};

/// What there is to go by when one linear layer is packed.
struct PackJob {
  const LinearInfo& layer;
  const RowMatrixXf& weights;
  std::uint64_t seed = 0;                    ///< another for each layer
  const gosset::Hessian* hessian = nullptr;  ///< of the layer's inputs, for formats that need it
};

struct FormatEntry {
  std::string name;    ///< on the command line
  std::string about;   ///< for people
  std::string stored;  ///< in files; formats that differ only in how they choose codes share one
  std::unique_ptr<Linear> (*pack)(const PackJob&);
  std::unique_ptr<Linear> (*read)(const gosset::SafetensorsFile&, const std::string& name);
  bool needsHessian = false;
};

/// All formats. It stands in formats.cpp, as instantiating every one of them takes a compiler a while.
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

/// The model with each linear layer in `format`, the rest in 16-bit floats. Calls packed(info, weights, linear) after
/// each layer. Throws std::invalid_argument where the format needs Hessians and `calibration` lacks one.
template <class Packed>
PackedModel packModel(const Model& model, const FormatEntry& format, std::uint64_t seed, Packed&& packed,
                      const Calibration& calibration = {}) {
  std::uint64_t layer = 0;
  return packModel(model, Rest::kFloat16, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    const auto hessian = calibration.find(info.name);
    if (format.needsHessian && hessian == calibration.end()) {
      throw std::invalid_argument("format \"" + format.name + "\" needs a calibration of \"" + info.name + "\"");
    }
    std::unique_ptr<Linear> linear = format.pack(
        {info, weights, gosset::randomBits(seed, layer++), format.needsHessian ? &hessian->second : nullptr});
    packed(info, weights, *linear);
    return linear;
  });
}

}  // namespace llama
