// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/rounding/concepts.hpp>

#include <utility>

namespace gosset::GOSSET_ABI {

/// Every number by itself to the nearest value of its group; ties as the codebook says. The default.
struct Nearest {
  static constexpr bool kRowByRow = true, kIsNearest = true;

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    grid.encodeAll(w, codes);
  }
};

static_assert(Rounding<Nearest>);

/// Nearest codes under the hooks of another rounding: what a search inside a format tries.
template <class Hooks>
class NearestWithHooks : public RoundingWrapper<NearestWithHooks<Hooks>, Hooks> {
 public:
  static constexpr bool kFitsGrid = false, kRowByRow = true, kScalarOnly = false, kIsNearest = true;
  static constexpr unsigned kOptionalHooks =
      kChannelScalesHook | kOutlierColumnsHook | kOutlierWeightsHook | kColumnOrderHook;

  explicit NearestWithHooks(Hooks hooks) : RoundingWrapper<NearestWithHooks<Hooks>, Hooks>(std::move(hooks)) {}

  template <ScaledFormat F>
  void round(RowMatrixXf& w, Grid<F>& grid, CodeMatrix<typename F::Codebook>& codes) const {
    Nearest{}.round(w, grid, codes);
  }
};

}  // namespace gosset::GOSSET_ABI
