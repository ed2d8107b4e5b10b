// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/late.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/core/reorder.hpp>
#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/block_changes.hpp>
#include <gosset/rounding/block_refit.hpp>
#include <gosset/rounding/ldl.hpp>
#include <gosset/rounding/row_product.hpp>
#include <gosset/rounding/tile_rates.hpp>
#include <gosset/scale/block_coder.hpp>
#include <gosset/scale/grid.hpp>

#include <Eigen/LU>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// Where an Ldlq run stands.
struct LdlqProgress {
  Index columns_done;  ///< of this pass
  Index columns;       ///< in a pass
  int sweep;           ///< 0 for the first pass, then the number of the sweep
  double damping;      ///< the damping in use: what was asked for, or the first larger one that factorizes
  Index first_row;     ///< of the rows that this pass is over: sweeps take some thousand at a time
  Index rows;          ///< how many these are
};

namespace detail {

/// The order in which the loop takes the column blocks.
enum class BlockOrder { kLastFirst, kFirstFirst, kByDiagonal };

struct FeedbackOptions {
  double damping;
  int sweeps;
  BlockOrder order;
  bool static_groups;
  std::optional<double> mean_bits, rate_spread;  ///< of tiles with rates of their own
  std::function<void(const LdlqProgress&)> progress;
};

/// What the columns of a group would become if each were kept exactly where the feedback puts it, given all that is
/// rounded so far: X with (W - X) L = W - target, L being the group's own unit lower triangle. That is what GPTQ fits a
/// group to.
template <class = void>
RowMatrixXf compensated(const Eigen::Ref<const RowMatrixXf>& w, const Eigen::Ref<const RowMatrixXf>& target,
                        const Eigen::Ref<const RowMatrixXf>& unit) {
  RowMatrixXf shift = target - w;
  unit.triangularView<Eigen::UnitLower>().solveInPlace<Eigen::OnTheRight>(shift);
  return w + shift;
}

/// One run of rounding with feedback (block LDLQ). With E = W - What and H = L D L^T, L unit block lower triangular,
/// the loss is tr(E H E^T) = sum_k (E L)_k D_k (E L)_k^T, and (E L)_k = W_k - What_k + sum_{j > k} E_j L_jk. So the
/// blocks are taken from the last to the first, and block k is rounded at W_k + sum_{j > k} E_j L_jk: what is left of
/// (E L)_k is then the rounding error alone. Source: Tseng et al., "QuIP#", ICML 2024, section 4.2; Chee et al.,
/// "QuIP", NeurIPS 2023, section 3 and theorem 6: for single columns this is GPTQ (whose columns run the other way).
///
/// The matrix is held in "places": the block taken first stands at the last place, so that any order of the blocks is
/// one and the same loop.
template <ScaledFormat F>
class Feedback {
 public:
  using C = typename F::Codebook;

  Feedback(BasisHessian hessian, RowMatrixXf& w, Grid<F>& grid, CodeMatrix<C>& codes, FeedbackOptions options)
      : w_(w),
        grid_(grid),
        codes_(codes),
        options_(std::move(options)),
        chunks_(w.rows()),
        static_groups_(options_.static_groups || options_.order == BlockOrder::kByDiagonal || grid.groups() == 1) {
    require(hessian.size() == grid.inputs(), "Ldlq: expected a Hessian of ", grid.inputs(), " inputs, got ",
            hessian.size());
    require(options_.damping >= 0 && std::isfinite(options_.damping), "Ldlq: expected a damping >= 0, got ",
            options_.damping);
    require(options_.sweeps >= 0, "Ldlq: expected a number of sweeps >= 0, got ", options_.sweeps);
    Eigen::MatrixXd h = padded(normalised(std::move(hessian).matrix()));
    orderBlocks(h);
    if (options_.order != BlockOrder::kLastFirst) gatherBoth(h, columnsAtPlaces());
    cholesky_.emplace(std::move(h), options_.damping);
    if constexpr (requires { grid_.setColumnWeights(std::vector<double>()); }) grid_.setColumnWeights(columnWeights());
    chooseRates();
  }

  void run() {
    if (static_groups_) grid_.fitAll(w_);
    if (options_.order != BlockOrder::kLastFirst) gatherColumns(w_, columnsAtPlaces());
    firstPass();
    for (Index chunk = 0; chunk < chunks_.count() && options_.sweeps > 0;) {
      const Index first = chunk, row = chunks_.begin(first);
      while (chunk < chunks_.count() && (chunk == first || chunks_.begin(chunk) + chunks_.size(chunk) - row <= kStripe))
        ++chunk;
      descend({first, chunk, row, chunks_.begin(chunk - 1) + chunks_.size(chunk - 1) - row});
    }
  }

 private:
  static constexpr Index kDim = kBlockColumns<C>, kCodes = kDim / C::kDim;  // of a block
  static constexpr Index kPanel = ceilDiv(128, kDim) * kDim;                // columns that share one matrix product
  static constexpr Index kAbout = 64;                                       // rows of a chunk
  static constexpr Index kStripe = 2048;                                    // rows whose gradient is kept
  using Coder = BlockCoder<Grid<F>>;
  template <class T, int cols>
  using Rows =
      Eigen::Matrix<T, Eigen::Dynamic, cols, cols == 1 ? Eigen::ColMajor : Eigen::RowMajor, RowChunks<C>::kMost>;
  using BlockCodes = Rows<typename C::Code, kCodes>;
  using BlockRows = Rows<float, kDim>;
  using SquareBlock = Eigen::Matrix<float, kDim, kDim>;

  /// H with a mean diagonal between 1 and 2, so that activations of any magnitude give sums that float holds; only
  /// ratios matter, and a power of two changes no digit. Where no activations were seen, as by an expert that no token
  /// reached, all errors count alike: the identity.
  static Eigen::MatrixXd normalised(Eigen::MatrixXd h) {
    const double mean = h.diagonal().mean();
    if (h.isZero(0)) return Eigen::MatrixXd::Identity(h.rows(), h.cols());
    if (mean > 0) h *= std::ldexp(1.0, -std::ilogb(mean));
    return h;
  }

  /// Padding columns get a diagonal of their own: they are zero, and no activation meets them.
  Eigen::MatrixXd padded(Eigen::MatrixXd h) const {
    const Index inputs = grid_.inputs();
    const Index extra = grid_.cols() - inputs;
    if (extra == 0) return h;
    const double mean_diagonal = h.diagonal().mean();
    h.conservativeResize(grid_.cols(), grid_.cols());
    h.rightCols(extra).setZero();
    h.bottomRows(extra).setZero();
    h.diagonal().tail(extra).setConstant(mean_diagonal);
    return h;
  }

  /// What rounding errors of each column weigh, all columns behind it compensating.
  std::vector<double> columnWeights() const {
    const std::vector<double> of_blocks = cholesky_->blockWeights(kDim);
    std::vector<double> weights(static_cast<std::size_t>(w_.cols()));
    for (Index place = 0; place < w_.cols(); ++place) {
      weights[static_cast<std::size_t>(columnAt(place) + place % kDim)] =
          of_blocks[static_cast<std::size_t>(place / kDim)];
    }
    return weights;
  }

  /// Where tiles have rates of their own, bits go to those whose errors weigh most.
  void chooseRates() {
    if constexpr (MixedRates<C>) {
      const std::vector<double> of_blocks = cholesky_->blockWeights(kDim);
      std::vector<double> weights(static_cast<std::size_t>(grid_.tiles()));
      std::vector<Index> columns(weights.size());
      for (Index place = 0; place < w_.cols(); place += kDim) {
        const auto tile = static_cast<std::size_t>(grid_.tileOf(columnAt(place)));
        weights[tile] += of_blocks[static_cast<std::size_t>(place / kDim)] * static_cast<double>(kDim);
        columns[tile] += kDim;
      }
      for (std::size_t tile = 0; tile < weights.size(); ++tile) weights[tile] /= static_cast<double>(columns[tile]);
      grid_.setRates(tileRates<C::kStateBits>(weights, columns, options_.mean_bits.value_or(C::kRate8 / 8.),
                                              options_.rate_spread.value_or(kMostTrellisRate8 / 8.)));
    } else {
      require(!options_.mean_bits && !options_.rate_spread, "Ldlq: ", options_.mean_bits ? "mean_bits" : "rate_spread",
              ": ", F::name(), " has the same rate for all columns; TrellisMixed has rates to choose");
    }
  }

  void orderBlocks(const Eigen::MatrixXd& h) {
    block_at_.resize(static_cast<std::size_t>(w_.cols() / kDim));
    std::iota(block_at_.begin(), block_at_.end(), Index{0});
    if (options_.order == BlockOrder::kFirstFirst) std::reverse(block_at_.begin(), block_at_.end());
    if (options_.order == BlockOrder::kByDiagonal) {
      std::stable_sort(block_at_.begin(), block_at_.end(), [&](Index a, Index b) {
        return h.diagonal().segment(a * kDim, kDim).sum() < h.diagonal().segment(b * kDim, kDim).sum();
      });
    }
  }

  /// The first column of the block whose first place this is.
  Index columnAt(Index place) const { return block_at_[static_cast<std::size_t>(place / kDim)] * kDim; }

  /// The column at each place.
  std::vector<std::uint32_t> columnsAtPlaces() const {
    std::vector<std::uint32_t> columns(static_cast<std::size_t>(w_.cols()));
    for (Index place = 0; place < w_.cols(); ++place) {
      columns[static_cast<std::size_t>(place)] = static_cast<std::uint32_t>(columnAt(place) + place % kDim);
    }
    return columns;
  }

  /// First place of the panel that ends before place `end`: about kPanel columns, and never a part of a group that is
  /// still to be fitted, as that needs all of the group's columns with the feedback they have got so far.
  Index panelBegin(Index end) const {
    const Index plain = std::max<Index>(0, end - kPanel);
    if (static_groups_) return plain;
    Index begin = end;
    while (begin > plain) begin -= groupEndingAt(begin).width;
    return begin;
  }

  struct GroupWidth {
    Index group;
    Index width;
  };
  GroupWidth groupEndingAt(Index end) const {
    const Index group = grid_.groupOf(columnAt(end - kDim));
    return {group, grid_.end(group) - grid_.begin(group)};
  }

  /// Where the last code of the matrix, which may be partly padding, stands among `width` places from `begin` on; -1
  /// where it is not there.
  Index lastCodeFrom(Index begin, Index width) const {
    for (Index place = 0; place < width; place += kDim) {
      if (columnAt(begin + place) == w_.cols() - kDim) return place;
    }
    return -1;
  }

  /// The columns that stand from a place on, for grids that want them as they are in the matrix.
  decltype(auto) inGridOrder(const RowMatrixXf& numbers, Index begin) const {
    if constexpr (requires { requires Grid<F>::kInOrder; }) {
      const Index first = grid_.begin(grid_.groupOf(columnAt(begin)));
      RowMatrixXf ordered(numbers.rows(), numbers.cols());
      for (Index i = 0; i < numbers.cols(); ++i) {
        ordered.col(columnAt(begin + i) + (begin + i) % kDim - first) = numbers.col(i);
      }
      return ordered;
    } else {
      return (numbers);
    }
  }

  /// Rounds everything once. On the way w_ turns from W into E, panel by panel.
  void firstPass() {
    const Index n = w_.cols();
    for (Index end = n; end > 0;) {
      const Index begin = panelBegin(end);
      const Index width = end - begin;
      const Eigen::MatrixXf unit = cholesky_->unitBlockColumns(begin, width, kDim);
      RowMatrixXf target = w_.middleCols(begin, width);
      addProduct<Late<F>>(w_.rightCols(n - end), unit.bottomRows(n - end), target);
      roundPanel(begin, unit.topRows(width), target);
      end = begin;
      report(n - begin, 0, 0, w_.rows());
    }
  }

  /// Rounds the blocks of a panel, last first. `target` holds W plus the feedback from beyond the panel.
  void roundPanel(Index begin, const RowMatrixXf& unit, RowMatrixXf& target) {
    for (Index last = target.cols(); last > 0;) {
      Index first = 0;
      if (!static_groups_) {
        const auto [group, width] = groupEndingAt(begin + last);
        first = last - width;
        const RowMatrixXf wanted =
            compensated<Late<F>>(w_.middleCols(begin + first, width), target.middleCols(first, width),
                                 unit.block(first, first, width, width));
        grid_.fitGroup(group, inGridOrder(wanted, begin + first), lastCodeFrom(begin + first, width));
      }
      parallelFor(chunks_.count(), kAbout * kPanel * kPanel, [&](Index chunk) {
        const Index row = chunks_.begin(chunk), rows = chunks_.size(chunk);
        Coder coder(grid_, row, rows);
        for (Index col = last - kDim; col >= first; col -= kDim) {
          auto error = w_.block(row, begin + col, rows, kDim);
          const BlockRows target_block = target.block(row, col, rows, kDim);
          BlockRows values(rows, kDim);
          encodeBlock(coder, row, begin + col, target_block, values);
          error -= values;
          target.block(row, 0, rows, col).noalias() += error * unit.block(col, 0, kDim, col);
        }
      });
      last = first;
    }
  }

  /// The codes of one block of columns, and the values that they stand for.
  void encodeBlock(Coder& coder, Index row, Index place, const BlockRows& numbers, BlockRows& values) {
    const Index col = columnAt(place);
    BlockCodes codes(numbers.rows(), kCodes);
    coder.encode(col, numbers.data(), codes.data());
    coder.decode(col, codes.data(), values.data());
    codesAt(row, numbers.rows(), col) = codes;
  }

  auto codesAt(Index row, Index rows, Index col) { return codes_.block(row, col / C::kDim, rows, kCodes); }

  /// The chunks [first_chunk, end_chunk), which are the rows [row, row + rows).
  struct Stripe {
    Index first_chunk, end_chunk, row, rows;
  };

  /// Coordinate descent in some rows, which do not depend on the others. With all other blocks fixed and g = sum_{j !=
  /// k} E_j H_jk, the loss depends on block k as e H_kk e^T + 2 e g^T, least at e = -g H_kk^-1. The block is rounded
  /// there, and the new code kept in the rows where it lowers the loss.
  ///
  /// The first sweep computes the gradient E H of each panel when it gets there; from then on it is kept up to date by
  /// what changes.
  void descend(const Stripe& stripe) {
    RowMatrixXf gradient = RowMatrixXf::Zero(stripe.rows, w_.cols());
    for (int sweep = 1; sweep <= options_.sweeps; ++sweep) {
      if (!descend(stripe, sweep, gradient)) break;
      if constexpr (BlockFormat<F>) {
        if (sweep < options_.sweeps) refit(stripe, gradient);
      }
    }
  }

  /// Better scales for the codes that a sweep has chosen, block by block (block_refit.hpp).
  void refit(const Stripe& stripe, RowMatrixXf& gradient) requires BlockFormat<F> {
    const auto columns = columnsAtPlaces();
    std::vector<Index> place_of(static_cast<std::size_t>(w_.cols()));
    for (Index place = 0; place < w_.cols(); ++place) place_of[columns[static_cast<std::size_t>(place)]] = place;
    for (Index block = 0; block < grid_.groups(); ++block) {
      const Index width = grid_.end(block) - grid_.begin(block);
      const Eigen::Map<const Eigen::Array<Index, Eigen::Dynamic, 1>> at(place_of.data() + grid_.begin(block), width);
      Eigen::MatrixXf h(w_.cols(), width);
      for (Index j = 0; j < width; ++j) h.col(j) = cholesky_->hessianColumns(at[j], 1);
      const Eigen::MatrixXf own = h(at, Eigen::all);
      RowMatrixXf change(stripe.rows, width);
      parallelFor(stripe.end_chunk - stripe.first_chunk, kAbout * width * width, [&](Index i) {
        const Index row = chunks_.begin(stripe.first_chunk + i), rows = chunks_.size(stripe.first_chunk + i);
        BlockRefit<F> better(grid_, row, rows, block, own);
        RowMatrixXf of_block(rows, width);
        for (Index j = 0; j < width; ++j) of_block.col(j) = gradient.col(at[j]).segment(row - stripe.row, rows);
        change.middleRows(row - stripe.row, rows) =
            better.run(codes_.block(row, grid_.begin(block), rows, width), std::move(of_block));
      });
      if (change.isZero(0)) continue;
      for (Index j = 0; j < width; ++j) w_.col(at[j]).segment(stripe.row, stripe.rows) -= change.col(j);
      const RowMatrixXf minus = -change;
      addProduct<Late<F>>(minus, h.transpose(), gradient);
    }
  }

  /// One sweep; false where it changed nothing.
  bool descend(const Stripe& stripe, int sweep, RowMatrixXf& gradient) {
    const Index n = w_.cols();
    bool changed = false;
    BlockChanges<kDim> changes;
    for (Index end = n; end > 0;) {
      const Index begin = std::max<Index>(0, end - kPanel);
      const Index width = end - begin;
      const Eigen::MatrixXf h = cholesky_->hessianColumns(begin, width);
      if (sweep == 1) {
        addProduct<Late<F>>(w_.middleRows(stripe.row, stripe.rows), h, gradient.middleCols(begin, width));
      }
      changes.reset(stripe.rows, width);
      descendInPanel(stripe, begin, h.middleRows(begin, width), gradient, changes);
      changes.collect();
      changed = changed || !changes.empty();
      const auto h_rows = h.transpose();  // H is symmetric
      if (sweep > 1) changes.addProduct(h_rows, 0, begin, gradient);
      if (sweep < options_.sweeps) changes.addProduct(h_rows, end, n, gradient);
      end = begin;
      report(n - begin, sweep, stripe.row, stripe.rows);
    }
    return changed;
  }

  /// The same in the panel from place `begin` on, whose part of H is h_panel.
  void descendInPanel(const Stripe& stripe, Index begin, const RowMatrixXf& h_panel, RowMatrixXf& gradient,
                      BlockChanges<kDim>& changes) {
    const Index width = h_panel.rows();
    std::vector<SquareBlock> inverses;
    for (Index col = 0; col < width; col += kDim) {
      const SquareBlock block = h_panel.block(col, col, kDim, kDim);
      inverses.push_back(block.template cast<double>().inverse().template cast<float>());
    }
    parallelFor(stripe.end_chunk - stripe.first_chunk, kAbout * kPanel * kPanel, [&](Index i) {
      const Index row = chunks_.begin(stripe.first_chunk + i), rows = chunks_.size(stripe.first_chunk + i);
      Coder coder(grid_, row, rows);
      auto panel = gradient.block(row - stripe.row, begin, rows, width);
      for (Index col = width - kDim; col >= 0; col -= kDim) {
        const SquareBlock block = h_panel.block(col, col, kDim, kDim);
        auto error = w_.block(row, begin + col, rows, kDim);
        const BlockRows change = improve(coder, row, begin + col, error, panel.middleCols(col, kDim), block,
                                         inverses[static_cast<std::size_t>(col / kDim)]);
        if (change.isZero(0)) continue;
        changes.at(row - stripe.row, rows, col) = change;
        error += change;
        panel.noalias() += change * h_panel.middleRows(col, kDim);
      }
    });
  }

  /// Tries the best codes of one block, given E there and E H there; keeps them where the loss falls. Returns the
  /// change of E.
  template <class Error, class Gradient>
  BlockRows improve(Coder& coder, Index row, Index place, const Error& error, const Gradient& gradient,
                    const SquareBlock& h, const SquareBlock& inverse) {
    const Index rows = error.rows();
    const Index col = columnAt(place);
    BlockCodes codes = codesAt(row, rows, col);
    BlockRows old_values(rows, kDim), new_values(rows, kDim);
    coder.decode(col, codes.data(), old_values.data());
    const BlockRows others = gradient - error * h;
    const BlockRows wanted = old_values + error + others * inverse;
    coder.encode(col, wanted.data(), codes.data());
    coder.decode(col, codes.data(), new_values.data());
    BlockRows change = old_values - new_values;
    for (Index first = 0; first < rows; first += Coder::kTogether) {
      const Index count = std::min(Coder::kTogether, rows - first);
      float rise = 0;
      for (Index i = first; i < first + count; ++i) {
        // loss(e + c) - loss(e) = c (H_kk (2 e + c)^T + 2 g^T) = c (2 gradient + c H_kk)^T
        const auto c = change.row(i);
        rise += (2 * gradient.row(i) + c * h).dot(c);
      }
      if (rise < 0) {
        codesAt(row + first, count, col) = codes.middleRows(first, count);
      } else {
        change.middleRows(first, count).setZero();
      }
    }
    return change;
  }

  void report(Index done, int sweep, Index first_row, Index rows) const {
    if (options_.progress) options_.progress({done, w_.cols(), sweep, cholesky_->damping(), first_row, rows});
  }

  RowMatrixXf& w_;  ///< W in places, then E = W - What
  Grid<F>& grid_;
  CodeMatrix<C>& codes_;
  FeedbackOptions options_;
  RowChunks<C> chunks_;
  bool static_groups_;
  std::vector<Index> block_at_;                      ///< place / kDim -> block
  std::optional<DampedCholesky<Late<F>>> cholesky_;  ///< of H in places
};

}  // namespace detail

}  // namespace gosset::GOSSET_ABI
