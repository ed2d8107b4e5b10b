// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gguf_budget.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

// What convert is asked for. Errors are std::invalid_argument, which names the option.
namespace llama {

struct ConvertOptions {
  std::filesystem::path model, tokenizer, text, out, imatrix;
  std::vector<std::string> types = {"Q4_K_M"};
  std::string rounding = "gptq";
  Index calibration = 20000;
  bool sequential = false;
  bool awq = false;
  std::optional<GgufBudget> budget;
  std::optional<Index> context;
  GgufOptions gguf;
};

/// Whether any type has fewer than 16 bits.
inline bool rounds(const ConvertOptions& o) {
  return o.budget || std::any_of(o.types.begin(), o.types.end(),
                                 [](const std::string& type) { return !detail::isKept(findGgufMixture(type).type); });
}

inline bool looksAtInputs(const ConvertOptions& o) { return o.gguf.rounding != GgufRounding::kNearest && rounds(o); }

inline bool needsText(const ConvertOptions& o) { return looksAtInputs(o) || o.awq || o.budget; }

inline void refuse(bool wrong, const char* text) {
  if (wrong) throw std::invalid_argument(text);
}

/// What would be ignored beside something else.
inline void refuseIgnored(const ConvertOptions& o) {
  refuse(o.awq && !rounds(o), "--awq: floats need no scales; take a --type of fewer than 16 bits");
  refuse(o.awq && !o.imatrix.empty(),
         "--imatrix: what enters the layers is not the model's own behind the scales of --awq; write it without");
  refuse(o.budget && o.gguf.pure, "--budget chooses a type for each matrix, without --pure");
  refuse(o.sequential && !looksAtInputs(o),
         "--sequential: no codes are chosen by what enters the layers; take --rounding importance or "
         "gptq, and a --type of fewer than 16 bits");
  refuse(!o.imatrix.empty() && !needsText(o),
         "--imatrix: nothing is known of what enters the layers, as no codes are chosen by it; take "
         "--rounding importance or gptq, and a --type of fewer than 16 bits");
}

/// Checks --type, where it was given, and reads --budget: without a budget types are names of mixtures, with one the
/// types to choose from, none standing for the usual ones.
inline void chooseTypes(ConvertOptions& o, const std::optional<std::string>& budget, bool given) {
  if (!budget) {
    for (const std::string& type : o.types) findGgufMixture(type);
    return;
  }
  o.budget = parseGgufBudget(*budget);
  if (!given) o.types.clear();
  for (const std::string& type : o.types) requireGgufCandidate(type);
}

}  // namespace llama
