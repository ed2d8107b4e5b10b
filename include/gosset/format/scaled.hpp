// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/finite.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/ordered_product.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/kernel/e8p_tile.hpp>
#include <gosset/kernel/layout.hpp>
#include <gosset/kernel/pack.hpp>
#include <gosset/kernel/plain.hpp>
#include <gosset/kernel/point_product.hpp>
#include <gosset/kernel/product.hpp>
#include <gosset/kernel/transposed.hpp>
#include <gosset/kernel/trellis_tile.hpp>
#include <gosset/kernel/trits5_tile.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/scale/grid.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/unit.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// What PerTensor, PerChannel, Grouped and a bare codebook have in common: codes and scales.
namespace gosset::GOSSET_ABI {

/// Codes and scales of an m x n matrix; n is padded with zeros to whole blocks of columns.
///
///   codes   rows interleaved by 16, as kernel/layout.hpp draws it: about n b / 8 bytes a row; of trellis codes as
///           kernel/trellis_layout.hpp does
///   rate_sums  where trellis codes have mixed rates, 32 bits for each tile of 32 columns: the eighths of a bit that a
///           number takes, summed over this tile and all before
///   scales  F::Scale, one for each row and group: 16 rows of a group together, group after group, block after block of
///           rows; or one for the whole matrix
///   zeros   as scales, for codebooks with a zero point
///   unit    float, a power of two: value = scale * (level - zero) * unit. It keeps 16-bit scales in range for matrices
///           of any magnitude. Numbers whose scale would be below the least of 16-bit floats, some 2^-37 of the
///           matrix's largest, become 0; scales in floats keep them.
template <ScaledFormat F>
class Packed<F> : public PackedBase<Packed<F>> {
 public:
  using Codebook = typename F::Codebook;
  using Code = typename Codebook::Code;
  using Scale = typename F::Scale;

  /// Into how many pieces kernels cut a tile of codes.
  static constexpr int kPieces = [] {
    if constexpr (hasKernel<Codebook>()) return detail::piecesOf<Codebook>(F::groupWidth(detail::kWholeRow));
    return 0;
  }();
  static constexpr bool kFastProduct = kPieces != 0;

  template <class Rounding>
  static constexpr HowRounded rounds() {
    if (RoundingTraits<Rounding>::kScalarOnly && !ScalarCodebook<Codebook>) return HowRounded::kScalarOnly;
    return RoundsInto<Rounding, F> ? HowRounded::kWell : HowRounded::kNotAtAll;
  }

  /// An empty matrix.
  Packed() : Packed(0, 0) {}

  /// An all-zero matrix.
  static Packed shaped(Index rows, Index cols, [[maybe_unused]] const FieldLengths& lengths = {}) {
    Packed packed(rows, cols);
    if constexpr (MixedRates<Codebook>) {
      if (lengths)
        packed.codes_ = StoredArray<std::uint8_t>(static_cast<std::size_t>(packed.mostBytes(lengths("codes"))));
    }
    return packed;
  }

  /// Errors: std::invalid_argument where a magnitude is beyond 2^127.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    const float largest = detail::largestMagnitude(w);
    const auto rowsOfW = [&](Index first, Index count) { return w.middleRows(first, count); };
    if constexpr (takesRows<Rounding>()) {
      return quantizeRows(w.rows(), w.cols(), largest, rowsOfW, rounding, options);
    } else {
      Packed packed(w.rows(), w.cols(), largest);
      packed.inUnits([&](const auto& factor) { w = factor(w); });
      packed.roundRows(0, std::move(w), std::move(rounding), options);
      return packed;
    }
  }

  /// Whether blocks of rows can be quantized one by one, in memory that a cache holds.
  template <class Rounding>
  static constexpr bool takesRows() {
    return F::kOneRowOnly && !TrellisCodebook<Codebook> && RoundingTraits<Rounding>::kRowByRow;
  }

  /// The same for an m x n matrix of which rowsOf(first, count) are rows, and `largest` is the largest magnitude.
  template <class RowsOf, class Rounding>
  static Packed quantizeRows(Index rows, Index cols, float largest, const RowsOf& rowsOf, const Rounding& rounding,
                             const QuantizeOptions& options) {
    static_assert(takesRows<Rounding>());
    Packed packed(rows, cols, largest);
    parallelFor(packed.layout().blocks(), 32 * detail::kBlockRows * cols, [&](Index block) {
      RowMatrixXf part;
      packed.inUnits([&](const auto& factor) {
        part = factor(rowsOf(block * detail::kBlockRows, packed.layout().rowsOf(block)));
      });
      packed.roundRows(block, std::move(part), rounding, options);
    });
    return packed;
  }

  /// The matrix of codes and a grid that are there already: grid.rows() x grid.inputs().
  static Packed assembled(const Grid<F>& grid, const CodeMatrix<Codebook>& codes) {
    Packed packed(grid.rows(), grid.inputs());
    packed.unit_ = grid.unit();
    packed.store(0, grid, codes);
    return packed;
  }

  static std::string formatName() { return F::name(); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  /// Codes in a row.
  Index codesInRow() const { return gosset::codesInRow<Codebook>(cols_); }
  /// Groups in a row, each of which has a scale.
  Index groups() const { return cols_ == 0 ? 0 : ceilDiv(codesInRow() * Codebook::kDim, groupWidth()); }

  /// The codes, unpacked.
  CodeMatrix<Codebook> codes() const {
    CodeMatrix<Codebook> result(rows(), codesInRow());
    parallelFor(layout().blocks(), detail::kBlockRows * cols_, [&](Index block) {
      layout().unpackBlock(codes_.data(), block, result.row(block * detail::kBlockRows).data(), codesInRow());
    });
    return result;
  }

  /// The scale, in units of the matrix's values, and the zero point of a group.
  Affine affine(Index row, Index group) const {
    Affine a = storedAffine(row, group);
    a.scale *= unit_;
    return a;
  }

  /// Eighths of a bit that numbers of each tile of 32 columns take.
  std::vector<std::uint8_t> rates() const requires TrellisCodebook<Codebook> {
    std::vector<std::uint8_t> rates;
    for (Index tile = 0; tile < layout().tiles(); ++tile)
      rates.push_back(static_cast<std::uint8_t>(layout().rate8(tile)));
    return rates;
  }

  /// Also negative scales, a unit that is no power of two, rates that are none or need other bytes, and bits that
  /// belong to no code, which would be another file of the same matrix.
  std::string fault() const {
    if (const std::string fault = PackedBase<Packed>::fault(); !fault.empty()) return fault;
    int exponent;
    if (!(unit_ > 0 && std::frexp(unit_.get(), &exponent) == 0.5f)) return "unit: expected a power of two";
    const auto isNegative = [](Scale scale) { return static_cast<float>(scale) < 0; };
    if (std::any_of(scales_.begin(), scales_.end(), isNegative)) return "scales: expected none below 0";
    if constexpr (MixedRates<Codebook>) {
      if (!hasValidRates()) return "rate_sums: expected sums of rates of 8 to 48 eighths of a bit";
      if (layout().bytes() != static_cast<Index>(codes_.size()))
        return "codes: expected as many bytes as the rates say";
    }
    if (!layout().isPaddingZero(codes_.data())) return "codes: expected zeros in the bits that belong to no code";
    return {};
  }

  // What the base asks for, in blocks of 16 rows.

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    const Index first_block = first / detail::kBlockRows, end = first + count;
    parallelFor(ceilDiv(end, detail::kBlockRows) - first_block, 2 * detail::kBlockRows * cols_, [&](Index i) {
      const Index block = first_block + i, start = block * detail::kBlockRows;
      const Index rows = layout().rowsOf(block);
      if (start >= first && start + rows <= end) {
        auto target = w.middleRows(start - first, rows);
        decodeBlock(block, target.data(), w.outerStride());
        if (unit_ != 1) target *= unit_;
        return;
      }
      RowMatrixXf whole(rows, cols());
      decodeBlock(block, whole.data(), cols_);
      const Index from = std::max(first, start), to = std::min(end, start + rows);
      w.middleRows(from - first, to - from) = whole.middleRows(from - start, to - from) * unit_.get();
    });
  }

  /// Activations are rounded only where a kernel for bytes exists: for codebooks that have a TileCode, in groups of a
  /// multiple of 8 (of 32, where columns do not stand in order) or whole rows. Others meet numbers in floats;
  /// Activations::kRoundedPerToken rounds for these too.
  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    multiplyBlocks(0, rows_, x, y.data(), y.outerStride(), activations);
  }

  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    const Index start = first / detail::kBlockRows * detail::kBlockRows;
    const Index end = std::min(ceilDiv(first + count, detail::kBlockRows) * detail::kBlockRows, rows());
    if (start == first && end == first + count) {
      return multiplyBlocks(first, count, x, y.data() + first, y.outerStride(), activations);
    }
    Eigen::MatrixXf whole(end - start, x.cols());
    multiplyBlocks(start, end - start, x, whole.data(), whole.outerStride(), activations);
    y.middleRows(first, count) = whole.middleRows(first - start, count);
  }

  /// Few columns meet the codes as they are and without an allocation, where a kernel exists; of a matrix of ordinary
  /// size, that is, for others' units would make the kernels' steps vanish.
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if constexpr (detail::TileCodebook<Codebook>) {
      if (x.cols() <= detail::kFewColumns) {
        if (unit_ >= kLeastUnit) {
          return detail::addTransposed(view(0, rows_), cols_, unit_, x.data(), x.cols(), x.outerStride(), y.data(),
                                       y.outerStride());
        }
        Eigen::MatrixXf product = Eigen::MatrixXf::Zero(y.rows(), y.cols());
        detail::addTransposed(view(0, rows_), cols_, 1, x.data(), x.cols(), x.outerStride(), product.data(),
                              product.outerStride());
        y += product * unit_.get();
        return;
      }
    }
    detail::addProductInOrder(this->dequantized().transpose(), x, y);
  }

  /// Any number of columns, where integers of bytes have a dot product.
  void computeTransposedRounded(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    if constexpr (detail::TileCodebook<Codebook>) {
      if (unit_ >= kLeastUnit && detail::addTransposedRounded(view(0, rows_), cols_, unit_, x.data(), x.cols(),
                                                              x.outerStride(), y.data(), y.outerStride())) {
        return;
      }
    }
    computeTransposed(x, y);
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    if constexpr (MixedRates<Codebook>) visit("rate_sums", self.rate_sums_);
    visit("codes", self.codes_);
    visit("scales", self.scales_);
    if constexpr (hasZero()) visit("zeros", self.zeros_);
    visit("unit", self.unit_.get());
  }

 private:
  static constexpr float kLeastUnit = 0x1p-40f;  ///< below which the steps of kernels for transposes vanish

  Packed(Index rows, Index cols)
      : rows_(rows),
        cols_(cols),
        rate_sums_(evenRates(cols)),
        codes_(static_cast<std::size_t>(ratesAreDeferred() ? 0 : layout().bytes())),
        scales_(static_cast<std::size_t>((F::kOneRowOnly ? rows : 1) * groups())),
        zeros_(hasZero() ? scales_.size() : 0) {}

  /// With the unit for numbers of this magnitude.
  Packed(Index rows, Index cols, float largest) : Packed(rows, cols) {
    detail::require(largest <= 0x1p127f, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond 2^127, up to which the values of its codes are finite in float");
    unit_ = detail::storageUnit(largest);
  }

  /// The product of `count` rows from `first` on, which begin and, but for the last of the matrix, end with a block;
  /// y: count x t.
  void multiplyBlocks(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x, float* y, Index stride,
                      Activations activations) const {
    Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> result(y, count, x.cols(), Eigen::OuterStride<>(stride));
    if constexpr (detail::TileCodebook<Codebook>) {
      // Rounding comes first and is done once: by the whole matrix, whichever rows are asked for.
      const bool worth_it = rows_ >= detail::kBlockRows && cols_ >= detail::kSliceColumns;
      const Activations how = activations == Activations::kRounded && !worth_it ? Activations::kFloat : activations;
      detail::multiplyCodes(view(first, count), how, x.data(), cols_, x.cols(), x.outerStride(), y, stride);
      result *= unit_;
    } else {
      multiplyDecoded(first, x, result, activations);
    }
  }

  /// Where there is no kernel.
  void multiplyDecoded(Index first, const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                       Activations activations) const {
    if (activations == Activations::kRoundedPerToken) {
      return multiplyDecoded(first, detail::roundedPerToken(x), y, Activations::kFloat);
    }
    if constexpr (detail::FewPoints<Codebook>) {
      if (x.cols() == 1) {
        detail::AlignedVector<float> padded(
            static_cast<std::size_t>(layout().tiles() * detail::kTileColumns<Codebook>));
        std::copy_n(x.data(), cols_.get(), padded.data());
        detail::multiplyPoints(view(first, y.rows()), padded.data(), y.data());
        y *= unit_;
        return;
      }
    }
    const Index together = (x.cols() == 1 ? 1 : 8) * detail::kBlockRows;  // rows
    parallelFor(ceilDiv(y.rows(), together), together * cols_ * (x.cols() + 2), [&](Index i) {
      RowMatrixXf values(std::min(together, y.rows() - i * together), cols());
      for (Index row = 0; row < values.rows(); row += detail::kBlockRows) {
        decodeBlock((first + i * together + row) / detail::kBlockRows, values.row(row).data(), cols_);
      }
      auto target = y.middleRows(i * together, values.rows());
      detail::multiplyWidened(values, x, target);
      target *= unit_;
    });
  }

  static constexpr bool hasZero() {
    if constexpr (ScalarCodebook<Codebook>) return Codebook::kHasZero;
    return false;
  }

  detail::TileLayout<Codebook> layout() const {
    if constexpr (MixedRates<Codebook>) {
      return {rows_, codesInRow(), rate_sums_.data()};
    } else {
      return {rows_, codesInRow()};
    }
  }

  /// Whether rates come from a file later, and with them the number of bytes.
  static bool ratesAreDeferred() { return MixedRates<Codebook> && detail::DeferredArrays::areMade(); }

  /// All tiles at the rate that is usual.
  static StoredArray<std::uint32_t> evenRates(Index cols) {
    if constexpr (MixedRates<Codebook>) {
      if (ratesAreDeferred()) {
        return StoredArray<std::uint32_t>(static_cast<std::size_t>(ceilDiv(cols, detail::kSliceColumns)));
      }
      const std::vector<std::uint8_t> rates(static_cast<std::size_t>(ceilDiv(cols, detail::kSliceColumns)),
                                            std::uint8_t{Codebook::kRate8});
      return sumsOf(rates);
    } else {
      return {};
    }
  }
  static StoredArray<std::uint32_t> sumsOf(std::span<const std::uint8_t> rates) {
    StoredArray<std::uint32_t> sums(rates.size());
    std::uint32_t sum = 0;
    std::transform(rates.begin(), rates.end(), sums.writable().begin(), [&](std::uint8_t rate) { return sum += rate; });
    return sums;
  }
  bool hasValidRates() const {
    std::uint32_t before = 0;
    return std::all_of(rate_sums_.begin(), rate_sums_.end(), [&](std::uint32_t sum) {
      const std::uint32_t rate = sum - before;
      before = sum;
      return rate >= detail::kLeastTrellisRate8 && rate <= detail::kMostTrellisRate8;
    });
  }
  /// So many bytes of codes, but no more than there can be.
  Index mostBytes(Index bytes) const {
    constexpr double kNoLimit = 0x1p62;
    const double most =
        8. * detail::kMostTrellisRate8 * static_cast<double>(layout().blocks()) * static_cast<double>(layout().tiles());
    return most < kNoLimit ? std::clamp<Index>(bytes, 0, static_cast<Index>(most)) : std::max<Index>(bytes, 0);
  }
  Index groupWidth() const { return F::groupWidth(codesInRow() * Codebook::kDim); }

  /// What kernels take of `count` rows from the first of a block on.
  detail::CodeView<Codebook, Scale, kPieces> view(Index first, Index count) const {
    const Index block = first / detail::kBlockRows;
    const Index scale = F::kOneRowOnly ? layout().scaleAt(block, 0, groups()) : 0;
    return {layout().part(block, count),
            codes_.data() + layout().at(block, 0),
            scales_.data() + scale,
            hasZero() ? zeros_.data() + scale : nullptr,
            !F::kOneRowOnly,
            kPieces == 1 && groups() == 1 ? layout().tiles() * detail::kTileColumns<Codebook> : groupWidth(),
            groups()};
  }

  /// Where the scale of a group stands.
  std::size_t scaleAt(Index row, Index group) const {
    if constexpr (!F::kOneRowOnly) return 0;
    const Index block = row / detail::kBlockRows;
    return static_cast<std::size_t>(layout().scaleAt(block, group, groups()) + row % detail::kBlockRows);
  }

  Affine storedAffine(Index row, Index group) const {
    const std::size_t at = scaleAt(row, group);
    return {static_cast<float>(scales_[at]), hasZero() ? static_cast<float>(zeros_[at]) : 0.f};
  }

  /// Calls visit(f), where f(w) is w divided by the unit: by a product where the inverse is a float, which is quicker
  /// and the same.
  template <class Visit>
  void inUnits(const Visit& visit) const {
    constexpr float kLeastOfInverse = 0x1p-126f;
    const float unit = unit_.get();
    if (unit >= kLeastOfInverse) return visit([inverse = 1 / unit](const auto& w) { return w * inverse; });
    visit([unit](const auto& w) { return w / unit; });
  }

  /// Quantizes w, the rows from a block on, in units of unit_.
  template <class Rounding>
  void roundRows(Index first_block, RowMatrixXf w, Rounding&& rounding, const QuantizeOptions& options) {
    Grid<F> grid(w.rows(), w.cols(), options.fit, unit_);
    if (grid.cols() > grid.inputs()) {
      w.conservativeResize(Eigen::NoChange, grid.cols());
      w.rightCols(grid.cols() - grid.inputs()).setZero();
    }
    CodeMatrix<Codebook> codes(w.rows(), codesInRow());
    roundInto(std::forward<Rounding>(rounding), w, grid, codes);
    store(first_block, grid, codes);
  }

  /// Packs codes and their grid as the rows from a block on.
  void store(Index first_block, const Grid<F>& grid, const CodeMatrix<Codebook>& codes) {
    storeAffine(first_block * detail::kBlockRows, grid);
    if constexpr (MixedRates<Codebook>) {
      rate_sums_ = sumsOf(grid.rates());
      codes_ = StoredArray<std::uint8_t>(static_cast<std::size_t>(layout().bytes()));
    }
    std::uint8_t* bytes = codes_.writable().data();
    parallelFor(ceilDiv(codes.rows(), detail::kBlockRows), 2 * detail::kBlockRows * cols_, [&](Index block) {
      detail::packBlock(layout(), codes.row(block * detail::kBlockRows).data(), codesInRow(), first_block + block,
                        bytes);
    });
  }

  void storeAffine(Index first_row, const Grid<F>& grid) {
    const auto scales = scales_.writable(), zeros = zeros_.writable();
    for (Index row = 0; row < (F::kOneRowOnly ? grid.rows() : 1); ++row) {
      for (Index group = 0; group < groups(); ++group) {
        const Affine& a = grid.affine(row, group);
        const std::size_t at = scaleAt(first_row + row, group);
        scales[at] = static_cast<Scale>(a.scale);
        if constexpr (hasZero()) zeros[at] = static_cast<Scale>(a.zero);
      }
    }
  }

  /// The rows of a block, cols() numbers each and `stride` apart, in units of unit_.
  void decodeBlock(Index block, float* values, Index stride) const {
    if constexpr (detail::TileCodebook<Codebook>) {
      detail::decodeBlock(view(0, rows_), block, cols_, values, stride);
    } else {
      decodeRuns(block, values, stride);
    }
  }

  void decodeRuns(Index block, float* values, Index stride) const {
    const Index rows = layout().rowsOf(block), padded = codesInRow() * Codebook::kDim;
    std::vector<Code> codes(static_cast<std::size_t>(rows * codesInRow()));
    std::vector<float> whole(static_cast<std::size_t>(padded));
    layout().unpackBlock(codes_.data(), block, codes.data(), codesInRow());
    for (Index row = 0; row < rows; ++row) {
      for (Index group = 0; group < groups(); ++group) {
        const Index first = group * groupWidth() / Codebook::kDim;
        const Index count = std::min(groupWidth() / Codebook::kDim, codesInRow() - first);
        decodeRun<Codebook>(codes.data() + row * codesInRow() + first, count,
                            storedAffine(block * detail::kBlockRows + row, group),
                            whole.data() + first * Codebook::kDim);
      }
      std::copy_n(whole.data(), cols(), values + row * stride);
    }
  }

  detail::EmptyAfterMove<Index> rows_, cols_;
  StoredArray<std::uint32_t> rate_sums_;  ///< of mixed rates
  StoredArray<std::uint8_t> codes_;
  StoredArray<Scale> scales_, zeros_;
  detail::EmptyAfterMove<float, 1> unit_;
};

}  // namespace gosset::GOSSET_ABI
