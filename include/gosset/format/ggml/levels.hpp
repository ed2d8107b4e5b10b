// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/level_table.hpp>
#include <gosset/core/round.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

// The levels that ggml's block layouts give numbers, in units of their scales.
// Source: github.com/ggml-org/ggml, src/ggml-common.h.
namespace gosset::GOSSET_ABI::ggml {

/// The whole numbers from `least` to `most`; codes count from 0.
template <int least, int most>
struct Whole {
  static_assert(least < most && least >= -128 && most <= 127);
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kLevels = most - least + 1,
                       kBits = kLevels > 128  ? 8
                               : kLevels > 32 ? 6
                               : kLevels > 16 ? 5
                               : kLevels > 8  ? 4
                               : kLevels > 4  ? 3
                                              : 2;
  static constexpr int kLeast = least;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;

  static constexpr Code encode(float x) {
    constexpr auto kLow = static_cast<float>(least), kHigh = static_cast<float>(most);
    return static_cast<Code>(static_cast<int>(roundToEven(std::clamp(x, kLow, kHigh))) - least);
  }
  static constexpr float level(Code q) { return static_cast<float>(q + least); }
  static std::string name() { return "ggml::Whole<" + std::to_string(least) + ", " + std::to_string(most) + ">"; }
};

/// Sixteen or fewer levels of a table, which rise.
template <class Table>
struct Tabled {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 4, kLevels = static_cast<int>(Table::kLevels.size());
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kAbsMax;

  static constexpr Code encode(float x) { return gosset::detail::nearestLevel(x, kThresholds); }
  static constexpr float level(Code q) { return Table::kLevels[q]; }
  static std::string name() { return Table::name(); }

 private:
  static constexpr auto kThresholds = gosset::detail::levelThresholds(Table::kLevels);
};

/// The nonuniform levels of IQ4_NL and IQ4_XS.
struct NonuniformTable {
  static constexpr std::array<float, 16> kLevels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};
  static std::string name() { return "ggml::Nonuniform"; }
};
using Nonuniform = Tabled<NonuniformTable>;

/// Twice the values of E2M1, floats of 4 bits, in rising order. Source: OCP Microscaling Formats 1.0, section 5.3.3.
struct E2M1Table {
  static constexpr std::array<float, 15> kLevels = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};
  static std::string name() { return "ggml::E2M1"; }
};
using E2M1 = Tabled<E2M1Table>;

static_assert(ScalarCodebook<Whole<-8, 7>> && ScalarCodebook<Nonuniform> && ScalarCodebook<E2M1>);

}  // namespace gosset::GOSSET_ABI::ggml
