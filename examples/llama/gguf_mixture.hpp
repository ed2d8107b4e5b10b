// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "check.hpp"

#include <gosset/io/gguf_types.hpp>
#include <gosset/io/gguf_writer.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

// Which type each tensor of a file gets under the names that people know, such as Q4_K_M: what matters more gets more
// bits. Source: github.com/ggml-org/llama.cpp, src/llama-quant.cpp and the enum llama_ftype of include/llama.h.
namespace llama {

struct GgufMixture {
  std::string_view name;
  std::uint32_t fileType;  ///< general.file_type
  std::string_view type;   ///< of most tensors
  std::string_view about;
};

inline constexpr std::array kGgufMixtures = {
    GgufMixture{"F32", 0, "F32", "32-bit floats"},
    GgufMixture{"F16", 1, "F16", "16-bit floats"},
    GgufMixture{"BF16", 32, "BF16", "bfloat16"},
    GgufMixture{"Q4_0", 2, "Q4_0", "4.5 bits, a scale for 32 weights"},
    GgufMixture{"Q4_1", 3, "Q4_1", "5 bits, scale and minimum for 32 weights"},
    GgufMixture{"Q5_0", 8, "Q5_0", "5.5 bits, a scale for 32 weights"},
    GgufMixture{"Q5_1", 9, "Q5_1", "6 bits, scale and minimum for 32 weights"},
    GgufMixture{"Q8_0", 7, "Q8_0", "8.5 bits, a scale for 32 weights"},
    GgufMixture{"Q2_K", 10, "Q2_K", "2.6 bits, with Q3_K, and Q4_K where heads share values"},
    GgufMixture{"Q2_K_S", 21, "Q2_K", "2.6 bits, with some Q4_K"},
    GgufMixture{"Q3_K_S", 11, "Q3_K", "3.4 bits"},
    GgufMixture{"Q3_K_M", 12, "Q3_K", "3.4 bits, with Q4_K and Q5_K"},
    GgufMixture{"Q3_K_L", 13, "Q3_K", "3.4 bits, with Q5_K"},
    GgufMixture{"Q4_K_S", 14, "Q4_K", "4.5 bits, with Q5_K in the first blocks"},
    GgufMixture{"Q4_K_M", 15, "Q4_K", "4.5 bits, with Q6_K"},
    GgufMixture{"Q5_K_S", 16, "Q5_K", "5.5 bits"},
    GgufMixture{"Q5_K_M", 17, "Q5_K", "5.5 bits, with Q6_K"},
    GgufMixture{"Q6_K", 18, "Q6_K", "6.6 bits"},
    GgufMixture{"IQ4_NL", 25, "IQ4_NL", "4.5 bits, levels that are not even"},
    GgufMixture{"IQ4_XS", 30, "IQ4_XS", "4.25 bits, levels that are not even"},
    GgufMixture{"TQ1_0", 36, "TQ1_0", "1.7 bits, -1, 0 and 1"},
    GgufMixture{"TQ2_0", 37, "TQ2_0", "2.1 bits, -1, 0 and 1"},
};

/// Throws std::invalid_argument, which lists the names there are, for another one.
inline const GgufMixture& findGgufMixture(const std::string& name) {
  std::string known;
  for (const GgufMixture& mixture : kGgufMixtures) {
    if (mixture.name == name) return mixture;
    known.append(known.empty() ? "" : ", ").append(mixture.name);
  }
  throw std::invalid_argument("type \"" + name + "\" is none of " + known);
}

/// What the rules look at.
struct GgufRules {
  std::int64_t layers = 1;
  std::int64_t headsPerKv = 1;  ///< query heads that share keys and values
  std::int64_t experts = 0;
  bool ownOutput = true;
  bool importance = false;  ///< whether what enters the layers is known
};

namespace detail {

inline bool isKept(std::string_view type) { return type == "F32" || type == "F16" || type == "BF16"; }

/// Whether a block is among those that more bits serve best: the first and the last eighth, and every third between.
inline bool servesMore(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

inline std::string_view typeOfValues(std::string_view mixture, std::string_view usual, std::int64_t layer,
                                     const GgufRules& rules) {
  std::string_view type = usual;
  const bool shared = rules.headsPerKv >= 4;
  if (mixture == "Q2_K") type = shared ? "Q4_K" : "Q3_K";
  if (mixture == "Q2_K_S" && shared) type = "Q4_K";
  if (mixture == "Q3_K_M") type = layer < 2 ? "Q5_K" : "Q4_K";
  if (mixture == "Q3_K_L") type = "Q5_K";
  if ((mixture == "IQ4_NL" || mixture == "IQ4_XS") && shared) type = "Q5_K";
  if ((mixture == "Q4_K_M" || mixture == "Q5_K_M") && servesMore(layer, rules.layers)) type = "Q6_K";
  if (mixture == "Q4_K_S" && layer < 4) type = "Q5_K";
  const bool seventyBillion = rules.layers == 80 && rules.headsPerKv == 8;
  if (seventyBillion && (type == "Q3_K" || type == "Q4_K")) type = "Q5_K";
  return rules.experts == 8 ? "Q8_0" : type;
}

inline std::string_view typeOfDown(std::string_view mixture, std::string_view usual, std::int64_t layer,
                                   const GgufRules& rules) {
  const bool first = layer < rules.layers / 8;
  if (mixture == "Q2_K") return "Q3_K";
  if (mixture == "Q2_K_S" && first) return "Q4_K";
  if (mixture == "Q3_K_M") return layer < rules.layers / 16 ? "Q5_K" : "Q4_K";
  if (mixture == "Q3_K_L") return "Q5_K";
  if ((mixture == "Q4_K_M" || mixture == "Q5_K_M") && servesMore(layer, rules.layers)) return "Q6_K";
  if ((mixture == "IQ4_NL" || mixture == "IQ4_XS") && first && !rules.importance) return "Q5_K";
  if (mixture == "Q4_K_S" && first) return "Q5_K";
  if (mixture == "Q4_0" && rules.importance && first) return "Q4_1";
  if (mixture == "Q5_0" && rules.importance && first) return "Q5_1";
  return usual;
}

inline std::string_view typeOfAttentionOutput(std::string_view mixture, std::string_view usual,
                                              const GgufRules& rules) {
  if (rules.experts == 8) {
    constexpr std::array<std::string_view, 7> kMore = {"Q2_K",   "Q3_K_S", "Q3_K_M", "IQ4_NL",
                                                       "Q4_K_S", "Q4_K_M", "IQ4_XS"};
    return std::find(kMore.begin(), kMore.end(), mixture) != kMore.end() ? "Q5_K" : usual;
  }
  if (mixture == "Q2_K") return "Q3_K";
  if (mixture == "Q3_K_M") return "Q4_K";
  return mixture == "Q3_K_L" ? "Q5_K" : usual;
}

inline std::string_view typeOfFusedQkv(std::string_view mixture, std::string_view usual) {
  if (mixture == "Q3_K_M" || mixture == "Q3_K_L") return "Q4_K";
  if (mixture == "Q4_K_M") return "Q5_K";
  return mixture == "Q5_K_M" ? "Q6_K" : usual;
}

/// The type for rows that are no whole blocks of another one.
inline std::string_view widerType(std::string_view type) {
  if (type == "IQ4_XS") return "IQ4_NL";
  if (type == "Q2_K" || type == "Q3_K" || type == "TQ1_0" || type == "TQ2_0") return "Q4_0";
  if (type == "Q4_K") return "Q5_0";
  if (type == "Q5_K") return "Q5_1";
  return type == "Q6_K" ? "Q8_0" : "F16";
}

inline bool fits(std::string_view type, std::int64_t width) {
  return width % gosset::detail::ggmlTypeNamed(type)->block == 0;
}

}  // namespace detail

/// The type for a matrix of that name whose rows are so wide, and what it would be if its rows were whole blocks.
struct GgufTypeChoice {
  std::string_view type, wanted;
};

/// `pure`: the mixture's type for all matrices alike.
inline GgufTypeChoice ggufTypeFor(const GgufMixture& mixture, const std::string& name, std::int64_t width,
                                  const GgufRules& rules, bool pure = false) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  std::string_view type = mixture.type;
  if (detail::isKept(type)) return {type, type};
  const std::int64_t layer = name.starts_with("blk.") ? std::stoll(name.substr(4)) : 0;
  if (pure) {
    // as it is
  } else if (name == "output.weight" || (name == "token_embd.weight" && !rules.ownOutput)) {
    type = !detail::fits(type, width) || type == "Q8_0" ? "Q8_0" : "Q6_K";
  } else if (name == "token_embd.weight") {
    if (type == "TQ1_0" || type == "TQ2_0") type = "Q4_K";
  } else if (has(".attn_v.")) {
    type = detail::typeOfValues(mixture.name, type, layer, rules);
  } else if (has(".attn_k.") && rules.experts == 8) {
    type = "Q8_0";
  } else if (has(".ffn_down")) {
    type = detail::typeOfDown(mixture.name, type, layer, rules);
  } else if (has(".attn_output.")) {
    type = detail::typeOfAttentionOutput(mixture.name, type, rules);
  } else if (has(".attn_qkv.")) {
    type = detail::typeOfFusedQkv(mixture.name, type);
  }
  const std::string_view wanted = type;
  if (!detail::fits(type, width)) type = detail::widerType(type);
  if (!detail::fits(type, width)) type = "F16";
  return {type, wanted};
}

}  // namespace llama
