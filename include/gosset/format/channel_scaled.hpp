// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/format/scaled.hpp>
#include <gosset/rounding/basis.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/scale/options.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset {

/// Keeps W diag(s) in the inner format, with one positive scale s_j an input channel: y = (W diag(s)) (diag(1/s) x).
/// Inputs with large activations get a large s_j, so that their weights are rounded on a finer grid relative to their
/// size.
///
/// Kept besides the inner format: n scales in T and a float unit, a power of two: value = inner value / s_j * unit. The
/// unit keeps W diag(s) within the range of float for matrices of any magnitude. With 16-bit T that is 16 / m bits a
/// weight.
///
/// The scales come from the argument beside W, as channelScales<Format>(w, options): see Awq and ChannelScales.
/// Source: Lin et al., "AWQ", MLSys 2024, section 3.2.
template <class Format, StorageScalar T = Float16>
struct ChannelScaled {
  using Inner = Format;
};

namespace detail {

/// Positive scales as T holds them, all multiplied by the power of two that puts the middle of their exponents at 0:
/// only ratios matter. What T cannot hold even so becomes its least normal or its greatest number.
template <StorageScalar T>
std::vector<T> storedChannelScales(const Eigen::VectorXf& s) {
  const int middle = (std::ilogb(s.minCoeff()) + std::ilogb(s.maxCoeff())) / 2;
  const auto least = static_cast<float>(std::numeric_limits<T>::min());
  std::vector<T> stored;
  for (const float value : s) {
    const double normalised = std::ldexp(static_cast<double>(value), -middle);
    const auto inside = static_cast<float>(std::min(normalised, static_cast<double>(StorageTraits<T>::kMax)));
    stored.push_back(storeNearest<T>(std::max(inside, least)));
  }
  return stored;
}

template <StorageScalar T>
Eigen::VectorXf widenedScales(const std::vector<T>& stored) {
  Eigen::VectorXf s(static_cast<Index>(stored.size()));
  std::transform(stored.begin(), stored.end(), s.begin(), [](T value) { return static_cast<float>(value); });
  return s;
}

inline void checkChannelScales(const char* function, const Eigen::VectorXf& s, Index cols) {
  require(s.size() == cols, function, ": expected ", cols, " channel scales, got ", s.size());
  for (Index j = 0; j < cols; ++j) {
    require(s[j] > 0 && std::isfinite(s[j]), function, ": expected channel scales that are positive and finite, got ",
            s[j], " for channel ", j);
  }
}

}  // namespace detail

template <Format F, StorageScalar T>
class Packed<ChannelScaled<F, T>> : public detail::VisitsFields<Packed<ChannelScaled<F, T>>> {
 public:
  /// An all-zero matrix; its scales are 1.
  static Packed shaped(Index rows, Index cols) {
    return Packed(Packed<F>::shaped(rows, cols), std::vector<T>(static_cast<std::size_t>(cols), T(1.f)), 1);
  }

  /// Errors: std::invalid_argument where the scales that come are not n positive finite numbers; where a magnitude of W
  /// is beyond 2^127.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, const Rounding& rounding, const QuantizeOptions& options) {
    static_assert(
        requires {
          { rounding.template channelScales<F>(w, options) } -> std::convertible_to<Eigen::VectorXf>;
        },
        "a ChannelScaled format takes its scales from the argument beside the matrix: "
        "quantize<ChannelScaled<F>>(W, Awq{X}) or quantize<ChannelScaled<F>>(W, ChannelScales(s))");
    const float largest = w.cwiseAbs().maxCoeff();
    detail::require(largest <= 0x1p127f, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond 2^127, up to which the values of its codes are finite in float");
    const float unit = detail::storageUnit(largest);
    w /= unit;
    const Eigen::VectorXf wanted = rounding.template channelScales<F>(w, options);
    detail::checkChannelScales("ChannelScaled", wanted, w.cols());
    std::vector<T> stored = detail::storedChannelScales<T>(wanted);
    const Eigen::VectorXf s = detail::widenedScales(stored);
    w.array().rowwise() *= s.transpose().array();
    const auto rescale = [s](Eigen::MatrixXd& h) {  // S^-1 H S^-1
      const Eigen::VectorXd inverse = s.cast<double>().cwiseInverse();
      h = (inverse.asDiagonal() * h * inverse.asDiagonal()).eval();
    };
    return Packed(Packed<F>::quantize(std::move(w), inBasis(rounding, rescale), options), std::move(stored), unit);
  }

  static std::string formatName() { return detail::scaledName<T>("ChannelScaled<" + Packed<F>::formatName()); }
  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }

  /// For files: a scale must be positive and finite, the unit too.
  bool isValid() const {
    const auto positive = [](float value) { return value > 0 && std::isfinite(value); };
    return detail::isValid(inner_) && positive(unit_) &&
           std::all_of(scales_.begin(), scales_.end(), [&](T value) { return positive(static_cast<float>(value)); });
  }

  const Packed<F>& inner() const { return inner_; }
  /// The scales s_j as they are stored, n of them.
  Eigen::VectorXf channelScales() const { return detail::widenedScales(scales_); }

  RowMatrixXf dequantized() const {
    RowMatrixXf w = inner_.dequantized();
    w.array().rowwise() /= channelScales().transpose().array();
    return w * unit_;
  }

  void multiply(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                Activations activations) const {
    const Eigen::VectorXf s = channelScales();
    const Eigen::MatrixXf divided = x.array().colwise() / s.array();
    inner_.multiply(divided, y, activations);
    y *= unit_;
  }

 private:
  Packed(Packed<F> inner, std::vector<T> scales, float unit)
      : inner_(std::move(inner)), scales_(std::move(scales)), unit_(unit) {}

  friend class detail::VisitsFields<Packed<ChannelScaled<F, T>>>;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("channel_scales", std::span(self.scales_));
    visit("unit", std::span(&self.unit_, 1));
    detail::visitWithin("inner.", self.inner_, visit);
  }

  Packed<F> inner_;
  std::vector<T> scales_;
  float unit_;
};

/// Scales that were found elsewhere, and a rounding for what they make of the matrix:
///
///   quantize<ChannelScaled<F>>(W, ChannelScales(s))
///   quantize<ChannelScaled<F>>(W, ChannelScales(s, Gptq(h)))
///
/// s: n positive numbers; only their ratios matter. The rounding's Hessian is that of the inputs x; the format turns it
/// into that of x_j / s_j.
template <class Rounding = Nearest>
class ChannelScales {
 public:
  explicit ChannelScales(Eigen::VectorXf s, Rounding rounding = {})
      : s_(std::move(s)), rounding_(std::move(rounding)) {}

  template <Format F>
  const Eigen::VectorXf& channelScales(const RowMatrixXf&, const QuantizeOptions&) const {
    return s_;
  }

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    rounding_.round(w, grid, codes);
  }

  template <class Change>
  ChannelScales inBasis(const Change& change) const {
    return ChannelScales(s_, gosset::inBasis(rounding_, change));
  }

 private:
  Eigen::VectorXf s_;
  Rounding rounding_;
};

}  // namespace gosset
