// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <array>
#include <cmath>
#include <cstdint>

namespace gosset::GOSSET_ABI::detail {

/// x^exponent for a positive, finite x and any exponent whose result double holds, to 8 digits. Products and square
/// roots alone, both of which are the same everywhere, where the pow of a C library is not: scales that are stored come
/// from here. log2 x is found bit by bit: squaring a number in [1, 2) doubles its logarithm, and what passes 2 is the
/// next bit. Powers of two are exact.
inline double power(double x, double exponent) {
  constexpr int kFraction = 26;
  int whole;
  double mantissa = 2 * std::frexp(x, &whole);
  std::int64_t logarithm = whole - 1;
  for (int i = 0; i < kFraction; ++i) {
    mantissa *= mantissa;
    logarithm *= 2;
    if (mantissa >= 2) {
      mantissa /= 2;
      ++logarithm;
    }
  }
  const auto scaled = static_cast<std::int64_t>(std::nearbyint(static_cast<double>(logarithm) * exponent));
  double result = 1;
  double root = 2;
  for (int i = 1; i <= kFraction; ++i) {
    root = std::sqrt(root);
    if ((scaled >> (kFraction - i)) & 1) result *= root;
  }
  return std::ldexp(result, static_cast<int>(scaled >> kFraction));
}

}  // namespace gosset::GOSSET_ABI::detail
