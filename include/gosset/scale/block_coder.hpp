// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/codebook/trellis.hpp>
#include <gosset/codebook/trellis_search.hpp>
#include <gosset/core/types.hpp>
#include <gosset/scale/affine.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

// What is encoded at once, for those who take a matrix block of columns by block of columns: rows by themselves for
// most codebooks, all rows of a band for trellis codes.
namespace gosset::GOSSET_ABI::detail {

/// The rows of a matrix in parts that do not depend on each other: 64 rows, or a band.
template <Codebook C>
class RowChunks {
 public:
  static constexpr int kMost = TrellisCodebook<C> ? 16 * (2 * TrellisBands::kBlocks - 1) : 64;  ///< rows

  explicit RowChunks(Index rows) : rows_(rows), bands_(ceilDiv(rows, kBlock)) {}

  Index count() const { return TrellisCodebook<C> ? bands_.count() : ceilDiv(rows_, kPlain); }
  Index begin(Index i) const { return TrellisCodebook<C> ? kBlock * bands_.begin(i) : kPlain * i; }
  Index size(Index i) const {
    return std::min(rows_, TrellisCodebook<C> ? kBlock * bands_.end(i) : kPlain * (i + 1)) - begin(i);
  }

 private:
  static constexpr Index kBlock = 16, kPlain = 64;
  Index rows_;
  TrellisBands bands_;
};

/// Encodes and decodes blocks of kBlockColumns columns of the rows of a chunk, under the scales of a grid.
template <class Grid>
class BlockCoder {
 public:
  using C = typename Grid::Codebook;
  using Code = typename C::Code;
  /// Rows whose codes can only be taken or left together.
  static constexpr Index kTogether = 1;

  BlockCoder(const Grid& grid, Index row, Index rows) : grid_(grid), row_(row), rows_(rows) {}

  /// The nearest codes of x (rows x kBlockColumns), the block from column col on.
  void encode(Index col, const float* x, Code* codes) { encodeEach<C>(x, rows_, affineAt(col), codes); }
  /// The numbers of such codes.
  void decode(Index col, const Code* codes, float* y) const { decodeEach<C>(codes, rows_, affineAt(col), y); }

 private:
  auto affineAt(Index col) const {
    return [this, group = grid_.groupOf(col)](Index i) { return grid_.affine(row_ + i, group); };
  }

  const Grid& grid_;
  Index row_, rows_;
};

/// The same for trellis codes: a ring at a time. Columns that fill up the last block count for nothing, and decode to
/// 0.
template <class Grid>
requires TrellisCodebook<typename Grid::Codebook>
class BlockCoder<Grid> {
 public:
  using C = typename Grid::Codebook;
  using Code = typename C::Code;
  static constexpr Index kColumns = C::kChainColumns, kBlockRows = 16, kTogether = RowChunks<C>::kMost;

  BlockCoder(const Grid& grid, Index row, Index rows)
      : grid_(grid),
        row_(row),
        rows_(rows),
        numbers_(static_cast<std::size_t>(ceilDiv(rows, kBlockRows) * kBlockRows * kColumns)),
        states_(numbers_.size()) {}

  void encode(Index col, const float* x, Code* codes) {
    const Index group = grid_.groupOf(col);
    for (Index i = 0; i < rows_; ++i) {
      const float divisor = detail::divisor(grid_.affine(row_ + i, group));
      for (Index k = 0; k < kColumns; ++k) {
        numbers_[static_cast<std::size_t>(kColumns * i + k)] = x[kColumns * i + k] / divisor;
      }
    }
    const auto count = static_cast<Index>(numbers_.size());
    searchAt(grid_.rateAt(col)).nearest(numbers_.data(), count, kColumns, {rows_, realColumns(col)}, states_.data());
    std::copy_n(states_.data(), kColumns * rows_, codes);
  }

  void decode(Index col, const Code* codes, float* y) const {
    const TrellisTable& table = C::table(grid_.rateAt(col));
    const Index group = grid_.groupOf(col), real = realColumns(col);
    for (Index i = 0; i < rows_; ++i) {
      const float scale = grid_.affine(row_ + i, group).scale;
      for (Index k = 0; k < kColumns; ++k, ++codes) *y++ = k < real ? scale * table.value(*codes) : 0.f;
    }
  }

 private:
  Index realColumns(Index col) const { return std::min(kColumns, grid_.inputs() - col); }

  TrellisSearch& searchAt(int rate8) {
    auto& search = searches_[static_cast<std::size_t>(rate8)];
    if (search == nullptr)
      search = std::make_unique<TrellisSearch>(C::table(rate8), static_cast<Index>(numbers_.size()));
    return *search;
  }

  const Grid& grid_;
  Index row_, rows_;
  std::vector<float> numbers_;
  std::vector<std::uint16_t> states_;
  std::array<std::unique_ptr<TrellisSearch>, kMostTrellisRate8 + 1> searches_;  ///< by rate, made when needed
};

}  // namespace gosset::GOSSET_ABI::detail
