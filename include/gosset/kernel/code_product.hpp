// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

// The kernels of product.hpp.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// y (m x t, columns y_stride apart) = W x, x being n x t, its columns x_stride apart.
template <TileCodebook C, class T, int kPieces>
void multiplyCodesInSet(const CodeView<C, T, kPieces>& w, Activations activations, const float* x, Index n,
                        Index tokens, Index x_stride, float* y, Index y_stride) {
  const bool per_token = activations == Activations::kRoundedPerToken;
  if constexpr (kPieces == 0) {
    if (per_token) {
      using Tokens = Eigen::Map<const Eigen::MatrixXf, 0, Eigen::OuterStride<> >;
      const Eigen::MatrixXf rounded = roundedPerToken(Tokens(x, n, tokens, Eigen::OuterStride<>(x_stride)));
      return multiplyCodesInSet(w, Activations::kFloat, rounded.data(), n, tokens, n, y, y_stride);
    }
  } else if (activations != Activations::kFloat) {
    const RoundedActivations rounded(x, n, tokens, x_stride, typename TileCode<C>::Order{},
                                     per_token ? ScaleReach::kToken : ScaleReach::kSlice);
    if (tokens == 1) return multiplyRounded(w, rounded, y);
    return multiplyRoundedMany(w, rounded, y, y_stride);
  }
  const Index padded = w.layout.tiles() * TileLayout<C>::kTileColumns;
  AlignedVector<float> copy;
  if (padded != n) {
    copy.assign(static_cast<std::size_t>(padded * tokens), 0.f);
    for (Index token = 0; token < tokens; ++token) std::copy_n(x + token * x_stride, n, copy.data() + token * padded);
    x = copy.data();
    x_stride = padded;
  }
  if (tokens == 1) return multiplyFloat(w, x, y);
  multiplyFloatMany(w, x, tokens, x_stride, y, y_stride);
}

/// The numbers of a block, rows `stride` apart: rowsOf(block) rows of n.
template <TileCodebook C, class T, int kPieces>
void decodeBlockInSet(const CodeView<C, T, kPieces>& w, Index block, Index n, float* out, Index stride) {
  constexpr Index kTileColumns = TileLayout<C>::kTileColumns;
  TileReader<C> tiles(w.layout, w.codes, block);
  BlockFloats columns[kTileColumns];
  float rows[kBlockRows][kTileColumns];
  for (Index tile = 0; tile < w.layout.tiles(); ++tile) {
    decodeTile(w, tiles, block, tile, columns);
    simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
      for (Index j = 0; j < kTileColumns; j += simd::kWordLanes) {
        simd::Floats square[simd::kWordLanes];
        for (int i = 0; i < simd::kWordLanes; ++i) square[i] = columns[j + i][p];
        simd::transpose(square);
        for (int i = 0; i < simd::kWordLanes; ++i) simd::store(&rows[p * simd::kWordLanes + i][j], square[i]);
      }
    });
    const Index first = tile * kTileColumns, count = std::min(kTileColumns, n - first);
    for (Index row = 0; row < w.layout.rowsOf(block); ++row) {
      std::memcpy(out + row * stride + first, rows[row], static_cast<std::size_t>(count) * sizeof(float));
    }
  }
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
