// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/calibration/power.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/exact_sum.hpp>
#include <gosset/core/parallel.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/rounding/basis_hessian.hpp>
#include <gosset/rounding/concepts.hpp>
#include <gosset/rounding/hessian.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/rounding/row_product.hpp>
#include <gosset/scale/grid.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

struct AwqOptions {
  int steps = 20;           ///< alpha is tried at 0, 1/steps, .., 1
  bool clip = true;         ///< then search the clipping of each group
  int clip_steps = 10;      ///< the range is tried at 1, 1 - 1/20, .., 1 - (clip_steps - 1)/20 of its width; at most 20
  Index search_rows = 512;  ///< rows of W on which alpha is chosen, spread evenly; 0 for all
};

/// Activation-aware weight quantization. As the argument of a ChannelScaled format it chooses the scales: s_j =
/// a_j^alpha with a_j the mean magnitude of input j, alpha being the step with the least output error, mean |(W - What)
/// x|^2 over the tokens. The error is taken through the activations' second moment, so tokens need not be kept. As a
/// rounding it is Nearest, in groups whose range is first shrunk where that lowers the group's own output error; that
/// works with any format, but for trellis codes, whose groups keep theirs: the rows of a band are encoded together, so
/// that what one row would win is known only when all have chosen.
///
///   quantize<ChannelScaled<Grouped<Asymmetric<4>, 128>>>(W, Awq{X})
///
/// Unlike the reference implementation it tries alpha = 1 too, and takes the floor of a_j relative to the largest (1e-4
/// of it), so that dead inputs and activations of any magnitude give finite scales.
///
/// Errors: std::invalid_argument where X is empty or not finite (half-precision activations that overflowed hold
/// infinities), where an option is out of range, and from quantize where W has another number of inputs.
/// Source: Lin et al., "AWQ", MLSys 2024, sections 3.2 and 5; its reference implementation for the normalisation by
/// sqrt(max s * min s) and the clip search.
class Awq {
 public:
  static constexpr bool kFitsGrid = true;
  static constexpr unsigned kOptionalHooks = kChannelScalesHook;  // it clips in any format

  /// x: t x n, tokens x in. Only means over the tokens are kept.
  template <DenseExpression Tokens>
  explicit Awq(const Tokens& x, AwqOptions options = {}) : Awq(hessianOf(x), options) {
    const Eigen::MatrixXf columns = x.derived().matrix().template cast<float>();
    const auto tokens = static_cast<double>(x.rows());
    for (Index j = 0; j < magnitudes_.size(); ++j) {
      magnitudes_[j] = sumOf(x.rows(), [&](Index i) { return std::abs(columns(i, j)); }) / tokens;
    }
  }

  /// From a second moment alone; then a_j is the root mean square of input j, of which the mean magnitude is nearly a
  /// fixed share. Of a Hessian that has seen nothing, such as that of an expert that no token reached, all scales are 1
  /// and all inputs count alike.
  explicit Awq(const Hessian& hessian, AwqOptions options = {}) : hessian_(hessian), options_(options) {
    detail::require(options.steps >= 1, "Awq: expected a number of steps >= 1, got ", options.steps);
    detail::require(options.clip_steps >= 1 && options.clip_steps <= 20,
                    "Awq: expected a number of clip steps in 1 .. 20, got ", options.clip_steps);
    detail::require(options.search_rows >= 0, "Awq: expected a number of rows >= 0, got ", options.search_rows);
    magnitudes_ = rootMeanSquares(hessian.matrix());
  }

  /// n scales for W (m x n), normalised so that the largest times the least is 1; trial(rows, s) says what rows become
  /// under scales s.
  /// A template, as what it calls is, so that it compiles where it is used.
  template <class Matrix>
  Eigen::VectorXf channelScales(const Matrix& w, const ChannelScaleTrial& trial) const {
    checkInputs(w.cols());
    const Eigen::MatrixXf h = normalised(hessian_.matrix());
    const RowMatrixXf sample = sampledRows(w);
    Eigen::VectorXf best;
    double least = std::numeric_limits<double>::infinity();
    for (int step = 0; step <= options_.steps; ++step) {
      Eigen::VectorXf s = scalesAt(static_cast<double>(step) / options_.steps);
      const double loss = total(losses(sample - trial(sample, s), h));
      if (step > 0 && !(loss < least)) continue;
      least = loss;
      best = std::move(s);
    }
    return best;
  }

  /// n scales at one alpha, as channelScales() tries them.
  Eigen::VectorXf scalesAt(double alpha) const {
    constexpr double kFloor = 1e-4;
    const double largest = magnitudes_.maxCoeff();
    if (!(largest > 0)) return Eigen::VectorXf::Ones(magnitudes_.size());
    const double smallest = std::max(magnitudes_.minCoeff() / largest, kFloor);
    const double middle = detail::power(smallest, alpha / 2);  // sqrt(max s * min s), max s being 1
    return magnitudes_.unaryExpr(
        [&](double a) { return static_cast<float>(detail::power(std::max(a / largest, kFloor), alpha) / middle); });
  }

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    checkInputs(grid.inputs());
    if constexpr (TrellisCodebook<typename F::Codebook>) {
      roundInto(Nearest{}, w, grid, codes);
    } else {
      if (!options_.clip) return roundInto(Nearest{}, w, grid, codes);
      Eigen::MatrixXf h = Eigen::MatrixXf::Zero(grid.cols(), grid.cols());
      h.topLeftCorner(grid.inputs(), grid.inputs()) = normalised(hessian_.matrix());
      for (Index group = 0; group < grid.groups(); ++group) {
        const Index first = grid.begin(group);
        const Index width = grid.end(group) - first;
        fitClipped(grid, group, w.middleCols(first, width), h.block(first, first, width, width));
      }
      grid.encodeAll(w, codes);
    }
  }

  /// For a matrix whose inputs are in another basis, where the magnitudes are root mean squares.
  Awq inBasis(const BasisChange& change) const {
    Awq result = *this;
    result.hessian_ = hessian_.inBasis(change);
    result.magnitudes_ = rootMeanSquares(result.hessian_.matrix());
    return result;
  }

 private:
  template <class Tokens>
  static Hessian hessianOf(const Tokens& x) {
    detail::require(x.rows() >= 1 && x.cols() >= 1,
                    "Awq: expected the activations of at least 1 token (tokens x in), got ", x.rows(), " x ", x.cols());
    Hessian h(x.cols());
    h.accumulate(x);
    return h;
  }

  static Eigen::VectorXd rootMeanSquares(const Eigen::MatrixXd& h) { return h.diagonal().cwiseMax(0.0).cwiseSqrt(); }

  /// With a mean diagonal of 1, so that activations of any magnitude give losses that float holds.
  static Eigen::MatrixXf normalised(const Eigen::MatrixXd& h) {
    const double mean = total(h.diagonal()) / static_cast<double>(h.rows());
    if (!(mean > 0)) return Eigen::MatrixXf::Identity(h.rows(), h.cols());
    return (h / mean).cast<float>();
  }

  /// e H e^T for each row e.
  template <class = void>
  static Eigen::VectorXd losses(const Eigen::Ref<const RowMatrixXf>& error,
                                const Eigen::Ref<const Eigen::MatrixXf>& h) {
    RowMatrixXf product = RowMatrixXf::Zero(error.rows(), error.cols());
    detail::addProduct<>(error, h, product);
    Eigen::VectorXd sums(error.rows());
    for (Index row = 0; row < sums.size(); ++row) {
      sums[row] = sumOfProducts(error.cols(), [&](Index j) {
        return std::array<float, 2>{product(row, j), error(row, j)};
      });
    }
    return sums;
  }

  /// One number after the other, in the same order everywhere.
  static double total(const Eigen::VectorXd& numbers) { return std::accumulate(numbers.begin(), numbers.end(), 0.0); }

  void checkInputs(Index inputs) const {
    detail::require(inputs == hessian_.size(), "Awq: expected a matrix of ", hessian_.size(),
                    " inputs, as the activations have, got ", inputs);
  }

  RowMatrixXf sampledRows(const RowMatrixXf& w) const {
    if (options_.search_rows == 0 || w.rows() <= options_.search_rows) return w;
    RowMatrixXf sample(options_.search_rows, w.cols());
    for (Index i = 0; i < sample.rows(); ++i) sample.row(i) = w.row(i * w.rows() / sample.rows());
    return sample;
  }

  /// Fits a group to its numbers (m x width) after clamping them to the share of their range with the least loss, row
  /// by row or, where one scale serves all, for all rows together.
  template <ScaledFormat F>
  void fitClipped(Grid<F>& grid, Index group, const Eigen::Ref<const RowMatrixXf>& numbers,
                  const Eigen::Ref<const Eigen::MatrixXf>& h) const {
    RowMatrixXf best = numbers;
    Eigen::VectorXd least;
    for (int step = 0; step < options_.clip_steps; ++step) {
      const RowMatrixXf candidate = clamped<F>(numbers, 1 - static_cast<float>(step) / 20);
      grid.fitGroup(group, candidate);
      Eigen::VectorXd loss = losses(numbers - decoded(grid, group, numbers), h);
      if constexpr (!F::kOneRowOnly) loss.setConstant(total(loss));
      if (step == 0) least = loss;
      for (Index row = 0; row < numbers.rows(); ++row) {
        if (!(loss[row] < least[row])) continue;
        least[row] = loss[row];
        best.row(row) = candidate.row(row);
      }
    }
    grid.fitGroup(group, best);
  }

  template <ScaledFormat F>
  static RowMatrixXf clamped(const Eigen::Ref<const RowMatrixXf>& numbers, float share) {
    RowMatrixXf result = numbers;
    const auto clamp = [&](auto&& part) {
      const float low = part.minCoeff() * share, high = part.maxCoeff() * share;
      if (low < high) part = part.cwiseMax(low).cwiseMin(high).eval();  // a constant group stays as it is
    };
    if constexpr (F::kOneRowOnly) {
      for (Index row = 0; row < result.rows(); ++row) clamp(result.row(row));
    } else {
      clamp(result.middleRows(0, result.rows()));
    }
    return result;
  }

  /// What the numbers of a group become under its fitted scales.
  template <ScaledFormat F>
  static RowMatrixXf decoded(const Grid<F>& grid, Index group, const Eigen::Ref<const RowMatrixXf>& numbers) {
    RowMatrixXf result = numbers;
    parallelFor(numbers.rows(), 16 * numbers.cols(),
                [&](Index row) { grid.roundGroup(row, group, result.row(row).data()); });
    return result;
  }

  BasisHessian hessian_;
  Eigen::VectorXd magnitudes_;
  AwqOptions options_;
};

static_assert(Rounding<Awq> && GivesChannelScales<Awq>);

}  // namespace gosset::GOSSET_ABI
