// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/matrix/plain.hpp>
#include <gosset/matrix/quantized_matrix.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/scaled.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace gosset {

namespace detail {

inline constexpr std::uint32_t kNotFinite = 0x7f800000u;  ///< these bits of a float are set in NaN and infinity alone

/// In a form that compilers turn into vector instructions.
inline bool allFinite(const float* x, Index n) {
  std::uint32_t found = 0;
  for (Index i = 0; i < n; ++i) {
    found |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(x[i]) & kNotFinite) == kNotFinite);
  }
  return found == 0;
}

/// W in float, row-major. Errors: std::invalid_argument where W is empty or holds anything but finite floats.
template <class Derived>
void toFiniteFloats(const char* function, const Eigen::DenseBase<Derived>& w, RowMatrixXf& result) {
  require(w.size() > 0, function, ": the matrix is empty (", w.rows(), " x ", w.cols(), ")");
  result = w.derived().matrix().template cast<float>();
  for (Index row = 0; row < result.rows(); ++row) {
    if (allFinite(result.row(row).data(), result.cols())) continue;
    for (Index col = 0; col < result.cols(); ++col) {
      require(std::isfinite(result(row, col)), function, ": expected numbers that are finite in float, got ",
              result(row, col), " at (", row, ", ", col, ") of ", result.rows(), " x ", result.cols());
    }
  }
}

/// The largest magnitude of W in float; NaN where W is empty or holds anything but finite floats.
template <class Matrix>
float largestMagnitude(const Matrix& w) {
  const Index chunks = ceilDiv(w.rows(), kBlockRows);
  std::vector<std::uint32_t> largest(static_cast<std::size_t>(chunks));
  parallelFor(chunks, kBlockRows * w.cols(), [&](Index chunk) {
    const Index first = chunk * kBlockRows;
    const RowMatrixXf part = w.middleRows(first, std::min(kBlockRows, w.rows() - first)).template cast<float>();
    std::uint32_t most = 0;  // magnitudes as bits, which order floats and put infinity and NaN above them
    for (Index i = 0; i < part.size(); ++i) {
      most = std::max(most, std::bit_cast<std::uint32_t>(part.data()[i]) & 0x7fffffffu);
    }
    largest[static_cast<std::size_t>(chunk)] = most;
  });
  const std::uint32_t most = w.size() > 0 ? *std::max_element(largest.begin(), largest.end()) : kNotFinite;
  return most < kNotFinite ? std::bit_cast<float>(most) : std::numeric_limits<float>::quiet_NaN();
}

/// Whether rows of W can be read one after another without work done twice.
template <class Matrix>
inline constexpr bool kInMemory = (Matrix::Flags & Eigen::DirectAccessBit) != 0;

template <class Derived>
RowMatrixXf finiteFloats(const char* function, const Eigen::DenseBase<Derived>& w) {
  RowMatrixXf result(w.rows(), w.cols());
  toFiniteFloats(function, w, result);
  return result;
}

}  // namespace detail

/// Quantizes W (m x n, out x in; any dense expression of float, double, half or bfloat16, in either order).
///
///   quantize<Grouped<Asymmetric<4>, 64>>(W)
///   quantize<PerChannel<Symmetric<8>>>(W, Stochastic{.seed = 7}, {.fit = LeastSquares{}})
///
/// The rounding says how the codes are chosen and leaves no trace in the type of the result.
/// Errors: std::invalid_argument where W is empty, or holds NaN, an infinity or a number that float cannot hold (for
/// codes, beyond 2^127); what the rounding and the options refuse.
template <class Format, class Derived, class Rounding = Nearest>
[[nodiscard]] QuantizedMatrix<Format> quantize(const Eigen::DenseBase<Derived>& w, const Rounding& rounding = {},
                                               const QuantizeOptions& options = {}) {
  static_assert(
      gosset::Format<Format>,
      "quantize<Format>: Format is a codebook, a codebook in PerTensor, PerChannel or Grouped, a wrapper such as "
      "Incoherent around one of these, or a float type");
  static_assert(DenseExpression<Derived>,
                "quantize<Format>(W): W must hold float, double, Eigen::half or Eigen::bfloat16");
  validate(options.fit);
  const auto& matrix = w.derived().matrix();
  if constexpr (requires { requires Packed<Format>::template takesRows<Rounding>(); } &&
                detail::kInMemory<std::remove_cvref_t<decltype(matrix)>>) {
    const float largest = detail::largestMagnitude(matrix);
    if (!std::isnan(largest)) {
      const auto rowsOf = [&](Index first, Index count) {
        return matrix.middleRows(first, count).template cast<float>();
      };
      return QuantizedMatrix<Format>(
          Packed<Format>::quantizeRows(w.rows(), w.cols(), largest, rowsOf, rounding, options));
    }
  }
  return QuantizedMatrix<Format>(Packed<Format>::quantize(detail::finiteFloats("quantize", w), rounding, options));
}

}  // namespace gosset
