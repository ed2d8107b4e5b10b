// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

namespace gosset::GOSSET_ABI {

/// The empirical entropy of a sequence of codes, bits a code: sum over values of p log2(1/p), p being a value's share.
/// It is what an ideal entropy coder that knows the shares needs. 0 for an empty sequence. Where there are not many
/// more codes than values that they may take, it lies below the entropy of the source.
template <std::unsigned_integral Code>
double codeEntropy(std::span<const Code> codes) {
  std::vector<Code> sorted(codes.begin(), codes.end());
  std::sort(sorted.begin(), sorted.end());
  const auto total = static_cast<double>(sorted.size());
  double bits = 0;
  for (auto first = sorted.begin(); first != sorted.end();) {
    const auto last = std::upper_bound(first, sorted.end(), *first);
    const double share = static_cast<double>(last - first) / total;
    bits -= share * std::log2(share);
    first = last;
  }
  return bits;
}

namespace detail {

template <class P>
double codeEntropyOf(const P& packed) {
  if constexpr (requires { packed.codes(); }) {
    const auto codes = packed.codes();
    using Code = typename std::remove_cvref_t<decltype(codes)>::Scalar;
    const auto count = static_cast<std::size_t>(codes.size());
    const double weights = static_cast<double>(packed.rows()) * static_cast<double>(packed.cols());
    return gosset::codeEntropy(std::span<const Code>(codes.data(), count)) * static_cast<double>(count) / weights;
  } else {
    static_assert(
        requires { packed.inner(); }, "codeEntropy(q): the format of q stores no codes");
    return codeEntropyOf(packed.inner());
  }
}

}  // namespace detail

/// The empirical entropy of the stored codes of a quantized matrix, bits a weight; without scales and other side data.
/// Of a wrapper such as Incoherent or ChannelScaled it is that of the format inside.
template <class Format>
double codeEntropy(const QuantizedMatrix<Format>& q) {
  return detail::codeEntropyOf(q.packed());
}

}  // namespace gosset::GOSSET_ABI
