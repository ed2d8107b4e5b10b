// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/tile_code.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

namespace gosset::detail {

/// How many numbers of a token share a scale: the 32 of a tile, or all.
enum class ScaleReach { kTile, kToken };

/// Activations in 8 bits: t tokens of n numbers, padded with zeros to tiles of 32, that share a scale; or one scale for
/// all tiles of a token.
///
///   x ~ scale * q,  scale = max |x| / 127,  q = -127 .. 127 the nearest integer, ties to even
///
/// So |x - scale q| <= scale / 2; on Gaussian activations the relative root mean square error is 0.5%, and about that
/// is the relative error of a product. The numbers of a tile stand in the order in which TileCode<C> gives columns:
/// four at a time for each of its 8 registers. Where NaN or an infinity is among them the scale is NaN.
class RoundedActivations {
 public:
  /// x: n x t, column-major, columns `stride` apart.
  RoundedActivations(const float* x, Index n, Index tokens, Index stride, bool transposed,
                     ScaleReach reach = ScaleReach::kTile)
      : tiles_(ceilDiv(n, kTileColumns)),
        tokens_(tokens),
        numbers_(static_cast<std::size_t>(tokens * tiles_ * kTileColumns)),
        scales_(static_cast<std::size_t>(tokens * tiles_)),
        sums_(scales_.size()) {
    parallelFor(tokens, n, [&](Index token) {
      const float* numbers = x + token * stride;
      std::uint32_t largest = 0;
      if (reach == ScaleReach::kToken) {
        for (Index j = 0; j < n; ++j) largest = std::max(largest, magnitudeBits(numbers[j]));
      }
      for (Index tile = 0; tile < tiles_; ++tile) {
        const Index first = tile * kTileColumns;
        round(numbers + first, std::min(kTileColumns, n - first), largest, token, tile, transposed);
      }
    });
  }

  Index tokens() const { return tokens_; }
  Index tiles() const { return tiles_; }
  /// The 32 numbers of a tile.
  const std::int8_t* numbers(Index token, Index tile) const {
    return numbers_.data() + (token * tiles_ + tile) * kTileColumns;
  }
  float scale(Index token, Index tile) const { return scales_[static_cast<std::size_t>(token * tiles_ + tile)]; }
  /// The sum of the 32 numbers of a tile.
  std::int32_t sum(Index token, Index tile) const { return sums_[static_cast<std::size_t>(token * tiles_ + tile)]; }

 private:
  using Half = simd::Vec<std::int8_t, static_cast<int>(kTileColumns) / 2>;  // which every register holds
  using Indices = std::make_integer_sequence<int, static_cast<int>(kTileColumns) / 2>;
  static constexpr int kRegisters = static_cast<int>(kTileColumns) / simd::kWordLanes;

  /// |x| as bits, which order floats and put infinity and NaN above them.
  static std::uint32_t magnitudeBits(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

  /// Fills a tile; `known` is the largest magnitude that its scale is made of, or 0 where that is its own.
  void round(const float* x, Index count, std::uint32_t known, Index token, Index tile, bool transposed) {
    if (count < kTileColumns) {
      float whole[kTileColumns] = {};
      std::copy(x, x + count, whole);
      return round(whole, kTileColumns, known, token, tile, transposed);
    }
    const auto at = static_cast<std::size_t>(token * tiles_ + tile);
    std::int8_t* target = numbers_.data() + static_cast<Index>(at) * kTileColumns;
    const std::uint32_t bits = known != 0 ? known : largestBits(x);
    const bool finite = bits < 0x7f800000u;
    const float largest = finite ? std::bit_cast<float>(bits) : 0.f;
    const float lift = largest < 0x1p-100f ? 0x1p100f : 1.f;  // so that 127 / largest is finite
    scales_[at] = finite ? largest * lift / 127 / lift : std::numeric_limits<float>::quiet_NaN();
    if (largest == 0) return;

    constexpr float kToInteger = 0x1.8p23f;  // adding it rounds to an integer, ties to even, in the lowest bits
    const float inverse = 127 / (largest * lift);
    simd::Ints sum{};
    simd::unroll<kRegisters>([&](auto r) {
      const simd::Floats scaled = simd::load<simd::Floats>(x + r * simd::kWordLanes) * lift * inverse;
      const auto q = (simd::Ints)(scaled + kToInteger) - std::bit_cast<std::int32_t>(kToInteger);
      simd::store(target + r * simd::kWordLanes, __builtin_convertvector(q, simd::Vec<std::int8_t, simd::kWordLanes>));
      sum += q;
    });
    for (int lane = 0; lane < simd::kWordLanes; ++lane) sums_[at] += sum[lane];
    if (transposed) transpose(target, Indices{});
  }

  template <int... I>
  static void transpose(std::int8_t* numbers, std::integer_sequence<int, I...>) {
    constexpr int kHalf = sizeof...(I);
    const auto first = simd::load<Half>(numbers), second = simd::load<Half>(numbers + kHalf);
    simd::store(numbers, __builtin_shufflevector(first, second, (I / 4 + 8 * (I % 4))...));
    simd::store(numbers + kHalf, __builtin_shufflevector(first, second, ((I + kHalf) / 4 + 8 * (I % 4))...));
  }

  /// The largest magnitudeBits() of a tile.
  static std::uint32_t largestBits(const float* x) {
    simd::Ints largest{};
    simd::unroll<kRegisters>([&](auto r) {
      const auto bits = (simd::Ints)(simd::load<simd::Words>(x + r * simd::kWordLanes) & 0x7fffffffu);
      largest = bits > largest ? bits : largest;
    });
    std::int32_t result = 0;
    for (int lane = 0; lane < simd::kWordLanes; ++lane) result = std::max(result, largest[lane]);
    return static_cast<std::uint32_t>(result);
  }

  Index tiles_, tokens_;
  AlignedVector<std::int8_t> numbers_;
  AlignedVector<float> scales_;
  AlignedVector<std::int32_t> sums_;
};

/// x (n x t) as ScaleReach::kToken has it, in floats again: for products that have no kernel for bytes.
inline Eigen::MatrixXf roundedPerToken(const Eigen::Ref<const Eigen::MatrixXf>& x) {
  const RoundedActivations rounded(x.data(), x.rows(), x.cols(), x.outerStride(), false, ScaleReach::kToken);
  Eigen::MatrixXf result(x.rows(), x.cols());
  for (Index token = 0; token < x.cols(); ++token) {
    for (Index j = 0; j < x.rows(); ++j) {
      const Index tile = j / kTileColumns;
      const auto q = static_cast<float>(rounded.numbers(token, tile)[j % kTileColumns]);
      result(j, token) = rounded.scale(token, tile) * q;
    }
  }
  return result;
}

}  // namespace gosset::detail
