// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// How many numbers of a token share a scale: the 32 of a slice, or all.
enum class ScaleReach { kSlice, kToken };

/// Activations in 8 bits: t tokens of n numbers, padded with zeros to slices of 32, that share a scale; or one scale
/// for all of a token.
///
///   x ~ scale * q,  scale = max |x| / 127,  q = -127 .. 127 the nearest integer, ties to even
///
/// So |x - scale q| <= scale / 2; on Gaussian activations the relative root mean square error is 0.5%, and about that
/// is the relative error of a product. Which numbers a slice has, and in which order, is what TileCode<C>::Order says:
/// four at a time for each of its 8 registers. Where NaN or an infinity is among them the scale is NaN.
///
/// Where a few numbers of a slice dwarf the others, these would be lost in the steps of the common scale. So the few
/// are taken out into an extra part, 32 numbers with a scale of their own that are 0 elsewhere, and the rest is rounded
/// anew, until neither of two signs of it is left (not where a token has one scale, as published methods have it). With
/// c = the mean of min(|q|, 24), over the numbers of a slice that are not 0:
///
///   within a slice   c >= 7 without the largest number            slices of Gaussian numbers: 19, hardly ever below 12
///   within a token   scale <= 0.12 L, L the mean of scale c       Gaussian: 0.06 L; fewer than 1 slice in 5000 is
///   split
///
/// From the second: scale / sqrt(12), the root mean square of rounding errors, is at most 0.035 L, and L is 0.3 of the
/// numbers' root mean square where they are Gaussian, less elsewhere. So the errors are 0.5% of what is rounded where
/// it is Gaussian and nowhere above 1.1%: silu(u) v has 0.65%. L counts a number by 24 steps of its scale at most, so
/// what dwarfs the others hardly raises it, and the bound stays one for the others where they are all that the weights
/// see: measured with up to eight numbers of any size in up to a quarter of the slices, below 0.95% of the product of
/// the others. What is left: numbers 5 to 30 times as large as the others, in most slices, weights vanishing there,
/// come to 2.4% (one a slice) or 6% (eight a slice) of the product of the others; larger ones are told apart.
///
/// All of it is decided in integers and by exact products in double, so the parts are the same on every machine.
class RoundedActivations {
 public:
  /// What is added to the numbers of a slice.
  struct Extra {
    Index token, slice;
    float scale;
    std::int32_t sum;
    alignas(32) std::int8_t numbers[kSliceColumns];
  };

  /// x: n x t, column-major, columns `stride` apart.
  template <class Order>
  RoundedActivations(const float* x, Index n, Index tokens, Index stride, Order, ScaleReach reach = ScaleReach::kSlice)
      : n_(n),
        slices_(ceilDiv(n, Order::kSlices * kSliceColumns) * Order::kSlices),
        tokens_(tokens),
        numbers_(static_cast<std::size_t>(tokens * slices_ * kSliceColumns)),
        scales_(static_cast<std::size_t>(tokens * slices_)),
        sums_(scales_.size()) {
    std::vector<std::vector<Extra> > extras(static_cast<std::size_t>(tokens));
    parallelFor(tokens, n, [&](Index token) {
      auto& of_token = extras[static_cast<std::size_t>(token)];
      if (reach == ScaleReach::kToken) {
        roundWithOneScale<Order>(x + token * stride, token);
      } else {
        roundToken<Order>(x + token * stride, token, of_token);
      }
      if constexpr (kMoves<Order>) {
        for (Index slice = 0; slice < slices_; ++slice)
          arrange<Order>(numbers_.data() + first(token, slice), Indices{});
        for (Extra& extra : of_token) arrange<Order>(extra.numbers, Indices{});
      }
    });
    for (const auto& of_token : extras) extras_.insert(extras_.end(), of_token.begin(), of_token.end());
    std::stable_sort(extras_.begin(), extras_.end(), [](const Extra& a, const Extra& b) { return a.slice < b.slice; });
  }

  Index tokens() const { return tokens_; }
  Index slices() const { return slices_; }
  /// The 32 numbers of a slice.
  const std::int8_t* numbers(Index token, Index slice) const { return numbers_.data() + first(token, slice); }
  float scale(Index token, Index slice) const { return scales_[at(token, slice)]; }
  /// The sum of the 32 numbers of a slice.
  std::int32_t sum(Index token, Index slice) const { return sums_[at(token, slice)]; }
  /// Where a token's numbers, scales and sums begin, for inner loops: 32 numbers for each slice, one of the others.
  struct Token {
    const std::int8_t* numbers;
    const float* scales;
    const std::int32_t* sums;
  };
  Token token(Index i) const { return {numbers(i, 0), scales_.data() + i * slices_, sums_.data() + i * slices_}; }
  /// In the order of slices, then of tokens.
  const std::vector<Extra>& extras() const { return extras_; }

 private:
  using Half = simd::Vec<std::int8_t, static_cast<int>(kSliceColumns) / 2>;  // which every register holds
  using Indices = std::make_integer_sequence<int, static_cast<int>(kSliceColumns) / 2>;
  static constexpr int kRegisters = static_cast<int>(kSliceColumns) / simd::kWordLanes;
  static constexpr int kClip = 24, kLeastMean = 7;
  static constexpr double kLargestScale = 0.12;

  /// What a part's numbers that are not 0 look like: how many, and the sum of min(|q|, kClip).
  struct Measure {
    std::int32_t clipped, count;
    bool dwarfed() const { return count > 1 && clipped - kClip < kLeastMean * (count - 1); }
  };

  std::size_t at(Index token, Index slice) const { return static_cast<std::size_t>(token * slices_ + slice); }
  Index first(Index token, Index slice) const { return (token * slices_ + slice) * kSliceColumns; }

  /// |x| as bits, which order floats and put infinity and NaN above them.
  static std::uint32_t magnitudeBits(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

  /// The numbers of a slice, gathered or filled up in `whole` if need be. (Within a slice they are moved later, as
  /// bytes.)
  template <class Order>
  const float* sliceOf(const float* x, Index slice, float* whole) const {
    constexpr Index kColumns = Order::kSlices * kSliceColumns;
    const float* from = x + slice / Order::kSlices * kColumns;
    const Index left = x + n_ - from;
    if constexpr (Order::kSlices == 1) {
      if (left >= kColumns) return from;
      std::fill(std::copy(from, from + left, whole), whole + kColumns, 0.f);
    } else {
      const int s = static_cast<int>(slice % Order::kSlices);
      for (int i = 0; i < kSliceColumns; ++i) {
        const int column = Order::column(s, i / 4, i % 4);
        whole[i] = left >= kColumns || column < left ? from[column] : 0.f;
      }
    }
    return whole;
  }

  template <class Order>
  void roundWithOneScale(const float* x, Index token) {
    float whole[kSliceColumns];
    std::uint32_t largest = 0;
    for (Index j = 0; j < n_; ++j) largest = std::max(largest, magnitudeBits(x[j]));
    for (Index slice = 0; slice < slices_; ++slice) roundMain(sliceOf<Order>(x, slice, whole), largest, token, slice);
  }

  template <class Order>
  void roundToken(const float* x, Index token, std::vector<Extra>& extras) {
    float whole[kSliceColumns], rest[kSliceColumns];
    double level = 0;
    Index count = 0;
    for (Index slice = 0; slice < slices_; ++slice) {
      const float* numbers = sliceOf<Order>(x, slice, whole);
      Measure measure = roundMain(numbers, largestBits(numbers), token, slice);
      if (measure.dwarfed()) {
        std::copy_n(numbers, kSliceColumns, rest);
        measure = roundInParts(rest, token, slice, extras);
      }
      level += static_cast<double>(scale(token, slice)) * measure.clipped;
      count += measure.count;
    }
    if (!(level > 0)) return;  // NaN stays
    const auto limit = static_cast<float>(kLargestScale * level / static_cast<double>(count));
    for (Index slice = 0; slice < slices_; ++slice) {
      if (scale(token, slice) > limit) limitScale(sliceOf<Order>(x, slice, whole), limit, token, slice, extras);
    }
  }

  /// A slice's numbers, but for those that dwarf the others, which become extra parts.
  Measure roundInParts(float* x, Index token, Index slice, std::vector<Extra>& extras) {
    const Measure measure = addParts(x, token, slice, extras);
    const Extra& last = extras.back();
    const std::size_t to = at(token, slice);
    std::copy_n(last.numbers, kSliceColumns, numbers_.data() + first(token, slice));
    scales_[to] = last.scale;
    sums_[to] = last.sum;
    extras.pop_back();
    return measure;
  }

  /// A slice anew, such that its scale keeps to a limit.
  void limitScale(const float* x, float limit, Index token, Index slice, std::vector<Extra>& extras) {
    std::erase_if(extras, [&](const Extra& extra) { return extra.slice == slice; });
    float rest[kSliceColumns], large[kSliceColumns];
    std::copy_n(x, kSliceColumns, rest);
    takeOut(rest, limit * 127, large);
    addParts(large, token, slice, extras);
    roundInParts(rest, token, slice, extras);
  }

  /// 32 numbers in as many extra parts as they need, the smallest last.
  Measure addParts(float* x, Index token, Index slice, std::vector<Extra>& extras) const {
    for (;;) {
      const Measure measure = addExtra(x, token, slice, extras);
      if (!measure.dwarfed()) return measure;
      float large[kSliceColumns];
      takeOut(x, extras.back().scale * (kClip - 0.5f), large);
      extras.pop_back();
      addExtra(large, token, slice, extras);
    }
  }

  /// Moves numbers of at least this magnitude from x to `large`.
  static void takeOut(float* x, float bound, float* large) {
    for (int i = 0; i < kSliceColumns; ++i) {
      const bool moves = std::abs(x[i]) >= bound;
      large[i] = moves ? x[i] : 0.f;
      x[i] = moves ? 0.f : x[i];
    }
  }

  Measure addExtra(const float* x, Index token, Index slice, std::vector<Extra>& extras) const {
    Extra& extra = extras.emplace_back();
    extra.token = token;
    extra.slice = slice;
    return round(x, largestBits(x), extra.numbers, extra.scale, extra.sum);
  }

  Measure roundMain(const float* x, std::uint32_t largest, Index token, Index slice) {
    const std::size_t to = at(token, slice);
    return round(x, largest, numbers_.data() + first(token, slice), scales_[to], sums_[to]);
  }

  /// 32 numbers with the scale that the bits of a magnitude give.
  Measure round(const float* x, std::uint32_t bits, std::int8_t* target, float& scale, std::int32_t& sum) const {
    const bool finite = bits < 0x7f800000u;
    const float largest = finite ? std::bit_cast<float>(bits) : 0.f;
    const float lift = largest < 0x1p-100f ? 0x1p100f : 1.f;  // so that 127 / largest is finite
    scale = finite ? largest * lift / 127 / lift : std::numeric_limits<float>::quiet_NaN();
    sum = 0;
    if (largest == 0) {
      std::fill_n(target, kSliceColumns, std::int8_t{0});
      return {0, 0};
    }
    constexpr float kToInteger = 0x1.8p23f;  // adding it rounds to an integer, ties to even, in the lowest bits
    const float inverse = 127 / (largest * lift);
    // Three sums in one: of q in 13 bits with a sign, of min(|q|, kClip) in the next 11, of numbers that are not 0.
    static_assert(kSliceColumns * 127 < 1 << 12 && kSliceColumns * kClip < 1 << 11);
    simd::Ints sums{};
    simd::unroll<kRegisters>([&](int r) __attribute__((always_inline)) {
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
    return {measures & 0x7ff, measures >> 11};
  }

  template <class Order, int... I>
  static void arrange(std::int8_t* numbers, std::integer_sequence<int, I...>) {
    constexpr int kHalf = sizeof...(I);
    const auto low = simd::load<Half>(numbers), high = simd::load<Half>(numbers + kHalf);
    simd::store(numbers, __builtin_shufflevector(low, high, (Order::column(0, I / 4, I % 4))...));
    simd::store(numbers + kHalf, __builtin_shufflevector(low, high, (Order::column(0, (I + kHalf) / 4, I % 4))...));
  }

  /// The largest magnitudeBits() of a slice.
  static std::uint32_t largestBits(const float* x) {
    const auto larger = [](auto a, auto b) { return a > b ? a : b; };
    simd::Ints largest{};
    simd::unroll<kRegisters>([&](int r) __attribute__((always_inline)) {
      largest = larger((simd::Ints)(simd::load<simd::Words>(x + r * simd::kWordLanes) & 0x7fffffffu), largest);
    });
    return static_cast<std::uint32_t>(simd::overLanes(largest, larger));
  }

  Index n_, slices_, tokens_;
  AlignedVector<std::int8_t> numbers_;
  AlignedVector<float> scales_;
  AlignedVector<std::int32_t> sums_;
  std::vector<Extra> extras_;
};

/// x (n x t) as ScaleReach::kToken has it, in floats again: for products that have no kernel for bytes.
inline Eigen::MatrixXf roundedPerToken(const Eigen::Ref<const Eigen::MatrixXf>& x) {
  const RoundedActivations rounded(x.data(), x.rows(), x.cols(), x.outerStride(), InOrder{}, ScaleReach::kToken);
  Eigen::MatrixXf result(x.rows(), x.cols());
  for (Index token = 0; token < x.cols(); ++token) {
    for (Index j = 0; j < x.rows(); ++j) {
      const Index slice = j / kSliceColumns;
      const auto q = static_cast<float>(rounded.numbers(token, slice)[j % kSliceColumns]);
      result(j, token) = rounded.scale(token, slice) * q;
    }
  }
  return result;
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
