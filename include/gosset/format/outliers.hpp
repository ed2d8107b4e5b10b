// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/dot.hpp>
#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/simd.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/unit.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// Keeps the few largest and smallest numbers of each row beside Format, in 16 bits each: w ~ inner + S. Each row gives
/// up round(n * permille / 2000) numbers at either end; for Format they are replaced by the mean of those that stay,
/// and S, sparse, holds what Format left over of them.
///
///   inner    the matrix as Format keeps it
///   values   S, Float16, row after row and each row from left to right, in units of
///   unit     float, a power of two
///   indices  8 bits each: the column within its block of 256
///   counts   16 bits each: how many of a row lie in each of its blocks but the last, for rows longer than 256
///
/// Bits a number besides the inner ones: permille / 1000 * 24 and, in long rows, 16 / 256; 32 bits a matrix.
/// A kept number is off by half a unit in the last place of 16-bit floats of the size of S's entry.
/// A rounding may say what numbers of each input count, as BySensitivity does; then those that count most are kept.
/// Source: Kang et al., "GEAR" (2024), section 3; there the mean is that of all numbers, outliers included.
template <class Format, int permille>
struct Outliers {
  static_assert(permille >= 1 && permille <= 1000,
                "Outliers<Format, permille>: between 1 and 1000 of a thousand numbers");
  using Inner = Format;
};

template <Format F, int permille>
class Packed<Outliers<F, permille>> : public PackedWrapper<Packed<Outliers<F, permille>>, F> {
 public:
  using Base = PackedWrapper<Packed<Outliers<F, permille>>, F>;
  static constexpr unsigned kUses = Base::kUses | kOutlierWeightsHook;
  using Base::cols;
  using Base::rows;

  Packed() : Packed(Packed<F>()) {}
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    return Packed(Base::innerShaped(rows, cols, lengths));
  }

  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    Places places(w.rows(), keptInRow(w.cols()));
    RowMatrixXf rest = w;
    const Eigen::RowVectorXf weights = outlierWeights(rounding, w.cols());
    parallelFor(w.rows(), 16 * w.cols(), [&](Index row) { takeOut(rest.row(row), weights, places.row(row)); });
    Packed packed(Packed<F>::quantize(std::move(rest), std::move(rounding), options));
    w -= packed.inner_.dequantized();
    packed.keep(w, places);
    return packed;
  }

  static std::string formatName() {
    return "Outliers<" + Packed<F>::formatName() + ", " + std::to_string(permille) + ">";
  }

  /// Also columns and counts beyond the matrix, and columns that do not rise.
  std::string fault() const {
    for (Index row = 0; row < rows(); ++row) {
      Index counted = 0;
      for (Index block = 0; block + 1 < blocks(); ++block) counted += countAt(row, block);
      if (counted > keptInRow(cols())) return detail::concat("counts: expected at most ", keptInRow(cols()), " a row");
    }
    bool inside = true, rising = true;
    Index last_row = -1, last_col = 0;
    float last_value = 0;
    forEach([&](Index row, Index col, float value) {
      const bool is_unused = col == last_col && value == 0 && last_value == 0;  // as in a matrix of zeros
      inside = inside && col < cols();
      rising = rising && (row != last_row || col > last_col || is_unused);
      last_row = row;
      last_col = col;
      last_value = value;
    });
    if (!inside) return detail::concat("indices: expected columns below ", cols());
    return rising ? Base::fault() : "indices: expected columns that rise within a row";
  }

  /// Calls visit(row, col, value) for each entry of S, in the order in which they are stored; values in units of the
  /// matrix's.
  template <class Visit>
  void forEach(const Visit& visit) const {
    for (Index row = 0; row < rows(); ++row) {
      forEachInRow(row, [&](Index col, float value) { visit(row, col, value); });
    }
  }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    this->inner_.decodeRows(first, count, w);
    for (Index i = 0; i < count; ++i) forEachInRow(first + i, [&](Index col, float value) { w(i, col) += value; });
  }

  /// y = inner x + S x.
  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    this->inner_.multiply(x, y, activations);
    addEntries(0, rows(), x, y);
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    this->inner_.multiplyRows(first, count, x, y, activations);
    addEntries(first, count, x, y);
  }

  /// y += inner^T x + S^T x. Allocates nothing where t is small.
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    this->inner_.computeTransposed(x, y);
    addTransposedEntries(x, y);
  }
  void computeTransposedRounded(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    this->inner_.computeTransposedRounded(x, y);
    addTransposedEntries(x, y);
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visitWithin("inner.", self.inner_, visit);
    visit("values", self.values_);
    visit("indices", self.indices_);
    visit("counts", self.counts_);
    visit("unit", self.unit_.get());
  }

 private:
  static constexpr Index kBlock = 256;
  // Of one step of addTransposed; the third in blocks. Entries become floats kOnce at a time, with kMore behind them.
  static constexpr int kTokens = 4;
  static constexpr Index kRows = 256, kStretch = 4, kOnce = 256, kMore = 16, kRoom = kOnce + kMore;
  using Four = simd::Vec<float, kTokens>;

  using Places = Eigen::Matrix<Index, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  explicit Packed(Packed<F> inner)
      : Base(std::move(inner)),
        values_(static_cast<std::size_t>(rows() * keptInRow(cols()))),
        indices_(values_.size()),
        counts_(static_cast<std::size_t>(rows() * (blocks() - 1))) {}

  /// What a number of each input counts when the largest are sought: 1, unless the rounding says otherwise.
  template <class Rounding>
  static Eigen::RowVectorXf outlierWeights(const Rounding& rounding, Index n) {
    if constexpr (GivesOutlierWeights<Rounding>) return rounding.outlierWeights(n).transpose();
    return Eigen::RowVectorXf::Ones(n);
  }

  static constexpr Index keptAtEachEnd(Index cols) { return std::min((cols * permille + 1000) / 2000, cols / 2); }
  static constexpr Index keptInRow(Index cols) { return 2 * keptAtEachEnd(cols); }
  Index blocks() const { return std::max<Index>(ceilDiv(cols(), kBlock), 1); }
  std::uint16_t countAt(Index row, Index block) const {
    return counts_[static_cast<std::size_t>(row * (blocks() - 1) + block)];
  }

  /// Writes the columns of the numbers to keep, ascending, and replaces these numbers by the mean of the others.
  template <class Row>
  static void takeOut(Eigen::Ref<Eigen::RowVectorXf> x, const Eigen::RowVectorXf& weights, Row columns) {
    const Index cols = x.size();
    const Index each = keptAtEachEnd(cols);
    if (each == 0) return;
    std::vector<std::uint64_t> keys(static_cast<std::size_t>(cols)), least(static_cast<std::size_t>(each)),
        most = least;
    for (Index i = 0; i < cols; ++i) keys[static_cast<std::size_t>(i)] = orderKey(x[i] * weights[i], i);
    std::partial_sort_copy(keys.begin(), keys.end(), least.begin(), least.end());
    std::partial_sort_copy(keys.begin(), keys.end(), most.begin(), most.end(), std::greater<>());
    for (Index i = 0; i < each; ++i) {
      columns(i) = columnOfKey(least[static_cast<std::size_t>(i)]);
      columns(each + i) = columnOfKey(most[static_cast<std::size_t>(i)]);
    }
    std::sort(columns.data(), columns.data() + 2 * each);
    Eigen::RowVectorXf stay(cols - 2 * each);
    Index others = 0;
    for (Index i = 0, next = 0; i < cols; ++i) {
      if (next < 2 * each && columns(next) == i) {
        ++next;
      } else {
        stay[others++] = x[i];
      }
    }
    const double sum = sumOf(others, [&](Index i) { return stay[i]; });
    const auto mean = others == 0 ? 0.f : static_cast<float>(sum / static_cast<double>(others));
    for (Index i = 0; i < 2 * each; ++i) x[columns(i)] = mean;
  }

  /// Rises with the number, and of equal numbers with the column.
  static std::uint64_t orderKey(float x, Index col) {
    const auto bits = std::bit_cast<std::uint32_t>(x + 0.f);  // no -0
    const std::uint32_t rising = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    return static_cast<std::uint64_t>(rising) << 32 | static_cast<std::uint64_t>(col);
  }
  static Index columnOfKey(std::uint64_t key) { return static_cast<Index>(key & 0xffffffffu); }

  /// Stores what is left over at these places.
  void keep(const RowMatrixXf& left_over, const Places& places) {
    float largest = 0;
    for (Index i = 0; i < places.size(); ++i) {
      largest = std::max(largest, std::abs(left_over(i / places.cols(), places.data()[i])));
    }
    unit_ = detail::storageUnit(largest);
    const auto values = values_.writable();
    const auto indices = indices_.writable();
    const auto counts = counts_.writable();
    for (Index i = 0; i < places.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Index row = i / places.cols();
      const Index col = places.data()[i];
      values[at] = storeNearest<Float16>(left_over(row, col) / unit_);
      indices[at] = static_cast<std::uint8_t>(col % kBlock);
      if (col / kBlock + 1 < blocks()) ++counts[static_cast<std::size_t>(row * (blocks() - 1) + col / kBlock)];
    }
  }

  template <class Visit>
  void forEachInRow(Index row, const Visit& visit) const {
    const Index kept = keptInRow(cols());
    const std::uint8_t* indices = indices_.data() + row * kept;
    const Float16* values = values_.data() + row * kept;
    Index i = 0;
    for (Index block = 0; block < blocks(); ++block) {
      const Index end = block + 1 < blocks() ? std::min<Index>(i + countAt(row, block), kept) : kept;
      for (; i < end; ++i) visit(block * kBlock + indices[i], static_cast<float>(values[i]) * unit_);
    }
  }

  /// The rows [first, first + count) of y += S x.
  void addEntries(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                  Eigen::Ref<Eigen::MatrixXf>& y) const {
    parallelFor(count, keptInRow(cols()) * x.cols(), [&](Index i) {
      const Index row = first + i;
      forEachInRow(row, [&](Index col, float value) {
        for (Index token = 0; token < x.cols(); ++token) y(row, token) += simd::unfused(value * x(col, token));
      });
    });
  }

  void addTransposedEntries(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf>& y) const {
    if (keptInRow(cols()) == 0) return;
    for (Index token = 0; token < x.cols(); token += kTokens) {
      const Index count = std::min<Index>(kTokens, x.cols() - token);
      for (Index first = 0; first < rows(); first += kRows) addTransposedEntries(first, token, count, x, y);
    }
  }

  /// The transposed entries of up to kRows rows times up to kTokens columns of x. A column's sums for all tokens stand
  /// together until a stretch of blocks is done.
  void addTransposedEntries(Index first, Index token, Index tokens, const Eigen::Ref<const Eigen::MatrixXf>& x,
                            Eigen::Ref<Eigen::MatrixXf>& y) const {
    const Index kept = keptInRow(cols()), count = std::min(kRows, rows() - first);
    Four factors[kRows], sums[kStretch * kBlock];
    loadFactors(first, count, token, tokens, x, factors);
    Index next[kRows];  // entry of each row
    for (Index i = 0; i < count; ++i) next[i] = (first + i) * kept;
    for (Index block = 0; block < blocks(); block += kStretch) {
      const Index width = std::min(kStretch * kBlock, cols() - block * kBlock);
      if (blocks() == 1) {  // a few entries a row, as a token of values has
        addShortRows(first * kept, count, factors, sums);
      } else {
        std::fill_n(sums, width, Four{});
        for (Index i = 0; i < count; ++i) next[i] = addStretch(first + i, block, next[i], factors[i], sums);
      }
      for (Index k = 0; k < tokens; ++k) {
        float* target = &y(block * kBlock, token + k);
        for (Index j = 0; j < width; ++j) target[j] += sums[j][k];
      }
    }
  }

  /// Entries of rows that have one block, from entry number `at` on. The same columns are large in row after row: rows
  /// take turns among kStretch sums of each, so that an addition need not wait for the one before.
  void addShortRows(Index at, Index count, const Four* factors, Four* sums) const {
    const Index kept = keptInRow(cols()), together = kOnce / kept;  // rows
    std::fill_n(sums, kStretch * kBlock, Four{});
    float numbers[kRoom];
    for (Index row = 0; row < count;) {
      const Index last = std::min(row + together, count);
      widenEntries(at, (last - row) * kept, numbers);
      const float* number = numbers;
      for (; row < last; ++row) {
        Four* target = sums + row % kStretch * kBlock;
        for (const Index end = at + kept; at < end; ++at) {
          target[indices_[static_cast<std::size_t>(at)]] += simd::unfused(factors[row] * *number++);
        }
      }
    }
    for (Index j = 0; j < cols(); ++j) {
      sums[j] = (sums[j] + sums[kBlock + j]) + (sums[2 * kBlock + j] + sums[3 * kBlock + j]);
    }
  }

  /// Entries of a row in kStretch blocks, from entry number `at` on; returns that of the next stretch. Which block an
  /// entry lies in comes without a branch: there are too few in each for a branch to be foreseen.
  Index addStretch(Index row, Index block, Index at, Four factor, Four* sums) const {
    const Index end = (row + 1) * keptInRow(cols());
    Index ends[kStretch];
    for (Index b = 0, last = at; b < kStretch; ++b) {
      last = block + b + 1 < blocks() ? std::min<Index>(last + countAt(row, block + b), end) : end;
      ends[b] = last;
    }
    float numbers[kRoom];
    std::uint16_t starts[kRoom];  // where the block of an entry begins
    for (const Index last = ends[kStretch - 1]; at < last;) {
      const Index count = std::min(last - at, kOnce);
      widenEntries(at, count, numbers);
      for (Index b = 0, from = 0; b < kStretch; ++b) {  // what is written too far the next block's overwrite
        const Index to = std::clamp(ends[b] - at, from, count);
        const auto start = static_cast<std::uint16_t>(b * kBlock);
        do {
          std::fill_n(starts + from, kMore, start);
          from += kMore;
        } while (from < to);
        from = to;
      }
      const std::uint8_t* column = indices_.data() + at;
      // Columns rise, so four are different: their sums are read together, before a write that each might wait for.
      Index j = 0;
      for (; j + kTokens <= count; j += kTokens) {
        Four* targets[kTokens];
        Four results[kTokens];
        simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) {
          targets[k] = sums + starts[j + k] + column[j + k];
          results[k] = *targets[k] + simd::unfused(factor * numbers[j + k]);
        });
        simd::unroll<kTokens>([&](int k) __attribute__((always_inline)) { *targets[k] = results[k]; });
      }
      for (; j < count; ++j) sums[starts[j] + column[j]] += simd::unfused(factor * numbers[j]);
      at += count;
    }
    return at;
  }

  /// Up to kOnce entries as floats.
  void widenEntries(Index at, Index count, float* numbers) const {
    constexpr Index kLanes = simd::kWordLanes;
    static_assert(kLanes <= kMore);
    const Index stored = static_cast<Index>(values_.size()) - at;
    Index j = 0;
    for (; j < count && j + kLanes <= stored; j += kLanes)
      simd::store(numbers + j, simd::widen(values_.data() + at + j));
    for (; j < count; ++j) numbers[j] = simd::widened(values_[static_cast<std::size_t>(at + j)]);
  }

  /// x of the rows [first, first + count) and of up to kTokens tokens, in units of the entries'.
  void loadFactors(Index first, Index count, Index token, Index tokens, const Eigen::Ref<const Eigen::MatrixXf>& x,
                   Four* factors) const {
    Index i = 0;
    for (; tokens == kTokens && i + kTokens <= count; i += kTokens) {
      Four square[kTokens];
      for (Index k = 0; k < kTokens; ++k)
        square[k] = simd::load<Four>(x.data() + first + i + (token + k) * x.outerStride()) * unit_.get();
      simd::transpose(square);
      std::copy_n(square, kTokens, factors + i);
    }
    for (; i < count; ++i) {
      factors[i] = Four{};
      for (Index k = 0; k < tokens; ++k) factors[i][k] = x(first + i, token + k) * unit_;
    }
  }

  StoredArray<Float16> values_;
  StoredArray<std::uint8_t> indices_;
  StoredArray<std::uint16_t> counts_;
  detail::EmptyAfterMove<float, 1> unit_;
};

}  // namespace gosset::GOSSET_ABI
