// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/core/types.hpp>
#include <gosset/rounding/basis.hpp>
#include <gosset/scale/grid.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

// The concept page of roundings. A Rounding is a value that says how the codes of a matrix are chosen, and leaves no
// trace in the type of the result. It writes
//
//   round(w, grid, codes)   chooses the codes of w (m x grid.cols(), which it may change) under the grid's scales; a
//                           template over the ScaledFormat F whose codes these are
//
// and where it applies
//
//   kFitsGrid = true        it fits or sets the grid's scales itself; else they have been fitted to all of w before
//   kRowByRow = true        no row's codes depend on another row, so that a matrix may come in parts
//   kScalarOnly = true      it needs a codebook of single numbers
//   kIsNearest = true       it puts every number to the nearest value by itself, so that it means something for formats
//                           that store plain floats, too
//   inBasis(change)         the same rounding for inputs in another basis (basis.hpp); for what knows of the inputs
//
// and the hooks that formats around the codes ask for:
//
//   channelScales(w, trial)   n positive scales of input channels; ChannelScaled formats
//   outlierColumns(n)         the columns, rising, that stay in 16 bits; MixedColumns formats
//   outlierWeights(n)         what numbers of each input count when the largest are sought; Outliers formats
//   columnOrder(n)            all columns, in the order in which they are kept; ActOrder formats
//   kOptionalHooks            those of these that it can do without
//
// A format uses every hook that a rounding has, or refuses it with a sentence when the program is compiled: nothing is
// ignored in silence.
//
// Roundings come by value, and what is done last with one is done with an rvalue: one that knows of the inputs may have
// a second round() && and inBasis() &&, which work in the memory of what it keeps. quantize<F>(W, Ldlq(std::move(h)))
// factorizes in the array that h had.
//
// This room holds roundings and what they are told of the inputs. What may not enter: how codes are packed (format/),
// searches that quantize again and again (calibration/).
namespace gosset::GOSSET_ABI {

/// Hooks of a rounding, as bits.
inline constexpr unsigned kChannelScalesHook = 1, kOutlierColumnsHook = 2, kOutlierWeightsHook = 4,
                          kColumnOrderHook = 8;

/// What rows of a matrix (k x n) become where a format scales their input channels by s, n positive numbers: quantized
/// to nearest, decoded, and scaled back. For roundings that search scales.
using ChannelScaleTrial = std::function<RowMatrixXf(const RowMatrixXf& rows, const Eigen::VectorXf& s)>;

template <class R>
concept GivesChannelScales = requires(const R& r, const RowMatrixXf& w, const ChannelScaleTrial& trial) {
  { r.channelScales(w, trial) } -> std::convertible_to<Eigen::VectorXf>;
};
template <class R>
concept GivesOutlierColumns = requires(const R& r, Index n) {
  { r.outlierColumns(n) } -> std::convertible_to<std::vector<std::uint32_t>>;
};
template <class R>
concept GivesOutlierWeights = requires(const R& r, Index n) {
  { r.outlierWeights(n) } -> std::convertible_to<Eigen::VectorXf>;
};

template <class R>
concept GivesColumnOrder = requires(const R& r, Index n) {
  { r.columnOrder(n) } -> std::convertible_to<std::vector<std::uint32_t>>;
};

/// Whether R can choose the codes of format F.
template <class R, class F>
concept RoundsInto = ScaledFormat<F> &&
    requires(const R& r, RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) {
  r.round(w, grid, codes);
};

/// The attributes of a rounding; false, or none, where it does not say.
template <class R>
struct RoundingTraits {
  static constexpr bool kFitsGrid = requires { requires R::kFitsGrid; };
  static constexpr bool kRowByRow = requires { requires R::kRowByRow; };
  static constexpr bool kScalarOnly = requires { requires R::kScalarOnly; };
  static constexpr bool kIsNearest = requires { requires R::kIsNearest; };
  static constexpr unsigned kHooks =
      (GivesChannelScales<R> ? kChannelScalesHook : 0u) | (GivesOutlierColumns<R> ? kOutlierColumnsHook : 0u) |
      (GivesOutlierWeights<R> ? kOutlierWeightsHook : 0u) | (GivesColumnOrder<R> ? kColumnOrderHook : 0u);
  static constexpr unsigned kOptionalHooks = [] {
    if constexpr (requires { R::kOptionalHooks; }) return unsigned{R::kOptionalHooks};
    return 0u;
  }();
};

/// How a rounding goes with the codes of a format.
enum class HowRounded {
  kWell,
  kScalarOnly,   ///< it needs a codebook of single numbers, and the format has another
  kNotAtAll,     ///< it has no round() for the format
  kNearestOnly,  ///< the format stores plain floats, which only nearest rounding means something for
};

/// Chooses the codes of w under scales that are fitted first, unless the rounding does that itself.
template <class Rounding, ScaledFormat F>
void roundInto(Rounding&& rounding, RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) {
  if constexpr (!RoundingTraits<std::remove_cvref_t<Rounding>>::kFitsGrid) grid.fitAll(w);
  std::forward<Rounding>(rounding).round(w, grid, codes);
}

namespace detail {

/// A scalar format that stands for all where a concept needs one.
struct ProbeCodebook {
  using Code = std::uint8_t;
  static constexpr int kDim = 1, kBits = 1, kLevels = 2;
  static constexpr bool kHasZero = false;
  static constexpr ScaleRule kRule = ScaleRule::kMeanMagnitude;
  static constexpr Code encode(float x) { return x >= 0 ? 1 : 0; }
  static constexpr float level(Code q) { return q != 0 ? 1.f : -1.f; }
  static std::string name() { return "Probe"; }
};
struct ProbeFormat {
  using Codebook = ProbeCodebook;
  using Scale = float;
  static constexpr bool kOneRowOnly = true;
  static constexpr Index groupWidth(Index cols) { return cols; }
  static std::string name() { return "Probe"; }
};

}  // namespace detail

template <class R>
concept Rounding = std::copy_constructible<R> && RoundsInto<R, detail::ProbeFormat>;

/// What roundings around another rounding have in common: everything that Self does not write itself is that of what is
/// inside, hooks included. Where Self knows of the inputs it writes changeBasis(change), which changes it in place.
template <class Self, class Inner>
class RoundingWrapper {
 public:
  static constexpr bool kFitsGrid = RoundingTraits<Inner>::kFitsGrid;
  static constexpr bool kRowByRow = RoundingTraits<Inner>::kRowByRow;
  static constexpr bool kScalarOnly = RoundingTraits<Inner>::kScalarOnly;
  static constexpr bool kIsNearest = RoundingTraits<Inner>::kIsNearest;
  static constexpr unsigned kOptionalHooks = RoundingTraits<Inner>::kOptionalHooks;

  explicit RoundingWrapper(Inner inner) : inner_(std::move(inner)) {}

  const Inner& inner() const { return inner_; }

  template <ScaledFormat F>
  requires RoundsInto<Inner, F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const& {
    inner_.round(w, grid, codes);
  }
  /// What Self knows besides is forgotten first, as it may share a Hessian with what is inside.
  template <ScaledFormat F>
  requires RoundsInto<Inner, F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) && {
    Inner inner = std::move(inner_);
    static_cast<void>(Self(std::move(static_cast<Self&>(*this))));
    std::move(inner).round(w, grid, codes);
  }
  Eigen::VectorXf channelScales(const RowMatrixXf& w,
                                const ChannelScaleTrial& trial) const requires GivesChannelScales<Inner> {
    return inner_.channelScales(w, trial);
  }
  std::vector<std::uint32_t> outlierColumns(Index n) const requires GivesOutlierColumns<Inner> {
    return inner_.outlierColumns(n);
  }
  Eigen::VectorXf outlierWeights(Index n) const requires GivesOutlierWeights<Inner> { return inner_.outlierWeights(n); }
  std::vector<std::uint32_t> columnOrder(Index n) const requires GivesColumnOrder<Inner> {
    return inner_.columnOrder(n);
  }

  Self inBasis(const BasisChange& change) const& { return Self(static_cast<const Self&>(*this)).inBasis(change); }
  Self inBasis(const BasisChange& change) && {
    Self& self = static_cast<Self&>(*this);
    inner_ = gosset::inBasis(std::move(inner_), change);
    if constexpr (requires { self.changeBasis(change); }) self.changeBasis(change);
    return std::move(self);
  }

 protected:
  Inner inner_;
};

}  // namespace gosset::GOSSET_ABI
