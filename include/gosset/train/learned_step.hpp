// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/grid.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/train/fake_quant.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace gosset::GOSSET_ABI {

namespace detail {

/// Nearest under scales and zero points that are given: a rounding for quantize().
struct NearestUnder {
  static constexpr bool kFitsGrid = true;

  const RowMatrixXf& scales;  ///< in units of the matrix's numbers
  const RowMatrixXf& zeros;   ///< as scales, or empty

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    // The least that storage tells from 0, so that a learned scale does not vanish where the weights have grown.
    using Scale = typename F::Scale;
    const auto least = static_cast<float>(std::bit_cast<Scale>(typename StorageTraits<Scale>::Bits{1}));
    for (Index row = 0; row < scales.rows(); ++row) {
      for (Index group = 0; group < scales.cols(); ++group) {
        const float scale = std::clamp(scales(row, group), least * grid.unit(), StorageTraits<float>::kMax);
        grid.setScale(row, group, scale, zeros.size() > 0 ? zeros(row, group) : 0.f);
      }
    }
    for (Index row = 0; row < w.rows(); ++row) grid.encodeRow(row, w.row(row).data(), codes.row(row).data());
  }
};

}  // namespace detail

/// Quantization in a training loop with scales, and zero points where the codebook has them, that are trained along
/// with the weights: one a group of PerTensor, PerChannel or Grouped; for scalar codebooks. They are plain floats here,
/// in the arrays scales() and zeros(): an optimizer moves them by what backward() gives. quantized(W) rounds them to
/// how the format stores them, and forward(W) is what that gives back, so that nothing is lost at the end of training.
///
/// A step that an optimizer has made tiny, 0 or negative is taken for the least one, 2^-10 of what it was at first (and
/// no less than the scale's type tells from 0). Gradients are those at the least step, so that the optimizer raises it
/// again; at a step of 0 all of them would be 0 for ever. For the same reason a group that is all zero at first starts
/// with a step of 2^-10 of the matrix's largest (of 1, where the whole matrix is zero) and its zero point at the middle
/// level: it gives zeros where the codebook has them, and else numbers of the size of that step.
/// Sources: Esser et al., "Learned Step Size Quantization", ICLR 2020, equations 1-3 and section 2.2; Bhalgat et al.,
/// "LSQ+", CVPR Workshops 2020, section 3.1 (zero points).
template <class Format>
class LearnedStep {
  static_assert(detail::ScalarFormat<Format>,
                "LearnedStep<Format> takes a codebook of single numbers, bare or in PerTensor, PerChannel or Grouped");
  using F = typename detail::ScaledFormatOf<Format>::type;
  using C = typename F::Codebook;

 public:
  struct Gradients {
    RowMatrixXf weights;  ///< m x n
    RowMatrixXf scales;   ///< as scales()
    RowMatrixXf zeros;    ///< as zeros()
  };

  /// Starts with the scales that quantize<Format>(W, Nearest{}, options) finds, but for groups that are all zero.
  /// Errors: as quantize.
  template <DenseExpression Weights>
  explicit LearnedStep(const Weights& w, const QuantizeOptions& options = {}) : rows_(w.rows()), cols_(w.cols()) {
    const auto q = quantize<Format>(w, Nearest{}, options);
    scales_.resize(F::kOneRowOnly ? rows_ : 1, ceilDiv(cols_, F::groupWidth(cols_)));
    if (C::kHasZero) zeros_.resize(scales_.rows(), scales_.cols());
    for (Index row = 0; row < scales_.rows(); ++row) {
      for (Index group = 0; group < scales_.cols(); ++group) {
        const Affine a = q.packed().affine(row, group);
        scales_(row, group) = a.scale;
        if (C::kHasZero) zeros_(row, group) = a.zero;
      }
    }
    startZeroGroups();
    least_ = (scales_ * kTiny).cwiseMax(std::numeric_limits<float>::denorm_min());
  }

  /// m x groups, or 1 x 1 where one scale serves all. What is below the least step counts as the least step.
  RowMatrixXf& scales() { return scales_; }
  const RowMatrixXf& scales() const { return scales_; }

  /// As scales(), in levels; empty for codebooks without a zero point.
  RowMatrixXf& zeros() { return zeros_; }
  const RowMatrixXf& zeros() const { return zeros_; }

  /// W in the format, under these scales and zero points, rounded to how it stores them. Errors: std::invalid_argument
  /// where W has another shape than at first, or a scale or zero point is not finite; as quantize.
  template <DenseExpression Weights>
  QuantizedMatrix<Format> quantized(const Weights& w) const {
    return quantizedBy("LearnedStep::quantized", w);
  }

  /// What W becomes: quantized(W).dequantized(). Errors: as quantized.
  template <DenseExpression Weights>
  RowMatrixXf forward(const Weights& w) const {
    return quantizedBy("LearnedStep::forward", w).dequantized();
  }

  /// The gradients with respect to W and to the scales and zero points as they are stored, given W and that with
  /// respect to forward(W), both m x n. For a weight: the same where it was not clipped, else 0. For a scale: the sum
  /// over its group of gradient * (level - zero - w / scale), or gradient * (end level - zero) where clipped; for a
  /// zero point: that of -gradient * scale where clipped. Both over sqrt(group size * largest level), which keeps
  /// relative updates of scales and weights alike. Errors: std::invalid_argument where shapes differ; as quantized.
  template <DenseExpression Weights, DenseExpression Gradient>
  Gradients backward(const Weights& w, const Gradient& gradient) const {
    const auto q = quantizedBy("LearnedStep::backward", w);
    detail::requireOneShape("LearnedStep::backward", w, gradient);
    RowMatrixXf x(rows_, cols_);
    x = w.derived().matrix().template cast<float>();
    const CodeMatrix<C> codes = q.packed().codes();
    Gradients result{RowMatrixXf(rows_, cols_), RowMatrixXf::Zero(scales_.rows(), scales_.cols()),
                     RowMatrixXf::Zero(zeros_.rows(), zeros_.cols())};
    result.weights = gradient.derived().matrix().template cast<float>();
    detail::forEachGroup<F>(rows_, cols_, [&](Index row, Index group, Index begin, Index end) {
      const Affine a = q.packed().affine(row, group);
      const Index at = F::kOneRowOnly ? row : 0;
      for (Index col = begin; col < end; ++col) {
        float& g = result.weights(row, col);
        const bool clipped = detail::isClipped<C>(x(row, col), a);
        const float level = C::level(codes(row, col)) - a.zero;
        result.scales(at, group) += g * (clipped ? level : level - x(row, col) / a.scale);
        if (!clipped) continue;
        if (C::kHasZero) result.zeros(at, group) -= g * a.scale;
        g = 0;
      }
    });
    for (Index group = 0; group < scales_.cols(); ++group) {
      const Index width = F::groupWidth(cols_);
      const Index count = std::min(width, cols_ - group * width) * (F::kOneRowOnly ? 1 : rows_);
      const float size = std::sqrt(static_cast<float>(count) * detail::largestLevel<C>());
      result.scales.col(group) /= size;
      if (C::kHasZero) result.zeros.col(group) /= size;
    }
    return result;
  }

 private:
  template <class Weights>
  QuantizedMatrix<Format> quantizedBy(const char* function, const Weights& w) const {
    detail::require(w.rows() == rows_ && w.cols() == cols_, function, ": expected weights of ", rows_, " x ", cols_,
                    ", got ", w.rows(), " x ", w.cols());
    detail::require(scales_.allFinite() && zeros_.allFinite(), function,
                    ": expected finite scales and zero points, got NaN or an infinity");
    const RowMatrixXf x = detail::finiteFloats(function, w);
    const RowMatrixXf scales = scales_.cwiseMax(least_);
    return quantize<Format>(x, detail::NearestUnder{scales, zeros_});
  }

  void startZeroGroups() {
    const float largest = scales_.maxCoeff();
    for (Index i = 0; i < scales_.size(); ++i) {
      if (scales_.data()[i] > 0) continue;
      scales_.data()[i] = (largest > 0 ? largest : 1.f) * kTiny;
      if (C::kHasZero) zeros_.data()[i] = static_cast<float>(C::kLevels / 2);
    }
  }

  static constexpr float kTiny = 0x1p-10f;

  Index rows_, cols_;
  RowMatrixXf scales_, zeros_;
  RowMatrixXf least_;  ///< as scales()
};

}  // namespace gosset::GOSSET_ABI
