// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/e81b.hpp>
#include <gosset/codebook/e8p.hpp>
#include <gosset/codebook/residual.hpp>

#include <string>

// The 3- and 4-bit codebooks of QuIP# (Tseng et al., ICML 2024, section 4.3): E8P, and E81B or E8P once more for what
// it leaves over, 24 and 32 bits for 8 numbers.
//
// Steps and scales are those that are best on N(0,1) with the joint search of Residual, not the published ones. Mean
// squared error a number, by what the search tries:
//
//                      nearest first stage only,       17 first stages           all within reach
//                      at its best step and scale
//   E8PRvq3            .0296 (1 / 2.05)                .0284 (9 / 16)            .0282
//   E8PRvq4            .0083 (1 / 3.87)                .0075 (35 / 128)          .0074
namespace gosset::GOSSET_ABI {

template <>
struct ResidualFit<E8P, E81B> {
  static constexpr float kStep = 9.f / 16;
  static constexpr float kProbe = 0.6f;
  static constexpr float kGaussianScale = 0.997f;
  static std::string name() { return "E8PRvq3"; }
};

template <>
struct ResidualFit<E8P, E8P> {
  static constexpr float kStep = 35.f / 128;
  static constexpr float kProbe = 0.6f;
  static constexpr float kGaussianScale = 1.120f;
  static std::string name() { return "E8PRvq4"; }
};

using E8PRvq3 = Residual<E8P, E81B>;
using E8PRvq4 = Residual<E8P, E8P>;

static_assert(VectorCodebook<E8PRvq3> && VectorCodebook<E8PRvq4>);

}  // namespace gosset::GOSSET_ABI
