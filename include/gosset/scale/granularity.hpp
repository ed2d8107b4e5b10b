// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/types.hpp>

#include <concepts>
#include <string>
#include <type_traits>

namespace gosset::GOSSET_ABI {

/// A format that is a codebook and a reach of its scale.
template <class F>
concept ScaledFormat = requires(Index n) {
  requires Codebook<typename F::Codebook>;
  requires StorageScalar<typename F::Scale>;
  { F::kOneRowOnly } -> std::convertible_to<bool>;
  { F::groupWidth(n) } -> std::same_as<Index>;
  { F::name() } -> std::convertible_to<std::string>;
};

namespace detail {

template <StorageScalar T>
std::string scaledName(const std::string& inside) {
  return inside + (std::is_same_v<T, Float16> ? "" : ", " + StorageTraits<T>::name()) + ">";
}

}  // namespace detail

}  // namespace gosset::GOSSET_ABI
