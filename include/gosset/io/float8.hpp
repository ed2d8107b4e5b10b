// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/io/dtype.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

// The floats of 8 bits that files hold, as float, which has all of their values:
//
//                 sign  exponent  mantissa  bias   infinity  NaN
//   F8_E5M2       1     5         2         15     S11111.00 S11111.xx, xx not 0
//   F8_E4M3       1     4         3         7      none      S1111.111
//   F8_E8M0       0     8         0         127    none      11111111; there is no zero
//   F8_E5M2FNUZ   1     5         2         16     none      10000000, where -0 would stand
//   F8_E4M3FNUZ   1     4         3         8      none      10000000, where -0 would stand
//
// With e the exponent's and m the mantissa's bits, M of them, a number is 2^(e - bias) (1 + m / 2^M), and where e is 0
// (but in E8M0) 2^(1 - bias) m / 2^M. Sources: Micikevicius et al. 2022, "FP8 formats for deep learning", table 1; OCP
// Microscaling Formats 1.0, section 5.4.1; of FNUZ, Noune et al. 2022, "8-bit numerical formats for deep neural
// networks", section 3.
namespace gosset::GOSSET_ABI::detail {

constexpr float float8Value(Dtype dtype, std::uint8_t code) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  if (dtype == Dtype::kF8E8M0) {
    if (code == 255) return kNan;
    // A float's exponent has the same bias; 2^-127 alone is a denormal one.
    return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<std::uint32_t>(code) << 23);
  }
  const bool fnuz = dtype == Dtype::kF8E4M3Fnuz || dtype == Dtype::kF8E5M2Fnuz;
  const bool e4 = dtype == Dtype::kF8E4M3 || dtype == Dtype::kF8E4M3Fnuz;
  const int magnitude = code & 0x7f;
  const float sign = code < 0x80 ? 1.f : -1.f;
  if (fnuz && code == 0x80) return kNan;
  if (dtype == Dtype::kF8E4M3 && magnitude == 0x7f) return kNan;
  if (dtype == Dtype::kF8E5M2 && magnitude > 0x7c) return kNan;
  if (dtype == Dtype::kF8E5M2 && magnitude == 0x7c) return sign * std::numeric_limits<float>::infinity();

  const int mantissa_bits = e4 ? 3 : 2;
  const int bias = (e4 ? 7 : 15) + (fnuz ? 1 : 0);
  const int one = 1 << mantissa_bits;
  const int exponent = magnitude >> mantissa_bits;
  const int mantissa = magnitude % one + (exponent == 0 ? 0 : one);
  const int power = (exponent == 0 ? 1 : exponent) - bias - mantissa_bits;
  return sign * static_cast<float>(mantissa) * std::bit_cast<float>(static_cast<std::uint32_t>(power + 127) << 23);
}

/// The values of all codes.
constexpr std::array<float, 256> float8Values(Dtype dtype) {
  std::array<float, 256> values{};
  for (std::size_t code = 0; code < values.size(); ++code) {
    values[code] = float8Value(dtype, static_cast<std::uint8_t>(code));
  }
  return values;
}

}  // namespace gosset::GOSSET_ABI::detail
