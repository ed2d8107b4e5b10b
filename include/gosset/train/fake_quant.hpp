// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/concepts.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/per_tensor.hpp>
#include <gosset/format/scaled.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/scale/affine.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <utility>

// Training through quantization: the forward pass uses the rounded weights, the backward pass takes rounding for the
// identity where it did not clip.
namespace gosset::GOSSET_ABI {

namespace detail {

template <class Format>
concept ScalarFormat = ScaledFormat<typename ScaledFormatOf<Format>::type> &&
    ScalarCodebook<typename ScaledFormatOf<Format>::type::Codebook>;

/// A number in units of the levels.
template <ScalarCodebook C>
float levelOf(float x, Affine a) {
  const float level = x / divisor(a);
  return C::kHasZero ? level + a.zero : level;
}

/// Does it lie further beyond an end level than half the last step? Rounding is then no longer to a neighbour, and the
/// value does not follow the number.
template <ScalarCodebook C>
bool isClipped(float x, Affine a) {
  if (!(a.scale > 0)) return false;
  using Code = typename C::Code;
  constexpr auto at = [](int q) { return C::level(static_cast<Code>(q)); };
  const float low = at(0) - (at(1) - at(0)) / 2;
  const float high = at(C::kLevels - 1) + (at(C::kLevels - 1) - at(C::kLevels - 2)) / 2;
  const float level = levelOf<C>(x, a);
  return level < low || level > high;
}

/// Calls visit(row, group, begin, end) for the columns [begin, end) of each group in each row.
template <ScaledFormat F, class Visit>
void forEachGroup(Index rows, Index cols, const Visit& visit) {
  const Index width = F::groupWidth(cols);
  for (Index row = 0; row < rows; ++row) {
    for (Index group = 0; group * width < cols; ++group) {
      visit(row, group, group * width, std::min((group + 1) * width, cols));
    }
  }
}

template <class A, class B>
void requireOneShape(const char* function, const A& w, const B& gradient) {
  require(w.rows() == gradient.rows() && w.cols() == gradient.cols(), function, ": expected a gradient of ", w.rows(),
          " x ", w.cols(), ", as the weights have, got ", gradient.rows(), " x ", gradient.cols());
}

}  // namespace detail

/// Quantization in a training loop, for scalar codebooks, bare or in PerTensor, PerChannel or Grouped. Scales are
/// fitted anew at every call, and no gradient goes through them; see LearnedStep for scales that are trained. What
/// comes out of training is quantize<Format>(W, Nearest{}, options): its values are those of forward(W), bit for bit.
/// Sources: Bengio, Leonard and Courville, 2013, section 4 (straight-through estimator); Jacob et al., CVPR 2018,
/// section 3.
template <class Format>
class FakeQuant {
  static_assert(detail::ScalarFormat<Format>,
                "FakeQuant<Format> takes a codebook of single numbers, bare or in PerTensor, PerChannel or Grouped");

 public:
  explicit FakeQuant(QuantizeOptions options = {}) : options_(std::move(options)) {}

  /// What W (m x n) becomes. Errors: as quantize.
  template <DenseExpression Weights>
  RowMatrixXf forward(const Weights& w) const {
    return quantize<Format>(w, Nearest{}, options_).dequantized();
  }

  /// The gradient with respect to W, given W and the gradient with respect to forward(W), both m x n: the same where W
  /// was not clipped, else 0. Clipped is what lies beyond an end level by more than half a step; the published rules of
  /// Symmetric and Asymmetric clip nothing, those of Ternary and of the Gaussian codebooks do.
  template <DenseExpression Weights, DenseExpression Gradient>
  RowMatrixXf backward(const Weights& w, const Gradient& gradient) const {
    detail::requireOneShape("FakeQuant::backward", w, gradient);
    const auto q = quantize<Format>(w, Nearest{}, options_);
    using F = typename detail::ScaledFormatOf<Format>::type;
    RowMatrixXf numbers(w.rows(), w.cols()), result(w.rows(), w.cols());
    numbers = w.derived().matrix().template cast<float>();
    result = gradient.derived().matrix().template cast<float>();
    detail::forEachGroup<F>(numbers.rows(), numbers.cols(), [&](Index row, Index group, Index begin, Index end) {
      const Affine a = q.packed().affine(row, group);
      for (Index col = begin; col < end; ++col) {
        if (detail::isClipped<typename F::Codebook>(numbers(row, col), a)) result(row, col) = 0;
      }
    });
    return result;
  }

 private:
  QuantizeOptions options_;
};

}  // namespace gosset::GOSSET_ABI
