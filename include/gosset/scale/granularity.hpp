// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/types.hpp>

#include <string>

// How far one scale reaches. These are types without data: they name a format.
namespace gosset {

namespace detail {

template <StorageScalar T>
std::string scaledName(const std::string& inside) {
  return inside + (std::is_same_v<T, Float16> ? "" : ", " + StorageTraits<T>::name()) + ">";
}

}  // namespace detail

/// One scale for the whole matrix. T is the type that scales and zero points are stored in.
template <Codebook C, StorageScalar T = Float16>
struct PerTensor {
  using Codebook = C;
  using Scale = T;
  static constexpr bool kOneRowOnly = false;  ///< does a scale serve one row, or all?
  static constexpr Index groupWidth(Index cols) { return cols; }
  static std::string name() { return detail::scaledName<T>("PerTensor<" + C::name()); }
};

/// One scale for each row of the matrix, an output channel of a weight matrix.
template <Codebook C, StorageScalar T = Float16>
struct PerChannel {
  using Codebook = C;
  using Scale = T;
  static constexpr bool kOneRowOnly = true;
  static constexpr Index groupWidth(Index cols) { return cols; }
  static std::string name() { return detail::scaledName<T>("PerChannel<" + C::name()); }
};

/// One scale for each N neighbours in a row; the last group of a row may be shorter.
template <Codebook C, int N, StorageScalar T = Float16>
struct Grouped {
  static_assert(N >= 1, "Grouped<Codebook, N>: a group needs at least one number");
  static_assert(N % C::kDim == 0, "Grouped<Codebook, N>: N must be a multiple of the numbers that one code stands for");
  using Codebook = C;
  using Scale = T;
  static constexpr bool kOneRowOnly = true;
  static constexpr Index groupWidth(Index) { return N; }
  static std::string name() { return detail::scaledName<T>("Grouped<" + C::name() + ", " + std::to_string(N)); }
};

/// A format that is a codebook and a reach of its scale.
template <class F>
concept ScaledFormat = requires(Index n) {
  requires Codebook<typename F::Codebook>;
  requires StorageScalar<typename F::Scale>;
  { F::kOneRowOnly } -> std::convertible_to<bool>;
  { F::groupWidth(n) } -> std::same_as<Index>;
  { F::name() } -> std::convertible_to<std::string>;
};

}  // namespace gosset
