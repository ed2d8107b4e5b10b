// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/calibration/power.hpp>
#include <gosset/codebook/symmetric.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/types.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/matrix/quantize.hpp>
#include <gosset/rounding/channel_scales.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

// Moving the outliers of a layer's inputs into its weights, where both are to be quantized: (W diag(s)) (diag(1/s) x)
// with the division folded into whatever makes x.
namespace gosset::GOSSET_ABI {

struct SmoothQuantOptions {
  float alpha = 0.5f;  ///< in [0, 1]: 0 evens the weights out, 1 the activations
};

struct SmoothQuantSearch {
  float alpha;        ///< the best one
  Eigen::VectorXf s;  ///< its scales
  double error;       ///< |W X^T - What Xhat^T| / |W X^T| with both in 8 bits; 0 where W X^T is zero
};

namespace detail {

/// What scales are made of: the largest magnitudes of each input channel.
struct ChannelMaxima {
  Eigen::VectorXf activations;
  Eigen::VectorXf weights;
};

template <DenseExpression Weights, DenseExpression Tokens>
ChannelMaxima channelMaxima(const char* function, const Weights& w, const Tokens& x) {
  require(w.cols() == x.cols(), function, ": expected W (out x in) and X (tokens x in) of as many inputs, got ",
          w.rows(), " x ", w.cols(), " and ", x.rows(), " x ", x.cols());
  return {finiteFloats(function, x).cwiseAbs().colwise().maxCoeff().transpose(),
          finiteFloats(function, w).cwiseAbs().colwise().maxCoeff().transpose()};
}

inline Eigen::VectorXf smoothQuantScalesAt(const ChannelMaxima& maxima, float alpha) {
  constexpr double kFloor = 1e-5;
  require(alpha >= 0 && alpha <= 1, "smoothQuantScales: expected alpha in [0, 1], got ", alpha);
  const auto floored = [&](const Eigen::VectorXf& values) {
    const double largest = values.maxCoeff();
    return Eigen::VectorXd(values.cast<double>().cwiseMax(largest > 0 ? kFloor * largest : 1.0));
  };
  const Eigen::VectorXd a = floored(maxima.activations), w = floored(maxima.weights);
  Eigen::VectorXf s(a.size());
  for (Index j = 0; j < s.size(); ++j) {
    const double value = power(a[j], alpha) / power(w[j], 1 - static_cast<double>(alpha));
    s[j] = static_cast<float>(std::clamp(value, static_cast<double>(std::numeric_limits<float>::min()),
                                         static_cast<double>(std::numeric_limits<float>::max())));
  }
  return s;
}

}  // namespace detail

/// s_j = max_t |X_tj|^alpha / max_i |W_ij|^(1 - alpha), n positive numbers. w: m x n, out x in; x: t x n, tokens x in.
/// Maxima below 1e-5 of the largest of their kind count as that (all-zero ones as 1), so that dead channels get finite
/// scales; the published code has the same floor as an absolute number.
/// Errors: std::invalid_argument where widths differ, something is empty or not finite, or alpha is not in [0, 1].
/// Source: Xiao et al., "SmoothQuant", ICML 2023, equation 4.
template <DenseExpression Weights, DenseExpression Tokens>
Eigen::VectorXf smoothQuantScales(const Weights& w, const Tokens& x, const SmoothQuantOptions& options = {}) {
  return detail::smoothQuantScalesAt(detail::channelMaxima("smoothQuantScales", w, x), options.alpha);
}

/// The alpha among 0, 1/20, .., 1 with the least output error where weights have 8 bits and a scale an output, and
/// activations 8 bits and a scale a token. Arguments and errors as smoothQuantScales.
template <DenseExpression Weights, DenseExpression Tokens>
SmoothQuantSearch searchSmoothQuant(const Weights& w, const Tokens& x) {
  constexpr int kSteps = 20;
  using Int8 = PerChannel<Symmetric<8>, float>;
  const detail::ChannelMaxima maxima = detail::channelMaxima("searchSmoothQuant", w, x);
  const RowMatrixXf weights = w.derived().matrix().template cast<float>();
  const RowMatrixXf tokens = x.derived().matrix().template cast<float>();
  const Eigen::MatrixXd exact = weights.cast<double>() * tokens.cast<double>().transpose();
  const double size = exact.norm();
  SmoothQuantSearch best{0, {}, std::numeric_limits<double>::infinity()};
  for (int step = 0; step <= kSteps; ++step) {
    const float alpha = static_cast<float>(step) / kSteps;
    Eigen::VectorXf s = detail::smoothQuantScalesAt(maxima, alpha);
    const RowMatrixXf scaled = weights.array().rowwise() * s.transpose().array();
    const RowMatrixXf divided = tokens.array().rowwise() / s.transpose().array();
    const Eigen::MatrixXd product = quantize<Int8>(scaled).dequantized().template cast<double>() *
                                    quantize<Int8>(divided).dequantized().template cast<double>().transpose();
    const double error = size > 0 ? (product - exact).norm() / size : 0;
    if (error < best.error) best = {alpha, std::move(s), error};
  }
  return best;
}

/// Folds scales s into two neighbours in place, so that the network computes the same function: what makes the inputs
/// is divided by s, W (m x n) times it. `gain` and `bias` are the n gains and biases of the norm in front; bias may be
/// empty. Errors: std::invalid_argument where sizes differ or s is not positive and finite.
template <class GainDerived, class BiasDerived, class Derived>
void foldIntoNorm(const Eigen::VectorXf& s, Eigen::MatrixBase<GainDerived>& gain, Eigen::MatrixBase<BiasDerived>& bias,
                  Eigen::MatrixBase<Derived>& w) {
  detail::checkChannelScales("foldIntoNorm", s, w.cols());
  detail::require(gain.size() == s.size(), "foldIntoNorm: expected ", s.size(), " gains, got ", gain.size());
  detail::require(bias.size() == s.size() || bias.size() == 0, "foldIntoNorm: expected ", s.size(),
                  " biases or none, got ", bias.size());
  for (Index j = 0; j < s.size(); ++j) {
    gain(j) /= static_cast<typename GainDerived::Scalar>(s[j]);
    if (bias.size() != 0) bias(j) /= static_cast<typename BiasDerived::Scalar>(s[j]);
    w.col(j) *= static_cast<typename Derived::Scalar>(s[j]);
  }
}

/// The same where a linear layer stands in front: previous is n x k, its rows making the inputs of W (m x n). `bias`
/// holds the n biases of the previous layer, or none.
template <class PreviousDerived, class BiasDerived, class Derived>
void foldIntoLinear(const Eigen::VectorXf& s, Eigen::MatrixBase<PreviousDerived>& previous,
                    Eigen::MatrixBase<BiasDerived>& bias, Eigen::MatrixBase<Derived>& w) {
  detail::checkChannelScales("foldIntoLinear", s, w.cols());
  detail::require(previous.rows() == s.size(), "foldIntoLinear: expected a previous layer of ", s.size(),
                  " outputs, got ", previous.rows());
  detail::require(bias.size() == s.size() || bias.size() == 0, "foldIntoLinear: expected ", s.size(),
                  " biases or none, got ", bias.size());
  for (Index j = 0; j < s.size(); ++j) {
    previous.row(j) /= static_cast<typename PreviousDerived::Scalar>(s[j]);
    if (bias.size() != 0) bias(j) /= static_cast<typename BiasDerived::Scalar>(s[j]);
    w.col(j) *= static_cast<typename Derived::Scalar>(s[j]);
  }
}

}  // namespace gosset::GOSSET_ABI
