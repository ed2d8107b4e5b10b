// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_rows.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

// What comes in at public doors: any dense expression becomes row-major floats, all finite.
namespace gosset::GOSSET_ABI::detail {

inline constexpr std::uint32_t kNotFinite = 0x7f800000u;  ///< these bits of a float are set in NaN and infinity alone

inline bool allFinite(const float* x, Index n) {
  using Words = simd::Vec<std::uint32_t>;
  constexpr Index kLanes = simd::kLanes<std::uint32_t>;
  simd::Vec<std::int32_t> found{};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) found |= (simd::load<Words>(x + i) & kNotFinite) == kNotFinite;
  bool any = false;
  for (Index lane = 0; lane < kLanes; ++lane) any = any || found[lane] != 0;
  for (; i < n; ++i) any = any || (std::bit_cast<std::uint32_t>(x[i]) & kNotFinite) == kNotFinite;
  return !any;
}

template <class Derived>
void requireNotEmpty(const char* function, const Eigen::DenseBase<Derived>& w) {
  require(w.size() > 0, function, ": the matrix is empty (", w.rows(), " x ", w.cols(), ")");
}

/// Errors: std::invalid_argument at the first number that is not finite.
inline void requireEachFinite(const char* function, const RowMatrixXf& w) {
  for (Index row = 0; row < w.rows(); ++row) {
    for (Index col = 0; col < w.cols(); ++col) {
      require(std::isfinite(w(row, col)), function, ": expected numbers that are finite in float, got ", w(row, col),
              " at (", row, ", ", col, ") of ", w.rows(), " x ", w.cols());
    }
  }
}

/// Errors: std::invalid_argument where W is empty or holds anything but finite floats.
inline void requireFiniteFloats(const char* function, const RowMatrixXf& w) {
  requireNotEmpty(function, w);
  std::atomic<bool> finite = true;
  parallelFor(w.rows(), w.cols(), [&](Index row) {
    if (!allFinite(w.row(row).data(), w.cols())) finite = false;
  });
  if (!finite) requireEachFinite(function, w);
}

/// W in float, row-major. Errors: std::invalid_argument where W is empty or holds anything but finite floats.
template <class Derived>
void toFiniteFloats(const char* function, const Eigen::DenseBase<Derived>& w, RowMatrixXf& result) {
  requireNotEmpty(function, w);
  const auto& matrix = w.derived().matrix();
  constexpr bool kByRows = kInMemory<std::remove_cvref_t<decltype(matrix)>>;
  constexpr Index kRows = 16;  // together
  if constexpr (kByRows) {
    result.resize(w.rows(), w.cols());
  } else {
    result = matrix.template cast<float>();
  }
  std::atomic<bool> finite = true;
  parallelFor(ceilDiv(w.rows(), kRows), kRows * w.cols(), [&](Index chunk) {
    const Index first = chunk * kRows, count = std::min(kRows, w.rows() - first);
    if constexpr (kByRows) floatRowsInto(matrix, first, count, result.row(first).data());
    if (!allFinite(result.row(first).data(), count * w.cols())) finite = false;
  });
  if (!finite) requireEachFinite(function, result);
}

template <class Derived>
RowMatrixXf finiteFloats(const char* function, const Eigen::DenseBase<Derived>& w) {
  RowMatrixXf result(w.rows(), w.cols());
  toFiniteFloats(function, w, result);
  return result;
}

/// The larger of `most` and the largest magnitude of n floats, as bits, which order floats and put infinity and NaN
/// above them.
inline std::uint32_t largestBitsOf(const float* x, Index n, std::uint32_t most) {
  using Ints = simd::Vec<std::int32_t>;
  constexpr Index kLanes = simd::kLanes<std::int32_t>, kTogether = 4 * kLanes;
  constexpr Index kAhead = 24 * 64 / sizeof(float);  // asked for in L2
  Ints largest[4] = {};
  Index i = 0;
  for (; i + kTogether <= n; i += kTogether) {
    simd::unroll<4>([&](int k) __attribute__((always_inline)) {
      const Ints bits = simd::load<Ints>(x + i + k * kLanes) & 0x7fffffff;
      largest[k] = largest[k] > bits ? largest[k] : bits;
      simd::prefetchToL2(x + i + k * kLanes + kAhead);
    });
  }
  for (const Ints& of_four : largest) {
    for (Index lane = 0; lane < kLanes; ++lane) most = std::max(most, static_cast<std::uint32_t>(of_four[lane]));
  }
  for (; i < n; ++i) most = std::max(most, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return most;
}

/// The largest magnitude of W in float; NaN where W is empty or holds anything but finite floats.
template <class Matrix>
float largestMagnitude(const Matrix& w) {
  if constexpr (kInMemory<Matrix> && !Matrix::IsRowMajor) {
    return largestMagnitude(w.derived().transpose());  // line by line as it lies there
  } else {
    constexpr bool kFloats =
        kInMemory<Matrix> && std::is_same_v<typename Matrix::Scalar, float> && Matrix::InnerStrideAtCompileTime == 1;
    constexpr Index kRows = 16;  // together
    const Index chunks = ceilDiv(w.rows(), kRows);
    std::vector<std::uint32_t> largest(static_cast<std::size_t>(chunks));
    parallelFor(chunks, kRows * w.cols(), [&](Index chunk) {
      const Index first = chunk * kRows, count = std::min(kRows, w.rows() - first);
      std::uint32_t most = 0;
      if constexpr (kFloats) {
        const auto& stored = w.derived();
        for (Index row = first; row < first + count; ++row) {
          most = largestBitsOf(stored.data() + row * stored.outerStride(), w.cols(), most);
        }
      } else {
        const RowMatrixXf part = floatRows(w, first, count);
        most = largestBitsOf(part.data(), part.size(), 0);
      }
      largest[static_cast<std::size_t>(chunk)] = most;
    });
    const std::uint32_t most = w.size() > 0 ? *std::max_element(largest.begin(), largest.end()) : kNotFinite;
    return most < kNotFinite ? std::bit_cast<float>(most) : std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace gosset::GOSSET_ABI::detail
