// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/finite.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

// Operands of a product so large or small that numbers on the way to it would leave the range of float, though the
// product does not, are multiplied in units of their own: powers of two, one a column, so that no column depends on its
// neighbours.
namespace gosset::GOSSET_ABI::detail {

/// Columns whose largest magnitude lies within 2^-60 .. 2^60 are multiplied as they are.
inline constexpr int kOrdinaryExponent = 60;

/// The largest magnitude of a column as bits, which order floats and put infinity and NaN above them.
inline std::uint32_t largestBits(const float* x, Index n) {
  constexpr Index kLanes = simd::kWordLanes;
  const auto larger = [](auto a, auto b) { return a > b ? a : b; };
  const auto magnitudes = [&](Index i) { return (simd::Ints)(simd::load<simd::Words>(x + i) & 0x7fffffffu); };
  simd::Ints a{}, b{};
  Index i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    a = larger(magnitudes(i), a);
    b = larger(magnitudes(i + kLanes), b);
  }
  auto most = static_cast<std::uint32_t>(simd::overLanes(larger(a, b), larger));
  for (; i < n; ++i) most = std::max(most, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return most;
}

/// Whether the columns are of ordinary size; those that are zero or hold NaN or infinity stay as they are, too.
inline bool isOrdinary(const Eigen::Ref<const Eigen::MatrixXf>& x) {
  constexpr auto kLeast = std::bit_cast<std::uint32_t>(0x1p-60f), kMost = std::bit_cast<std::uint32_t>(0x1p60f);
  bool ordinary = true;
  for (Index j = 0; j < x.cols(); ++j) {
    const std::uint32_t most = largestBits(x.col(j).data(), x.rows());
    ordinary = ordinary && (most == 0 || most >= kNotFinite || (most >= kLeast && most <= kMost));
  }
  return ordinary;
}

inline bool isFinite(const Eigen::Ref<const Eigen::MatrixXf>& x) {
  bool finite = true;
  for (Index j = 0; j < x.cols(); ++j) finite = finite && largestBits(x.col(j).data(), x.rows()) < kNotFinite;
  return finite;
}

/// x in units of its own: the largest magnitude of each column is brought to within 2^least .. 2^most.
class OperandInUnits {
 public:
  OperandInUnits(const Eigen::Ref<const Eigen::MatrixXf>& x, int least, int most) : numbers_(x) {
    for (Index j = 0; j < x.cols(); ++j) {
      const std::uint32_t bits = largestBits(x.col(j).data(), x.rows());
      const int exponent = bits == 0 || bits >= kNotFinite ? 0 : std::ilogb(std::bit_cast<float>(bits));
      units_.push_back(exponent - std::clamp(exponent, least, most));
      scale(numbers_.col(j), -units_.back());
    }
  }

  const Eigen::MatrixXf& numbers() const { return numbers_; }

  /// What was multiplied by numbers() becomes what x gives.
  void scaleBack(Eigen::Ref<Eigen::MatrixXf> y) const {
    for (Index j = 0; j < y.cols(); ++j) scale(y.col(j), units_[static_cast<std::size_t>(j)]);
  }

 private:
  static void scale(Eigen::Ref<Eigen::VectorXf> x, int exponent) {
    for (float& number : x) number = std::ldexp(number, exponent);
  }

  Eigen::MatrixXf numbers_;
  std::vector<int> units_;  ///< their exponents
};

/// multiply(x') writes y, the product with an operand. y is what x gives: infinite where float holds no such number,
/// and nowhere NaN unless x holds NaN or infinity.
template <class Multiply>
void multiplyInRange(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                     const Multiply& multiply) {
  constexpr int kLow = -40;  // times the largest matrices this stays finite
  if (isOrdinary(x)) {
    multiply(x);
    if (isFinite(y) || !isFinite(x)) return;
  }
  for (const int most : {kOrdinaryExponent, kLow}) {
    const OperandInUnits operand(x, -kOrdinaryExponent, most);
    multiply(operand.numbers());
    operand.scaleBack(y);
    if (isFinite(y) || !isFinite(x)) return;
  }
}

}  // namespace gosset::GOSSET_ABI::detail
