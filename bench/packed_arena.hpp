// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook.hpp>
#include <gosset/core/random.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kernel/product.hpp>
#include <gosset/kernel/trellis_tile.hpp>
#include <gosset/kernel/trits5_tile.hpp>

#include <cstdint>
#include <vector>

// What the benchmarks of products have in common: memory that stands for packed matrices of any format.
namespace gosset::bench {

/// Memory filled with 16-bit floats between 2^-5 and 2^-1, either sign, which also are normal floats and all codes.
class Arena {
 public:
  explicit Arena(std::size_t bytes) : bytes_(bytes) {
    auto* words = reinterpret_cast<std::uint64_t*>(bytes_.data());
    for (std::size_t i = 0; i < bytes / 8; ++i) {
      words[i] = (randomBits(1, i) & 0x8fff8fff8fff8fffu) | 0x2800280028002800u;
    }
  }
  std::size_t size() const { return bytes_.size(); }
  const std::uint8_t* data() const { return bytes_.data(); }

  static const Arena& instance() {
    static const Arena arena(std::size_t{1200} << 20);
    return arena;
  }

 private:
  gosset::detail::AlignedVector<std::uint8_t> bytes_;
};

/// The activations of all benchmarks.
inline Eigen::MatrixXf activations(Index n, Index tokens) {
  Eigen::MatrixXf x(n, tokens);
  for (Index i = 0; i < x.size(); ++i) {
    x.data()[i] =
        static_cast<float>(static_cast<std::int64_t>(randomBits(2, static_cast<std::uint64_t>(i)))) * 0x1p-63f;
  }
  return x;
}

/// Packed matrices of one shape and format that stand one after the other in the arena, each with its scales behind its
/// codes; as many as fit into `span` bytes, at least one.
template <Codebook C, int kPieces = 1>
class Matrices {
 public:
  /// group: columns that share a scale; 0: all of a row.
  Matrices(Index m, Index n, Index group, std::size_t span)
      : rate_sums_(mixedRates(n)),
        layout_(layoutOf(m, n, rate_sums_)),
        groups_(group == 0 ? 1 : ceilDiv(n, group)),
        group_columns_(group == 0 ? layout_.tiles() * layout_.kTileColumns : group) {
    stride_ = static_cast<std::size_t>(ceilDiv(bytes(), 64) * 64);
    count_ = std::max<std::size_t>(1, std::min(span, Arena::instance().size()) / stride_);
  }

  /// Bytes that one product reads.
  Index bytes() const { return layout_.bytes() + scales() * (hasZero() ? 4 : 2); }
  Index scales() const { return layout_.rows() * groups_; }
  std::size_t count() const { return count_; }

  gosset::detail::CodeView<C, Float16, kPieces> operator[](std::size_t i) const {
    const std::uint8_t* codes = Arena::instance().data() + i % count_ * stride_;
    const auto* scale = reinterpret_cast<const Float16*>(codes + layout_.bytes());
    return {layout_, codes, scale, hasZero() ? scale + scales() : nullptr, false, group_columns_, groups_};
  }

 private:
  static constexpr bool hasZero() {
    if constexpr (ScalarCodebook<C>) return C::kHasZero;
    return false;
  }
  /// Rates as a layer's Hessian may ask for them, 2 bits on average.
  static std::vector<std::uint32_t> mixedRates(Index n) {
    std::vector<std::uint32_t> sums;
    constexpr std::uint32_t kRates[] = {12, 12, 14, 28, 12, 16, 12, 22};
    std::uint32_t sum = 0;
    for (Index tile = 0; tile < ceilDiv(n, 32); ++tile) sums.push_back(sum += kRates[tile % 8]);
    return sums;
  }
  static gosset::detail::TileLayout<C> layoutOf(Index m, Index n,
                                                [[maybe_unused]] const std::vector<std::uint32_t>& rate_sums) {
    if constexpr (MixedRates<C>) {
      return {m, codesInRow<C>(n), rate_sums.data()};
    } else {
      return {m, codesInRow<C>(n)};
    }
  }

  std::vector<std::uint32_t> rate_sums_;
  gosset::detail::TileLayout<C> layout_;
  Index groups_, group_columns_;
  std::size_t stride_, count_;
};

}  // namespace gosset::bench
