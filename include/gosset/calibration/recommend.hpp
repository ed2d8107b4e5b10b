// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <string>

// Which format to take: the rows that examples/llama's `compress` measured, and the plain decision that follows from
// them.
namespace gosset::GOSSET_ABI {

/// What one format cost three small language models: babyllama (0.9 million weights), stories260K, and the model that
/// comes with gosset. Larger models lose less at the same bits, but in much the same order.
struct MeasuredFormat {
  const char* name;                  ///< as `compress` calls it
  const char* format;                ///< as in C++ without namespace, which quantizeAs() takes
  const char* rounding;              ///< of quantize<Format>(W, rounding, {.fit = fit}); h is the layer's Hessian
  const char* fit;                   ///< of the scales
  bool calibrated;                   ///< whether that looks at the layer's inputs on a text
  double bits;                       ///< a weight, everything counted, on babyllama: rows of 128 to 352 numbers
  std::array<double, 3> divergence;  ///< KL divergence from the float32 model, nats a token: babyllama, stories, ours

  /// The geometric mean over the models: one number to compare formats by.
  double meanDivergence() const { return std::cbrt(divergence[0] * divergence[1] * divergence[2]); }
};

/// The measured rows that no other row beats by .01 bits and in divergence without asking for more, from many bits to
/// few. examples/llama/README.md has all rows.
inline std::span<const MeasuredFormat> measuredFormats() {
  static constexpr const char* kNear = "Nearest{}";
  static constexpr const char* kMixed = "Incoherent<TrellisMixed>";
  static constexpr const char* kRule = "PublishedRule{}";
  static constexpr const char* kLeast = "LeastSquares{}";
  static constexpr MeasuredFormat kRows[] = {
      {"int8", "PerChannel<Symmetric<8>>", kNear, kRule, false, 8.107, {.00029, .00081, .00002}},
      {"sparse4-g32", "Outliers<Grouped<Asymmetric<4>, 32>, 10>", kNear, kRule, false, 5.364, {.01717, .07743, .00048}},
      {"asym4-g32", "Grouped<Asymmetric<4>, 32>", kNear, kRule, false, 5.001, {.02219, .08434, .00064}},
      {"nf4-g64", "Grouped<NormalFloat4, 64>", kNear, kRule, false, 4.257, {.03113, .11598, .00088}},
      {"asym4", "PerChannel<Asymmetric<4>>", kNear, kRule, false, 4.212, {.03625, .11939, .00183}},
      {"int4", "PerChannel<Symmetric<4>>", kNear, kRule, false, 4.107, {.05114, .16503, .00211}},
      {"trellis-mixed#4", kMixed, "Ldlq(h, {.mean_bits = 4})", kRule, true, 4.010, {.00754, .07138, .00022}},
      {"asym3-g32-mse", "Grouped<Asymmetric<3>, 32>", kNear, kLeast, false, 4.001, {.09229, .34104, .00305}},
      {"lloyd3-g64", "Grouped<LloydMax<3>, 64>", kNear, kRule, false, 3.257, {.16643, .63486, .00763}},
      {"trellis-mixed#3", kMixed, "Ldlq(h, {.mean_bits = 3})", kRule, true, 3.010, {.03414, .42403, .00084}},
      {"asym2-g32-mse", "Grouped<Asymmetric<2>, 32>", kNear, kLeast, false, 3.001, {.87489, 2.13078, .08228}},
      {"trellis-mixed#2.5", kMixed, "Ldlq(h, {.mean_bits = 2.5})", kRule, true, 2.510, {.07177, 1.07012, .00205}},
      {"lloyd2-g64", "Grouped<LloydMax<2>, 64>", kNear, kRule, false, 2.257, {1.31725, 2.70178, .22083}},
      {"trellis-mixed#2", kMixed, "Ldlq(h, {.mean_bits = 2})", kRule, true, 2.010, {.18118, 2.06214, .01304}},
      {"ternary-mse", "PerChannel<Trits5>", kNear, kLeast, false, 1.729, {2.45132, 4.06569, 1.12732}},
      {"trellis#1.5",
       kMixed,
       "Ldlq(h, {.mean_bits = 1.5, .rate_spread = 0})",
       kRule,
       true,
       1.510,
       {.63684, 3.55003, .15598}},
      {"binary-g64", "Grouped<Binary, 64>", kNear, kRule, false, 1.257, {5.51360, 6.11660, 5.80790}},
  };
  return kRows;
}

/// What a format has to keep to.
struct Constraint {
  double most_bits = std::numeric_limits<double>::infinity();        ///< a weight; memory-bound
  double most_divergence = std::numeric_limits<double>::infinity();  ///< MeasuredFormat::meanDivergence; accuracy-bound
  bool calibration_text = true;                                      ///< whether there is text to calibrate on
  bool long_context = false;  ///< whether keys and values of many tokens take more memory than the weights
};

struct Recommendation {
  MeasuredFormat weights;
  std::string keys, values;  ///< formats of a KvCache
  bool within;               ///< whether it keeps to all of the constraint
  std::string reason;
};

/// The format to take:
///   memory-bound     (most_bits alone)        the least divergence within these bits
///   accuracy-bound   (most_divergence alone)  the fewest bits within this divergence
///   both                                      the fewest bits within both; where nothing is, the least divergence
///                                             within the bits, and `within` is false
///   neither                                   8 bits, which lose next to nothing
/// For a long context keys and values get 4.5 bits each in place of 16: bench/kv_quality finds 5 to 9% error in keys
/// and 6 to 9% in values on Gaussian ones and under loud channels, where values without the rotation have 16%. Errors:
/// std::invalid_argument where no measured format keeps to most_bits, or a limit is not positive.
inline Recommendation recommend(const Constraint& constraint) {
  detail::require(constraint.most_bits > 0 && constraint.most_divergence > 0, "recommend: expected limits > 0, got ",
                  constraint.most_bits, " bits and a divergence of ", constraint.most_divergence);
  const MeasuredFormat* nearest = nullptr;   // the least divergence
  const MeasuredFormat* smallest = nullptr;  // the fewest bits within the divergence
  double fewest = std::numeric_limits<double>::infinity();
  for (const MeasuredFormat& row : measuredFormats()) {
    if (row.calibrated && !constraint.calibration_text) continue;
    fewest = std::min(fewest, row.bits);
    if (row.bits > constraint.most_bits) continue;
    const double divergence = row.meanDivergence();
    if (nearest == nullptr || divergence < nearest->meanDivergence()) nearest = &row;
    if (divergence > constraint.most_divergence) continue;
    if (smallest == nullptr || row.bits < smallest->bits) smallest = &row;
  }
  detail::require(nearest != nullptr, "recommend: no measured format takes at most ", constraint.most_bits,
                  " bits a weight; the smallest takes ", fewest);

  const bool accuracy = std::isfinite(constraint.most_divergence);
  const MeasuredFormat& row = accuracy && smallest != nullptr ? *smallest : *nearest;
  std::ostringstream reason;
  reason << row.name << ": " << row.bits << " bits a weight, KL " << row.meanDivergence() << " nats; "
         << (accuracy && smallest != nullptr ? "the fewest bits within the divergence"
                                             : "the least divergence within the bits");
  if (accuracy && smallest == nullptr) reason << ", none of which keeps to " << constraint.most_divergence;
  if (row.meanDivergence() > 1) reason << "; of use only after training through it (FakeQuant)";
  if (constraint.long_context) {
    reason << "; keys and values at 4.5 bits, groups along tokens absorbing loud channels of keys, a rotation those of "
              "values";
  }
  return {row, constraint.long_context ? "Kivi<4, 64>" : "Float16",
          constraint.long_context ? "Incoherent<Kivi<4, 64>>" : "Float16", !accuracy || smallest != nullptr,
          reason.str()};
}

}  // namespace gosset::GOSSET_ABI
