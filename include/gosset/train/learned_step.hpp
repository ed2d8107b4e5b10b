// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/fit.hpp>
#include <gosset/scale/granularity.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/train/fake_quant.hpp>

#include <algorithm>
#include <cmath>

namespace gosset {

/// Quantization in a training loop with scales that are trained along with the weights, one a group of PerTensor,
/// PerChannel or Grouped; for scalar codebooks without a zero point. The scales are plain floats here, in the array
/// scales(): an optimizer moves them by what backward() gives.
/// Source: Esser et al., "Learned Step Size Quantization", ICLR 2020, equations 1-3 and section 2.2.
template <class Format>
class LearnedStep {
  static_assert(detail::ScalarFormat<Format>,
                "LearnedStep<Format> takes a codebook of single numbers, bare or in PerTensor, PerChannel or Grouped");
  using F = typename detail::ScaledFormatOf<Format>::type;
  using C = typename F::Codebook;
  static_assert(!C::kHasZero, "LearnedStep<Format>: the codebook must have no zero point, as Symmetric and Ternary do");

 public:
  struct Gradients {
    RowMatrixXf weights;  ///< m x n
    RowMatrixXf scales;   ///< as scales()
  };

  /// Starts with the scales that quantize<Format>(W, Nearest{}, options) finds. Errors: as quantize.
  template <DenseExpression Weights>
  explicit LearnedStep(const Weights& w, const QuantizeOptions& options = {}) : rows_(w.rows()), cols_(w.cols()) {
    const auto q = quantize<Format>(w, Nearest{}, options);
    scales_.resize(F::kOneRowOnly ? rows_ : 1, ceilDiv(cols_, width()));
    for (Index row = 0; row < scales_.rows(); ++row) {
      for (Index group = 0; group < scales_.cols(); ++group) scales_(row, group) = q.packed().affine(row, group).scale;
    }
  }

  /// m x groups, or 1 x 1 where one scale serves all. A scale that is not positive makes its group zero.
  RowMatrixXf& scales() { return scales_; }
  const RowMatrixXf& scales() const { return scales_; }

  /// scale * nearest level of w / scale. Errors: std::invalid_argument where W has another shape than at first.
  template <DenseExpression Weights>
  RowMatrixXf forward(const Weights& w) const {
    RowMatrixXf result = numbers("LearnedStep::forward", w);
    forEach([&](Index row, Index col, float scale) {
      float& value = result(row, col);
      value = scale > 0 ? scale * C::level(C::encode(value / scale)) : 0.f;
    });
    return result;
  }

  /// The gradients with respect to W and to the scales, given W and the gradient with respect to forward(W), both
  /// m x n. For a weight: the same where it was not clipped, else 0. For a scale: the sum over its group of gradient *
  /// (level - w / scale), or gradient * end level where clipped, over sqrt(group size * largest level), which keeps
  /// relative updates of scales and weights alike. Errors: std::invalid_argument where shapes differ.
  template <DenseExpression Weights, DenseExpression Gradient>
  Gradients backward(const Weights& w, const Gradient& gradient) const {
    const RowMatrixXf x = numbers("LearnedStep::backward", w);
    detail::requireOneShape("LearnedStep::backward", w, gradient);
    Gradients result{RowMatrixXf(rows_, cols_), RowMatrixXf::Zero(scales_.rows(), scales_.cols())};
    result.weights = gradient.derived().matrix().template cast<float>();
    forEach([&](Index row, Index col, float scale) {
      if (!(scale > 0)) return;
      float& g = result.weights(row, col);
      const float value = x(row, col) / scale;
      const bool clipped = detail::isClipped<C>(x(row, col), Affine{scale, 0});
      scaleOf(result.scales, row, col) += g * (C::level(C::encode(value)) - (clipped ? 0.f : value));
      if (clipped) g = 0;
    });
    for (Index group = 0; group < scales_.cols(); ++group) {
      const Index count = std::min(width(), cols_ - group * width()) * (F::kOneRowOnly ? 1 : rows_);
      result.scales.col(group) /= std::sqrt(static_cast<float>(count) * detail::largestLevel<C>());
    }
    return result;
  }

 private:
  Index width() const { return F::groupWidth(cols_); }

  template <class Matrix>
  auto& scaleOf(Matrix& scales, Index row, Index col) const {
    return scales(F::kOneRowOnly ? row : 0, col / width());
  }

  template <class Body>
  void forEach(const Body& body) const {
    for (Index row = 0; row < rows_; ++row) {
      for (Index col = 0; col < cols_; ++col) body(row, col, scaleOf(scales_, row, col));
    }
  }

  template <class Weights>
  RowMatrixXf numbers(const char* function, const Weights& w) const {
    detail::require(w.rows() == rows_ && w.cols() == cols_, function, ": expected weights of ", rows_, " x ", cols_,
                    ", got ", w.rows(), " x ", w.cols());
    RowMatrixXf result(rows_, cols_);
    result = w.derived().matrix().template cast<float>();
    return result;
  }

  Index rows_, cols_;
  RowMatrixXf scales_;
};

}  // namespace gosset
