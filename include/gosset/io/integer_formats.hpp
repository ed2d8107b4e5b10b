// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/codebook/asymmetric.hpp>
#include <gosset/codebook/symmetric.hpp>
#include <gosset/core/error.hpp>
#include <gosset/core/float_storage.hpp>
#include <gosset/format/act_order.hpp>
#include <gosset/format/grouped.hpp>
#include <gosset/format/per_channel.hpp>
#include <gosset/io/integer_weights.hpp>
#include <gosset/matrix/any_matrix.hpp>
#include <gosset/matrix/format_list.hpp>
#include <gosset/matrix/from_codes.hpp>
#include <gosset/matrix/quantized_matrix.hpp>

#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

// IntegerWeights as matrices of gosset's formats, exactly: dequantized() gives the same bits.
namespace gosset::GOSSET_ABI {

namespace detail {

template <class C>
struct UniformBits : std::integral_constant<int, 0> {};
template <int b>
struct UniformBits<Asymmetric<b>> : std::integral_constant<int, b> {};
template <int b>
struct UniformBits<Symmetric<b>> : std::integral_constant<int, b> {};

/// What a format makes of integer weights; for formats of uniform levels in rows or groups.
template <class F>
struct IntegerFormat;

template <ScaledFormat F>
requires(F::kOneRowOnly&& UniformBits<typename F::Codebook>::value > 0) struct IntegerFormat<F> {
  using C = typename F::Codebook;
  static constexpr bool kOrders = false;

  /// Groups of the format that have the scale of one group of the weights.
  static Index pieces(const IntegerWeights& w) { return ceilDiv(w.group_size, F::groupWidth(w.cols())); }

  /// Whether it holds the weights exactly, their columns being in order.
  static bool holds(const IntegerWeights& w) {
    const Index width = F::groupWidth(w.cols());
    const bool fits = w.groups() == 1 || w.group_size % width == 0;
    if (w.bits != UniformBits<C>::value || !fits) return false;
    if constexpr (!C::kHasZero) {  // levels -Q .. Q: without the lowest code
      const auto middle = static_cast<float>(C::kMax + 1);
      if ((w.zeros.array() != middle).any() || (w.codes.array() < 1).any()) return false;
    }
    return scalesAreExact(w);
  }

  static bool scalesAreExact(const IntegerWeights& w) {
    using T = typename F::Scale;
    const RowMatrixXf zeros = C::kHasZero ? w.zeros : RowMatrixXf();
    float largest = 0;
    for (Index i = 0; i < w.scales.size(); ++i) {
      largest = std::max(largest, largestMagnitudeOf<C>(w.scales.data()[i], C::kHasZero ? w.zeros.data()[i] : 0.f));
    }
    if (!(largest <= 0x1p127f)) return false;
    const float unit = unitOfScales<F>(w.scales, zeros);
    const auto exact = [&](float scale) { return static_cast<float>(storeNearest<T>(scale / unit)) * unit == scale; };
    return std::all_of(w.scales.data(), w.scales.data() + w.scales.size(), exact);
  }

  /// Bytes beside the codes.
  static Index sideBytes(const IntegerWeights& w) {
    return w.rows() * w.groups() * pieces(w) * static_cast<Index>(sizeof(typename F::Scale)) * (C::kHasZero ? 2 : 1);
  }

  /// The matrix whose column k is column order[k] of the weights.
  static QuantizedMatrix<F> pack(const IntegerWeights& w, const std::vector<std::uint32_t>& order) {
    auto codes = w.codes;
    constexpr int kLowest = C::kHasZero ? 0 : 1;
    for (Index i = 0; i < codes.rows(); ++i) {
      for (Index k = 0; k < codes.cols(); ++k) {
        codes(i, k) = static_cast<std::uint8_t>(w.codes(i, order[static_cast<std::size_t>(k)]) - kLowest);
      }
    }
    const Index width = F::groupWidth(w.cols());
    RowMatrixXf scales(w.rows(), ceilDiv(w.cols(), width)), zeros(w.rows(), C::kHasZero ? scales.cols() : 0);
    for (Index group = 0; group < scales.cols(); ++group) {
      const Index of = group * width / w.group_size;
      scales.col(group) = w.scales.col(of);
      if (C::kHasZero) zeros.col(group) = w.zeros.col(of);
    }
    if (!C::kHasZero) zeros.resize(0, 0);
    return fromCodes<F>(codes, scales, zeros);
  }
};

template <class F>
struct IntegerFormat<ActOrder<F>> {
  static constexpr bool kOrders = true;
  static bool holds(const IntegerWeights& w) { return IntegerFormat<F>::holds(w); }
  static Index sideBytes(const IntegerWeights& w) { return IntegerFormat<F>::sideBytes(w) + 4 * w.cols(); }
  static QuantizedMatrix<ActOrder<F>> pack(const IntegerWeights& w, const std::vector<std::uint32_t>& order) {
    return QuantizedMatrix<ActOrder<F>>(
        Packed<ActOrder<F>>::assembled(IntegerFormat<F>::pack(w, order).packed(), order));
  }
};

}  // namespace detail

/// A format that can hold IntegerWeights: Grouped or PerChannel around Asymmetric or Symmetric, or ActOrder around one
/// of these.
template <class F>
concept IntegerWeightsFormat = requires {
  detail::IntegerFormat<F>::kOrders;
};

/// Whether the format holds the weights exactly: as many bits; groups of a length that divides theirs; scales that its
/// storage type holds, beside a power of two for the whole matrix; ActOrder where the columns of a group are no
/// neighbours; and Symmetric only where every zero point is in the middle and the lowest code is not used.
template <IntegerWeightsFormat F>
bool holdsExactly(const IntegerWeights& weights) {
  return (detail::IntegerFormat<F>::kOrders || weights.isInOrder()) && detail::IntegerFormat<F>::holds(weights);
}

/// The weights in a format that holds them exactly. Errors: std::invalid_argument where it does not.
template <IntegerWeightsFormat F>
QuantizedMatrix<F> packIntegers(const IntegerWeights& weights) {
  detail::require(holdsExactly<F>(weights), "packIntegers: ", Packed<F>::formatName(), " does not hold the ",
                  weights.rows(), " x ", weights.cols(), " matrix of ", weights.bits, " bits in groups of ",
                  weights.group_size, weights.isInOrder() ? "" : ", in act-order,", " exactly");
  return detail::IntegerFormat<F>::pack(weights, weights.order());
}

/// The weights in that format of a list which holds them exactly in the fewest bytes; nothing where none does. Formats
/// that hold no IntegerWeights may be in the list.
template <class List>
requires requires { List::names(); }
std::optional<AnyMatrix> packIntegers(const IntegerWeights& weights) {
  return [&]<class... F>(std::type_identity<FormatList<F...>>) -> std::optional<AnyMatrix> {
    std::optional<Index> least;
    AnyMatrix (*pack)(const IntegerWeights&) = nullptr;
    const auto consider = [&]<class G>(std::type_identity<G>) {
      if constexpr (IntegerWeightsFormat<G>) {
        if (!holdsExactly<G>(weights)) return;
        const Index bytes = detail::IntegerFormat<G>::sideBytes(weights);
        if (least && *least <= bytes) return;
        least = bytes;
        pack = [](const IntegerWeights& w) { return AnyMatrix(packIntegers<G>(w)); };
      }
    };
    (consider(std::type_identity<F>{}), ...);
    if (pack == nullptr) return std::nullopt;
    return pack(weights);
  }(std::type_identity<List>{});
}

}  // namespace gosset::GOSSET_ABI
