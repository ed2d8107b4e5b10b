// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/plain.hpp>
#include <gosset/scale/granularity.hpp>

#include <algorithm>
#include <type_traits>

namespace gosset::GOSSET_ABI::detail {

/// Which way a block lies: the rows of a format's matrix are what its groups run along.
enum class KvSide {
  kKeys,   ///< head_dim x tokens: a row is a channel
  kValues  ///< tokens x head_dim: a row is a token
};

/// Bits that a format's codes take a number, what goes with them left out: it spends no less.
template <class Format>
constexpr double codeBits() {
  if constexpr (StorageScalar<Format>) {
    return 8 * sizeof(Format);
  } else if constexpr (requires { typename Format::Inner; }) {
    return codeBits<typename Format::Inner>();
  } else if constexpr (requires { typename Format::Codebook; }) {
    return codeBits<typename Format::Codebook>();
  } else if constexpr (Codebook<Format>) {
    return bitsOfCodes<Format>();
  } else {
    return 1;
  }
}

/// Numbers of a token of values that share a scale while they wait: as the format's own groups, so that what is loud in
/// one of them does not drown another, but no less than products have kernels for, and no more than 64.
template <class Format>
constexpr int stagedTogether() {
  if constexpr (requires { typename Format::Inner; }) {
    return stagedTogether<typename Format::Inner>();
  } else if constexpr (ScaledFormat<Format>) {
    return static_cast<int>(std::clamp<Index>(Format::groupWidth(64) / 32 * 32, 32, 64));
  } else {
    return 64;
  }
}

/// How what leaves the window waits to be merged into blocks of Format: in 8 bits, with scales and zero points in
/// floats. A group of numbers from low to high is then off by at most (high - low) / 510, wherever it lies: in 16 bits
/// a zero point would round to whole steps, and more, as soon as the numbers lie 2048 steps from 0. Codes of b bits are
/// off by up to (high - low) / (2^(b + 1) - 2), and errors add up in squares: what waited costs
/// 1/2 ((2^b - 1) / 255)^2 of their error, 0.2% for 4 bits, 0.7% for 5. More bits than that wait in 16-bit floats, as
/// they came, and plain floats in their own.
template <class Format, KvSide kSide>
struct KvStage {
  using Codes = Grouped<Asymmetric<8>, kSide == KvSide::kKeys ? 128 : stagedTogether<Format>(), float>;
  using type = std::conditional_t<(codeBits<Format>() > 5), Float16, Codes>;
};
template <StorageScalar T, KvSide kSide>
struct KvStage<T, kSide> {
  using type = T;
};

}  // namespace gosset::GOSSET_ABI::detail
