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
#include <vector>

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
///
/// Where a few numbers of a tile dwarf the others, these would be lost in the steps of the common scale. So the few are
/// taken out into an extra part, 32 numbers with a scale of their own that are 0 elsewhere, and the rest is rounded
/// anew, until neither of two signs of it is left (not where a token has one scale, as published methods have it). With
/// c = the mean of min(|q|, 24), over the numbers of a tile that are not 0:
///
///   within a tile    c >= 7 without the largest number            tiles of Gaussian numbers: 19, hardly ever below 12
///   within a token   scale <= 0.12 L, L the mean of scale c       Gaussian: 0.06 L; fewer than 1 tile in 5000 is split
///
/// From the second: scale / sqrt(12), the root mean square of rounding errors, is at most 0.035 L, and L is 0.3 of the
/// numbers' root mean square where they are Gaussian, less elsewhere. So the errors are 0.5% of what is rounded where
/// it is Gaussian and nowhere above 1.1%: silu(u) v has 0.65%. L counts a number by 24 steps of its scale at most, so
/// what dwarfs the others hardly raises it, and the bound stays one for the others where they are all that the weights
/// see: measured with up to eight numbers of any size in up to a quarter of the tiles, below 0.95% of the product of
/// the others. What is left: numbers 5 to 30 times as large as the others, in most tiles, weights vanishing there, come
/// to 2.4% (one a tile) or 6% (eight a tile) of the product of the others; larger ones are told apart.
///
/// All of it is decided in integers and by exact products in double, so the parts are the same on every machine.
class RoundedActivations {
 public:
  /// What is added to the numbers of a tile.
  struct Extra {
    Index token, tile;
    float scale;
    std::int32_t sum;
    alignas(32) std::int8_t numbers[kTileColumns];
  };

  /// x: n x t, column-major, columns `stride` apart.
  RoundedActivations(const float* x, Index n, Index tokens, Index stride, bool transposed,
                     ScaleReach reach = ScaleReach::kTile)
      : n_(n),
        tiles_(ceilDiv(n, kTileColumns)),
        tokens_(tokens),
        transposed_(transposed),
        numbers_(static_cast<std::size_t>(tokens * tiles_ * kTileColumns)),
        scales_(static_cast<std::size_t>(tokens * tiles_)),
        sums_(scales_.size()) {
    std::vector<std::vector<Extra>> extras(static_cast<std::size_t>(tokens));
    parallelFor(tokens, n, [&](Index token) {
      const float* numbers = x + token * stride;
      if (reach == ScaleReach::kToken) return roundWithOneScale(numbers, token);
      roundToken(numbers, token, extras[static_cast<std::size_t>(token)]);
    });
    for (const auto& of_token : extras) extras_.insert(extras_.end(), of_token.begin(), of_token.end());
    std::stable_sort(extras_.begin(), extras_.end(), [](const Extra& a, const Extra& b) { return a.tile < b.tile; });
  }

  Index tokens() const { return tokens_; }
  Index tiles() const { return tiles_; }
  /// The 32 numbers of a tile.
  const std::int8_t* numbers(Index token, Index tile) const {
    return numbers_.data() + (token * tiles_ + tile) * kTileColumns;
  }
  float scale(Index token, Index tile) const { return scales_[at(token, tile)]; }
  /// The sum of the 32 numbers of a tile.
  std::int32_t sum(Index token, Index tile) const { return sums_[at(token, tile)]; }
  /// In the order of tiles, then of tokens.
  const std::vector<Extra>& extras() const { return extras_; }

 private:
  using Half = simd::Vec<std::int8_t, static_cast<int>(kTileColumns) / 2>;  // which every register holds
  using Indices = std::make_integer_sequence<int, static_cast<int>(kTileColumns) / 2>;
  static constexpr int kRegisters = static_cast<int>(kTileColumns) / simd::kWordLanes;
  static constexpr int kClip = 24, kLeastMean = 7;
  static constexpr double kLargestScale = 0.12;

  /// What a part's numbers that are not 0 look like: how many, and the sum of min(|q|, kClip).
  struct Measure {
    std::int32_t clipped, count;
    bool dwarfed() const { return count > 1 && clipped - kClip < kLeastMean * (count - 1); }
  };

  std::size_t at(Index token, Index tile) const { return static_cast<std::size_t>(token * tiles_ + tile); }

  /// |x| as bits, which order floats and put infinity and NaN above them.
  static std::uint32_t magnitudeBits(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

  /// The numbers of a tile, filled up in `whole` if need be.
  const float* tileOf(const float* x, Index tile, float* whole) const {
    const Index first = tile * kTileColumns, count = n_ - first;
    if (count >= kTileColumns) return x + first;
    std::fill(std::copy(x + first, x + n_, whole), whole + kTileColumns, 0.f);
    return whole;
  }

  void roundWithOneScale(const float* x, Index token) {
    float whole[kTileColumns];
    std::uint32_t largest = 0;
    for (Index j = 0; j < n_; ++j) largest = std::max(largest, magnitudeBits(x[j]));
    for (Index tile = 0; tile < tiles_; ++tile) roundMain(tileOf(x, tile, whole), largest, token, tile);
  }

  void roundToken(const float* x, Index token, std::vector<Extra>& extras) {
    float whole[kTileColumns], rest[kTileColumns];
    double level = 0;
    Index count = 0;
    for (Index tile = 0; tile < tiles_; ++tile) {
      const float* numbers = tileOf(x, tile, whole);
      Measure measure = roundMain(numbers, largestBits(numbers), token, tile);
      if (measure.dwarfed()) {
        std::copy_n(numbers, kTileColumns, rest);
        measure = roundInParts(rest, token, tile, extras);
      }
      level += static_cast<double>(scale(token, tile)) * measure.clipped;
      count += measure.count;
    }
    if (!(level > 0)) return;  // NaN stays
    const auto limit = static_cast<float>(kLargestScale * level / static_cast<double>(count));
    for (Index tile = 0; tile < tiles_; ++tile) {
      if (scale(token, tile) > limit) limitScale(tileOf(x, tile, whole), limit, token, tile, extras);
    }
  }

  /// A tile's numbers, but for those that dwarf the others, which become extra parts.
  Measure roundInParts(float* x, Index token, Index tile, std::vector<Extra>& extras) {
    const Measure measure = addParts(x, token, tile, extras);
    const Extra& last = extras.back();
    const std::size_t to = at(token, tile);
    std::copy_n(last.numbers, kTileColumns, numbers_.data() + static_cast<Index>(to) * kTileColumns);
    scales_[to] = last.scale;
    sums_[to] = last.sum;
    extras.pop_back();
    return measure;
  }

  /// A tile anew, such that its scale keeps to a limit.
  void limitScale(const float* x, float limit, Index token, Index tile, std::vector<Extra>& extras) {
    std::erase_if(extras, [&](const Extra& extra) { return extra.tile == tile; });
    float rest[kTileColumns], large[kTileColumns];
    std::copy_n(x, kTileColumns, rest);
    takeOut(rest, limit * 127, large);
    addParts(large, token, tile, extras);
    roundInParts(rest, token, tile, extras);
  }

  /// 32 numbers in as many extra parts as they need, the smallest last.
  Measure addParts(float* x, Index token, Index tile, std::vector<Extra>& extras) const {
    for (;;) {
      const Measure measure = addExtra(x, token, tile, extras);
      if (!measure.dwarfed()) return measure;
      float large[kTileColumns];
      takeOut(x, extras.back().scale * (kClip - 0.5f), large);
      extras.pop_back();
      addExtra(large, token, tile, extras);
    }
  }

  /// Moves numbers of at least this magnitude from x to `large`.
  static void takeOut(float* x, float bound, float* large) {
    for (int i = 0; i < kTileColumns; ++i) {
      const bool moves = std::abs(x[i]) >= bound;
      large[i] = moves ? x[i] : 0.f;
      x[i] = moves ? 0.f : x[i];
    }
  }

  Measure addExtra(const float* x, Index token, Index tile, std::vector<Extra>& extras) const {
    Extra& extra = extras.emplace_back();
    extra.token = token;
    extra.tile = tile;
    return round(x, largestBits(x), extra.numbers, extra.scale, extra.sum);
  }

  Measure roundMain(const float* x, std::uint32_t largest, Index token, Index tile) {
    const std::size_t to = at(token, tile);
    return round(x, largest, numbers_.data() + static_cast<Index>(to) * kTileColumns, scales_[to], sums_[to]);
  }

  /// 32 numbers with the scale that the bits of a magnitude give.
  Measure round(const float* x, std::uint32_t bits, std::int8_t* target, float& scale, std::int32_t& sum) const {
    const bool finite = bits < 0x7f800000u;
    const float largest = finite ? std::bit_cast<float>(bits) : 0.f;
    const float lift = largest < 0x1p-100f ? 0x1p100f : 1.f;  // so that 127 / largest is finite
    scale = finite ? largest * lift / 127 / lift : std::numeric_limits<float>::quiet_NaN();
    sum = 0;
    if (largest == 0) {
      std::fill_n(target, kTileColumns, std::int8_t{0});
      return {0, 0};
    }
    constexpr float kToInteger = 0x1.8p23f;  // adding it rounds to an integer, ties to even, in the lowest bits
    const float inverse = 127 / (largest * lift);
    // Three sums in one: of q in 13 bits with a sign, of min(|q|, kClip) in the next 11, of numbers that are not 0.
    static_assert(kTileColumns * 127 < 1 << 12 && kTileColumns * kClip < 1 << 11);
    simd::Ints sums{};
    simd::unroll<kRegisters>([&](auto r) {
      const auto from = simd::load<simd::Floats>(x + r * simd::kWordLanes);
      const auto q =
          (simd::Ints)(simd::inRegister(from * lift * inverse) + kToInteger) - std::bit_cast<std::int32_t>(kToInteger);
      simd::store(target + r * simd::kWordLanes, __builtin_convertvector(q, simd::Vec<std::int8_t, simd::kWordLanes>));
      const simd::Ints size = q < 0 ? -q : q, clip = simd::splat<simd::Ints>(kClip);
      sums += q + ((size < clip ? size : clip) << 13) + ((from != 0.f) & (1 << 24));
    });
    const std::int32_t total = simd::overLanes(sums, [](auto a, auto b) { return a + b; });
    sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(total) << 19) >> 19;
    const std::int32_t measures = (total - sum) >> 13;
    if (transposed_) transpose(target, Indices{});
    return {measures & 0x7ff, measures >> 11};
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
    const auto larger = [](auto a, auto b) { return a > b ? a : b; };
    simd::Ints largest{};
    simd::unroll<kRegisters>([&](auto r) {
      largest = larger((simd::Ints)(simd::load<simd::Words>(x + r * simd::kWordLanes) & 0x7fffffffu), largest);
    });
    return static_cast<std::uint32_t>(simd::overLanes(largest, larger));
  }

  Index n_, tiles_, tokens_;
  bool transposed_;
  AlignedVector<std::int8_t> numbers_;
  AlignedVector<float> scales_;
  AlignedVector<std::int32_t> sums_;
  std::vector<Extra> extras_;
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
