// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/least_squares.hpp>
#include <gosset/scale/rules.hpp>

#include <span>
#include <type_traits>
#include <variant>

// Fitting the scale and zero point of a group of finite numbers. Every fit returns numbers as they come back from
// storage in T, because codes are chosen with the stored scale.
namespace gosset::GOSSET_ABI {

using ScaleFit = std::variant<PublishedRule, Percentile, LeastSquares>;

/// Errors: std::invalid_argument where a percentile is not in (50, 100].
inline void validate(const ScaleFit& fit) {
  if (const auto* percentile = std::get_if<Percentile>(&fit)) {
    detail::require(percentile->percent > 50 && percentile->percent <= 100,
                    "Percentile: expected a percentile in (50, 100], got ", percentile->percent);
  }
}

/// The affine map of one group. x: finite and not empty, rows of `row` numbers each (all of them one row by default),
/// without the zeros that fill up a row to whole codes: these count for nothing.
template <Codebook C, StorageScalar T>
Affine fitAffine(const ScaleFit& fit, std::span<const float> x, Index row = 0) {
  return std::visit(
      [&](auto method) {
        if constexpr (!std::is_same_v<decltype(method), LeastSquares>) {
          return fitAffine<C, T>(method, x);
        } else if constexpr (TrellisCodebook<C>) {
          detail::invalidArgument(
              "LeastSquares: no number of a trellis code can be encoded without its neighbours, so that scales cannot "
              "be "
              "searched by errors; use PublishedRule or Percentile");
          return Affine{};
        } else {
          return fitAffine<C, T>(method, x, row);
        }
      },
      fit);
}

}  // namespace gosset::GOSSET_ABI
