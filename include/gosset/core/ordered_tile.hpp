// SPDX-License-Identifier: Apache-2.0
#ifndef GOSSET_SET
#include <gosset/core/vectors.hpp>
#else

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

// The kernels of ordered_product.hpp.
namespace gosset::GOSSET_ABI::GOSSET_SET::detail {

/// c += s v, for kScalars rows of s and kVectors registers of columns of v; both packed step after step of the sum.
/// kExact: no product needs rounding, so that it makes no difference whether the addition is one instruction with it.
template <bool kExact, int kVectors, int kScalars, class T>
[[gnu::always_inline]] inline void addRegisters(const T* s, const T* v, Index depth, T* c, Index stride) {
  using Vector = simd::Vec<T>;
  constexpr int kLanes = simd::kLanes<T>;
  Vector sums[kScalars][kVectors];
  simd::unroll<kScalars * kVectors>([&](int at) __attribute__((always_inline)) {
    sums[at / kVectors][at % kVectors] = simd::load<Vector>(c + at / kVectors * stride + at % kVectors * kLanes);
  });
  for (Index k = 0; k < depth; ++k) {
    Vector columns[kVectors];
    simd::unroll<kVectors>([&](int r) __attribute__((always_inline)) {
      columns[r] = simd::load<Vector>(v + (k * kVectors + r) * kLanes);
    });
    simd::unroll<kScalars>([&](auto i) __attribute__((always_inline)) {
      const auto factor = simd::splat<Vector>(s[k * kScalars + i]);
      simd::unroll<kVectors>([&](auto r) __attribute__((always_inline)) {
        if constexpr (kExact) {
          sums[i][r] += columns[r] * factor;
        } else {
          sums[i][r] += simd::unfused(columns[r] * factor);
        }
      });
    });
  }
  simd::unroll<kScalars * kVectors>([&](int at) __attribute__((always_inline)) {
    simd::store(c + at / kVectors * stride + at % kVectors * kLanes, sums[at / kVectors][at % kVectors]);
  });
}

/// A tile of c += a b that caches hold: its operands are packed kDepth steps at a time, a into panels of rows, b into
/// panels of whole registers, the last filled up with zeros.
template <class T, bool kExact>
class OrderedTile {
 public:
  static constexpr Index kRows = 96, kCols = 192;  ///< at most

  /// Takes the memory for operands of at most so many rows, columns and steps of the sum: add() then needs no more.
  void reserve(Index rows, Index cols, Index steps) {
    const Index depth = std::min(kDepth, steps);
    rows_.reserve(static_cast<std::size_t>(rows * depth));
    columns_.reserve(static_cast<std::size_t>(ceilDiv(cols, kLanes) * kLanes * depth));
  }

  /// c: a.rows x b.cols, rows `stride` apart.
  template <class From>
  void add(const Strided<From>& a, const Strided<From>& b, T* c, Index stride) {
    for (Index first = 0; first < a.cols; first += kDepth) {
      const Index depth = std::min(kDepth, a.cols - first);
      pack<kMostRows, 1>(a.block(0, first, a.rows, depth).transpose(), rows_);
      pack<kVectors * kLanes, kLanes>(b.block(first, 0, depth, b.cols), columns_);
      addPanels<kVectors>(0, a.rows, b.cols, depth, c, stride);
    }
  }

 private:
  static constexpr Index kLanes = simd::kLanes<T>, kDepth = 160;
  static constexpr int kVectors = 3, kMostRows = simd::kVectorRegisters >= 32 ? 8 : 4;

  /// Columns of m in panels of kWide, then of a half, a quarter and so on of kWide if that is a power of two times
  /// kLeast, else of kLeast.
  template <Index kWide, Index kLeast, class From>
  static void pack(const Strided<From>& m, std::vector<T>& packed) {
    packed.resize(static_cast<std::size_t>(ceilDiv(m.cols, kLeast) * kLeast * m.rows));
    T* to = packed.data();
    for (Index first = 0, wide = kWide; first < m.cols;) {
      while (wide > kLeast && m.cols - first < wide) wide = narrower<kLeast>(wide);
      packPanel(m.block(0, first, m.rows, std::min(wide, m.cols - first)), wide, to);
      to += wide * m.rows;
      first += wide;
    }
  }
  template <Index kLeast>
  static constexpr Index narrower(Index wide) {
    return wide % (2 * kLeast) == 0 ? wide / 2 : kLeast;
  }

  template <class From>
  static void packPanel(const Strided<From>& m, Index wide, T* to) {
    if (m.cols < wide) std::fill_n(to, wide * m.rows, T{0});
    if (m.right == 1) {
      for (Index k = 0; k < m.rows; ++k) {
        for (Index j = 0; j < m.cols; ++j) to[k * wide + j] = static_cast<T>(m.data[k * m.down + j]);
      }
      return;
    }
    Index col = 0;
    if constexpr (std::is_same_v<T, From>) {
      if (m.down == 1) packSquares<static_cast<int>(kLanes)>(m, col, wide, to);
    }
    for (; col < m.cols; ++col) {
      for (Index k = 0; k < m.rows; ++k) to[k * wide + col] = static_cast<T>(m.data[k * m.down + col * m.right]);
    }
  }

  /// The columns of m from `col` on, each of which stands in a row in memory, as many as fill squares.
  template <int kSide>
  static void packSquares(const Strided<T>& m, Index& col, Index wide, T* to) {
    using Vector = simd::Vec<T, kSide>;
    for (; col + kSide <= m.cols; col += kSide) {
      const T* from = m.data + col * m.right;
      Index k = 0;
      for (; k + kSide <= m.rows; k += kSide) {
        Vector square[kSide];
        for (Index j = 0; j < kSide; ++j) square[j] = simd::load<Vector>(from + j * m.right + k);
        simd::transpose(square);
        for (Index i = 0; i < kSide; ++i) simd::store(to + (k + i) * wide + col, square[i]);
      }
      for (; k < m.rows; ++k) {
        for (Index j = 0; j < kSide; ++j) to[k * wide + col + j] = from[j * m.right + k];
      }
    }
    if constexpr (kSide > 4) packSquares<kSide / 2>(m, col, wide, to);
  }

  /// The columns from `first` on, kCount registers at a time while there are as many, then one.
  template <int kCount>
  void addPanels(Index first, Index rows, Index cols, Index depth, T* c, Index stride) const {
    constexpr Index kWidth = kCount * kLanes;
    for (; cols - first >= kWidth || (kCount == 1 && first < cols); first += kWidth) {
      const T* columns = columns_.data() + first * depth;
      const Index count = std::min(kWidth, cols - first);
      T* target = c + first;
      [[maybe_unused]] T whole[kCount > 1 ? 1 : kMostRows * kWidth] = {};
      Index row = 0;
      const auto add = [&]<int kScalars>(std::integral_constant<int, kScalars>) {
        for (; row + kScalars <= rows; row += kScalars) {
          const T* scalars = rows_.data() + row * depth;
          if (kCount > 1 || count == kWidth) {
            addRegisters<kExact, kCount, kScalars>(scalars, columns, depth, target + row * stride, stride);
          } else if constexpr (kCount == 1) {
            for (int i = 0; i < kScalars; ++i) std::copy_n(target + (row + i) * stride, count, whole + i * kWidth);
            addRegisters<kExact, kCount, kScalars>(scalars, columns, depth, whole, kWidth);
            for (int i = 0; i < kScalars; ++i) std::copy_n(whole + i * kWidth, count, target + (row + i) * stride);
          }
        }
      };
      add(std::integral_constant<int, kMostRows>{});
      if constexpr (kMostRows > 4) add(std::integral_constant<int, 4>{});
      add(std::integral_constant<int, 2>{});
      add(std::integral_constant<int, 1>{});
    }
    if constexpr (kCount > 1) addPanels<1>(first, rows, cols, depth, c, stride);
  }

  std::vector<T> rows_, columns_;
};

/// c += a b for c of a.rows x b.cols, row after row and `stride` apart. A template so that it is compiled where it is
/// used.
template <class T>
void addOrderedTiles(const Strided<T>& a, const Strided<T>& b, T* c, Index stride) {
  using Part = OrderedTile<T, false>;
  const Index across = ceilDiv(b.cols, Part::kCols), tiles = ceilDiv(a.rows, Part::kRows) * across;
  parallelFor(tiles, std::min(a.rows, Part::kRows) * std::min(b.cols, Part::kCols) * a.cols / 4, [&](Index tile) {
    const Index row = tile / across * Part::kRows, col = tile % across * Part::kCols;
    const Index rows = std::min(Part::kRows, a.rows - row), cols = std::min(Part::kCols, b.cols - col);
    Part().add(a.block(row, 0, rows, a.cols), b.block(0, col, b.rows, cols), c + row * stride + col, stride);
  });
}

}  // namespace gosset::GOSSET_ABI::GOSSET_SET::detail

#endif
