// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/kernel/kernels.hpp>
#else

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

// y = W x for layouts that keep rows by themselves: a row becomes signed bytes, one a number, and a scale and a minimum
// for each 16 of them, and meets activations rounded to 8 bits:
//
//   sum_j w_j x_j  =  sum over 16s of  scale xs sum_j level_j q_j  -  min xs sum_j q_j,   x_j ~ xs q_j
//
// The sums over bytes are integers, exact. The sums of floats have sixteen lanes, four columns each, on every machine,
// and products are rounded before they are added: the same bits everywhere.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

inline constexpr Index kRowGroup = 16;  ///< numbers that share a scale here
inline constexpr Index kRowStep = 256;  ///< rows are filled up to multiples of

/// A row as such products take it, filled up with zeros.
class RowBytes {
 public:
  explicit RowBytes(Index n)
      : levels_(static_cast<std::size_t>(ceilDiv(n, kRowStep) * kRowStep)),
        scales_(static_cast<std::size_t>(paddedGroups(n))),
        mins_(scales_.size()) {}

  static Index paddedGroups(Index n) { return ceilDiv(n, kRowStep) * kRowStep / kRowGroup; }

  std::int8_t* levels() { return levels_.data(); }
  float* scales() { return scales_.data(); }
  float* mins() { return mins_.data(); }
  const std::int8_t* levels() const { return levels_.data(); }
  const float* scales() const { return scales_.data(); }
  const float* mins() const { return mins_.data(); }

 private:
  AlignedVector<std::int8_t> levels_;
  AlignedVector<float> scales_, mins_;
};

/// Activations as such products take them.
class RowActivations {
 public:
  /// zero: what is added to levels to make them unsigned.
  RowActivations(const RoundedActivations& x, Index n, int zero)
      : steps_(ceilDiv(n, kRowStep)),
        groups_(RowBytes::paddedGroups(n)),
        numbers_(static_cast<std::size_t>(x.tokens() * steps_ * kRowStep)),
        starts_(numbers_.size() / 4),
        scales_(static_cast<std::size_t>(x.tokens() * groups_)),
        sums_(scales_.size()),
        extras_(x.extras()) {
    for (Index token = 0; token < x.tokens(); ++token) {
      std::int8_t* numbers = numbers_.data() + token * steps_ * kRowStep;
      std::copy_n(x.numbers(token, 0), x.slices() * kSliceColumns, numbers);
      for (Index i = 0; i < steps_ * kRowStep; ++i) {
        starts_[static_cast<std::size_t>((token * steps_ * kRowStep + i) / 4)] -= zero * numbers[i];
      }
      for (Index group = 0; group < x.slices() * (kSliceColumns / kRowGroup); ++group) {
        std::int32_t sum = 0;
        for (Index i = 0; i < kRowGroup; ++i) sum += numbers[group * kRowGroup + i];
        const auto at = static_cast<std::size_t>(token * groups_ + group);
        scales_[at] = x.scale(token, group * kRowGroup / kSliceColumns);
        sums_[at] = scales_[at] * static_cast<float>(sum);
      }
    }
  }

  Index steps() const { return steps_; }
  Index groups() const { return groups_; }
  const std::int8_t* numbers(Index token) const { return numbers_.data() + token * steps_ * kRowStep; }
  /// Where the sums of four products each start: minus zero times the sum of four numbers.
  const std::int32_t* starts(Index token) const { return starts_.data() + token * steps_ * kRowStep / 4; }
  /// For each group of 16 the scale, and it times the sum of the numbers.
  const float* scales(Index token) const { return scales_.data() + token * groups_; }
  const float* sums(Index token) const { return sums_.data() + token * groups_; }
  const std::vector<RoundedActivations::Extra>& extras() const { return extras_; }

 private:
  Index steps_, groups_;
  AlignedVector<std::int8_t> numbers_;
  AlignedVector<std::int32_t> starts_;
  AlignedVector<float> scales_, sums_;
  std::vector<RoundedActivations::Extra> extras_;
};

/// Registers that hold the sixteen lanes of sums.
inline constexpr int kSumRegisters = 16 / simd::kWordLanes;

/// Of a scale a lane those of quarter k, four times each.
template <int k>
[[gnu::always_inline]] inline simd::Floats spreadByFours(simd::Floats scales) {
  return [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    return __builtin_shufflevector(scales, scales, (k * simd::kWordLanes / 4 + I / 4)...);
  }
  (std::make_integer_sequence<int, simd::kWordLanes>{});
}

/// The sum of a[i] b[i], count a multiple of 16, in sixteen lanes.
inline float groupDot(const float* a, const float* b, Index count) {
  simd::Floats sums[kSumRegisters] = {};
  for (Index i = 0; i < count; i += kRowGroup) {
    simd::unroll<kSumRegisters>([&](auto r) __attribute__((always_inline)) {
      constexpr int kAt = r * simd::kWordLanes;
      sums[r] =
          simd::multiplyAdd(simd::load<simd::Floats>(a + i + kAt), simd::load<simd::Floats>(b + i + kAt), sums[r]);
    });
  }
  return simd::sumInHalves<kSumRegisters>(sums);
}

/// The product of a row and a token but for its extra parts. kSmall: no level plus zero exceeds 127.
template <bool kSmall, bool kHasMin>
float rowDot(const RowBytes& row, const RowActivations& x, Index token, int zero) {
  const float *scales = row.scales(), *of_x = x.scales(token);
  const std::int8_t *levels = row.levels(), *numbers = x.numbers(token);
  const std::int32_t* starts = x.starts(token);
  const auto up = simd::splat<simd::Bytes>(static_cast<std::uint8_t>(zero));
  simd::Floats sums[kSumRegisters] = {};
  for (Index group = 0; group < x.groups(); group += simd::kWordLanes) {
    const simd::Floats scale = simd::load<simd::Floats>(scales + group) * simd::load<simd::Floats>(of_x + group);
    simd::unroll<4>([&](auto k) __attribute__((always_inline)) {
      const Index at = group * kRowGroup + k * simd::kByteLanes;
      const auto bytes = simd::load<simd::Bytes>(levels + at) + up;
      const auto dots =
          simd::dot<kSmall>(simd::load<simd::Ints>(starts + at / 4), bytes, simd::load<simd::Ints>(numbers + at));
      simd::Floats& sum = sums[k % kSumRegisters];
      sum = simd::multiplyAdd(simd::toFloats(dots), spreadByFours<k>(scale), sum);
    });
  }
  const float sum = simd::sumInHalves<kSumRegisters>(sums);
  if constexpr (kHasMin) return sum - groupDot(row.mins(), x.sums(token), x.groups());
  return sum;
}

/// What a token's extra part adds.
template <bool kHasMin>
float extraDot(const RowBytes& row, const RoundedActivations::Extra& extra) {
  float result = 0;
  for (Index half = 0; half < kSliceColumns / kRowGroup; ++half) {
    const Index group = extra.slice * (kSliceColumns / kRowGroup) + half;
    const std::int8_t* levels = row.levels() + group * kRowGroup;
    const std::int8_t* numbers = extra.numbers + half * kRowGroup;
    std::int32_t dot = 0, sum = 0;
    for (Index i = 0; i < kRowGroup; ++i) {
      dot += levels[i] * numbers[i];
      sum += numbers[i];
    }
    float value = simd::unfused(row.scales()[group] * static_cast<float>(dot));
    if constexpr (kHasMin) value -= simd::unfused(row.mins()[group] * static_cast<float>(sum));
    result += simd::unfused(value * extra.scale);
  }
  return result;
}

/// y (count x t, column-major, columns y_stride apart): rows that toBytes(i, row) makes, times rounded activations.
/// Levels plus zero are 0 .. 255, where kSmall 0 .. 127.
template <bool kSmall, bool kHasMin, class ToBytes>
void multiplyRowBytes(Index count, Index n, const ToBytes& toBytes, const RoundedActivations& rounded, int zero,
                      float* y, Index y_stride) {
  constexpr Index kChunk = 64, kRowsTogether = 4;  // rows of a task, and those that meet a token together
  const RowActivations x(rounded, n, zero);
  parallelFor(ceilDiv(count, kChunk), kChunk * n * (rounded.tokens() + 1) / 4, [&](Index chunk) {
    std::vector<RowBytes> rows;
    rows.reserve(static_cast<std::size_t>(kRowsTogether));
    for (Index i = 0; i < kRowsTogether; ++i) rows.emplace_back(n);
    const Index end = std::min((chunk + 1) * kChunk, count);
    for (Index first = chunk * kChunk; first < end; first += kRowsTogether) {
      const Index together = std::min(kRowsTogether, end - first);
      for (Index i = 0; i < together; ++i) toBytes(first + i, rows[static_cast<std::size_t>(i)]);
      for (Index token = 0; token < rounded.tokens(); ++token) {
        for (Index i = 0; i < together; ++i) {
          y[token * y_stride + first + i] = rowDot<kSmall, kHasMin>(rows[static_cast<std::size_t>(i)], x, token, zero);
        }
      }
      for (const auto& extra : x.extras()) {
        for (Index i = 0; i < together; ++i) {
          y[extra.token * y_stride + first + i] += extraDot<kHasMin>(rows[static_cast<std::size_t>(i)], extra);
        }
      }
    }
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
