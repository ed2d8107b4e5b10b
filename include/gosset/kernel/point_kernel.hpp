// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>

// The kernel of point_product.hpp.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// The codes of a tile: code(row, i).
template <Codebook C>
class TileCodes {
 public:
  using Code = typename C::Code;

  explicit TileCodes(const std::uint8_t* whole) {
    if constexpr (kBytes) {
      simd::unroll<kParts>([&](int p) __attribute__((always_inline)) {
        Tile bytes;
        tileCodes<C>(whole + p * simd::kByteLanes, bytes);
        for (int i = 0; i < 8; ++i) simd::store(&codes_[i * 4 * kBlockRows + p * simd::kByteLanes], bytes[i]);
      });
    } else {
      for (Index row = 0; row < kBlockRows; ++row) {
        TileLayout<C>::unpackRow(whole, row, codes_ + row * TileLayout<C>::kTileCodes);
      }
    }
  }

  [[gnu::always_inline]] Index operator()(Index row, Index i) const {
    return static_cast<Index>(
        codes_[kBytes ? (i / 4 * kBlockRows + row) * 4 + i % 4 : row * TileLayout<C>::kTileCodes + i]);
  }

 private:
  static constexpr bool kBytes = C::kBits <= 8 && sizeof(Code) == 1 && TileLayout<C>::kTileCodes == 32;
  alignas(64) Code codes_[kBlockRows * TileLayout<C>::kTileCodes];
};

/// The numbers of a point in registers, as many in each as fit and leave none half full.
template <int kDim>
struct PointLanes {
  static constexpr int kCommon = std::gcd(kDim, simd::kWordLanes), kWidth = kCommon == 2 ? 1 : kCommon;
  static constexpr int kCount = kDim / kWidth;
  using Part = simd::Vec<float, kWidth>;
  Part part[kCount] = {};

  [[gnu::always_inline]] void addProduct(const float* point, const float* x) {
    simd::unroll<kCount>([&](int i) __attribute__((always_inline)) {
      part[i] += simd::unfused(simd::load<Part>(point + i * kWidth) * simd::load<Part>(x + i * kWidth));
    });
  }
  [[gnu::always_inline]] void addProduct(const PointLanes& lanes, float factor) {
    simd::unroll<kCount>([&](int i) __attribute__((always_inline)) {
      part[i] += simd::unfused(lanes.part[i] * simd::splat<Part>(factor));
    });
  }
  float sum() const {
    float lanes[kDim], sum = 0;
    std::memcpy(lanes, part, sizeof(lanes));
    for (const float lane : lanes) sum += lane;
    return sum;
  }
};

/// y (m) = W x for one token of floats: n numbers, padded with zeros to whole tiles.
template <FewPoints C, class T, int kPieces>
void multiplyPointsInSet(const CodeView<C, T, kPieces>& w, const float* x, float* y) {
  constexpr Index kCodes = TileLayout<C>::kTileCodes;
  using Lanes = PointLanes<C::kDim>;
  constexpr int kTogether = Lanes::kCount > 2 ? 4 : 8;  // rows, to hide the latency of additions
  const float* points = pointTable<C>();
  const Index group_codes = w.group_columns / C::kDim;
  parallelFor(w.layout.blocks(), kBlockRows * TileLayout<C>::kTileColumns * w.layout.tiles(), [&](Index block) {
    TileReader<C> tiles(w.layout, w.codes, block);
    const GroupReader scales(w, w.scales, block);
    Lanes totals[kBlockRows], sums[kBlockRows];
    Index group = 0, left = group_codes;
    const auto close = [&] {
      BlockFloats scale;
      scales.load(group, scale);
      float of_row[kBlockRows];
      storeBlock(scale, kBlockRows, of_row);
      for (Index row = 0; row < kBlockRows; ++row) {
        totals[row].addProduct(sums[row], of_row[row]);
        sums[row] = {};
      }
      ++group;
      left = group_codes;
    };
    for (Index tile = 0; tile < w.layout.tiles(); ++tile) {
      const TileCodes<C> codes(tiles[tile]);
      for (Index i = 0; i < kCodes && group < w.groups;) {
        const Index end = i + std::min(left, kCodes - i);
        for (Index row = 0; row < kBlockRows; row += kTogether) {
          Lanes sum[kTogether];
          std::copy_n(sums + row, kTogether, sum);
          for (Index j = i; j < end; ++j) {
            const float* numbers = x + (tile * kCodes + j) * C::kDim;
            simd::unroll<kTogether>([&](int k) __attribute__((always_inline)) {
              sum[k].addProduct(points + codes(row + k, j) * C::kDim, numbers);
            });
          }
          std::copy_n(sum, kTogether, sums + row);
        }
        left -= end - i;
        i = end;
        if (left == 0) close();
      }
    }
    if (group < w.groups) close();
    for (Index row = 0; row < w.layout.rowsOf(block); ++row) {
      y[block * kBlockRows + row] = totals[row].sum();
    }
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
