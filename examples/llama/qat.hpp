// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "packed_model.hpp"

#include <memory>
#include <span>
#include <string>
#include <vector>

// Training through quantization: what the trainer does with each linear layer, for the formats that it knows by name.
namespace llama {

/// One linear layer on its way into a format. Weights and gradients are outputs x inputs.
class QatLayer {
 public:
  using Weights = Eigen::Ref<const RowMatrixXf>;

  virtual ~QatLayer() = default;
  /// What the format leaves of the weights.
  virtual RowMatrixXf forward(const Weights& weights) const = 0;
  /// The loss's derivative by the weights, given that by forward(weights). Keeps the derivatives by learned scales.
  virtual RowMatrixXf backward(const Weights& weights, const Weights& gradient) = 0;
  /// Moves learned scales, if there are any, down what backward() kept.
  virtual void step(float rate) = 0;
  /// The layer in its format: its values are those of forward(weights).
  virtual gosset::AnyMatrix packed(const Weights& weights) const = 0;
  /// Bits a weight of the layer's archive, in which codes and scales are entropy-coded.
  virtual double archivedBits(const Weights& weights) const = 0;
};

struct QatFormat {
  std::string name;   ///< on the command line, and of the same format in formatTable() where it has one
  std::string about;  ///< for people
  /// A layer whose scales are found anew for the weights of every step.
  std::unique_ptr<QatLayer> (*fitted)(const QatLayer::Weights&);
  /// A layer whose scales begin as those of these weights and are then trained.
  std::unique_ptr<QatLayer> (*learned)(const QatLayer::Weights&);
};

/// All formats of the trainer. It stands in qat.cpp, as instantiating every one of them takes a compiler a while.
const std::vector<QatFormat>& qatTable();

/// Throws std::invalid_argument, which lists the names there are, for another one.
const QatFormat& findQatFormat(const std::string& name);

}  // namespace llama
