// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/ggml/block.hpp>
#include <gosset/kernel/activations.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kernel/row_floats.hpp>
#include <gosset/kernel/row_product.hpp>
#include <gosset/kernel/tile_code.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/scale/block_grid.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

namespace gosset::GOSSET_ABI {

namespace ggml {

/// The codes of a layout as roundings see them.
template <BlockScaled F>
struct Codes {
  using Layout = F;
  using Codebook = typename F::Levels;
  using Scale = float;
  static constexpr bool kOneRowOnly = true;
  static constexpr Index groupWidth(Index) { return F::kBlock; }
  static std::string name() { return "ggml::" + std::string(F::kName); }
};

}  // namespace ggml

/// A matrix in one of ggml's block layouts, its bytes those of a GGUF file: rows of whole blocks, one after the other.
/// What a file holds can be used where it lies. Products make bytes or numbers of a few rows at a time.
template <ggml::BlockLayout F>
class Packed<F> : public PackedBase<Packed<F>> {
 public:
  template <class Rounding>
  static constexpr HowRounded rounds() {
    if constexpr (BlockScaled<F>) {
      return RoundsInto<Rounding, ggml::Codes<F>> ? HowRounded::kWell : HowRounded::kNotAtAll;
    } else {
      return HowRounded::kNotAtAll;
    }
  }

  /// An empty matrix.
  Packed() : Packed(0, 0) {}
  /// An all-zero matrix.
  static Packed shaped(Index rows, Index cols, const FieldLengths& = {}) { return Packed(rows, cols); }

  /// Errors: std::invalid_argument where a row is no whole number of blocks, or its numbers too large or too small for
  /// the layout's scales.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    requireShape(w);
    Packed packed(w.rows(), w.cols());
    if constexpr (RoundingTraits<Rounding>::kRowByRow) {
      const Index together = 16;  // rows
      const auto part = [&](Index i) {
        const Index first = i * together;
        packed.round(first, w.middleRows(first, std::min(together, w.rows() - first)), rounding, options);
      };
      packed.blocks_.writable();
      parallelFor(ceilDiv(w.rows(), together), 1024 * together * w.cols(), part);
    } else {
      packed.round(0, std::move(w), std::move(rounding), options);
    }
    return packed;
  }

  static std::string formatName() { return "ggml::" + std::string(F::kName); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("blocks", self.blocks_);
  }

  /// Also rows that are no whole blocks, and scales that are not finite.
  std::string fault() const {
    if (cols_ % F::kBlock != 0) {
      return "blocks: expected rows of a multiple of " + std::to_string(F::kBlock) + " numbers";
    }
    for (std::size_t at = 0; at < blocks_.size(); at += static_cast<std::size_t>(F::kBlockBytes)) {
      if (!F::isSound(blocks_.data() + at)) return "blocks: expected finite scales";
    }
    return {};
  }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    parallelFor(count, 2 * cols_, [&](Index i) { decodeRow(first + i, w.row(i).data()); });
  }

  /// A few columns of x meet rows as bytes; more are worth numbers.
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if (x.cols() > detail::kFewColumns) return PackedBase<Packed>::computeTransposed(x, y);
    const auto stretchOf = [&](Index row, Index first, Index count, detail::RowBytes& bytes) {
      toBytes(row, first, count, bytes);
    };
    detail::addTransposedRows<F::kHasMin>(rows_, cols_, stretchOf, x.data(), x.cols(), x.outerStride(), y.data(),
                                          y.outerStride());
  }

  /// Rows meet activations rounded to 8 bits as bytes, and a vector that is too small for that to pay or shall stay in
  /// floats; else as numbers.
  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    multiplyRowsOf(0, rows_, x, y, activations);
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    multiplyRowsOf(first, count, x, y.middleRows(first, count), activations);
  }

 private:
  Packed(Index rows, Index cols)
      : rows_(rows), cols_(cols), blocks_(static_cast<std::size_t>(rows * ceilDiv(cols, F::kBlock) * F::kBlockBytes)) {}

  Index rowBytes() const { return cols_ / F::kBlock * F::kBlockBytes; }

  static void requireShape(const RowMatrixXf& w) {
    detail::require(w.cols() % F::kBlock == 0, "quantize: ", formatName(), " keeps rows in blocks of ", F::kBlock,
                    " numbers, got rows of ", w.cols());
    const float largest = w.cwiseAbs().maxCoeff();
    const float ends = std::max(F::Levels::level(F::Levels::kLevels - 1), -F::Levels::level(0));
    const float stored = F::stored(std::numeric_limits<float>::max());
    const float most = F::kMostMin == 1 ? stored : stored * ends / 2;
    detail::require(largest <= most, "quantize: the matrix holds a magnitude of ", largest, ", beyond the ", most,
                    " that ", formatName(), " is sure to hold");
    const auto steps = static_cast<float>(std::max(F::kMostStep, -F::kLeastStep));
    detail::require(largest == 0 || F::stored(largest / (ends * steps)) > 0, "quantize: the largest magnitude of the ",
                    "matrix is ", largest, ", so small that ", formatName(), " would hold nothing of it");
  }

  /// Quantizes w, the rows from `first` on.
  template <class Rounding>
  void round(Index first, RowMatrixXf w, Rounding&& rounding, const QuantizeOptions& options) {
    using Grid = gosset::Grid<ggml::Codes<F>>;
    Grid grid(w.rows(), w.cols(), options.fit);
    CodeMatrix<typename F::Levels> codes(w.rows(), w.cols());
    roundInto(std::forward<Rounding>(rounding), w, grid, codes);
    std::uint8_t* to = blocks_.writable().data() + first * rowBytes();
    for (Index row = 0; row < grid.rows(); ++row) {
      for (Index group = 0; group < grid.groups(); ++group, to += F::kBlockBytes) {
        F::pack(grid.scales(row, group), codes.row(row).data() + grid.begin(group), to);
      }
    }
  }

  void decodeRow(Index row, float* y) const {
    const std::uint8_t* block = blocks_.data() + row * rowBytes();
    for (Index col = 0; col < cols_; col += F::kBlock, block += F::kBlockBytes) ggml::decodeBlock<F>(block, y + col);
  }

  /// Columns [first, first + count) of a row, whole blocks, as kernels take them.
  void toBytes(Index row, Index first, Index count, detail::RowBytes& bytes) const {
    constexpr Index kParts = F::kGroup / detail::kRowGroup, kGroups = F::kBlock / F::kGroup;
    const std::uint8_t* block = blocks_.data() + row * rowBytes() + first / F::kBlock * F::kBlockBytes;
    float *scales = bytes.scales(), *mins = bytes.mins();
    for (Index col = 0; col < count; col += F::kBlock, block += F::kBlockBytes) {
      float scale[kGroups], min[kGroups];
      F::unpack(block, bytes.levels() + col);
      F::scales(block, scale, min);
      for (Index i = 0; i < kGroups * kParts; ++i) {
        *scales++ = scale[i / kParts];
        if constexpr (F::kHasMin) *mins++ = min[i / kParts];
      }
    }
  }

  /// y: count x t.
  void multiplyRowsOf(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                      Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    constexpr Index kWorthIt = 16;  // rows of the whole matrix, whichever are asked for
    const bool per_token = activations == Activations::kRoundedPerToken;
    const auto rowOf = [&](Index i, detail::RowBytes& bytes) { toBytes(first + i, 0, cols_, bytes); };
    if (!per_token && (activations == Activations::kFloat || rows_ < kWorthIt)) {
      if (x.cols() > 1) return multiplyDecoded(first, count, x, y);
      return detail::multiplyRowFloats<F::kHasMin>(count, cols_, rowOf, x.data(), y.data());
    }
    constexpr bool kSmall = F::kMostLevel + F::kZero <= 127;
    const detail::RoundedActivations rounded(x.data(), cols_, x.cols(), x.outerStride(), InOrder{},
                                             per_token ? detail::ScaleReach::kToken : detail::ScaleReach::kSlice);
    detail::multiplyRowBytes<kSmall, F::kHasMin>(count, cols_, rowOf, rounded, F::kZero, y.data(), y.outerStride());
  }

  /// A few rows at a time, which stay in the cache; y: count x t.
  void multiplyDecoded(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                       Eigen::Ref<Eigen::MatrixXf> y) const {
    constexpr Index together = 128;
    parallelFor(ceilDiv(count, together), together * cols_ * (x.cols() + 2), [&](Index i) {
      const Index start = i * together, rows = std::min(together, count - start);
      RowMatrixXf values(rows, cols());
      for (Index row = 0; row < rows; ++row) decodeRow(first + start + row, values.row(row).data());
      detail::multiplyWidened(values, x, y.middleRows(start, rows));
    });
  }

  detail::EmptyAfterMove<Index> rows_, cols_;
  StoredArray<std::uint8_t> blocks_;
};

}  // namespace gosset::GOSSET_ABI
