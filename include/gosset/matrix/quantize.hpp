// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/finite.hpp>
#include <gosset/core/float_rows.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
#include <gosset/matrix/refusal.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/scale/options.hpp>

#include <cmath>
#include <type_traits>
#include <utility>

namespace gosset::GOSSET_ABI {

namespace detail {

/// Rows of W, which lies in memory: where they stand if that is as kernels read them.
template <class Matrix>
decltype(auto) rowsOf(const Matrix& w, Index first, Index count) {
  if constexpr (std::is_same_v<typename Matrix::Scalar, float> && Matrix::IsRowMajor) {
    return w.middleRows(first, count);
  } else {
    return floatRows(w, first, count);
  }
}

/// Whether the rows of W can be read where they stand, one block after the other.
template <class Format, class Rounding>
inline constexpr bool kTakesRows = requires {
  requires Packed<Format>::template takesRows<Rounding>();
};

template <class Format, class Derived, class Rounding>
QuantizedMatrix<Format> quantizeUnchecked(const Eigen::DenseBase<Derived>& w, Rounding rounding,
                                          const QuantizeOptions& options) {
  validate(options.fit);
  const auto& matrix = w.derived().matrix();
  if constexpr (kTakesRows<Format, Rounding> && kInMemory<std::remove_cvref_t<decltype(matrix)>>) {
    const float largest = largestMagnitude(matrix);
    if (!std::isnan(largest)) {
      const auto rows = [&](Index first, Index count) { return rowsOf(matrix, first, count); };
      return QuantizedMatrix<Format>(
          Packed<Format>::quantizeRows(w.rows(), w.cols(), largest, rows, rounding, options));
    }
  }
  return QuantizedMatrix<Format>(Packed<Format>::quantize(finiteFloats("quantize", w), std::move(rounding), options));
}

/// W may change.
template <class Format, class Rounding>
QuantizedMatrix<Format> quantizeUnchecked(RowMatrixXf&& w, Rounding rounding, const QuantizeOptions& options) {
  if constexpr (kTakesRows<Format, Rounding>) {
    const RowMatrixXf& kept = w;
    return quantizeUnchecked<Format>(kept, std::move(rounding), options);
  } else {
    validate(options.fit);
    requireFiniteFloats("quantize", w);
    return QuantizedMatrix<Format>(Packed<Format>::quantize(std::move(w), std::move(rounding), options));
  }
}

}  // namespace detail

/// Quantizes W (m x n, out x in; any dense expression of float, double, half or bfloat16, in either order).
///
///   quantize<Grouped<Asymmetric<4>, 64>>(W)
///   quantize<PerChannel<Symmetric<8>>>(W, Stochastic{.seed = 7}, {.fit = LeastSquares{}})
///
/// The rounding says how the codes are chosen and leaves no trace in the type of the result. What comes as an rvalue
/// may be changed where it stands in place of a copy, W (row-major, in float) and what the rounding knows of the
/// inputs:
///
///   quantize<Incoherent<E8P>>(std::move(W), Ldlq(std::move(h)))
///
/// Errors: std::invalid_argument where W is empty, or holds NaN, an infinity or a number that float cannot hold (for
/// codes, beyond 2^127); what the rounding and the options refuse.
template <class Format, class Derived, class Rounding = Nearest>
[[nodiscard]] QuantizedMatrix<Format> quantize(const Eigen::DenseBase<Derived>& w, Rounding rounding = {},
                                               const QuantizeOptions& options = {}) {
  static_assert(DenseExpression<Derived>,
                "quantize<Format>(W): W must hold float, double, Eigen::half or Eigen::bfloat16");
  if constexpr (detail::accepted<Format, Rounding>()) {
    return detail::quantizeUnchecked<Format>(w, std::move(rounding), options);
  }
}
template <class Format, class Rounding = Nearest>
[[nodiscard]] QuantizedMatrix<Format> quantize(RowMatrixXf&& w, Rounding rounding = {},
                                               const QuantizeOptions& options = {}) {
  if constexpr (detail::accepted<Format, Rounding>()) {
    return detail::quantizeUnchecked<Format>(std::move(w), std::move(rounding), options);
  }
}

}  // namespace gosset::GOSSET_ABI
