// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>

#include <array>
#include <cstddef>
#include <type_traits>

namespace gosset::GOSSET_ABI {

/// sum of a[i] * b[i] for terms(i) = {a, b} in floats, in double. The product of two floats is exact in double, so it
/// makes no difference whether a compiler fuses it with the addition; and eight lanes in a fixed order leave no freedom
/// for the rest: the same bits everywhere, at vector speed.
template <class Terms>
double sumOfProducts(Index count, const Terms& terms) {
  constexpr Index kLanes = 8;
  std::array<double, kLanes> lanes{};
  const auto add = [&](Index i, Index lane) {
    const auto [a, b] = terms(i);
    static_assert(std::is_same_v<std::remove_cv_t<decltype(a)>, float> &&
                  std::is_same_v<std::remove_cv_t<decltype(b)>, float>);
    lanes[static_cast<std::size_t>(lane)] += static_cast<double>(a) * static_cast<double>(b);
  };
  Index i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (Index lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (Index lane = 0; i + lane < count; ++lane) add(i + lane, lane);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/// sum of x(i), in double, in the same fixed order.
template <class Values>
double sumOf(Index count, const Values& x) {
  return sumOfProducts(count, [&](Index i) { return std::array<float, 2>{x(i), 1.f}; });
}

/// sum of x(i)^2, in double, in the same fixed order.
template <class Values>
double sumOfSquares(Index count, const Values& x) {
  return sumOfProducts(count, [&](Index i) {
    const float value = x(i);
    return std::array<float, 2>{value, value};
  });
}

}  // namespace gosset::GOSSET_ABI
