// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/random.hpp>
#include <gosset/rounding/concepts.hpp>

#include <cstdint>

namespace gosset::GOSSET_ABI {

/// Up or down at random, so that the expected value over seeds is the number itself wherever that lies between the
/// codebook's ends: with neighbours a <= x <= b, P(b) = (x - a) / (b - a). For scalar codebooks.
/// Source: Gupta et al., "Deep Learning with Limited Numerical Precision", ICML 2015, section 3.
struct Stochastic {
  static constexpr bool kScalarOnly = true;

  std::uint64_t seed = 0;

  template <ScaledFormat F>
  requires ScalarCodebook<typename F::Codebook>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    using C = typename F::Codebook;
    parallelFor(w.rows(), 16 * w.cols(), [&](Index row) {
      for (Index col = 0; col < w.cols(); ++col) {
        const float chance = randomUniform(seed, static_cast<std::uint64_t>(row * w.cols() + col));
        codes(row, col) = pick<C>(grid.levelAt(row, col, w(row, col)), chance);
      }
    });
  }

 private:
  template <ScalarCodebook C>
  static typename C::Code pick(float level, float chance) {
    using Code = typename C::Code;
    const Code nearest = C::encode(level);
    const bool above = level >= C::level(nearest);
    if (nearest == (above ? C::kLevels - 1 : 0)) return nearest;
    const auto lower = static_cast<Code>(above ? nearest : nearest - 1);
    const auto upper = static_cast<Code>(lower + 1);
    const float fraction = (level - C::level(lower)) / (C::level(upper) - C::level(lower));
    return chance < fraction ? upper : lower;
  }
};

static_assert(Rounding<Stochastic>);

}  // namespace gosset::GOSSET_ABI
