// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
#include <gosset/scale/unit.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace gosset::GOSSET_ABI {

namespace detail {

/// The codes that a codebook has.
template <Codebook C>
constexpr std::uint64_t codeCount() {
  if constexpr (ScalarCodebook<C>) return C::kLevels;
  if constexpr (requires { C::kCodes; }) return C::kCodes;
  return std::uint64_t{1} << C::kBits;
}

/// The largest magnitude that the codes of a group with these can stand for, level by level.
template <Codebook C>
float largestMagnitudeOf(float scale, float zero) {
  if constexpr (ScalarCodebook<C>) {
    const float low = C::level(0) - zero, high = C::level(static_cast<typename C::Code>(C::kLevels - 1)) - zero;
    return std::abs(scale) * std::max(std::abs(low), std::abs(high));
  } else {
    return std::abs(scale) * 8;  // of the order of the points
  }
}

/// The unit in which these scales (s) and zero points (z, empty where the codebook has none) are stored; checks each.
template <ScaledFormat F>
float unitOfScales(const RowMatrixXf& s, const RowMatrixXf& z) {
  float largest = 0;
  bool exact = true;  // whether all scales are stored as they are without a unit
  for (Index i = 0; i < s.size(); ++i) {
    const float scale = s.data()[i], zero = z.size() > 0 ? z.data()[i] : 0.f;
    const auto at = [&] { return concat("(", i / s.cols(), ", ", i % s.cols(), ")"); };
    require(std::isfinite(scale) && scale >= 0, "fromCodes: scales: expected finite numbers >= 0, got ", scale, " at ",
            at());
    require(std::isfinite(zero) && std::abs(zero) <= StorageTraits<typename F::Scale>::kMax,
            "fromCodes: zeros: expected finite numbers that ", StorageTraits<typename F::Scale>::name(), " holds, got ",
            zero, " at ", at());
    largest = std::max(largest, largestMagnitudeOf<typename F::Codebook>(scale, zero));
    exact = exact && static_cast<float>(storeNearest<typename F::Scale>(scale)) == scale;
  }
  require(largest <= 0x1p127f, "fromCodes: scales: they give magnitudes of ", largest, ", beyond 2^127");
  return exact ? 1.f : storageUnit(largest);
}

/// Whether these are the walks of a packed matrix of trellis codes, whose states overlap.
template <TrellisCodebook C, class P>
void requireWalks(const P& packed, const CodeMatrix<C>& given) {
  const CodeMatrix<C> kept = packed.codes();
  for (Index row = 0; row < kept.rows(); ++row) {
    for (Index i = 0; i < kept.cols(); ++i) {
      require(kept(row, i) == given(row, i), "fromCodes: codes: expected walks of ", C::name(),
              ", each state of which begins with the end of the one before, as codes() gives them; they part at (", row,
              ", ", i, ")");
    }
  }
}

/// The rates of tiles, in eighths of a bit; none for the usual ones.
template <ScaledFormat F>
void setGivenRates(Grid<F>& grid, std::span<const std::uint8_t> rates) {
  if (rates.empty()) return;
  if constexpr (MixedRates<typename F::Codebook>) {
    require(static_cast<Index>(rates.size()) == grid.tiles(), "fromCodes: rates: expected ", grid.tiles(),
            " numbers, one for each 32 columns, got ", rates.size());
    for (const std::uint8_t rate : rates) {
      require(rate >= kLeastTrellisRate8 && rate <= kMostTrellisRate8, "fromCodes: rates: expected ",
              kLeastTrellisRate8, " to ", kMostTrellisRate8, " eighths of a bit, got ", int{rate});
    }
    grid.setRates({rates.begin(), rates.end()});
  } else {
    invalidArgument("fromCodes: rates: ", F::name(), " has the same rate for all columns, expected none, got ",
                    rates.size());
  }
}

/// The codes, each checked to be one of the codebook's.
template <Codebook C, class Codes>
CodeMatrix<C> checkedCodes(const Eigen::DenseBase<Codes>& codes) {
  CodeMatrix<C> given(codes.rows(), codes.cols());
  for (Index row = 0; row < codes.rows(); ++row) {
    for (Index i = 0; i < codes.cols(); ++i) {
      const std::uint64_t code = codes.derived().coeff(row, i);
      require(code < codeCount<C>(), "fromCodes: codes: expected codes of ", C::name(), ", below ", codeCount<C>(),
              ", got ", code, " at (", row, ", ", i, ")");
      given(row, i) = static_cast<typename C::Code>(code);
    }
  }
  return given;
}

}  // namespace detail

/// A matrix from codes, scales and zero points that somebody else chose: another tool's checkpoint, a search of one's
/// own.
///
///   codes   m x codesInRow<Codebook>(n), any unsigned integers, in the codebook's numbering; of trellis codes the
///           states of whole walks
///   scales  m x groups for PerChannel and Grouped, 1 x 1 where one scale serves all; not negative
///   zeros   as scales, in levels, for codebooks with a zero point, else none: value = scale * (level - zero)
///   cols    n, where that is not codes.cols() * kDim
///   rates   of TrellisMixed, eighths of a bit for each 32 columns, 8 to 48; 16 each where there are none
///
/// Scales and zero points are rounded to how the format stores them, which for 16-bit floats keeps what was 16-bit
/// floats; codes stay as they are. Errors: std::invalid_argument, naming the argument, where a shape does not fit, a
/// code is none of the codebook's, a scale is negative or a number is not finite or beyond what the format holds.
template <class Format, class Codes, class Scales, class Zeros = RowMatrixXf>
[[nodiscard]] QuantizedMatrix<Format> fromCodes(const Eigen::DenseBase<Codes>& codes,
                                                const Eigen::DenseBase<Scales>& scales,
                                                const Eigen::DenseBase<Zeros>& zeros = RowMatrixXf(),
                                                std::optional<Index> cols = {},
                                                std::span<const std::uint8_t> rates = {}) {
  using F = typename detail::ScaledFormatOf<Format>::type;
  static_assert(ScaledFormat<F>,
                "fromCodes<Format>: Format is a codebook, bare or in PerTensor, PerChannel or Grouped");
  static_assert(std::unsigned_integral<typename Codes::Scalar>,
                "fromCodes<Format>(codes, ..): codes are unsigned integers");
  using C = typename F::Codebook;
  constexpr bool kHasZero = [] {
    if constexpr (ScalarCodebook<C>) return C::kHasZero;
    return false;
  }();
  const Index m = codes.rows(), n = cols.value_or(codes.cols() * C::kDim);
  detail::require(m >= 1 && n >= 1 && codes.cols() == codesInRow<C>(n), "fromCodes: codes: expected ", codesInRow<C>(n),
                  " codes in each of at least 1 row for ", n, " columns, got ", m, " x ", codes.cols());
  const RowMatrixXf s = scales.derived().matrix().template cast<float>();
  const RowMatrixXf z = zeros.derived().matrix().template cast<float>();
  const Grid<F> shape(m, n, PublishedRule{});
  const Index rows = F::kOneRowOnly ? m : 1;
  detail::require(s.rows() == rows && s.cols() == shape.groups(), "fromCodes: scales: expected ", rows, " x ",
                  shape.groups(), ", got ", s.rows(), " x ", s.cols());
  detail::require(kHasZero ? z.rows() == rows && z.cols() == shape.groups() : z.size() == 0,
                  "fromCodes: zeros: expected ", kHasZero ? rows : 0, " x ", kHasZero ? shape.groups() : 0, ", got ",
                  z.rows(), " x ", z.cols());

  const float unit = detail::unitOfScales<F>(s, z);
  const CodeMatrix<C> given = detail::checkedCodes<C>(codes);
  Grid<F> grid(m, n, PublishedRule{}, unit);
  detail::setGivenRates(grid, rates);
  for (Index row = 0; row < rows; ++row) {
    for (Index group = 0; group < grid.groups(); ++group) {
      grid.setScale(row, group, s(row, group), kHasZero ? z(row, group) : 0.f);
    }
  }
  auto packed = Packed<Format>::assembled(grid, given);
  if constexpr (TrellisCodebook<C>) detail::requireWalks<C>(packed, given);
  return QuantizedMatrix<Format>(std::move(packed));
}

}  // namespace gosset::GOSSET_ABI
