// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "evaluate.hpp"
#include "formats.hpp"

#include <gosset/calibration/bit_budget.hpp>

// Mixed precision: each layer in the format that serves the model best under a budget of bits. What a layer costs in a
// format is measured, as the KL divergence of the model in which it alone is packed; that the costs of layers add up
// is an assumption, and holds while they are small.
namespace llama {

/// What one format makes of one layer.
struct Candidate {
  const FormatEntry* format;
  gosset::AnyMatrix matrix;
  double klDivergence;  ///< of the model with this layer packed, all others in float
};

/// One linear layer and its candidates, one a format.
struct LayerCandidates {
  std::string name;
  std::vector<Candidate> candidates;
};

namespace detail {

/// The model with another matrix for linear layer number `index`; the others are shared.
inline PackedModel withLayer(PackedModel model, std::size_t index, const gosset::AnyMatrix& matrix) {
  forEachLinear(model, [&](const LinearInfo&, gosset::AnyMatrix& place) {
    if (index-- == 0) place = matrix;
  });
  return model;
}

}  // namespace detail

/// Packs every layer in every format and measures each alone on `sequences`. Calls step() after each. Throws as
/// packModel().
template <class Step>
std::vector<LayerCandidates> measureCandidates(const Model& model, const std::vector<const FormatEntry*>& formats,
                                               std::uint64_t seed, const Calibration& calibration,
                                               const std::vector<Sequence>& sequences, Step&& step) {
  const PackedModel exact = floatModel(model);
  Logits reference(sequences.size());
  runSequences(Engine(exact), sequences,
               [&](std::size_t i, Eigen::MatrixXf logits) { reference[i] = std::move(logits); });

  std::vector<LayerCandidates> result;
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    const std::size_t index = result.size();
    result.push_back({info.name, {}});
    for (const FormatEntry* format : formats) {
      gosset::AnyMatrix matrix = packLayer(info, weights, *format, seed, index, calibration);
      QualityMeter meter;
      runSequences(
          Engine(detail::withLayer(exact, index, matrix)), sequences,
          [&](std::size_t i, const Eigen::MatrixXf& logits) { meter.add(sequences[i], reference[i], logits); });
      result.back().candidates.push_back({format, std::move(matrix), meter.quality().klDivergence});
      step();
    }
  });
  return result;
}

/// Which candidate of each layer has the least total divergence within `bits` a weight, everything counted.
/// Throws std::invalid_argument where even the smallest candidates exceed the budget, or a divergence is not finite.
inline gosset::BitBudgetPlan planLayers(const std::vector<LayerCandidates>& layers, double bits) {
  std::vector<std::vector<gosset::LayerChoice>> choices;
  Index weights = 0;
  for (const LayerCandidates& layer : layers) {
    choices.emplace_back();
    for (const Candidate& candidate : layer.candidates) {
      if (!std::isfinite(candidate.klDivergence)) {
        throw std::invalid_argument(layer.name + " in format \"" + candidate.format->name +
                                    "\": a finite divergence expected, found " +
                                    std::to_string(candidate.klDivergence));
      }
      choices.back().push_back({candidate.matrix.bytes(), candidate.klDivergence});
    }
    weights += layer.candidates.front().matrix.rows() * layer.candidates.front().matrix.cols();
  }
  return gosset::planBitBudget(choices, static_cast<Index>(bits * static_cast<double>(weights) / 8));
}

}  // namespace llama
