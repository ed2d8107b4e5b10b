// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/empty_after_move.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/format/concepts.hpp>
#include <gosset/rounding/channel_scales.hpp>
#include <gosset/rounding/nearest.hpp>
#include <gosset/scale/granularity.hpp>
#include <gosset/scale/options.hpp>
#include <gosset/scale/unit.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gosset::GOSSET_ABI {

/// Keeps W diag(s) in the inner format, with one positive scale s_j an input channel: y = (W diag(s)) (diag(1/s) x).
/// Inputs with large activations get a large s_j, so that their weights are rounded on a finer grid relative to their
/// size.
///
/// Kept besides the inner format: n scales in T and a float unit, a power of two: value = inner value / s_j * unit. The
/// unit keeps W diag(s) within the range of float for matrices of any magnitude. With 16-bit T that is 16 / m bits a
/// weight.
///
/// The scales come from the rounding, by its hook channelScales: see Awq and ChannelScales.
/// Source: Lin et al., "AWQ", MLSys 2024, section 3.2.
template <class Format, StorageScalar T = Float16>
struct ChannelScaled {
  using Inner = Format;
};

namespace detail {

/// Positive scales as T holds them, all multiplied by the power of two that puts the middle of their exponents at 0:
/// only ratios matter. What T cannot hold even so becomes its least normal or its greatest number.
template <StorageScalar T>
StoredArray<T> storedChannelScales(const Eigen::VectorXf& s) {
  const int middle = (std::ilogb(s.minCoeff()) + std::ilogb(s.maxCoeff())) / 2;
  const auto least = static_cast<float>(std::numeric_limits<T>::min());
  StoredArray<T> stored(static_cast<std::size_t>(s.size()));
  std::transform(s.begin(), s.end(), stored.writable().begin(),
                 [&](float value) { return storeNearest<T>(std::max(std::ldexp(value, -middle), least)); });
  return stored;
}

template <StorageScalar T>
Eigen::VectorXf widenedScales(const StoredArray<T>& stored) {
  Eigen::VectorXf s(static_cast<Index>(stored.size()));
  std::transform(stored.begin(), stored.end(), s.begin(), [](T value) { return static_cast<float>(value); });
  return s;
}

}  // namespace detail

template <Format F, StorageScalar T>
class Packed<ChannelScaled<F, T>> : public PackedWrapper<Packed<ChannelScaled<F, T>>, F> {
 public:
  using Base = PackedWrapper<Packed<ChannelScaled<F, T>>, F>;
  static constexpr unsigned kUses = Base::kUses | kChannelScalesHook, kNeeds = Base::kNeeds | kChannelScalesHook;

  Packed() : Packed(Packed<F>(), {}, 1) {}
  /// An all-zero matrix; its scales are 1, unless a file's are about to come.
  static Packed shaped(Index rows, Index cols, const FieldLengths& lengths = {}) {
    StoredArray<T> ones(static_cast<std::size_t>(cols));
    if (!detail::DeferredArrays::areMade()) std::fill_n(ones.writable().begin(), cols, T(1.f));
    return Packed(Base::innerShaped(rows, cols, lengths), std::move(ones), 1);
  }

  /// Errors: std::invalid_argument where the scales that come are not n positive finite numbers; where a magnitude of W
  /// is beyond 2^127.
  template <class Rounding>
  static Packed quantize(RowMatrixXf w, Rounding rounding, const QuantizeOptions& options) {
    const float largest = w.cwiseAbs().maxCoeff();
    detail::require(largest <= 0x1p127f, "quantize: the matrix holds a magnitude of ", largest,
                    ", beyond 2^127, up to which the values of its codes are finite in float");
    const float unit = detail::storageUnit(largest);
    w /= unit;
    const ChannelScaleTrial trial = [&](const RowMatrixXf& rows, const Eigen::VectorXf& s) {
      RowMatrixXf scaled = rows.array().rowwise() * s.transpose().array();
      const NearestWithHooks<Rounding> nearest(inBasis(rounding, dividedBy(s)));
      scaled = Packed<F>::quantize(std::move(scaled), nearest, options).dequantized();
      scaled.array().rowwise() /= s.transpose().array();
      return scaled;
    };
    const Eigen::VectorXf wanted = rounding.channelScales(w, trial);
    detail::checkChannelScales("ChannelScaled", wanted, w.cols());
    StoredArray<T> stored = detail::storedChannelScales<T>(wanted);
    const Eigen::VectorXf s = detail::widenedScales(stored);
    w.array().rowwise() *= s.transpose().array();
    return Packed(Packed<F>::quantize(std::move(w), inBasis(std::move(rounding), dividedBy(s)), options),
                  std::move(stored), unit);
  }

  static std::string formatName() { return detail::scaledName<T>("ChannelScaled<" + Packed<F>::formatName()); }

  /// Also scales and a unit that are not positive.
  std::string fault() const {
    if (!(unit_ > 0)) return "unit: expected a positive number";
    const bool positive =
        std::all_of(scales_.begin(), scales_.end(), [](T value) { return static_cast<float>(value) > 0; });
    return positive ? Base::fault() : "channel_scales: expected positive numbers";
  }

  /// The scales s_j as they are stored, n of them.
  Eigen::VectorXf channelScales() const { return detail::widenedScales(scales_); }

  void computeRows(Index first, Index count, Eigen::Ref<RowMatrixXf> w) const {
    this->inner_.decodeRows(first, count, w);
    w.array().rowwise() /= channelScales().transpose().array();
    w *= unit_;
  }

  void computeProduct(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y,
                      Activations activations) const {
    this->inner_.multiply(divided(x), y, activations);
    y *= unit_;
  }
  void computeProductRows(Index first, Index count, const Eigen::Ref<const Eigen::MatrixXf>& x,
                          Eigen::Ref<Eigen::MatrixXf> y, Activations activations) const {
    this->inner_.multiplyRows(first, count, divided(x), y, activations);
    y.middleRows(first, count) *= unit_;
  }

  /// y += diag(unit / s) (inner^T x).
  void computeTransposed(const Eigen::Ref<const Eigen::MatrixXf>& x, Eigen::Ref<Eigen::MatrixXf> y) const {
    Eigen::MatrixXf result = Eigen::MatrixXf::Zero(this->cols(), x.cols());
    this->inner_.addTransposed(x, result);
    y += divided(result) * unit_.get();
  }

  template <class Self, class Visit>
  static void fields(Self& self, const Visit& visit) {
    visit("channel_scales", self.scales_);
    visit("unit", self.unit_.get());
    visitWithin("inner.", self.inner_, visit);
  }

 private:
  Packed(Packed<F> inner, StoredArray<T> scales, float unit)
      : Base(std::move(inner)), scales_(std::move(scales)), unit_(unit) {}

  /// What is known of the inputs x, for x_j / s_j.
  static BasisChange dividedBy(const Eigen::VectorXf& s) {
    return {.hessian =
                [s](Eigen::MatrixXd& h) {  // S^-1 H S^-1
                  const Eigen::VectorXd inverse = s.cast<double>().cwiseInverse();
                  h = (inverse.asDiagonal() * h * inverse.asDiagonal()).eval();
                },
            .tokens = [s](RowMatrixXf& x) { x.array().rowwise() /= s.transpose().array(); }};
  }

  /// diag(1/s) x.
  Eigen::MatrixXf divided(const Eigen::Ref<const Eigen::MatrixXf>& x) const {
    return x.array().colwise() / channelScales().array();
  }

  StoredArray<T> scales_;
  detail::EmptyAfterMove<float, 1> unit_;
};

}  // namespace gosset::GOSSET_ABI
