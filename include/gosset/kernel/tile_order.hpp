// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/kernel/layout.hpp>

#include <array>
#include <cstddef>

namespace gosset::GOSSET_ABI {

/// How a term of a codebook turns bytes into numbers: value = unit * (byte - zero).
struct TileTerm {
  int zero;    ///< 0 .. 255
  float unit;  ///< of the codebook's values
  bool small;  ///< no byte exceeds 127
};

// Which column of a tile byte k of register i belongs to, in each slice of 32 columns. A tile has 32 codes (4, where a
// code of whole bytes stands for 8 numbers), so as many slices as a code has numbers (else one).

/// One slice, four neighbors in a register.
struct InOrder {
  static constexpr int kSlices = 1;
  static constexpr int column(int /*slice*/, int i, int k) { return 4 * i + k; }
};
/// One slice of 4 codes of 8 numbers, one number of each in a register.
struct ByEights {
  static constexpr int kSlices = 1;
  static constexpr int column(int /*slice*/, int i, int k) { return i + 8 * k; }
};
/// A slice for each of the n numbers of a code, the last number first: that of all 32 codes, in order.
template <int n>
struct LastNumberFirst {
  static constexpr int kSlices = n;
  static constexpr int column(int slice, int i, int k) { return n * (4 * i + k) + n - 1 - slice; }
};

namespace detail {

/// Longer than any row: the width of groups that are whole rows.
inline constexpr Index kWholeRow = Index{1} << 40;

template <Codebook C>
inline constexpr Index kTileColumns = TileLayout<C>::kTileColumns;

/// Where the columns of a slice stand, 4 i + k for byte k of register i: by rising columns where the order has a single
/// slice, so that sums over them have one order whichever order of columns a machine is given.
template <class Order>
inline constexpr std::array<int, kSliceColumns> kPlaces = [] {
  std::array<int, kSliceColumns> places{};
  for (int place = 0; place < kSliceColumns; ++place) {
    const int at = Order::kSlices == 1 ? Order::column(0, place / 4, place % 4) : place;
    places[static_cast<std::size_t>(at)] = place;
  }
  return places;
}();

/// Whether columns of a single slice change places in it.
template <class Order>
inline constexpr bool kMoves = Order::kSlices == 1 && [] {
  for (int i = 0; i < kSliceColumns; ++i) {
    if (Order::column(0, i / 4, i % 4) != i) return true;
  }
  return false;
}();

}  // namespace detail

}  // namespace gosset::GOSSET_ABI
