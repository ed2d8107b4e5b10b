// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/kernel/product.hpp>
#include <gosset/kernel/trellis_tile.hpp>

#include "testing.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gosset::GOSSET_ABI::detail {

/// A packed matrix of random codes with scales (and zero points) of one size, in groups of `group` tiles; of as many
/// columns, where they end within tiles.
template <class C, class T, int kPieces = 1>
struct RandomCodes {
  static constexpr bool hasZero() {
    if constexpr (ScalarCodebook<C>) return C::kHasZero;
    return false;
  }

  RandomCodes(Index rows, Index n, Index group, bool one_scale = false)
      : rate_sums(randomRates(n)),
        layout(layoutOf(rows, n, rate_sums)),
        bytes(static_cast<std::size_t>(layout.bytes())) {
    const Index width = kPieces == 1 ? group * TileLayout<C>::kTileColumns : group;
    const Index groups = ceilDiv(layout.codes() * C::kDim, width);
    std::uint64_t levels = std::uint64_t{1} << C::kBits;
    if constexpr (ScalarCodebook<C>) levels = static_cast<std::uint64_t>(C::kLevels);
    if constexpr (TrellisCodebook<C>) {  // any bytes will do
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(randomBits(5, i) >> 16);
    } else {
      const Index codes = layout.codes();
      std::vector<typename C::Code> random(static_cast<std::size_t>(rows * codes));
      for (std::size_t i = 0; i < random.size(); ++i) {
        random[i] = static_cast<typename C::Code>((randomBits(5, i) >> 16) % levels);
      }
      for (Index block = 0; block < layout.blocks(); ++block) {
        layout.packBlock(random.data() + block * kBlockRows * codes, codes, block, bytes.data());
      }
    }
    for (Index i = 0; i < (one_scale ? groups : rows * groups); ++i) {
      const double u = static_cast<double>(randomBits(6, static_cast<std::uint64_t>(i)) >> 11) * 0x1p-53;
      scales.push_back(static_cast<T>(static_cast<float>(0.5 + u)));
      zeros.push_back(static_cast<T>(static_cast<float>(u * static_cast<double>(levels - 1))));
    }
    view = {layout, bytes.data(), scales.data(), hasZero() ? zeros.data() : nullptr, one_scale, width, groups};
  }

  /// Of mixed rates: the sums, tile by tile, of any there are.
  static std::vector<std::uint32_t> randomRates(Index n) {
    std::vector<std::uint32_t> sums;
    if constexpr (MixedRates<C>) {
      std::uint32_t sum = 0;
      for (Index tile = 0; tile < ceilDiv(n, kSliceColumns); ++tile) {
        const std::uint64_t rate = (randomBits(7, static_cast<std::uint64_t>(tile)) >> 16) % kTrellisRates;
        sums.push_back(sum += kLeastTrellisRate8 + static_cast<std::uint32_t>(rate));
      }
    }
    return sums;
  }
  static TileLayout<C> layoutOf(Index rows, Index n, [[maybe_unused]] const std::vector<std::uint32_t>& rate_sums) {
    if constexpr (MixedRates<C>) {
      return {rows, codesInRow<C>(n), rate_sums.data()};
    } else {
      return {rows, codesInRow<C>(n)};
    }
  }

  std::vector<std::uint32_t> rate_sums;
  TileLayout<C> layout;
  AlignedVector<std::uint8_t> bytes;
  std::vector<T> scales, zeros;
  CodeView<C, T, kPieces> view{layout, nullptr, nullptr, nullptr, false, 1, 1};
};

}  // namespace gosset::GOSSET_ABI::detail
