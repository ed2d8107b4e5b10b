// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/kernel/product.hpp>

#include <algorithm>
#include <cstdint>

// What the kernels compute, in plain C++: number by number, in double. They are held to it by tests.
namespace gosset::GOSSET_ABI::detail {

/// Sum over the four bytes of unsigned w times signed x.
constexpr std::int32_t dotDefinition(std::int32_t acc, const std::uint8_t* w, const std::int8_t* x) {
  for (int k = 0; k < 4; ++k) acc += static_cast<std::int32_t>(w[k]) * static_cast<std::int32_t>(x[k]);
  return acc;
}

/// The number at (row, col) in units of its matrix: scale * (level - zero).
template <Codebook C, class T, int kPieces>
float numberAt(const CodeView<C, T, kPieces>& w, Index row, Index col) {
  using L = TileLayout<C>;
  const Index block = row / kBlockRows, code = col / C::kDim, tile = code / L::kTileCodes;
  float level;
  if constexpr (TrellisCodebook<C>) {
    level = C::table(w.layout.rate8(tile)).value(w.layout.state(w.codes, block, row % kBlockRows, col));
  } else {
    std::uint8_t whole[L::kTileBytes];
    w.layout.copyTile(w.codes, block, tile, whole);
    const auto q = static_cast<typename C::Code>(L::getCode(whole, row % kBlockRows, code % L::kTileCodes));
    if constexpr (ScalarCodebook<C>) {
      level = C::level(q);
    } else {
      float point[C::kDim];
      C::decode(q, point);
      level = point[col % C::kDim];
    }
  }
  const Index group = col / w.group_columns;
  const Index at = w.one_scale ? 0 : w.layout.scaleAt(block, group, w.groups) + row % kBlockRows;
  const float zero = w.zeros != nullptr ? static_cast<float>(w.zeros[at]) : 0.f;
  return static_cast<float>(w.scales[at]) * (level - zero);
}

/// y (m x t, columns y_stride apart) = W x for x: n x t, its columns x_stride apart.
template <Codebook C, class T, int kPieces>
void multiplyDefinition(const CodeView<C, T, kPieces>& w, const float* x, Index n, Index tokens, Index x_stride,
                        float* y, Index y_stride) {
  for (Index row = 0; row < w.layout.rows(); ++row) {
    for (Index token = 0; token < tokens; ++token) {
      double sum = 0;
      for (Index j = 0; j < n; ++j) {
        sum += static_cast<double>(numberAt(w, row, j)) * static_cast<double>(x[token * x_stride + j]);
      }
      y[token * y_stride + row] = static_cast<float>(sum);
    }
  }
}

/// y (n x t, columns y_stride apart) += unit * W^T x for x: m x t, its columns x_stride apart.
template <Codebook C, class T, int kPieces>
void addTransposedDefinition(const CodeView<C, T, kPieces>& w, Index n, float unit, const float* x, Index tokens,
                             Index x_stride, float* y, Index y_stride) {
  for (Index j = 0; j < n; ++j) {
    for (Index token = 0; token < tokens; ++token) {
      double sum = 0;
      for (Index row = 0; row < w.layout.rows(); ++row) {
        sum += static_cast<double>(numberAt(w, row, j)) * static_cast<double>(x[token * x_stride + row]);
      }
      y[token * y_stride + j] += static_cast<float>(static_cast<double>(unit) * sum);
    }
  }
}

}  // namespace gosset::GOSSET_ABI::detail
