// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/abi.hpp>

#include <Eigen/Core>
#include <concepts>
#include <type_traits>

// The shape letters used throughout gosset:
//   m  outputs, the rows of a weight matrix       n  inputs, its columns
//   t  tokens, the rows of an activation matrix   g  numbers that share a scale
//   b  bits of a code                             d  numbers that one code stands for
// Weights are out x in (m x n), activations are tokens x in (t x n), as in every checkpoint.
namespace gosset::GOSSET_ABI {

using Index = Eigen::Index;
using Float16 = Eigen::half;
using BFloat16 = Eigen::bfloat16;

using RowMatrixXf = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The number types that gosset takes and stores.
template <class T>
concept RealScalar =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, Float16> || std::same_as<T, BFloat16>;

/// The types in which scales and other side data may be stored.
template <class T>
concept StorageScalar = std::same_as<T, float> || std::same_as<T, Float16> || std::same_as<T, BFloat16>;

namespace detail {
template <class Derived>
std::true_type isDense(const Eigen::DenseBase<Derived>*);
std::false_type isDense(const void*);
}  // namespace detail

/// Any dense Eigen expression, Map or matrix of a real scalar, row- or column-major.
template <class T>
concept DenseExpression = RealScalar<typename std::remove_cvref_t<T>::Scalar> &&
    decltype(detail::isDense(static_cast<std::remove_cvref_t<T>*>(nullptr)))::value;

/// ceil(a / b) for a >= 0, b > 0.
constexpr Index ceilDiv(Index a, Index b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace gosset::GOSSET_ABI
