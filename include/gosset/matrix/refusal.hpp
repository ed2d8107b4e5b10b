// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/format/concepts.hpp>
#include <gosset/rounding/concepts.hpp>

#include <string_view>

// Why a format and a rounding do not go together: a sentence each, for compilers and, where the format is known at run
// time only, for exceptions.
namespace gosset::GOSSET_ABI::detail {

enum class Refusal {
  kNone,
  kNoRounding,
  kScalarOnly,
  kNotAtAll,
  kNearestOnly,
  kNeedsChannelScales,
  kNeedsOutlierColumns,
  kNeedsColumnOrder,
  kIdleChannelScales,
  kIdleOutlierColumns,
  kIdleOutlierWeights,
  kIdleColumnOrder,
};

template <Format F, class R>
constexpr Refusal refusalOf() {
  using P = Packed<F>;
  using Traits = RoundingTraits<R>;
  if (!Rounding<R> && !Traits::kScalarOnly) return Refusal::kNoRounding;
  constexpr unsigned kMissing = P::kNeeds & ~Traits::kHooks;
  if ((kMissing & kChannelScalesHook) != 0) return Refusal::kNeedsChannelScales;
  if ((kMissing & kOutlierColumnsHook) != 0) return Refusal::kNeedsOutlierColumns;
  if ((kMissing & kColumnOrderHook) != 0) return Refusal::kNeedsColumnOrder;
  switch (P::template rounds<R>()) {
    case HowRounded::kScalarOnly:
      return Refusal::kScalarOnly;
    case HowRounded::kNotAtAll:
      return Refusal::kNotAtAll;
    case HowRounded::kNearestOnly:
      return Refusal::kNearestOnly;
    case HowRounded::kWell:
      break;
  }
  constexpr unsigned kIdle = Traits::kHooks & ~Traits::kOptionalHooks & ~P::kUses;
  if ((kIdle & kChannelScalesHook) != 0) return Refusal::kIdleChannelScales;
  if ((kIdle & kOutlierColumnsHook) != 0) return Refusal::kIdleOutlierColumns;
  if ((kIdle & kOutlierWeightsHook) != 0) return Refusal::kIdleOutlierWeights;
  if ((kIdle & kColumnOrderHook) != 0) return Refusal::kIdleColumnOrder;
  return Refusal::kNone;
}

/// What accepted() says to the compiler, shorter.
constexpr std::string_view refusalText(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNoRounding:
      return "the argument beside the matrix is no rounding";
    case Refusal::kScalarOnly:
      return "the rounding needs a codebook of single numbers";
    case Refusal::kNotAtAll:
      return "the rounding cannot choose codes of this format";
    case Refusal::kNearestOnly:
      return "a plain float format stores numbers as they are: only Nearest rounding applies to it";
    case Refusal::kNeedsChannelScales:
      return "a ChannelScaled format needs a rounding that gives channel scales, such as Awq or ChannelScales";
    case Refusal::kNeedsOutlierColumns:
      return "a MixedColumns format needs a rounding that gives outlier columns, such as OutlierColumns";
    case Refusal::kNeedsColumnOrder:
      return "an ActOrder format needs a rounding that gives the order of the columns, such as Gptq";
    case Refusal::kIdleChannelScales:
      return "the rounding's channel scales mean nothing outside a ChannelScaled format";
    case Refusal::kIdleOutlierColumns:
      return "the rounding's outlier columns mean nothing outside a MixedColumns format";
    case Refusal::kIdleOutlierWeights:
      return "the rounding's outlier weights mean nothing outside an Outliers format";
    case Refusal::kIdleColumnOrder:
      return "the rounding's order of the columns means nothing outside an ActOrder format";
    case Refusal::kNone:
      break;
  }
  return "";
}

/// True where quantize<F>(W, R) makes sense; else the compiler says why not.
template <class F, class R>
constexpr bool accepted() {
  static_assert(
      Format<F>,
      "quantize<Format>: Format is a codebook, a codebook in PerTensor, PerChannel or Grouped, a wrapper such as "
      "Incoherent around one of these, or a float type");
  if constexpr (Format<F>) {
    constexpr Refusal kRefusal = refusalOf<F, R>();
    static_assert(kRefusal != Refusal::kNoRounding,
                  "quantize<Format>(W, rounding): the second argument is no rounding, a value with round(w, grid, "
                  "codes); options come third: quantize<Format>(W, Nearest{}, {.fit = LeastSquares{}})");
    static_assert(
        kRefusal != Refusal::kScalarOnly,
        "this rounding needs a codebook of single numbers: Stochastic rounding chooses between two neighbours, "
        "and a lattice has no two neighbours to choose from");
    static_assert(kRefusal != Refusal::kNotAtAll,
                  "this rounding cannot choose codes of this format: its round(w, grid, codes) does not take a grid of "
                  "the format's codebook");
    static_assert(kRefusal != Refusal::kNearestOnly,
                  "a plain float format stores numbers as they are: only Nearest rounding applies to it");
    static_assert(kRefusal != Refusal::kNeedsChannelScales,
                  "a ChannelScaled format takes its scales from the argument beside the matrix: "
                  "quantize<ChannelScaled<F>>(W, Awq{X}) or quantize<ChannelScaled<F>>(W, ChannelScales(s))");
    static_assert(
        kRefusal != Refusal::kNeedsOutlierColumns,
        "a MixedColumns format such as LlmInt8 takes its outlier columns from the argument beside the matrix: "
        "quantize<LlmInt8>(W, OutlierColumns{X})");
    static_assert(kRefusal != Refusal::kNeedsColumnOrder,
                  "an ActOrder format takes the order of its columns from the argument beside the matrix: "
                  "quantize<ActOrder<F>>(W, Gptq{h})");
    static_assert(kRefusal != Refusal::kIdleChannelScales,
                  "this rounding gives scales of input channels, which the format would ignore: "
                  "quantize<ChannelScaled<Format>>(W, rounding)");
    static_assert(kRefusal != Refusal::kIdleOutlierColumns,
                  "this rounding gives outlier columns, which the format would ignore: "
                  "quantize<MixedColumns<Format>>(W, rounding)");
    static_assert(kRefusal != Refusal::kIdleOutlierWeights,
                  "this rounding weighs outliers, which the format would ignore: "
                  "quantize<Outliers<Format, permille>>(W, rounding)");
    static_assert(kRefusal != Refusal::kIdleColumnOrder,
                  "this rounding gives an order of the columns, which the format would ignore: "
                  "quantize<ActOrder<Format>>(W, rounding)");
    return kRefusal == Refusal::kNone;
  } else {
    return false;
  }
}

}  // namespace gosset::GOSSET_ABI::detail
