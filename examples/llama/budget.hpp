// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "evaluate.hpp"
#include "formats.hpp"

#include <gosset/calibration/bit_budget.hpp>

#include <algorithm>
#include <cmath>
#include <tuple>

// Mixed precision: each layer in the format that serves the model best under a budget of bits. What a layer costs in a
// format is measured, as the KL divergence of the model in which it alone is packed; that the costs of layers add up
// is an assumption, and holds while they are small. Of a family a few numbers of bits are measured, and each eighth of
// a bit between them can be chosen.
namespace llama {

/// What one format makes of one layer.
struct Candidate {
  const FormatEntry* format;
  Index bytes;
  double klDivergence;  ///< of the model with this layer packed, all others in float
};

/// One linear layer and its candidates, one a format.
struct LayerCandidates {
  LinearInfo info;
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

/// A divergence whose sum was rounded may fall below.
inline double atLeastZero(const Candidate& candidate) { return std::max(candidate.klDivergence, 0.); }

/// What a layer would be at each eighth of a bit between two numbers of bits of a family. Bytes rise evenly, but for
/// what the rates of whole tiles leave of a mean where the last tile is narrower: in each block of rows less than
/// eight.
inline std::vector<Candidate> between(const LinearInfo& info, const Candidate& less, const Candidate& more) {
  const Index narrow = info.cols % 32 == 0 ? 0 : 8 * gosset::ceilDiv(info.rows, 16);
  std::vector<Candidate> result;
  for (const FormatEntry& entry : familyTable()) {
    if (entry.family != less.format->family || entry.bits <= less.format->bits || entry.bits >= more.format->bits) {
      continue;
    }
    const double part = (entry.bits - less.format->bits) / (more.format->bits - less.format->bits);
    const auto bytes = less.bytes + static_cast<Index>(std::ceil(part * static_cast<double>(more.bytes - less.bytes)));
    const double loss = naming(info.name, [&] {
      return gosset::lossBetween({less.bytes, atLeastZero(less)}, {more.bytes, atLeastZero(more)}, bytes);
    });
    result.push_back({&entry, bytes + narrow, loss});
  }
  return result;
}

/// Adds to the candidates that were measured those between each and the next of its family.
inline void addThoseBetween(LayerCandidates& layer) {
  std::vector<Candidate> measured = layer.candidates;
  std::stable_sort(measured.begin(), measured.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.format->family, a.format->bits) < std::tie(b.format->family, b.format->bits);
  });
  for (std::size_t i = 1; i < measured.size(); ++i) {
    const Candidate &less = measured[i - 1], &more = measured[i];
    if (less.format->family != more.format->family) continue;
    const std::vector<Candidate> added = between(layer.info, less, more);
    layer.candidates.insert(layer.candidates.end(), added.begin(), added.end());
  }
}

}  // namespace detail

/// Packs every layer in every format and measures each alone on `sequences`; calls step() after each. The candidates of
/// a layer are these, in the order of the formats, and behind them those at each eighth of a bit between two of a
/// family, whose divergence lossBetween() tells. Throws as packModel().
template <class Step>
std::vector<LayerCandidates> measureCandidates(const Model& model, const std::vector<const FormatEntry*>& formats,
                                               std::uint64_t seed, const Calibration& calibration,
                                               const std::vector<Sequence>& sequences, Step&& step) {
  const PackedModel exact = floatModel(model);
  const Engine engine(exact);
  const ReferenceKey key{{}, {}, {}, model.config.vocab, predictedTokens(sequences)};
  const Reference reference = makeReference({}, key, sequences, PieceRunner(engine, sequences), [] {});

  std::vector<LayerCandidates> result;
  forEachLinear(model, [&](const LinearInfo& info, const RowMatrixXf& weights) {
    const std::size_t index = result.size();
    result.push_back({info, {}});
    for (const FormatEntry* format : formats) {
      const gosset::AnyMatrix matrix = packLayer(info, weights, *format, seed, index, calibration);
      const Engine packed(detail::withLayer(exact, index, matrix));
      const Quality quality = measureQuality(reference, sequences, PieceRunner(packed, sequences), [] {});
      result.back().candidates.push_back({format, matrix.bytes(), quality.klDivergence});
      step();
    }
    detail::addThoseBetween(result.back());
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
        throw std::invalid_argument(layer.info.name + " in format \"" + candidate.format->name +
                                    "\": a finite divergence expected, found " +
                                    std::to_string(candidate.klDivergence));
      }
      choices.back().push_back({candidate.bytes, candidate.klDivergence});
    }
    weights += layer.info.rows * layer.info.cols;
  }
  return gosset::planBitBudget(choices, static_cast<Index>(bits * static_cast<double>(weights) / 8));
}

}  // namespace llama
