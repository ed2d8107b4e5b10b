// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

// Which tensor gets which format. In a file, YAML:
//
//   seed: 1                                  # of what formats draw at random; 1 where it is missing
//   rules:                                   # of those that match a name, the first decides
//     - match: model.embed_tokens.weight     # the embedding
//       format: int8
//     - match: lm_head.weight                # the head
//       format: int8
//     - match: model.layers.{0..1}.*         # the first two blocks, and the last
//       format: gptq4-g32
//     - match: model.layers.{-1}.*
//       format: gptq4-g32
//     - match: "*.experts.*"
//       format: trellis#
//       bits: 2.5                            # of formats that have any number of them
//     - match: "*.down_proj.*"
//       format: gptq4-g32
//       rounding: ldlq                       # how codes are chosen, in place of the way that goes with the name
//       sweeps: 2
//     - match: "*"
//       format: trellis-mixed#
//       bits: 3
//
// A rule may say how codes are chosen:
//
//   rounding  nearest, stochastic, importance, smoothquant, awq, gptq or ldlq, where a table has that way for the
//             format's codes
//   damping   of gptq and ldlq: at least 0, in units of the mean diagonal of H
//   sweeps    of these: 0 to 100 passes of coordinate descent
//   order     of gptq: diagonal, columns by falling diagonal of H, or columns, as they stand
//   spread    of trellis-mixed#: at least 0, by how many bits the rate of 32 columns may differ from the mean
//
// In a pattern `*` stands for any letters, {a..b} for a whole number from a to b and {a} for one; negative ones count
// blocks from behind, -1 being the last. A format's name says how it is rounded, unless the rule does.
namespace llama {

struct RecipeRule {
  std::string match;   ///< a pattern of names
  std::string format;  ///< of the table, its bits included
  std::string rounding = {};
  RoundingOptions options = {};  ///< but for `feedback`, which follows from `rounding`
};

struct Recipe {
  std::uint64_t seed = 1;
  std::vector<RecipeRule> rules;
};

/// The formats of a model's matrices by their names, the embedding included.
using ChosenFormats = std::map<std::string, const FormatEntry*>;

/// Whether any of them looks at activations.
inline bool needsCalibration(const ChosenFormats& formats) {
  return std::any_of(formats.begin(), formats.end(), [](const auto& f) { return f.second->needsCalibration; });
}

/// Reads a recipe. Throws gosset::FormatError, which begins with `source` and says the line, where `text` is not such
/// YAML, has an unknown key, or lacks one.
Recipe parseRecipe(const std::string& text, const std::string& source);

/// As parseRecipe() reads it.
std::string recipeText(const Recipe& recipe);

/// One format for all linear layers and one for the embedding, by default what goes with the first.
Recipe uniformRecipe(const std::string& format, const std::string& embedding, std::uint64_t seed);

/// Whether a pattern stands for a name of a model of `layers` blocks. Throws std::invalid_argument where the pattern's
/// braces are not as above.
bool matchesPattern(const std::string& pattern, const std::string& name, Index layers);

/// The format that a rule asks for, which lives as long as the program. Its name says what is not as usual. Throws
/// std::invalid_argument, which names the key, where the format is unknown, or has no such rounding or option.
const FormatEntry& formatOfRule(const RecipeRule& rule);

/// The format of each matrix. Throws std::invalid_argument where no rule matches a name, a rule decides on none, a
/// format is unknown, lacks what its rule asks for, or is the embedding's and cannot be.
ChosenFormats chooseFormats(const Recipe& recipe, const Config& config, bool tied);

}  // namespace llama
