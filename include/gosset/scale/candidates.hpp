// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

// Errors of sixteen maps of one group at once, a map a lane: quick and nearly right, to tell which of them are worth a
// second look.
namespace gosset::GOSSET_ABI::detail {

inline constexpr int kCandidates = 16;
using Candidates = std::array<Affine, kCandidates>;

/// Whether levels are consecutive integers, so that the nearest is found by rounding.
template <ScalarCodebook C>
constexpr bool hasUnitSteps() {
  for (int q = 1; q < C::kLevels; ++q) {
    const auto at = [](int code) { return C::level(static_cast<typename C::Code>(code)); };
    if (at(q) - at(q - 1) != 1 || at(q) != static_cast<float>(static_cast<int>(at(q)))) return false;
  }
  return true;
}

/// Codebooks for which a lane can find the nearest level in a few operations.
template <class C>
concept QuickCodebook = ConstexprLevels<C> &&(hasUnitSteps<C>() || C::kLevels <= 16);

/// The middles between neighbouring levels.
template <ScalarCodebook C>
constexpr std::array<float, static_cast<std::size_t>(C::kLevels - 1)> middles() {
  std::array<float, static_cast<std::size_t>(C::kLevels - 1)> result{};
  for (std::size_t q = 0; q < result.size(); ++q) {
    using Code = typename C::Code;
    result[q] = (C::level(static_cast<Code>(q)) + C::level(static_cast<Code>(q + 1))) / 2;
  }
  return result;
}

/// Squared errors of sixteen maps. Compilers may fuse a product and a sum on some machines, so each product here either
/// is exact, whose sum is the same fused or not, or loses a bit before anything is added, which no fused operation can
/// do. That leaves errors of numbers about 2^-11 of themselves away from what they are.
template <QuickCodebook C>
class CandidateErrors {
  using Floats = simd::Vec<float>;
  using Ints = simd::Vec<std::int32_t>;
  static constexpr int kLanes = simd::kLanes<float>, kParts = kCandidates / kLanes;

 public:
  explicit CandidateErrors(const Candidates& maps) {
    std::array<float, kCandidates> inverse, zero;
    for (std::size_t i = 0; i < kCandidates; ++i) {
      scales_[i] = maps[i].scale;
      inverse[i] = 1 / divisor(maps[i]);
      zero[i] = maps[i].zero;
    }
    for (int part = 0; part < kParts; ++part) {
      inverse_[part] = simd::load<Floats>(inverse.data() + part * kLanes);
      zero_[part] = simd::load<Floats>(zero.data() + part * kLanes);
    }
  }

  /// Infinite for maps of scale 0.
  std::array<double, kCandidates> operator()(std::span<const float> x) const {
    constexpr std::size_t kChunk = 512;  // how many squares float adds up well
    std::array<double, kCandidates> result{};
    for (std::size_t first = 0; first < x.size(); first += kChunk) {
      addSquares(x.subspan(first, std::min(kChunk, x.size() - first)), result);
    }
    for (std::size_t i = 0; i < kCandidates; ++i) {
      result[i] *= static_cast<double>(scales_[i]) * static_cast<double>(scales_[i]);
      if (!(scales_[i] > 0)) result[i] = std::numeric_limits<double>::infinity();
    }
    return result;
  }

 private:
  /// x without its last `Bits` bits.
  template <int Bits>
  static Floats shortened(Floats x) {
    return reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & ~((std::int32_t{1} << Bits) - 1));
  }

  static Floats nearestLevel(Floats x) {
    if constexpr (hasUnitSteps<C>()) {
      constexpr float kFirst = C::level(0), kLast = C::level(static_cast<typename C::Code>(C::kLevels - 1));
      constexpr float kShift = 12582912.f;  // as in roundToEven
      const Floats first = simd::splat<Floats>(kFirst), last = simd::splat<Floats>(kLast);
      x = x < first ? first : x;
      x = x > last ? last : x;
      return (x + kShift) - kShift;
    } else {
      static constexpr auto kMiddles = middles<C>();
      Floats level = simd::splat<Floats>(C::level(0));
      simd::unroll<C::kLevels - 1>([&](auto q) {
        constexpr float kNext = C::level(static_cast<typename C::Code>(q + 1));
        level = x < kMiddles[q] ? level : simd::splat<Floats>(kNext);
      });
      return level;
    }
  }

  /// Adds the squared errors, in units of the squared scales, of a few numbers.
  void addSquares(std::span<const float> x, std::array<double, kCandidates>& result) const {
    // Where a square is too small to be exact, its last bits are lost in a sum that starts here.
    constexpr float kStart = 0x1p-60f;
    Floats sums[kParts];
    std::fill(sums, sums + kParts, simd::splat<Floats>(kStart));
    for (const float value : x) {
      simd::unroll<kParts>([&](auto part) {
        Floats level = shortened<1>(value * inverse_[part]);
        if constexpr (C::kHasZero) level = level + zero_[part];
        const Floats error = shortened<12>(level - nearestLevel(level));
        sums[part] += error * error;
      });
    }
    float lanes[kCandidates];
    std::memcpy(lanes, sums, sizeof lanes);
    for (std::size_t i = 0; i < kCandidates; ++i) result[i] += static_cast<double>(lanes[i]);
  }

  std::array<float, kCandidates> scales_;
  Floats inverse_[kParts], zero_[kParts];
};

}  // namespace gosset::GOSSET_ABI::detail
