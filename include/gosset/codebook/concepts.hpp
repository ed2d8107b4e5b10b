// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

// A codebook says which values a number may take, in units of a scale that is fitted elsewhere (scale/). It is a struct
// of static members, without data and without a base class; it knows nothing of matrices.
namespace gosset::GOSSET_ABI {

/// How the scale of a codebook is found when nothing else is asked for: the rule that it was published with.
enum class ScaleRule {
  kAbsMax,         ///< the largest magnitude lands on the largest level
  kMinMax,         ///< the least value lands on the first level, the greatest on the last
  kMeanMagnitude,  ///< the scale is mean |x|
  kRootMeanSquare  ///< the scale is sqrt(mean x^2) * kGaussianScale
};

namespace detail {

template <class C>
concept HasGaussianScale = requires {
  { C::kGaussianScale } -> std::convertible_to<float>;
};

}  // namespace detail

/// What all codebooks have:
///   Code            an unsigned integer that holds a code
///   kDim            numbers that one code stands for
///   kBits           bits of a code, codes are 0 .. 2^kBits - 1 (fewer for odd sizes such as Ternary)
///   kRule           the published rule for the scale
///   name()          the name as it is written in C++ without namespace, stable: files carry it
/// and, where kRule is kRootMeanSquare,
///   kGaussianScale  the scale with the least mean squared error on N(0,1)
template <class C>
concept CodebookBase = requires {
  requires std::unsigned_integral<typename C::Code>;
  requires C::kDim >= 1;
  requires C::kBits >= 1 && C::kBits <= 32;
  { C::kRule } -> std::convertible_to<ScaleRule>;
  { C::name() } -> std::convertible_to<std::string>;
  requires C::kRule != ScaleRule::kRootMeanSquare || detail::HasGaussianScale<C>;
};

/// One number a code. Levels rise with the code; value = scale * (level - zero), zero being 0 unless kHasZero.
///   kLevels    how many codes there are
///   level(q)   the level of code q
///   encode(x)  the code of the nearest level; ties go to the even level where levels are whole numbers, else to the
///              even code (Binary takes 0 as positive); x beyond the ends gives the end codes
/// and, where that is how it encodes, so that many numbers can be encoded at once, one of
///   kWholeLevels  true: levels are first, first + 1, .. and encode(x) is roundToEven(x clamped to them) - first
///   kThresholds   a std::array of kLevels - 1 floats in rising order, at most 15: encode(x) is how many x reaches
///                 (of codebooks without a zero point)
template <class C>
concept ScalarCodebook = CodebookBase<C> && requires(float x, typename C::Code q) {
  requires C::kDim == 1;
  requires C::kLevels >= 2;
  { C::kHasZero } -> std::convertible_to<bool>;
  { C::encode(x) } -> std::same_as<typename C::Code>;
  { C::level(q) } -> std::same_as<float>;
};

/// kDim numbers a code: value = scale * point.
///   encode(x)     the code of the nearest point; x: kDim numbers
///   decode(q, y)  y[0 .. kDim) becomes the point of code q, any q below 2^kBits, which files may hold
/// and, where it is faster than one by one, encodeBlocks(x, count, codes) for count * kDim contiguous numbers;
///   Element       where a code is no more than kDim codes of a scalar codebook packed together, that codebook: scales
///                 are then found as for it
template <class C>
concept VectorCodebook = CodebookBase<C> && requires(const float* x, float* y, typename C::Code q) {
  requires(C::kDim > 1);
  { C::encode(x) } -> std::same_as<typename C::Code>;
  { C::decode(q, y) } -> std::same_as<void>;
};

/// A walk through a graph: numbers that stand next to each other share bits, and a row of blocks of kChainColumns
/// columns is encoded at once, as trellis.hpp draws it. A code is the state of a number, and most series of codes are
/// none.
///   kStateBits     bits of a state
///   kChainColumns  columns of a chain
///   kMixedRates    whether tiles of 32 columns each have a rate of their own
///   kRate8         eighths of a bit that are stored a number; of mixed rates, where nothing else is asked for
///   table(rate8)   the values of states at a rate, and how numbers become states (trellis_table.hpp)
template <class C>
concept TrellisCodebook = CodebookBase<C> && requires {
  requires C::kDim == 1 && C::kBits == C::kStateBits;
  requires C::kChainColumns >= 1 && C::kRate8 >= 1;
  { C::kMixedRates } -> std::convertible_to<bool>;
  C::table(C::kRate8);
};

template <class C>
concept MixedRates = TrellisCodebook<C> && C::kMixedRates;

template <class C>
concept Codebook = ScalarCodebook<C> || VectorCodebook<C> || TrellisCodebook<C>;

/// Columns that are encoded together.
template <Codebook C>
inline constexpr int kBlockColumns = [] {
  if constexpr (TrellisCodebook<C>) return C::kChainColumns;
  return C::kDim;
}();

/// Codes in a row of n numbers, which are filled up to whole blocks.
template <Codebook C>
constexpr std::ptrdiff_t codesInRow(std::ptrdiff_t n) {
  return (n + kBlockColumns<C> - 1) / kBlockColumns<C> * kBlockColumns<C> / C::kDim;
}

/// Bits that a number takes in codes.
template <Codebook C>
constexpr double bitsOfCodes() {
  if constexpr (TrellisCodebook<C>) {
    return C::kRate8 / 8.;
  } else {
    return static_cast<double>(C::kBits) / C::kDim;
  }
}

namespace detail {

/// Whether the compiler can make tables of the levels.
template <class C>
concept ConstexprLevels = ScalarCodebook<C> && requires {
  typename std::bool_constant<(C::level(typename C::Code{}), true)>;
};

template <class C>
concept RoundsToWholeLevels = ScalarCodebook<C> && ConstexprLevels<C> && sizeof(typename C::Code) == 1 && requires {
  requires C::kWholeLevels;
};

template <class C>
concept CountsThresholds = ScalarCodebook<C> && !C::kHasZero && sizeof(typename C::Code) == 1 && requires {
  { C::kThresholds[0] } -> std::convertible_to<float>;
  requires C::kLevels <= 16 && sizeof(C::kThresholds) == sizeof(float) * (C::kLevels - 1);
};

template <class C>
concept CodesEachNumber = VectorCodebook<C> && ScalarCodebook<typename C::Element>;

}  // namespace detail

}  // namespace gosset::GOSSET_ABI
